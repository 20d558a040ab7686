package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Op;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Tiny guests on real logical processors, with KVM loaded with ept=0.
final class ShadowGuestTest {
    private static final int CODE = 0x1000;
    private static final int MEMORY = 0x40_0000;
    private static final long RIGHTS = 0x67;
    private static final long DIRTY = 0x40;
    private static final long GLOBAL = 0x100;
    private static final long SMALL = 0x1_0000;
    private static final long OTHER_TABLE = 0x1_8000;
    private static final long DIRECTORY = 0x2_0000;
    private static final long SECOND = 0x3_0000;
    private static final long SCRATCH = 0x4_0000;
    private static final long A = 0x20_0000;
    private static final long B = 0x20_1000;
    /// The one page behind the identity map, by a smallest table of its own.
    private static final long WINDOW = 0x40_0000;
    private static final long WINDOW_TABLE = 0x1_4000;

    private final TestHost host = new TestHost(1);
    private final Kvm kvm = DevKvm.open(host.environment(), new KvmParameters(true, "snapshot", false));
    private final KvmVm vm = kvm.createVm(VmType.DEFAULT);
    private final long user = kvm.userMemory().map(MEMORY);

    @AfterEach void close() {
        host.close();
    }

    private KvmVcpu vcpu(byte[] code) {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        kvm.userMemory().write(user + CODE, code, 0, code.length);
        var vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        vcpu.setRegs(regs);
        return vcpu;
    }

    private List<KvmExit> run(KvmVcpu vcpu) {
        var exits = new ArrayList<KvmExit>();
        host.scheduler().spawn("vcpu0", () -> exits.add(vcpu.run()));
        host.scheduler().run();
        return exits;
    }

    enum Form {
        BITS32(2), PAE(2), LEVELS4(4), LEVELS5(5);

        private final int levels;

        Form(int levels) {
            this.levels = levels;
        }

        boolean isLong() {
            return levels > 2;
        }
    }

    private int entryBytes;

    private void poke(long gpa, long value) {
        var bytes = ByteBuffer.allocate(entryBytes).order(ByteOrder.LITTLE_ENDIAN);
        kvm.userMemory().write(user + gpa, (entryBytes == 4 ? bytes.putInt((int) value) : bytes.putLong(value)).array(), 0, entryBytes);
    }

    /// Identity map of 4 MiB by small pages: the last tables at SMALL and behind, their directory at DIRECTORY, what is above behind it.
    private long tables(Form form) {
        entryBytes = form == Form.BITS32 ? 4 : 8;
        int perTable = 4096 / entryBytes;
        for (int page = 0; page < MEMORY >> 12; page++) {
            poke(SMALL + ((long) page * entryBytes), ((long) page << 12) | RIGHTS);
        }
        for (int table = 0; table < (MEMORY >> 12) / perTable; table++) {
            poke(DIRECTORY + ((long) table * entryBytes), (SMALL + (table * 4096L)) | RIGHTS);
        }
        poke(DIRECTORY + ((WINDOW >> (entryBytes == 4 ? 22 : 21)) * entryBytes), WINDOW_TABLE | RIGHTS);
        long root = DIRECTORY;
        for (int level = 3; level <= form.levels; level++) {
            poke(root + 4096, root | RIGHTS);
            root += 4096;
        }
        if (form == Form.PAE) {
            poke(root + 4096, root | 1);
            root += 4096;
        }
        return root;
    }

    private static Assembler out(Assembler code) {
        return code.out(0x80, AL);
    }

    private static Assembler show(Assembler code, long at) {
        return out(code.mov(AL, byteAt(abs(at))));
    }

