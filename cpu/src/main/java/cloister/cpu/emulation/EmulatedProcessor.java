package cloister.cpu.emulation;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Flags;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Interpreter;
import cloister.cpu.fpu.FpuInstructions;
import cloister.cpu.fpu.FpuState;
import cloister.cpu.sys.EventDelivery;
import cloister.cpu.sys.PendingEvents;
import cloister.cpu.sys.TaskSwitch;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import java.util.Arrays;

/// The registers of a processor and what its instructions do with them, for software that carries out single instructions of its
/// guests. It is no processor of the platform and has no memory: accesses go to the software's [MemoryAndPorts], and what only the
/// software can do to its [SystemOperations]. Semantics, checks and faults are those of the logical processors, by the same code.
///
/// The software loads the registers, calls [#fetch] and [#execute], and takes the registers back. Nothing but the registers is
/// kept from one instruction to the next.
public final class EmulatedProcessor {
    /// How [#execute] ended.
    public enum Outcome {
        /// The instruction is done.
        RETIRED,
        /// An element of a repeated string instruction is done; RIP is still on the instruction, and RFLAGS.RF is set.
        REPEATS,
        /// An exception: see [#faultVector]. Registers are as before.
        FAULTED,
        /// [#deliver] only: a triple fault.
        SHUTDOWN
    }

    /// Segment registers in encoding order, then LDTR and TR.
    public static final int SEGMENTS = 8;

    private static final int PAGE = 0x1000;
    private static final long LOW = 0xffff_ffffL;
    private static final int GENERAL_REGISTERS = 16;

    private final MemoryAndPorts accesses;
    private final Cpu cpu;
    private final EmulatedMemory memory;
    private final Interception interception;
    private final Decoder decoder = new Decoder();
    private final byte[] code = new byte[Decoder.MAX_LENGTH];
    private final int[] loadedSelectors = new int[SEGMENTS];
    private final long[] loadedBases = new long[SEGMENTS];
    private final int[] loadedLimits = new int[SEGMENTS];
    private final int[] loadedRights = new int[SEGMENTS];
    private long loadedCr3;
    private int faultVector;
    private int faultErrorCode;
    private long faultAddress;
    private int fetched;

    /// @param clock what `software` counts time with
    public EmulatedProcessor(MemoryAndPorts accesses, SystemOperations software, VirtualClock clock) {
        this.accesses = accesses;
        this.memory = new EmulatedMemory(accesses);
        this.cpu = new Cpu(clock, memory);
        this.interception = new Interception(accesses, software);
        cpu.vmx = interception;
        cpu.stringLimit = 1;
    }

    // --- registers

    /// The general registers 0 to 15 in encoding order, alive.
    public void loadGeneral(long[] from) {
        System.arraycopy(from, 0, cpu.r, 0, GENERAL_REGISTERS);
    }

    /// Copies the general registers to `to`.
    public void storeGeneral(long[] to) {
        System.arraycopy(cpu.r, 0, to, 0, GENERAL_REGISTERS);
    }

    /// Loads RIP and RFLAGS.
    public void load(long rip, long rflags) {
        cpu.rip = rip;
        cpu.nextRip = rip;
        cpu.rflags(rflags);
    }

    /// The address of the next instruction, an offset into CS.
    public long rip() {
        return cpu.rip;
    }

    /// RFLAGS, bit 1 set.
    public long rflags() {
        return cpu.rflags();
    }

    /// Loads a segment register.
    ///
    /// @param number encoding order; 6 LDTR, 7 TR
    /// @param limit  in bytes, granularity applied
    /// @param rights format of the VMCS
    public void segment(int number, int selector, long base, int limit, int rights) {
        cpu.segSelector[number] = loadedSelectors[number] = selector;
        cpu.segBase[number] = loadedBases[number] = base;
        cpu.segLimit[number] = loadedLimits[number] = limit;
        cpu.segAr[number] = loadedRights[number] = rights;
    }

    /// Whether a segment register is not as [#segment] loaded it.
    public boolean changed(int number) {
        return cpu.segSelector[number] != loadedSelectors[number] || cpu.segBase[number] != loadedBases[number]
                || cpu.segLimit[number] != loadedLimits[number] || cpu.segAr[number] != loadedRights[number];
    }

    /// The selector of a segment register.
    ///
    /// @param segment its number: 0 ES, 1 CS, 2 SS, 3 DS, 4 FS, 5 GS, 6 LDTR, 7 TR
    public int selector(int segment) {
        return cpu.segSelector[segment];
    }

    /// The linear address at which a segment begins.
    ///
    /// @param segment its number, as for [#selector]
    public long base(int segment) {
        return cpu.segBase[segment];
    }

    /// In bytes, granularity applied.
    public int limit(int segment) {
        return cpu.segLimit[segment];
    }

    /// Format of the VMCS.
    public int rights(int segment) {
        return cpu.segAr[segment];
    }

