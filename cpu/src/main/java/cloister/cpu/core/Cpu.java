package cloister.cpu.core;

import cloister.cpu.fpu.FpuState;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.sys.IoPorts;
import cloister.cpu.sys.Msrs;
import cloister.cpu.sys.NonRoot;
import cloister.cpu.sys.PendingEvents;
import cloister.isa.CodeMode;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.ExceptionVector;

/// The architectural state of one logical processor, and the accesses that instruction semantics make. Fields are public
/// inside the module `cpu`, because semantics of every package read and write them all the time.
public final class Cpu {
    public static final int ES = 0;
    public static final int CS = 1;
    public static final int SS = 2;
    public static final int DS = 3;
    public static final int FS = 4;
    public static final int GS = 5;
    public static final int LDTR = 6;
    public static final int TR = 7;
    public static final int RAX = 0;
    public static final int RCX = 1;
    public static final int RDX = 2;
    public static final int RBX = 3;
    public static final int RSP = 4;
    public static final int RBP = 5;
    public static final int RSI = 6;
    public static final int RDI = 7;

    /// [#shadowKind]: blocking by STI, by MOV SS or POP SS. [SDM Vol. 3 "Masking Exceptions and Interrupts When
    /// Switching Stacks"]
    public static final int SHADOW_STI = 1;
    public static final int SHADOW_MOV_SS = 2;

    public static final int AR_UNUSABLE = 1 << 16;
    /// In pending debug exceptions; in DR6 the bit is 0 then.
    private static final long BUS_LOCK = 1 << 11;
    private static final int AR_LONG = 1 << 13;
    private static final int AR_BIG = 1 << 14;

    /// General registers 0..15 in encoding order, then the engine's slots ([Slot]).
    public final long[] r = new long[Slot.COUNT];
    /// Address (offset in CS) of the current instruction while a slow method runs.
    public long rip;
    /// Where execution goes on; a slow method that transfers control sets it.
    public long nextRip;
    /// Instructions retired since power-on; inside a slow method, without the current one.
    public long retired;

    public final int[] segSelector = new int[8];
    public final long[] segBase = new long[8];
    /// In bytes, unsigned, the granularity bit already applied.
    public final int[] segLimit = new int[8];
    /// VMCS access-rights format; bit 16: unusable.
    public final int[] segAr = new int[8];
    public long gdtrBase;
    public int gdtrLimit;
    public long idtrBase;
    public int idtrLimit;

    public long cr0;
    public long cr2;
    public long cr3;
    public long cr4;
    public long cr8;
    public long efer;
    public long xcr0;
    public long xss;
    public int pkru;
    public int pkrs;
    /// Whether a translation of a user page with a protection key other than 0 may be cached.
    public boolean protectionKeysCached;
    public long dr0;
    public long dr1;
    public long dr2;
    public long dr3;
    public long dr6;
    public long dr7;
    public int cpl;

    public long star;
    public long lstar;
    public long cstar;
    public long fmask;
    public long kernelGsBase;
    public long sysenterCs;
    public long sysenterEsp;
    public long sysenterEip;
    public long tscAux;
    public long tscAdjust;
    public long tscDeadline;
    public long pat;
    public long miscEnable;
    public long debugctl;
    public long specCtrl;
    public long apicBase;
    public long umwaitControl;
    public long tsxCtrl;

    /// RFLAGS without the six arithmetic flags; bit 1 is set. Change through [#rflags(long)] or [#systemFlags(int, int)].
    public int systemFlags = 2;

    /// Address-space identity beside CR3; VMX sets both at VM entry and exit and calls [#updateMode()].
    public int vpid;
    /// The EPT pointer in force, 0 without EPT.
    public long eptp;

    /// Which decode rules apply; set by [#updateMode()].
    public CodeMode codeMode = CodeMode.BITS16;
    /// Whether EFER.LMA and CR0.PG are in force.
    public boolean longMode;

    /// The shadow is in force while [#retired] has this value: interrupts wait for one more instruction.
    public long shadowAt = -1;
    /// SHADOW_ constant of the shadow at [#shadowAt].
    public int shadowKind;

    /// Any bit makes [Interpreter#run] return at the next instruction boundary. Who sets and clears which bit is the run
    /// loop's business; the engine only asks for non-zero.
    public volatile int attention;

