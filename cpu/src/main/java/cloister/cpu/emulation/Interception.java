package cloister.cpu.emulation;

import cloister.cpu.core.Cpu;
import cloister.cpu.sys.DebugRegisters;
import cloister.cpu.sys.NonRoot;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.x86.Rflags;

/// Hands what only the software of the emulated processor can do to it. The processor asks at the places where VMX non-root operation
/// would exit, behind its own checks.
final class Interception implements NonRoot {
    private static final long LOW = 0xffff_ffffL;
    private static final int PAGE = 0x1000;
    private static final int DEBUG_STATUS = 6;
    private static final int DEBUG_CONTROL = 7;
    /// DR7 in which nothing is enabled: the emulated processor itself looks for no breakpoint.
    private static final long NO_BREAKPOINTS = 0x400;

    private final MemoryAndPorts accesses;
    private final SystemOperations software;
    private final int[] answer = new int[4];
    /// Of INS: how many reads of the port may follow each other.
    private int repeats;

    Interception(MemoryAndPorts accesses, SystemOperations software) {
        this.accesses = accesses;
        this.software = software;
    }

    @Override public boolean active() {
        return true;
    }

    @Override public void intercept(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case CPUID -> cpuid(cpu);
            case RDTSC -> pair(cpu, software.tsc());
            case HLT -> software.halt();
            case INVLPG -> invalidate(cpu, insn);
            case INVD, WBINVD, WBNOINVD, MONITOR, MWAIT, PAUSE -> {
            }
            case XSETBV -> extendedControl(cpu);
            case MOV_DR -> {
                loadDebugRegisters(cpu);
                return;
            }
            case RDPMC -> throw cpu.gp(0);
            default -> {
                return;
            }
        }
        throw CarriedOut.INSTANCE;
    }

    private void cpuid(Cpu cpu) {
        software.cpuid((int) cpu.r[Cpu.RAX], (int) cpu.r[Cpu.RCX], answer);
        cpu.reg(Cpu.RAX, 4, answer[0]);
        cpu.reg(Cpu.RBX, 4, answer[1]);
        cpu.reg(Cpu.RCX, 4, answer[2]);
        cpu.reg(Cpu.RDX, 4, answer[3]);
    }

    private static void pair(Cpu cpu, long value) {
        cpu.r[Cpu.RAX] = value & LOW;
        cpu.r[Cpu.RDX] = value >>> 32;
    }

    private void invalidate(Cpu cpu, Instruction insn) {
        long base = cpu.is64Bit() && insn.segment < Cpu.FS ? 0 : cpu.segBase[insn.segment];
        long linear = base + cpu.ea(insn);
        software.invalidatePage(cpu.is64Bit() ? linear : linear & LOW);
    }

    private void extendedControl(Cpu cpu) {
        long value = (cpu.r[Cpu.RAX] & LOW) | (cpu.r[Cpu.RDX] << 32);
        if (cpu.cpl != 0 || !software.writeExtendedControl((int) cpu.r[Cpu.RCX], value)) {
            throw cpu.gp(0);
        }
    }

    private void loadDebugRegisters(Cpu cpu) {
        cpu.dr0 = software.debugRegister(0);
        cpu.dr1 = software.debugRegister(1);
        cpu.dr2 = software.debugRegister(2);
        cpu.dr3 = software.debugRegister(3);
        cpu.dr6 = software.debugRegister(DEBUG_STATUS);
        cpu.dr7 = software.debugRegister(DEBUG_CONTROL);
    }

    /// Takes the debug registers back behind MOV to one of them.
    void storeDebugRegisters(Cpu cpu) {
        for (int i = 0; i <= DEBUG_CONTROL; i++) {
            if (i <= 3 || i >= DEBUG_STATUS) {
                software.debugRegister(i, DebugRegisters.read(cpu, i));
            }
        }
        cpu.dr7 = NO_BREAKPOINTS;
    }

    // --- control registers and MSRs

    private CarriedOut write(Cpu cpu, int register, long value) {
        if (!software.writeControl(register, value)) {
            throw cpu.gp(0);
        }
        return CarriedOut.INSTANCE;
    }

    @Override public long writeCr(Cpu cpu, int cr, int gpr, long value) {
        throw write(cpu, cr, value);
    }

    @Override public void writeCr8(Cpu cpu, int gpr, long value) {
        throw write(cpu, 8, value);
    }

    @Override public long clts(Cpu cpu, long cr0WithoutTs) {
        throw write(cpu, 0, cr0WithoutTs);
    }

    @Override public long lmsw(Cpu cpu, Instruction insn, long linear, int source, long cr0) {
        throw write(cpu, 0, cr0);
    }

    @Override public long readMsr(Cpu cpu, int msr) {
        return software.readMsr(msr).orElseThrow(() -> cpu.gp(0));
    }

    @Override public void writeMsr(Cpu cpu, int msr, long value) {
        if (!software.writeMsr(msr, value)) {
            throw cpu.gp(0);
        }
    }

    // --- ports

    @Override public void interceptIo(Cpu cpu, Instruction insn, int port, int bytes, boolean in, long linear) {
        repeats = 1;
        boolean repeated = insn.has(Instruction.PREFIX_REP | Instruction.PREFIX_REPNE);
        if (insn.op == Op.INS && repeated && (cpu.systemFlags & (int) Rflags.DF) == 0) {
            int inPage = Math.max(1, (PAGE - ((int) linear & (PAGE - 1))) / bytes);
            long count = insn.addressSize == 8 ? cpu.r[Cpu.RCX] : cpu.r[Cpu.RCX] & (insn.addressSize == 4 ? LOW : 0xffff);
            repeats = count < 0 ? inPage : (int) Math.min(count, inPage);
        }
    }

    @Override public int portIn(Cpu cpu, int port, int bytes) {
        return accesses.readPort(port, bytes, repeats);
    }

    @Override public void portOut(Cpu cpu, int port, int bytes, int value) {
        accesses.writePort(port, bytes, value);
    }

    // --- paging structures

    @Override public long readEntry(Cpu cpu, long gpa, long linear, int bytes) {
        return accesses.read(gpa, bytes);
    }

    // --- events

    @Override public boolean iretUnblocksNmi(Cpu cpu) {
        software.unmaskNmis();
        return false;
    }
}