    /// Loads GDTR and IDTR.
    public void descriptorTables(long gdtBase, int gdtLimit, long idtBase, int idtLimit) {
        cpu.gdtrBase = gdtBase;
        cpu.gdtrLimit = gdtLimit;
        cpu.idtrBase = idtBase;
        cpu.idtrLimit = idtLimit;
    }

    /// The linear address of the GDT.
    public long gdtBase() {
        return cpu.gdtrBase;
    }

    /// The GDT's last byte, as an offset.
    public int gdtLimit() {
        return cpu.gdtrLimit;
    }

    /// The linear address of the IDT.
    public long idtBase() {
        return cpu.idtrBase;
    }

    /// The IDT's last byte, as an offset.
    public int idtLimit() {
        return cpu.idtrLimit;
    }

    /// Loads the control registers as the guest sees them, and the privilege level. Call it last of the loads.
    public void control(long cr0, long cr2, long cr3, long cr4, long cr8, long efer, int cpl) {
        cpu.cr0 = cr0;
        cpu.cr2 = cr2;
        cpu.cr3 = loadedCr3 = cr3;
        cpu.cr4 = cr4;
        cpu.cr8 = cr8;
        cpu.efer = efer;
        cpu.cpl = cpl;
        cpu.shadowAt = -1;
        cpu.updateMode();
    }

    /// CR0 as the emulated software has it.
    public long cr0() {
        return cpu.cr0;
    }

    /// CR3 as the emulated software has it.
    public long cr3() {
        return cpu.cr3;
    }

    /// Whether a task switch has loaded CR3.
    public boolean changedCr3() {
        return cpu.cr3 != loadedCr3;
    }

    /// CR4 as the emulated software has it.
    public long cr4() {
        return cpu.cr4;
    }

    /// IA32_EFER.
    public long efer() {
        return cpu.efer;
    }

    /// CR2: the linear address of the last page fault.
    public long cr2() {
        return cpu.cr2;
    }

    /// The privilege level, 0 to 3.
    public int cpl() {
        return cpu.cpl;
    }

    /// Loads what SYSCALL, SYSENTER and SYSEXIT use.
    public void fastCalls(long star, long lstar, long fmask, long sysenterCs, long sysenterEsp, long sysenterEip) {
        cpu.star = star;
        cpu.lstar = lstar;
        cpu.fmask = fmask;
        cpu.sysenterCs = sysenterCs;
        cpu.sysenterEsp = sysenterEsp;
        cpu.sysenterEip = sysenterEip;
    }

    /// Loads what the XSAVE instructions depend on.
    public void extendedControl(long xcr0, long xss) {
        cpu.xcr0 = xcr0;
        cpu.xss = xss;
    }

    /// The x87, MMX and SSE registers; only instructions that [#usesFpu] touch them.
    public FpuState fpu() {
        return cpu.fpu;
    }

    /// Whether `insn` uses the registers of [#fpu].
    public static boolean usesFpu(Instruction insn) {
        return FpuInstructions.handles(insn.op);
    }

    /// The blocking of interrupts that the last instruction has begun, as in the VMCS's interruptibility state: 1 by STI, 2 by MOV
    /// SS or POP SS, 0 none.
    public int shadow() {
        return cpu.shadow();
    }

    // --- instructions

    /// Fetches and decodes the instruction at CS:RIP. Bytes behind its end are not touched, except in its last page.
    ///
    /// @return null for an exception: see [#faultVector]; [Op#TRUNCATED] when it is not in memory
    public Instruction fetch() {
        fetched = 0;
        try {
            while (true) {
                int before = fetched;
                fetchPage();
                var insn = decoder.decode(cpu.codeMode, code, 0, fetched);
                if (insn.op != Op.TRUNCATED || fetched == before || fetched == code.length) {
                    return insn;
                }
            }
        } catch (GuestFault fault) {
            record(fault);
            return null;
        }
    }

    /// The bytes of the last [#fetch].
    public byte[] code() {
        return Arrays.copyOf(code, fetched);
    }

    private void fetchPage() {
        long offset = cpu.rip + fetched;
        long linear = offset;
        int room = code.length - fetched;
        if (cpu.is64Bit()) {
            if (!cpu.canonical(linear)) {
                throw cpu.gp(0);
            }
        } else {
            long limit = cpu.segLimit[Cpu.CS] & LOW;
            if (offset > limit) {
                throw cpu.gp(0);
            }
            room = (int) Math.min(room, limit - offset + 1);
            linear = (cpu.segBase[Cpu.CS] + offset) & LOW;
        }
        room = Math.min(room, PAGE - ((int) linear & (PAGE - 1)));
        long gpa = memory.translate(cpu, linear, MemoryAndPorts.Access.FETCH, cpu.cpl == 3 ? MemoryAndPorts.Right.USER
                : MemoryAndPorts.Right.SUPERVISOR);
        if (accesses.readCode(gpa, code, fetched, room)) {
            fetched += room;
        }
    }

