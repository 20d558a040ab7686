package cloister.silicon;

import static cloister.silicon.Layout.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Interpreter;
import cloister.cpu.sys.Cpuid;
import cloister.cpu.sys.PageWalker;
import cloister.isa.CodeMode;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import java.nio.ByteBuffer;
import java.util.Arrays;

/// Our processor, set up as Linux sets one up for a user program with the address space of [Layout].
final class Model {
    /// How instructions are executed: one by one, or by the interpreter's code cache.
    enum Engine {
        STEP, RUN
    }

    private static final int PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE_PT = 0x4000, DATA_PT = 0x5000, GDT_PT = 0x6000;
    private static final int CODE_PA = 0x20000, DATA_PA = 0x40000, GDT_PA = 0x50000;
    private static final int GDT = 0x1800_0000;
    /// In the GDT's page: the task-state segment, the kernel's stack, the IDT.
    private static final int TSS_OFFSET = 0x100, STACK_OFFSET = 0x700, IDT_OFFSET = 0x800, GATES = 32;
    private static final long HANDLERS = 0x1000_F000L;
    private static final long PRESENT = 1, WRITABLE = 2, USER = 4, USED = 0x60, NX = 1L << 63;
    private static final long CR0 = 0x8005_0033L;
    /// PAE, MCE, PGE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE, SMEP, SMAP.
    private static final long CR4 = 0x35_0EE0;
    private static final long EFER = 0xD01;
    /// HLT, which user programs may not execute: it ends every case.
    private static final byte END = (byte) 0xF4;
    private static final int GP = 13;
    private static final int PF = 14;
    private static final int FETCH = 16;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());
    private final byte[] slot = new byte[SLOT];

    Model() {
        cpu.cpuid = new Cpuid(1);
        table(PML4, 0, PDPT | PRESENT | WRITABLE | USER);
        table(PDPT, 0, PD | PRESENT | WRITABLE | USER);
        table(PD, CODE >> 21, CODE_PT | PRESENT | WRITABLE | USER);
        table(PD, DATA_PAGE >> 21, DATA_PT | PRESENT | WRITABLE | USER);
        table(PD, GDT >> 21, GDT_PT | PRESENT | WRITABLE | USER);
        for (int page = 0; page < CODE_SIZE >> 12; page++) {
            table(CODE_PT, page, (CODE_PA + ((long) page << 12)) | PRESENT | WRITABLE | USER | USED);
        }
        table(DATA_PT, 0, DATA_PA | PRESENT | WRITABLE | USER | USED | NX);
        table(GDT_PT, 0, GDT_PA | PRESENT | WRITABLE | USED | NX);
        memory.fill(CODE_PA, CODE_SIZE, END);
        memory.write(GDT_PA + 0x08, 8, 0x00CF_9B00_0000_FFFFL); // the kernel's segments
        memory.write(GDT_PA + 0x10, 8, 0x00AF_9B00_0000_FFFFL);
        memory.write(GDT_PA + 0x18, 8, 0x00CF_9300_0000_FFFFL);
        memory.write(GDT_PA + 0x20, 8, 0x00CF_FB00_0000_FFFFL); // 32-bit user code
        memory.write(GDT_PA + 0x28, 8, 0x00CF_F300_0000_FFFFL); // user data
        memory.write(GDT_PA + 0x30, 8, 0x00AF_FB00_0000_FFFFL); // 64-bit user code
        memory.write(GDT_PA + TSS_OFFSET + 4, 8, GDT + STACK_OFFSET); // RSP0
        memory.write(GDT_PA + TSS_OFFSET + 0x66, 2, 0x68); // no I/O permission bitmap
        for (int gate = 0; gate < GATES; gate++) { // 64-bit interrupt gates that user programs may not name
            memory.write(GDT_PA + IDT_OFFSET + 16L * gate, 8,
                ((HANDLERS >> 16) << 48) | 0x8E00_0010_0000L | ((HANDLERS + 16L * gate) & 0xFFFF));
        }
    }

    private void table(int table, int index, long entry) {
        memory.write(table + 8L * index, 8, entry);
    }

    /// Runs `c` to its end or its fault.
    Outcome run(Case c, Engine engine) {
        load(c, c.initial());
        long start = cpu.rip;
        long end = start + c.code().length;
        try {
            for (int i = 0; i < 10_000; i++) {
                if (cpu.rip < start || cpu.rip >= end) {
                    return new Outcome(state(), Outcome.COMPLETED, 0, 0);
                }
                cpu.attention = 0; // PAUSE and POPF ask for the run loop
                if (engine == Engine.STEP) {
                    Interpreter.step(cpu);
                } else {
                    Interpreter.run(cpu, 1);
                }
            }
            return new Outcome(state(), Outcome.LOST, 0, 0);
        } catch (GuestFault fault) {
            boolean fetch = (fault.vector == PF && (fault.errorCode & FETCH) != 0) || fault.vector == GP;
            boolean completed = fetch && (cpu.rip < start || cpu.rip >= end);
            return completed ? new Outcome(state(), Outcome.COMPLETED, 0, 0)
                : new Outcome(state(), fault.vector, fault.errorCode, fault.vector == PF ? fault.address : 0);
        }
    }

    /// Runs one instruction at the start of `c` from `initial`. With [Engine#RUN] what follows it may run too, as far as it
    /// completes.
    OpcodeOutcome once(Case c, MachineState initial, Engine engine) {
        load(c, initial);
        long start = cpu.rip;
        try {
            if (engine == Engine.STEP) {
                Interpreter.step(cpu);
            } else {
                Interpreter.run(cpu, 1);
            }
        } catch (GuestFault fault) {
            if (cpu.rip == start && cpu.cpl == 3) {
                return OpcodeOutcome.fault(fault.vector, fault.errorCode);
            }
        }
        if (cpu.cpl == 0) { // the instruction itself delivered an exception, as INT n of a gate that is not for users
            return OpcodeOutcome.fault((int) (cpu.rip - HANDLERS) >> 4, (int) memory.read(GDT_PA + STACK_OFFSET - 48, 4));
        }
        return OpcodeOutcome.completed(cpu.rip - start);
    }

    private void load(Case c, MachineState initial) {
        Arrays.fill(slot, END);
        System.arraycopy(c.code(), 0, slot, SLOT_START, c.code().length);
        memory.write(CODE_PA + (long) c.slot() * SLOT, slot, 0, SLOT);
        memory.write(DATA_PA + 0x1000 - DATA_BYTES, initial.data.array(), 0, DATA_BYTES);
        cpu.attention = 0;
        cpu.cr0 = CR0;
        cpu.cr3 = PML4;
        cpu.cr4 = CR4;
        cpu.efer = EFER;
        cpu.xcr0 = 3;
        cpu.gdtrBase = GDT;
        cpu.gdtrLimit = 0x7F;
        cpu.idtrBase = GDT + IDT_OFFSET;
        cpu.idtrLimit = 16 * GATES - 1;
        cpu.segBase[Cpu.TR] = GDT + TSS_OFFSET;
        cpu.segLimit[Cpu.TR] = 0x67;
        cpu.segAr[Cpu.TR] = 0x8B;
        cpu.segSelector[Cpu.TR] = 0x40;
        for (int segment = 0; segment < 6; segment++) {
            boolean code = segment == Cpu.CS;
            boolean small = c.mode() == CodeMode.BITS16;
            cpu.segSelector[segment] = code ? codeSelector(c.mode()) : segment >= Cpu.FS ? 0 : dataSelector(c.mode());
            cpu.segBase[segment] = segment == Cpu.FS ? FS_BASE : segment == Cpu.GS ? GS_BASE
                : code ? codeBase(c.mode()) : dataBase(c.mode());
            cpu.segLimit[segment] = small ? 0xFFFF : -1;
            int data = segment >= Cpu.FS ? Cpu.AR_UNUSABLE : small ? 0xF3 : 0xC0F3;
            cpu.segAr[segment] = code ? small ? 0xFB : c.mode() == CodeMode.BITS64 ? 0xA0FB : 0xC0FB : data;
        }
        cpu.cpl = 3;
        System.arraycopy(initial.gpr, 0, cpu.r, 0, 16);
        cpu.rip = initial.rip;
        cpu.rflags(initial.rflags);
        loadFpu(initial.fx);
        cpu.updateMode();
    }

    private void loadFpu(ByteBuffer fx) {
        cpu.fpu.fcw = fx.getShort(MachineState.FX_FCW) & 0xFFFF;
        cpu.fpu.fsw = fx.getShort(MachineState.FX_FSW) & 0xFFFF;
        cpu.fpu.tags = fx.get(MachineState.FX_FTW) & 0xFF;
        cpu.fpu.mxcsr = fx.getInt(MachineState.FX_MXCSR);
        cpu.fpu.fip = cpu.fpu.fdp = cpu.fpu.fop = cpu.fpu.fcs = cpu.fpu.fds = 0;
        for (int i = 0; i < 8; i++) {
            int physical = (cpu.fpu.top() + i) & 7;
            cpu.fpu.st[physical] = fx.getLong(MachineState.FX_ST + 16 * i);
            cpu.fpu.stExponent[physical] = fx.getShort(MachineState.FX_ST + 16 * i + 8) & 0xFFFF;
        }
        for (int i = 0; i < 32; i++) {
            cpu.fpu.xmm[i] = fx.getLong(MachineState.FX_XMM + 8 * i);
        }
    }

    private MachineState state() {
        MachineState state = new MachineState();
        System.arraycopy(cpu.r, 0, state.gpr, 0, 16);
        state.rip = cpu.rip;
        System.arraycopy(cpu.segSelector, 0, state.segments, 0, 6);
        state.fsBase = cpu.segBase[Cpu.FS];
        state.gsBase = cpu.segBase[Cpu.GS];
        state.rflags = cpu.rflags();
        memory.read(DATA_PA + 0x1000 - DATA_BYTES, state.data.array(), 0, DATA_BYTES);
        state.fx.putShort(MachineState.FX_FCW, (short) cpu.fpu.fcw);
        state.fx.putShort(MachineState.FX_FSW, (short) cpu.fpu.fsw);
        state.fx.put(MachineState.FX_FTW, (byte) cpu.fpu.tags);
        state.fx.putInt(MachineState.FX_MXCSR, cpu.fpu.mxcsr);
        for (int i = 0; i < 8; i++) {
            int physical = (cpu.fpu.top() + i) & 7;
            state.fx.putLong(MachineState.FX_ST + 16 * i, cpu.fpu.st[physical]);
            state.fx.putShort(MachineState.FX_ST + 16 * i + 8, (short) cpu.fpu.stExponent[physical]);
        }
        for (int i = 0; i < 32; i++) {
            state.fx.putLong(MachineState.FX_XMM + 8 * i, cpu.fpu.xmm[i]);
        }
        return state;
    }
}