    /// x87, MMX and SSE registers.
    public final FpuState fpu = new FpuState();
    /// Work of the current instruction beyond one tick of its slice's budget (long string instructions).
    public long spent;
    /// Set by [#repeatInstruction].
    boolean repeat;
    /// The current instruction is executed by [Interpreter#step].
    boolean alone;
    /// Elements of a repeated string instruction after which it returns with RIP on itself.
    public int stringLimit = StringInstructions.CHUNK;

    public final PhysicalMemory memory;
    public final VirtualClock clock;
    public final Entropy entropy;
    public final Tlb tlb;
    /// Data breakpoints; the run loop lets them follow DR0 to DR3 and DR7.
    public final Watchpoints watchpoints;
    final JumpCache jumps;
    final CodeCache code;
    final Fetch fetch = new Fetch(this);
    public Walker walker;
    public PoisonHandler poisonHandler = (cpu, poison) -> cpu.fault(ExceptionVector.MC, 0);

    /// Set to have execution recorded; null costs nothing.
    public ExecutionTrace trace;

    // What `cpu.sys` and `cpu.vmx` keep here, see there

    /// What VMX non-root operation changes.
    public NonRoot vmx = NonRoot.OUTSIDE;
    /// Control-flow enforcement.
    public final ControlFlow cet = new ControlFlow(this);
    /// Index of the logical processor, also its x2APIC id.
    public int index;
    public Cpuid cpuid = new Cpuid(1);
    public Msrs msrs;
    /// Ports outside VMX non-root operation; null: nothing answers.
    public IoPorts io;
    /// The PDPTE registers of PAE paging.
    public final long[] pdpte = new long[4];
    /// Events that wait for an instruction boundary, and the activity state.
    public final PendingEvents events = new PendingEvents(this);

    private final GuestFault fault = new GuestFault();

    /// @param entropy answers RDRAND and RDSEED
    public Cpu(PhysicalMemory memory, VirtualClock clock, Entropy entropy, Walker walker) {
        this(memory, clock, entropy, walker, new CodeCache(memory));
    }

    /// @param code shared by processors of which one runs at a time
    public Cpu(PhysicalMemory memory, VirtualClock clock, Entropy entropy, Walker walker, CodeCache code) {
        this(memory, clock, entropy, walker, code, new JumpCache());
        code.add(this);
        memory.addOwnerListener(tlb::ownerChanged);
    }

    /// Registers and semantics without memory: `walker` gives every page a [FrameHook], and instructions come decoded, by
    /// [Interpreter#execute(Cpu, Instruction)].
    public Cpu(VirtualClock clock, Walker walker) {
        this(null, clock, null, walker, null, JumpCache.empty());
    }

    private Cpu(PhysicalMemory memory, VirtualClock clock, Entropy entropy, Walker walker, CodeCache code, JumpCache jumps) {
        this.jumps = jumps;
        this.code = code;
        this.memory = memory;
        this.clock = clock;
        this.entropy = entropy;
        this.walker = walker;
        this.tlb = new Tlb(this);
        this.watchpoints = tlb.watchpoints;
        Flags.set(r, 0);
        this.msrs = new Msrs(this);
    }

    // Bus locks

    /// A read and write that spans two lines: if it is a locked one above CPL 0, #DB follows the instruction.
    /// [SDM Vol. 3 "OS Bus-Lock Detection"]
    void splitAccess() {
        if (cpl == 0) {
            return;
        }
        Instruction insn = fetch.at(is64Bit() ? rip : (rip + segBase[CS]) & 0xffff_ffffL);
        if (!insn.has(Instruction.PREFIX_LOCK) && insn.op != Op.XCHG) {
            return;
        }
        if (!alone) {
            throw StepAlone.INSTANCE;
        }
        events.pendingDebug |= BUS_LOCK;
        events.raise();
    }

    // Faults

    /// The fault to throw: `throw cpu.fault(...)`.
    public GuestFault fault(int vector, int errorCode) {
        fault.vector = vector;
        fault.errorCode = errorCode;
        fault.address = 0;
        return fault;
    }

    /// #PF at `linear` with `errorCode`, to be thrown; CR2 is left to the delivery.
    public GuestFault pageFault(long linear, int errorCode) {
        fault.vector = ExceptionVector.PF;
        fault.errorCode = errorCode;
        fault.address = linear;
        return fault;
    }