    /// Executes `insn`, which [#fetch] gave, at RIP.
    public Outcome execute(Instruction insn) {
        boolean repeated = insn.has(Instruction.PREFIX_REP | Instruction.PREFIX_REPNE);
        long at = cpu.rip;
        int flagsBefore = cpu.systemFlags;
        cpu.tlb.flushNonGlobal();
        cpu.shadowAt = -1;
        try {
            cpu.systemFlags &= ~Flags.RF;
            Interpreter.execute(cpu, insn);
            if (insn.op == Op.MOV_DR) {
                interception.storeDebugRegisters(cpu);
            }
        } catch (GuestFault fault) {
            cpu.systemFlags = flagsBefore;
            record(fault);
            return Outcome.FAULTED;
        } catch (CarriedOut done) {
            cpu.rip = cpu.nextRip;
        } catch (RuntimeException foreign) { // of the software: the instruction has not happened
            cpu.systemFlags = flagsBefore;
            throw foreign;
        } finally {
            cpu.attention = 0;
            cpu.events.activity = PendingEvents.ACTIVE;
        }
        return repeated && cpu.rip == at && cpu.systemFlag(Flags.RF) ? Outcome.REPEATS : Outcome.RETIRED;
    }

    private void record(GuestFault fault) {
        faultVector = fault.vector;
        faultErrorCode = fault.errorCode;
        faultAddress = fault.address;
    }

    /// The vector of the last exception.
    public int faultVector() {
        return faultVector;
    }

    /// Its error code, if it has one.
    public int faultErrorCode() {
        return faultErrorCode;
    }

    /// The linear address of a page fault, the bits for DR6 of a debug exception.
    public long faultAddress() {
        return faultAddress;
    }

    // --- events and tasks

    /// Delivers an event through the guest's interrupt table, with all that may go wrong on the way.
    ///
    /// @param type         interruption type of [cloister.spec.vmx.Interruption]
    /// @param hasErrorCode whether `errorCode` is pushed
    /// @param length       of the instruction that causes a software event, else 0
    public Outcome deliver(int type, int vector, boolean hasErrorCode, int errorCode, int length) {
        cpu.tlb.flushNonGlobal();
        EventDelivery.deliver(cpu, type, vector, errorCode, hasErrorCode, cpu.rip + length, 0, true);
        return delivered();
    }

    /// Delivers the last exception, CR2 included.
    public Outcome deliverFault() {
        cpu.tlb.flushNonGlobal();
        EventDelivery.deliver(cpu, Interruption.HARDWARE_EXCEPTION, faultVector, faultErrorCode,
                ExceptionVector.hasErrorCode(faultVector), cpu.rip, faultAddress, false);
        return delivered();
    }

    private Outcome delivered() {
        boolean shutdown = cpu.events.activity == PendingEvents.SHUTDOWN;
        cpu.events.activity = PendingEvents.ACTIVE;
        cpu.attention = 0;
        return shutdown ? Outcome.SHUTDOWN : Outcome.RETIRED;
    }

    /// Switches tasks, as a VM exit asks for.
    ///
    /// @param source       0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT
    /// @param length       of the instruction that causes it, 0 when an event does
    /// @param errorCode    what the new task finds on its stack, or -1
    /// @return [Outcome#FAULTED] also when the new task is entered and something is wrong with its segments: registers are then its own
    public Outcome switchTask(int selector, int source, int length, long errorCode) {
        cpu.tlb.flushNonGlobal();
        cpu.nextRip = cpu.rip + length;
        try {
            TaskSwitch.emulate(cpu, selector, source, length == 0, errorCode);
            cpu.rip = cpu.nextRip;
            return Outcome.RETIRED;
        } catch (GuestFault fault) {
            record(fault);
            return Outcome.FAULTED;
        } finally {
            cpu.attention = 0;
        }
    }

    /// Whether the new task has asked for a debug trap at its first instruction; asking takes it.
    public boolean takeTaskTrap() {
        boolean trap = cpu.events.pendingDebug != 0;
        cpu.events.pendingDebug = 0;
        return trap;
    }

    // --- memory, for what exits without an instruction to execute

    /// Reads a memory operand at `offset` in a segment, with the checks and rights of the current program.
    ///
    /// @return whether that went without an exception: see [#faultVector]; then [#operand] has the value
    public boolean readOperand(int segment, long offset, int bytes) {
        cpu.tlb.flushNonGlobal();
        try {
            operand = cpu.read(cpu.linear(segment, offset, bytes, false), bytes);
            return true;
        } catch (GuestFault fault) {
            record(fault);
            return false;
        }
    }

    private long operand;

    /// What [#readOperand] has read, zero-extended.
    public long operand() {
        return operand;
    }
}
