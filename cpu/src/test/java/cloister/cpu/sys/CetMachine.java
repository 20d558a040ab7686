package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import java.util.function.Consumer;

/// A processor in 64-bit mode with CR4.CET over 1 MiB in 4 KiB pages, linear is physical. Every vector's handler is a HLT of its own,
/// behind ENDBR64; user and supervisor have two shadow-stack pages each.
final class CetMachine implements AutoCloseable {
    static final long CODE = 0x1_0000;
    static final long OTHER = 0x1_1000;
    static final long HANDLERS = 0x2_0000;
    static final long STACK = 0x3_0000;
    static final long KERNEL_STACK = 0x3_8000;
    static final long IST_STACK = 0x3_a000;
    static final long USER_SHADOW = 0x4_0000;
    static final long SUPERVISOR_SHADOW = 0x4_2000;
    static final long SSP = USER_SHADOW + 0x800;
    static final long SUPERVISOR_SSP = SUPERVISOR_SHADOW + 0x800;
    static final long DATA = 0x5_0000;
    static final long TABLE = 0x5_8000;
    static final long LEAVES = 0x8_3000;
    static final int USER_CS = 0x1b;
    private static final long TABLES = 0x8_0000;
    private static final int GDT = 0x800;
    private static final int IDT = 0x2000;
    private static final int TSS = 0x3000;
    private static final long PRESENT_USER = 5;
    private static final long WRITABLE = 2;
    private static final long DIRTY = 0x40;

    final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    CetMachine() {
        Reset.powerUp(cpu);
        for (int level = 0; level < 3; level++) {
            memory.write(TABLES + 0x1000L * level, 8, (TABLES + 0x1000L * (level + 1)) | PRESENT_USER | WRITABLE);
        }
        for (long page = 0; page < 1 << 20; page += 0x1000) {
            leaf(page, page | PRESENT_USER | WRITABLE);
        }
        for (int i = 0; i < 2; i++) {
            leaf(USER_SHADOW + 0x1000L * i, (USER_SHADOW + 0x1000L * i) | PRESENT_USER | DIRTY);
            leaf(SUPERVISOR_SHADOW + 0x1000L * i, (SUPERVISOR_SHADOW + 0x1000L * i) | 1 | DIRTY);
        }
        memory.write(GDT + 0x08, 8, 0x00af9b000000ffffL);
        memory.write(GDT + 0x10, 8, 0x00cf93000000ffffL);
        memory.write(GDT + 0x18, 8, 0x00affb000000ffffL);
        memory.write(GDT + 0x20, 8, 0x00cff3000000ffffL);
        memory.write(GDT + 0x28, 8, 0x00cffb000000ffffL); // 32-bit user code
        memory.write(TSS + 4, 8, KERNEL_STACK);
        memory.write(TSS + 36, 8, IST_STACK);
        for (int vector = 0; vector < 256; vector++) {
            gate(vector, HANDLERS + 16L * vector, 0);
            memory.write(HANDLERS + 16L * vector, 8, 0xf4_fa1e_0ff3L); // ENDBR64, HLT
        }
        cpu.cr3 = TABLES;
        cpu.cr4 = Cr4.PAE | Cr4.CET | Cr4.OSXSAVE | Cr4.OSFXSR;
        cpu.efer = Efer.LME | Efer.LMA | Efer.SCE;
        cpu.cr0 = Cr0.PE | Cr0.PG | Cr0.ET | Cr0.WP;
        cpu.xcr0 = 1;
        cpu.xss = Cpuid.XSS_SUPPORTED;
        cpu.gdtrBase = GDT;
        cpu.gdtrLimit = 0x2f;
        cpu.idtrBase = IDT;
        cpu.idtrLimit = 0xfff;
        cpu.segBase[Cpu.TR] = TSS;
        cpu.segLimit[Cpu.TR] = 0x67;
        cpu.star = (0x08L << 32) | (0x10L << 48);
        cpu.lstar = HANDLERS;
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = STACK;
        cpu.tlb.flushAll();
    }

    @Override public void close() {
        memory.close();
    }

    void leaf(long page, long entry) {
        memory.write(LEAVES + (page >> 12) * 8, 8, entry);
    }

    void gate(int vector, long handler, int ist) {
        memory.write(IDT + vector * 16L, 8, (handler & 0xffff) | (0x08 << 16) | ((long) ist << 32) | (0xeeL << 40)
                | ((handler & 0xffff_0000L) << 32));
    }

    /// User code with these bits of IA32_U_CET, its shadow stack at [#SSP].
    CetMachine user(long control) {
        cpu.cet.uCet = control;
        cpu.cet.ssp = SSP;
        return level(3);
    }

    /// Supervisor code with these bits of IA32_S_CET, its shadow stack at [#SUPERVISOR_SSP].
    CetMachine supervisor(long control) {
        cpu.cet.sCet = control;
        cpu.cet.ssp = SUPERVISOR_SSP;
        return level(0);
    }

    CetMachine level(int cpl) {
        cpu.cpl = cpl;
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = STACK;
        cpu.events.activity = PendingEvents.ACTIVE;
        int cs = cpl == 0 ? 0x08 : USER_CS;
        int ss = cpl == 0 ? 0x10 : 0x23;
        Segments.fill(cpu, Cpu.CS, cs, memory.read(GDT + (cs & ~3), 8));
        Segments.fill(cpu, Cpu.SS, ss, memory.read(GDT + (ss & ~3), 8));
        cpu.updateMode();
        return this;
    }

    /// A supervisor shadow stack with a free token on top.
    long token(long at) {
        memory.write(at, 8, at);
        return at;
    }

    CetMachine code(Consumer<Assembler> program) {
        return code(CODE, program);
    }

    CetMachine code(long at, Consumer<Assembler> program) {
        var assembler = new Assembler(CodeMode.BITS64, at);
        program.accept(assembler);
        byte[] bytes = assembler.assemble();
        memory.write(at, bytes, 0, bytes.length);
        return this;
    }

    /// Runs up to a HLT, which stands in handlers and at CPL 0.
    CetMachine run() {
        new RunLoop(cpu, null).run();
        return this;
    }

    /// The vector whose handler halted, or -1.
    int vector() {
        long at = cpu.rip - 5 - HANDLERS;
        return at >= 0 && at % 16 == 0 && at < 0x1000 ? (int) at / 16 : -1;
    }

    /// Word `n` of the frame that the handler got.
    long frame(int n) {
        return memory.read(cpu.r[Cpu.RSP] + 8L * n, 8);
    }

    long word(long at) {
        return memory.read(at, 8);
    }

    boolean waiting(int cpl) {
        return (cpu.cet.control(cpl) & Cet.TRACKER) != 0;
    }
}