    /// A debug exception with `dr6Bits` (B0-B3, BD, BS ...).
    public GuestFault debug(long dr6Bits) {
        fault.vector = ExceptionVector.DB;
        fault.errorCode = 0;
        fault.address = dr6Bits;
        return fault;
    }

    /// #GP with `errorCode`, to be thrown.
    public GuestFault gp(int errorCode) {
        return fault(ExceptionVector.GP, errorCode);
    }

    /// #UD, to be thrown.
    public GuestFault ud() {
        return fault(ExceptionVector.UD, 0);
    }

    // Flags

    /// RFLAGS with lazy flags worked out.
    public long rflags() {
        return systemFlags | Flags.arithmetic(r);
    }

    /// Replaces RFLAGS. Whoever changes VM, TF or AC calls [#updateMode()] afterwards.
    public void rflags(long value) {
        Flags.set(r, (int) value);
        systemFlags = ((int) value & ~Flags.ARITHMETIC & 0x3f7fd7) | 2;
    }

    /// Replaces the flags in `mask` (none of them arithmetic) by those of `bits`.
    public void systemFlags(int mask, int bits) {
        systemFlags = (systemFlags & ~mask) | (bits & mask);
    }

    /// Sets the six arithmetic flags from bits of RFLAGS.
    public void arithmeticFlags(int bits) {
        Flags.set(r, bits);
    }

    /// Whether the condition of Jcc, SETcc and CMOVcc with encoding `cc` (0 to 15) holds.
    public boolean condition(int cc) {
        return Flags.condition(r, cc);
    }

    /// Whether RFLAGS bit `flag` (a constant of [Flags], not an arithmetic one) is set.
    public boolean systemFlag(int flag) {
        return (systemFlags & flag) != 0;
    }

    // Modes

    /// Whether CR0.PE is 1.
    public boolean protectedMode() {
        return (cr0 & 1) != 0;
    }

    /// Whether RFLAGS.VM is 1.
    public boolean virtual8086() {
        return (systemFlags & Flags.VM) != 0;
    }

    /// Real-address or virtual-8086 mode.
    public boolean realOrVirtual8086() {
        return (cr0 & 1) == 0 || virtual8086();
    }

    /// Whether the processor executes 64-bit code.
    public boolean is64Bit() {
        return codeMode == CodeMode.BITS64;
    }

    /// Recomputes what depends on CR0, CR3, CR4, EFER, CS, CPL, RFLAGS.VM/AC/TF, VPID, EPTP and the CET MSRs. Call after any change of
    /// them; changes of rights inside an address space (CR0.WP, CR4.SMEP/SMAP/PKE, EFER.NXE, PKRU) also need
    /// `tlb.flushAll()`.
    public void updateMode() {
        CodeMode before = codeMode;
        longMode = (efer & (1 << 10)) != 0;
        int ar = segAr[CS];
        if (realOrVirtual8086()) {
            codeMode = CodeMode.BITS16;
        } else if (longMode && (ar & AR_LONG) != 0) {
            codeMode = CodeMode.BITS64;
        } else {
            codeMode = (ar & AR_BIG) != 0 ? CodeMode.BITS32 : CodeMode.BITS16;
        }
        if (codeMode != before) {
            jumps.clear(); // its keys do not carry the mode
        }
        cet.update();
        tlb.selectSpace();
    }

    /// How code is decoded: the mode, above it what of control-flow enforcement is in force.
    int decodeMode() {
        return codeMode.ordinal() | (cet.variant << 2);
    }

    /// An SSP cut to what the mode can address.
    long ssp(long value) {
        return is64Bit() ? value : value & 0xffff_ffffL;
    }

    /// Ends a part of a repeated string instruction (REP MOVS, REP INS ...): it goes on at the same RIP and has not retired. What
    /// interrupts it there finds RF set; the instruction clears it when it goes on. [SDM Vol. 3 "Instruction-Breakpoint Exception
    /// Condition"]
    public void repeatInstruction() {
        nextRip = rip;
        systemFlags |= Flags.RF;
        repeat = true;
    }

    /// Starts the one-instruction shadow after the current instruction (call inside a slow method).
    public void startShadow(int kind) {
        shadowAt = retired + 1;
        shadowKind = kind;
    }