    /// What the guest does, and what it must see, see the comments.
    private byte[] program(Form form) {
        int bytes = entryBytes;
        long directoryEntry = DIRECTORY + ((WINDOW >> (bytes == 4 ? 22 : 21)) * bytes);
        var large = form.isLong() ? RAX : EAX;
        var code = new Assembler(form.isLong() ? CodeMode.BITS64 : CodeMode.BITS32, CODE);
        code.mov(byteAt(abs(A)), 0x11).mov(byteAt(abs(B)), 0x22);
        code.mov(dwordAt(abs(WINDOW_TABLE)), A | RIGHTS);
        show(code, WINDOW); // 11
        code.mov(dwordAt(abs(WINDOW_TABLE)), B | RIGHTS).invlpg(abs(WINDOW));
        show(code, WINDOW); // 22
        code.mov(dwordAt(abs(WINDOW_TABLE)), A | RIGHTS).mov(large, CR3).mov(CR3, large);
        show(code, WINDOW); // 11
        code.mov(dwordAt(abs(WINDOW_TABLE)), B | RIGHTS | GLOBAL).mov(large, CR4).xor(EAX, (int) Cr4.PGE).mov(CR4, large);
        show(code, WINDOW); // 22
        // Another smallest table: a write to the directory, which is emulated.
        code.mov(dwordAt(abs(OTHER_TABLE)), (A | RIGHTS) & ~DIRTY).mov(dwordAt(abs(directoryEntry)), OTHER_TABLE | RIGHTS);
        code.invlpg(abs(WINDOW));
        show(code, WINDOW); // 11
        code.mov(AL, byteAt(abs(OTHER_TABLE))).and(AL, (int) DIRTY);
        out(code); // 00: only read so far
        code.mov(byteAt(abs(WINDOW)), 0x33);
        show(code, OTHER_TABLE); // 67
        // A kernel without CR0.WP writes to what is read-only.
        code.mov(dwordAt(abs(OTHER_TABLE)), (A | RIGHTS) & ~2L).invlpg(abs(WINDOW));
        code.mov(large, CR0).and(EAX, (int) ~Cr0.WP).mov(CR0, large);
        code.mov(byteAt(abs(WINDOW)), 0x44);
        show(code, A); // 44
        code.mov(large, CR0).or(EAX, (int) Cr0.WP).mov(CR0, large);
        // Under load: two pages in turn, each told apart a thousand times.
        code.mov(dwordAt(abs(directoryEntry)), WINDOW_TABLE | RIGHTS).invlpg(abs(WINDOW));
        code.mov(ECX, 1000).mov(EBX, 0).mov(byteAt(abs(A)), 1).mov(byteAt(abs(B)), 0);
        var again = code.label();
        code.label(again).mov(EDX, ECX).and(EDX, 1).shl(EDX, 12).add(EDX, A | RIGHTS);
        code.mov(dwordAt(abs(WINDOW_TABLE)), EDX).invlpg(abs(WINDOW));
        code.mov(AL, byteAt(abs(WINDOW))).xor(AL, CL).and(EAX, 1).xor(EAX, 1).add(EBX, EAX).sub(ECX, 1).jcc(Condition.NE, again);
        out(code.mov(EAX, EBX)); // 00: mismatches
        return out(code.mov(AL, 0xff)).assemble();
    }

    @ParameterizedTest
    @EnumSource(Form.class)
    void aGuestThatChangesItsTablesSeesWhatTheySay(Form form) {
        long root = tables(form);
        assertThat(shown(form, root, 0, program(form))).containsExactly(0x11, 0x22, 0x11, 0x22, 0x11, 0x00, 0x67, 0x44, 0x00, 0xff);
        assertThat(vm.stats().exits()).containsKeys("INVLPG", "CR_ACCESS", "EXCEPTION_NMI");
    }

