package cloister.platform;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.HostFault;
import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.sim.Entropy;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import cloister.tdx.port.Vmcs;
import java.util.Arrays;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// A trust domain without TDX module: the VMCS as TDH.VP.INIT leaves it (32-bit protected mode without paging, reset vector moved to
/// [#CODE]), Secure EPT and guest memory of a private KeyID. [TDX-ABI "TD VMCS"]
class SeamProcessorTest {
    private static final int HKID = 33;
    private static final long CODE = 0x8000;
    private static final long FRAMES = 0x40_0000;
    private static final long SEPT = 0x30_0000;
    private static final long SHARED = 0x31_0000;
    private static final long SHARED_FRAME = 0x32_0000;
    private static final long TDVPS = 0x33_0000;
    private static final long MSR_BITMAP_PA = 0x34_0000;
    private static final long VMXON_REGION = 0x35_0000;
    private static final long SHARED_BIT = 1L << 47;

    private final Platform platform = new Platform(new PlatformOptions(1, 64 << 20, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
    private final PhysicalMemory memory = platform.memory();
    private final LogicalProcessor lp = platform.processors().getFirst();
    private final SeamProcessor port = new SeamProcessor(lp, platform.scheduler(), new Entropy(2), new SeamSeal(new Entropy(3)));
    private final Vmcs vmcs = port.newVmcs(TDVPS);

    @AfterEach void close() {
        platform.close();
    }

    private static long secret(long pa) {
        return PhysicalMemory.hpa(pa, HKID);
    }

    private void build(Consumer<Assembler> program) {
        memory.fill(secret(SEPT), 0x4000, (byte) 0);
        memory.fill(secret(FRAMES), 0x10_0000, (byte) 0);
        memory.fill(secret(TDVPS), 0x2000, (byte) 0);
        memory.fill(secret(MSR_BITMAP_PA), 0x1000, (byte) 0xff);
        for (int level = 0; level < 3; level++) {
            memory.write(secret(SEPT + 0x1000 * level), 8, (SEPT + 0x1000 * (level + 1)) | 7);
        }
        for (int i = 0; i < 256; i++) {
            memory.write(secret(SEPT + 0x3000 + 8 * i), 8, (FRAMES + 0x1000 * i) | 7 | (6 << 3) | Ept.IGNORE_PAT | Ept.SUPPRESS_VE);
        }
        var assembler = new Assembler(CodeMode.BITS32, CODE);
        program.accept(assembler);
        byte[] code = assembler.assemble();
        memory.write(secret(FRAMES + CODE), code, 0, code.length);
        controls();
        guest();
    }

    private void controls() {
        write(PIN_BASED_CONTROLS, 0x29 | 0x16);
        write(PROC_BASED_CONTROLS, 0x9122_0088L | 0x0400_6172 | (1 << 10) | (1 << 29) | (1 << 11));
        write(SECONDARY_PROC_BASED_CONTROLS, 0x133c_b3faL);
        write(VM_EXIT_CONTROLS, 0x1f3c_9204 | 0x36dfb);
        write(VM_ENTRY_CONTROLS, 0x3e_e004 | 0x11fb);
        write(EXCEPTION_BITMAP, 1 << 18);
        write(IO_BITMAP_A, -1);
        write(ENCLS_EXITING_BITMAP, -1);
        write(VIRTUAL_APIC_ADDRESS, TDVPS);
        write(VE_INFORMATION_ADDRESS, TDVPS + 0x1000);
        write(MSR_BITMAP, MSR_BITMAP_PA);
        write(EXIT_MSR_STORE_ADDRESS, -1);
        write(POSTED_INTERRUPT_NOTIFICATION_VECTOR, 0xffff);
        write(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, -1);
        write(APIC_ACCESS_ADDRESS, -1);
        write(GUEST_TD_HKID, HKID);
        write(VPID, 1);
        write(EPTP, SEPT | 6 | (3 << 3));
        write(SHARED_EPTP, SHARED);
        write(TSC_MULTIPLIER, 1L << 48);
        write(CR0_GUEST_HOST_MASK, 0xffff_ffff_7ff8_ffe1L);
        write(CR0_READ_SHADOW, 0x21);
        write(CR4_GUEST_HOST_MASK, 0xffff_ffff_ffc0_e040L);
        write(CR4_READ_SHADOW, 0x40);
    }

    private void guest() {
        write(VMCS_LINK_POINTER, -1);
        write(GUEST_CR0, 0x21);
        write(GUEST_CR4, 0x2040);
        write(GUEST_EFER, 0x901);
        write(GUEST_PAT, 0x0007_0406_0007_0406L);
        write(GUEST_DR7, 0x400);
        write(GUEST_RIP, CODE);
        write(GUEST_RFLAGS, 2);
        for (int i = 0; i < 6; i++) {
            write(VmcsField.ofSegment(GUEST_ES_LIMIT, i), 0xffff_ffffL);
            write(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, i), i == 1 ? 0xc09b : 0xc093);
        }
        write(GUEST_LDTR_ACCESS_RIGHTS, 0x1_0082);
        write(GUEST_LDTR_LIMIT, 0xffff);
        write(GUEST_TR_ACCESS_RIGHTS, 0x8b);
        write(GUEST_TR_LIMIT, 0xffff);
        write(GUEST_GDTR_LIMIT, 0xffff);
    }

    private void write(VmcsField field, long value) {
        vmcs.write(field, value);
    }

    private int run() {
        port.enter(vmcs);
        return (int) vmcs.read(EXIT_REASON);
    }

    @Test void tdcallComesBackToTheModule() {
        build(a -> a.mov(EAX, imm(0x12)).op(Op.TDCALL));
        assertThat(run()).isEqualTo(ExitReason.TDCALL);
        assertThat(port.registers()[0]).isEqualTo(0x12);
        assertThat(vmcs.read(EXIT_INSTRUCTION_LENGTH)).isEqualTo(4);
        assertThat(vmcs.read(GUEST_RIP)).isEqualTo(CODE + 5);
    }

    @Test void privateMemoryIsOfTheTrustDomainsKey() {
        build(a -> a.mov(abs(0x9000), EAX).op(Op.CPUID));
        port.registers()[0] = 0x5ec4e7;
        assertThat(run()).isEqualTo(ExitReason.CPUID);
        assertThat(memory.read(secret(FRAMES + 0x9000), 4)).isEqualTo(0x5ec4e7);
        assertThat(memory.read(FRAMES + 0x9000, 4)).as("through KeyID 0").isZero();
    }

    @Test void pageTakenAwayByTheHostIsAMachineCheck() {
        build(a -> a.mov(EAX, abs(0x9000)));
        memory.fill(FRAMES + 0x9000, 0x1000, (byte) 1); // KeyID 0
        assertThat(run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(vmcs.read(EXIT_INTERRUPTION_INFO) & 0xff).isEqualTo(ExceptionVector.MC);
    }

    @Test void unmappedPrivatePageIsAnEptViolation() {
        build(a -> a.mov(EAX, abs(0x9000)));
        memory.write(secret(SEPT + 0x3000 + 9 * 8), 8, Ept.SUPPRESS_VE);
        assertThat(run()).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat(vmcs.read(GUEST_PHYSICAL_ADDRESS)).isEqualTo(0x9000);
    }

    @Test void sharedGpaWithoutSuppressBecomesVeInTdvps() {
        // 64-bit paging is needed to name the SHARED bit: identity map of the first gigabyte, and of the shared one above it.
        build(a -> a.mov(EAX, imm(0x2020)).db(0x0f, 0x22, 0xe0).mov(EAX, imm(0x4000)).db(0x0f, 0x22, 0xd8)
                .mov(ECX, imm(0xc000_0080)).mov(EAX, imm(0x8000_0021)).db(0x0f, 0x22, 0xc0)
                .op(Op.NOP).mov(EAX, abs(0x4000_1000)).op(Op.CPUID));
        memory.write(secret(FRAMES + 0x4000), 8, 0x5007);
        memory.write(secret(FRAMES + 0x5000), 8, 0x87);
        memory.write(secret(FRAMES + 0x5008), 8, SHARED_BIT | 0x87);
        memory.write(SHARED + 256 * 8, 8, (SHARED + 0x1000) | 7);
        memory.write(SHARED + 0x1000, 8, (SHARED + 0x2000) | 7);
        memory.write(SHARED + 0x2000, 8, (SHARED + 0x3000) | 7);
        memory.write(SHARED + 0x3008, 8, SHARED_FRAME | 7 | (6 << 3));
        memory.write(SHARED_FRAME, 4, 0x600d);
        assertThat(run()).as("MOV to CR4 clears bits that the module owns").isEqualTo(ExitReason.CR_ACCESS);
        write(GUEST_CR4, 0x2060);
        write(GUEST_RIP, vmcs.read(GUEST_RIP) + 3);
        assertThat(run()).isEqualTo(ExitReason.CPUID);
        assertThat(port.registers()[0]).isEqualTo(0x600d);

        memory.write(SHARED + 0x3008, 8, 0);
        port.inveptGlobal();
        write(GUEST_RIP, accessAt(vmcs.read(GUEST_RIP)));
        assertThat(run()).as("no IDT: the #VE ends in a triple fault").isEqualTo(ExitReason.TRIPLE_FAULT);
        assertThat(memory.read(secret(TDVPS + 0x1000 + Ept.VE_BUSY), 4)).isEqualTo(0xffff_ffffL);
        assertThat(memory.read(secret(TDVPS + 0x1000 + Ept.VE_PHYSICAL_ADDRESS), 8)).isEqualTo(SHARED_BIT | 0x1000);
    }

    /// The address of the memory access before the CPUID at `cpuid`: after the NOP.
    private long accessAt(long cpuid) {
        for (long at = cpuid - 1;; at--) {
            if (memory.read(secret(FRAMES + at), 1) == 0x90) {
                return at + 1;
            }
        }
    }

    @Test void seamcallKeepsTheHostsControlRegisters() {
        build(a -> a.op(Op.CPUID));
        lp.dr(7, 0x455);
        long cr8 = lp.cr8();
        lp.installSeam(FirmwareAccess.SEAM, (caller, regs) -> {
            run();
            regs.set(SeamRegs.RAX, 0x77);
        });
        var regs = new SeamRegs();
        assertThatThrownBy(() -> lp.seamcall(regs)).as("outside VMX operation").isInstanceOf(HostFault.class)
                .hasMessage("host exception 6 (0)");
        memory.write(VMXON_REGION, 4, lp.rdmsr(Msr.IA32_VMX_BASIC) & 0x7fff_ffffL);
        lp.vmxon(VMXON_REGION);
        lp.seamcall(regs);
        assertThat(regs.get(SeamRegs.RAX)).isEqualTo(0x77);
        assertThat(lp.gprs()[0]).isEqualTo(0x77);
        assertThat(lp.dr(7)).isEqualTo(0x455);
        assertThat(lp.cr8()).isEqualTo(cr8);
    }

    @Test void newKeyMakesOldContentUnreadable() {
        memory.movdir64b(secret(FRAMES), new byte[64], 0);
        port.programKey(HKID);
        assertThatThrownBy(() -> memory.read(secret(FRAMES), 8)).isInstanceOf(Poison.class);
        memory.movdir64b(secret(FRAMES), new byte[64], 0);
        assertThat(memory.read(secret(FRAMES), 8)).isZero();
    }

    @Test void reportsVerifyAndForgeriesDoNot() {
        byte[] report = port.seamReport(new byte[] {(byte) 0x81, 0, 0, 0}, new byte[64], new byte[48]);
        byte[] macStruct = Arrays.copyOf(report, 256);
        assertThat(report).hasSize(512);
        assertThat(port.seamVerifyReport(macStruct)).isZero();
        macStruct[130] ^= 1;
        assertThat(port.seamVerifyReport(macStruct)).isNotZero();
    }
}