    /// SHADOW_ constant in force between instructions, or 0.
    public int shadow() {
        return retired == shadowAt ? shadowKind : 0;
    }

    /// 64, 32 or 16: the stack pointer's width in bytes is this / 8.
    public int stackBits() {
        return is64Bit() ? 64 : (segAr[SS] & AR_BIG) != 0 ? 32 : 16;
    }

    // Registers

    /// Operand register `n` of `size` bytes (16..19 are AH..BH for size 1), zero-extended.
    public long reg(int n, int size) {
        return switch (size) {
            case 8 -> r[n];
            case 4 -> r[n] & 0xffff_ffffL;
            case 2 -> r[n] & 0xffff;
            default -> n >= 16 ? (r[n - 16] >>> 8) & 0xff : r[n] & 0xff;
        };
    }

    /// Writes operand register `n`; size 4 clears the upper half, sizes 1 and 2 keep what they do not cover.
    public void reg(int n, int size, long value) {
        switch (size) {
            case 8 -> r[n] = value;
            case 4 -> r[n] = value & 0xffff_ffffL;
            case 2 -> r[n] = (r[n] & ~0xffffL) | (value & 0xffff);
            default -> {
                if (n >= 16) {
                    r[n - 16] = (r[n - 16] & ~0xff00L) | ((value & 0xff) << 8);
                } else {
                    r[n] = (r[n] & ~0xffL) | (value & 0xff);
                }
            }
        }
    }

    // Operands

    /// The offset of the memory operand in its segment, truncated to the address size.
    public long ea(Instruction insn) {
        long offset = insn.disp;
        if (insn.base == Instruction.BASE_RIP) {
            offset += rip + insn.length;
        } else if (insn.base >= 0) {
            offset += r[insn.base];
        }
        if (insn.index >= 0) {
            offset += r[insn.index] << insn.scale;
        }
        return truncate(offset, insn.addressSize);
    }

    static long truncate(long offset, int size) {
        return size == 8 ? offset : size == 4 ? offset & 0xffff_ffffL : offset & 0xffff;
    }

    /// The linear address of the memory operand, checked for an access of `size` bytes.
    public long linear(Instruction insn, int size, boolean write) {
        return linear(insn.segment, ea(insn), size, write);
    }

    /// Operand `n` (0..3): GPR, MEM or IMM of up to 8 bytes; registers and memory zero-extended.
    public long readOperand(Instruction insn, int n) {
        OperandKind kind = n == 0 ? insn.kind0 : n == 1 ? insn.kind1 : n == 2 ? insn.kind2 : insn.kind3;
        int size = n == 0 ? insn.size0 : n == 1 ? insn.size1 : n == 2 ? insn.size2 : insn.size3;
        return switch (kind) {
            case GPR -> reg(n == 0 ? insn.reg0 : n == 1 ? insn.reg1 : n == 2 ? insn.reg2 : insn.reg3, size);
            case MEM -> read(linear(insn.segment, ea(insn), size, false), size);
            case IMM -> insn.imm;
            default -> throw new ModelLimit("operand " + n + " of kind " + kind + " read as integer: " + insn.op);
        };
    }

    /// Writes operand `n` (0 or 1): GPR or MEM of up to 8 bytes.
    public void writeOperand(Instruction insn, int n, long value) {
        OperandKind kind = n == 0 ? insn.kind0 : insn.kind1;
        int size = n == 0 ? insn.size0 : insn.size1;
        switch (kind) {
            case GPR -> reg(n == 0 ? insn.reg0 : insn.reg1, size, value);
            case MEM -> write(linear(insn.segment, ea(insn), size, true), size, value);
            default -> throw new ModelLimit("operand " + n + " of kind " + kind + " written as integer: " + insn.op);
        }
    }

    // Segmentation

    /// The linear address of `[seg:offset, + size)`. Throws #GP(0), or #SS(0) for SS, for a segment or canonical
    /// violation. [SDM Vol. 3 "Limit Checking", "Type Checking"; Vol. 1 "Canonical Addressing"]
    public long linear(int seg, long offset, int size, boolean write) {
        if (codeMode == CodeMode.BITS64) {
            long linear = seg >= FS ? segBase[seg] + offset : offset;
            if (!canonical(linear) || !canonical(linear + size - 1)) {
                throw segmentFault(seg);
            }
            return linear;
        }
        return linearSegmented(seg, offset, size, write);
    }