    /// Two address spaces, which differ in the window only: CR3 with and without keeping translations, INVPCID of a PCID, an address, all.
    @Test void addressSpacesWithPcidsStayApart() {
        long first = tables(Form.LEVELS4);
        poke(WINDOW_TABLE, A | RIGHTS);
        poke(OTHER_TABLE, B | RIGHTS);
        for (int table = 0; table < 2; table++) {
            poke(SECOND + (table * 8L), (SMALL + (table * 4096L)) | RIGHTS);
        }
        poke(SECOND + ((WINDOW >> 21) * 8), OTHER_TABLE | RIGHTS);
        poke(SECOND + 4096, SECOND | RIGHTS);
        poke(SECOND + 8192, (SECOND + 4096) | RIGHTS);
        long second = SECOND + 8192;
        var code = new Assembler(CodeMode.BITS64, CODE);
        code.mov(byteAt(abs(A)), 0x11).mov(byteAt(abs(B)), 0x22);
        show(code.mov(RAX, first | 1).mov(CR3, RAX), WINDOW); // 11
        show(code.mov(RAX, second | 2).mov(CR3, RAX), WINDOW); // 22
        show(code.mov(RAX, first | 1 | Long.MIN_VALUE).mov(CR3, RAX), WINDOW); // 11
        code.mov(dwordAt(abs(OTHER_TABLE)), A | RIGHTS).mov(qwordAt(abs(SCRATCH)), 2).mov(qwordAt(abs(SCRATCH + 8)), WINDOW);
        code.mov(RDX, 1).op(Op.INVPCID, RDX, abs(SCRATCH));
        show(code.mov(RAX, second | 2 | Long.MIN_VALUE).mov(CR3, RAX), WINDOW); // 11
        code.mov(dwordAt(abs(OTHER_TABLE)), B | RIGHTS).mov(RDX, 0).op(Op.INVPCID, RDX, abs(SCRATCH));
        show(code, WINDOW); // 22
        code.mov(dwordAt(abs(OTHER_TABLE)), A | RIGHTS).mov(RDX, 2).op(Op.INVPCID, RDX, abs(SCRATCH));
        show(code, WINDOW); // 11
        var program = out(code.mov(AL, 0xff)).assemble();
        assertThat(shown(Form.LEVELS4, first, Cr4.PCIDE, program)).containsExactly(0x11, 0x22, 0x11, 0x11, 0x22, 0x11, 0xff);
        assertThat(vm.stats().exits()).containsKey("INVPCID");
    }

    /// What the guest writes to the port.
    private List<Integer> shown(Form form, long root, long moreOfCr4, byte[] program) {
        var vcpu = vcpu(program);
        var sregs = vcpu.getSregs();
        sregs.cs = new KvmSegment(0, -1, 0x10, 0xb, true, 0, !form.isLong(), true, form.isLong(), true, false, false);
        var data = KvmSegment.flat(0x18, 3);
        sregs.ds = data;
        sregs.es = data;
        sregs.fs = data;
        sregs.gs = data;
        sregs.ss = data;
        sregs.cr0 = Cr0.PE | Cr0.PG | Cr0.WP | Cr0.ET | Cr0.NE;
        sregs.cr3 = root;
        sregs.cr4 = (form == Form.BITS32 ? 0 : Cr4.PAE) | (form == Form.LEVELS5 ? Cr4.LA57 : 0) | Cr4.PGE | moreOfCr4;
        sregs.efer = form.isLong() ? Efer.LME | Efer.LMA : 0;
        vcpu.setSregs(sregs);
        var shown = new ArrayList<Integer>();
        host.scheduler().spawn("vcpu0", () -> {
            while (shown.isEmpty() || shown.getLast() != 0xff) {
                var exit = vcpu.run();
                assertThat(exit).isInstanceOf(KvmExit.Io.class);
                shown.add(vcpu.kvmRun().data[0] & 0xff);
            }
        });
        host.scheduler().run();
        return shown;
    }