    private long linearSegmented(int seg, long offset, int size, boolean write) {
        int ar = segAr[seg];
        if ((ar & AR_UNUSABLE) != 0) {
            throw segmentFault(seg);
        }
        if (!realOrVirtual8086()) {
            boolean code = (ar & 8) != 0;
            if (write ? code || (ar & 2) == 0 : code && (ar & 2) == 0) {
                throw segmentFault(seg);
            }
        }
        long limit = segLimit[seg] & 0xffff_ffffL;
        long last = offset + size - 1;
        boolean expandDown = (ar & 0xc) == 4 && !realOrVirtual8086();
        boolean outside = expandDown
                ? offset <= limit || last > ((ar & AR_BIG) != 0 ? 0xffff_ffffL : 0xffffL)
                : last > limit;
        if (outside) {
            throw segmentFault(seg);
        }
        return (segBase[seg] + offset) & 0xffff_ffffL;
    }

    private GuestFault segmentFault(int seg) {
        return fault(seg == SS ? ExceptionVector.SS : ExceptionVector.GP, 0);
    }

    /// Whether `linear` is canonical for the paging mode in force (48 bits, 57 with CR4.LA57).
    public boolean canonical(long linear) {
        int unused = (cr4 & (1 << 12)) != 0 ? 7 : 16;
        return linear << unused >> unused == linear;
    }

    // Memory

    /// The byte at linear address `linear`, read with the rights of the current privilege level.
    public long read8(long linear) {
        return tlb.read(linear, 1);
    }

    /// The word at linear address `linear`, read with the rights of the current privilege level.
    public long read16(long linear) {
        return tlb.read(linear, 2);
    }

    /// The doubleword at linear address `linear`, read with the rights of the current privilege level.
    public long read32(long linear) {
        return tlb.read(linear, 4);
    }

    /// The quadword at linear address `linear`, read with the rights of the current privilege level.
    public long read64(long linear) {
        return tlb.read(linear, 8);
    }

    /// Reads `size` (1, 2, 4, 8) bytes at a linear address, zero-extended, with the rights of the current CPL.
    public long read(long linear, int size) {
        return tlb.read(linear, size);
    }

    /// Writes a byte at linear address `linear` with the rights of the current privilege level.
    public void write8(long linear, long value) {
        tlb.write(linear, 1, value);
    }

    /// Writes a word at linear address `linear` with the rights of the current privilege level.
    public void write16(long linear, long value) {
        tlb.write(linear, 2, value);
    }

    /// Writes a doubleword at linear address `linear` with the rights of the current privilege level.
    public void write32(long linear, long value) {
        tlb.write(linear, 4, value);
    }

    /// Writes a quadword at linear address `linear` with the rights of the current privilege level.
    public void write64(long linear, long value) {
        tlb.write(linear, 8, value);
    }

    /// Writes the low `size` (1, 2, 4, 8) bytes of `value`. Faults before it writes anything, also across pages.
    public void write(long linear, int size, long value) {
        tlb.write(linear, size, value);
    }

    /// MOVDIR64B: writes the 64 bytes of `line` at a linear address aligned to 64.
    public void writeLine(long linear, byte[] line) {
        tlb.writeLine(linear, line);
    }

    /// Makes sure that a write of `size` bytes will not fault.
    public void probeWrite(long linear, int size) {
        tlb.probe(linear, size, Walker.WRITE, tlb.right());
    }

    /// Makes sure that a read of `size` bytes will not fault.
    public void probeRead(long linear, int size) {
        tlb.probe(linear, size, Walker.READ, tlb.right());
    }

    /// Implicit supervisor access: descriptor tables, TSS.
    public long readSystem(long linear, int size) {
        return tlb.read(linear, size, Walker.SUPERVISOR);
    }

    /// The byte at `linear`, read by the processor itself: with supervisor rights.
    public long readSystem8(long linear) {
        return readSystem(linear, 1);
    }

    /// The word at `linear`, read by the processor itself: with supervisor rights.
    public long readSystem16(long linear) {
        return readSystem(linear, 2);
    }

    /// The doubleword at `linear`, read by the processor itself: with supervisor rights.
    public long readSystem32(long linear) {
        return readSystem(linear, 4);
    }