    /// From real-address mode to flat 32-bit code and back, with a fault's and an INT's handlers in real mode: what the processor does not
    /// take is emulated.
    @Test void wayFromRealModeAndBack() {
        var a = new Assembler(CodeMode.BITS16, CODE);
        // INT 0x20 and #DE in real mode: both handlers count in BL.
        a.db(0x31, 0xdb, 0xcd, 0x20, 0x31, 0xc9, 0xf7, 0xf1);
        // The handler of #DE comes back behind DIV, which it has skipped.
        a.db(0x0f, 0x01, 0x16).dw(0x2000); // LGDT [0x2000]
        a.db(0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0); // CR0.PE
        a.db(0xea).dw(0x3000, 8);
        byte[] real = a.assemble();
        poke16(0x2000, 0x27, 0x2010, 0);
        pokeDescriptors(0x2010, 0, 0x00cf_9b00_0000_ffffL, 0x00cf_9300_0000_ffffL, 0x0000_9b00_0000_ffffL, 0x0000_9300_0000_ffffL);
        load(0x3000, new Assembler(CodeMode.BITS32, 0x3000).mov(EAX, 0x10)
                .db(0x8e, 0xd0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xe0, 0x8e, 0xe8) // SS, DS, ES, FS, GS: now the processor takes it
                .mov(ECX, 1000).db(0x43, 0xe2, 0xfd) // INC EBX; LOOP
                .db(0xea).dd(0x3100).dw(0x18).assemble());
        // 16-bit code, PE off, a far jump to real mode, the sum to the port.
        load(0x3100, new Assembler(CodeMode.BITS16, 0x3100).db(0xb8, 0x20, 0, 0x8e, 0xd0, 0x8e, 0xd8)
                .db(0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0, 0xea).dw(0x3200, 0).assemble());
        load(0x3200, new byte[] {(byte) 0x89, (byte) 0xd8, (byte) 0xe7, 0x10, (byte) 0xf4});
        load(0x3300, new byte[] {0x43, (byte) 0xcf}); // INC BX; IRET
        // INC BX; ADD WORD [BP+?]: the return address moves on by the two bytes of DIV.
        load(0x3400, new byte[] {0x43, (byte) 0x89, (byte) 0xe5, (byte) 0x83, 0x46, 0, 2, (byte) 0xcf});
        poke16(4 * 0x20, 0x3300, 0);
        poke16(0, 0x3400, 0);
        var vcpu = vcpu(real);
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rsp = 0x4000;
        vcpu.setRegs(regs);
        assertThat(run(vcpu)).containsExactly(new KvmExit.Io(true, 2, 0x10, 1));
        assertThat(vcpu.kvmRun().item(0, 2)).isEqualTo(1002);
        assertThat(vm.stats().exits()).as("the loop is the processor's").containsKey("CR_ACCESS");
    }

    /// INVPCID of a descriptor that is MMIO cannot be carried out. [LINUX kvm_handle_memory_failure]
    @Test void invpcidOfMmio() {
        var a = new Assembler(CodeMode.BITS32, CODE).mov(EBX, (int) 0xfed0_0000L).db(0x66, 0x0f, 0x38, 0x82, 0x13);
        var vcpu = vcpu(a.assemble());
        var sregs = vcpu.getSregs();
        sregs.cr0 |= Cr0.PE;
        sregs.cs = KvmSegment.flat(8, 0xb);
        sregs.ss = KvmSegment.flat(0x10, 3);
        sregs.ds = KvmSegment.flat(0x10, 3);
        vcpu.setSregs(sregs);
        assertThat(run(vcpu).getFirst()).isInstanceOfSatisfying(KvmExit.InternalError.class,
                exit -> assertThat(exit.suberror()).isEqualTo(KvmAbi.INTERNAL_ERROR_EMULATION));
    }

    private void poke16(long gpa, int... words) {
        for (int i = 0; i < words.length; i++) {
            load(gpa + (2 * i), new byte[] {(byte) words[i], (byte) (words[i] >> 8)});
        }
    }

    private void load(long gpa, byte[] bytes) {
        kvm.userMemory().write(user + gpa, bytes, 0, bytes.length);
    }

    private void pokeDescriptors(long gpa, long... descriptors) {
        entryBytes = 8;
        for (int i = 0; i < descriptors.length; i++) {
            poke(gpa + (8 * i), descriptors[i]);
        }
    }

    @Test void thereAreNoTrustDomains() {
        assertThatThrownBy(() -> kvm.createVm(VmType.TDX)).isInstanceOf(KvmException.class).hasMessageContaining("ept=0");
        assertThat(kvm.checkExtension(KvmCap.VM_TYPES)).isEqualTo(1L << VmType.DEFAULT.number());
    }
}