    /// The quadword at `linear`, read by the processor itself: with supervisor rights.
    public long readSystem64(long linear) {
        return readSystem(linear, 8);
    }

    /// Writes `size` bytes at `linear` with supervisor rights, as the processor itself does.
    public void writeSystem(long linear, int size, long value) {
        tlb.write(linear, size, value, Walker.SUPERVISOR);
    }

    /// Writes a byte at `linear` with supervisor rights, as the processor itself does.
    public void writeSystem8(long linear, long value) {
        writeSystem(linear, 1, value);
    }

    /// Writes a word at `linear` with supervisor rights, as the processor itself does.
    public void writeSystem16(long linear, long value) {
        writeSystem(linear, 2, value);
    }

    /// Writes a quadword at `linear` with supervisor rights, as the processor itself does.
    public void writeSystem64(long linear, long value) {
        writeSystem(linear, 8, value);
    }

    /// Faults as a write of `size` bytes by the processor itself would.
    public void probeSystemWrite(long linear, int size) {
        tlb.probe(linear, size, Walker.WRITE, Walker.SUPERVISOR);
    }

    /// Reads guest page-table entries and the like at a platform address; poison becomes what [#poisonHandler] says,
    /// absent memory all ones.
    public long readPhysical(long hpa, int size) {
        if (!memory.contains(PhysicalMemory.pa(hpa), size)) {
            return size == 8 ? -1 : (1L << (8 * size)) - 1;
        }
        try {
            return memory.read(hpa, size);
        } catch (Poison p) {
            throw poisonHandler.poisoned(this, p);
        }
    }

    /// Stores `value` at `hpa` in one operation if `expected` is there; absent memory ignores the store, which counts as done.
    public boolean compareAndSetPhysical(long hpa, int size, long expected, long value) {
        if (!memory.contains(PhysicalMemory.pa(hpa), size)) {
            return true; // the write is dropped
        }
        try {
            return memory.atomics().compareAndSet(hpa, size, expected, value);
        } catch (Poison p) {
            throw poisonHandler.poisoned(this, p);
        }
    }

    /// Clears all but `bits` at `hpa` in one operation; bytes outside of memory read as ones.
    ///
    /// @return the word before
    public long fetchAndPhysical(long hpa, int size, long bits) {
        if (!memory.contains(PhysicalMemory.pa(hpa), size)) {
            return size == 8 ? -1 : (1L << (8 * size)) - 1;
        }
        try {
            return memory.atomics().fetchAnd(hpa, size, bits);
        } catch (Poison p) {
            throw poisonHandler.poisoned(this, p);
        }
    }

    /// Writes at a platform address; absent memory ignores it.
    public void writePhysical(long hpa, int size, long value) {
        if (!memory.contains(PhysicalMemory.pa(hpa), size)) {
            return;
        }
        try {
            memory.write(hpa, size, value);
        } catch (Poison p) {
            throw poisonHandler.poisoned(this, p);
        }
    }

    // Stack

    /// Pushes `size` bytes with SS checks; RSP changes after the write.
    public void push(long value, int size) {
        int width = stackBits() / 8;
        long sp = truncate(r[RSP] - size, width);
        write(linear(SS, sp, size, true), size, value);
        reg(RSP, width, sp);
    }

    /// Pops `size` bytes, zero-extended.
    public long pop(int size) {
        int width = stackBits() / 8;
        long sp = truncate(r[RSP], width);
        long value = read(linear(SS, sp, size, false), size);
        reg(RSP, width, sp + size);
        return value;
    }

    // Time

    /// Instructions retired when [#clock] was last brought up to date; see [#ticks].
    private long clockedRetired;

    /// The current time in ticks, the running instruction's predecessors included.
    public long ticks() {
        return clock.now() + (retired - clockedRetired);
    }

    /// A tick passes in which no instruction retires.
    public void spendTick() {
        clockedRetired--;
    }

    /// Brings [#clock] up to [#ticks]; timers may fire. Call between instructions.
    public void advanceClock() {
        long ticks = retired - clockedRetired;
        clockedRetired = retired;
        if (ticks > 0) {
            clock.advance(ticks);
        }
    }

    // Diagnosis

    /// Registers and mode for messages, several lines, and the trace if there is one.
    public String dump() {
        return RegisterDump.of(this);
    }
}
