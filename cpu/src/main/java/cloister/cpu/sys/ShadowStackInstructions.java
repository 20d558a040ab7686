package cloister.cpu.sys;

import cloister.cpu.core.ControlFlow;
import cloister.cpu.core.Cpu;
import cloister.cpu.core.ShadowStack;
import cloister.isa.Instruction;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// The instructions that manage shadow stacks. [SDM Vol. 1 "Shadow Stack Management Instructions"; Vol. 2, each one's "Operation"]
final class ShadowStackInstructions {
    private ShadowStackInstructions() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case RDSSP -> rdssp(cpu, insn);
            case INCSSP -> incssp(cpu, insn);
            case SAVEPREVSSP -> savePreviousSsp(cpu);
            case RSTORSSP -> restoreSsp(cpu, insn);
            case WRSS -> wrss(cpu, insn);
            case WRUSS -> wruss(cpu, insn);
            case SETSSBSY -> setBusy(cpu);
            case CLRSSBSY -> clearBusy(cpu, insn);
            default -> throw new IllegalStateException(insn.op + " is no shadow-stack instruction");
        }
    }

    private static void require(Cpu cpu, int cpl) {
        if (!cpu.cet.shadowStackEnabled(cpl)) {
            throw cpu.ud();
        }
    }

    private static boolean user(Cpu cpu) {
        return cpu.cpl == 3;
    }

    /// No operation where shadow stacks are not enabled.
    private static void rdssp(Cpu cpu, Instruction insn) {
        if (cpu.cet.shadowStackEnabled(cpu.cpl)) {
            cpu.reg(insn.reg0, insn.size0, cpu.cet.ssp);
        }
    }

    /// Touches the first and the last slot that it pops.
    private static void incssp(Cpu cpu, Instruction insn) {
        require(cpu, cpu.cpl);
        int size = insn.size0;
        int count = (int) cpu.r[insn.reg0] & 0xff;
        ControlFlow cet = cpu.cet;
        ShadowStack.read(cpu, cet.ssp, size, user(cpu));
        ShadowStack.read(cpu, linear(cpu, cet.ssp + (long) (Math.max(count, 1) - 1) * size), size, user(cpu));
        cet.ssp = linear(cpu, cet.ssp + (long) count * size);
    }

    private static long linear(Cpu cpu, long ssp) {
        return cpu.is64Bit() ? ssp : ssp & 0xffff_ffffL;
    }

    private static void savePreviousSsp(Cpu cpu) {
        require(cpu, cpu.cpl);
        boolean wide = cpu.is64Bit();
        long ssp = cpu.cet.ssp;
        if ((ssp & 7) != 0) {
            throw cpu.gp(0);
        }
        long token = ShadowStack.read(cpu, ssp, 8, user(cpu));
        ssp += 8;
        if ((cpu.rflags() & Rflags.CF) != 0) { // an alignment hole, which 64-bit stacks do not have
            if (wide || ShadowStack.read(cpu, linear(cpu, ssp), 4, user(cpu)) != 0) {
                throw cpu.gp(0);
            }
            ssp += 4;
        }
        if ((token & Cet.TOKEN_PREVIOUS) == 0 || (!wide && token >>> 32 != 0)) {
            throw cpu.gp(0);
        }
        long old = token & ~3L;
        long at = (old & ~7L) - 8;
        ShadowStack.probeWrite(cpu, linear(cpu, at), 8, user(cpu));
        ShadowStack.write(cpu, linear(cpu, old - 4), 4, 0, user(cpu));
        ShadowStack.write(cpu, linear(cpu, at), 8, old | (wide ? Cet.TOKEN_64 : 0), user(cpu));
        cpu.cet.ssp = linear(cpu, ssp);
    }

    private static void restoreSsp(Cpu cpu, Instruction insn) {
        require(cpu, cpu.cpl);
        long linear = cpu.linear(insn, 8, false);
        if ((linear & 7) != 0) {
            throw cpu.gp(0);
        }
        boolean wide = cpu.is64Bit();
        ShadowStack.probeWrite(cpu, linear, 8, user(cpu));
        long token = ShadowStack.read(cpu, linear, 8, user(cpu));
        boolean good = (token & 3) == (wide ? Cet.TOKEN_64 : 0) && (wide || token >>> 32 == 0)
                && (((token & ~Cet.TOKEN_64) - 8) & ~7L) == linear;
        if (!good) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_RSTORSSP);
        }
        ShadowStack.write(cpu, linear, 8, cpu.cet.ssp | (wide ? Cet.TOKEN_64 : 0) | Cet.TOKEN_PREVIOUS, user(cpu));
        cpu.cet.ssp = linear;
        cpu.arithmeticFlags((token & 4) != 0 ? (int) Rflags.CF : 0);
    }

    private static void wrss(Cpu cpu, Instruction insn) {
        require(cpu, cpu.cpl);
        if ((cpu.cet.control(cpu.cpl) & Cet.WR_SHSTK_EN) == 0) {
            throw cpu.ud();
        }
        store(cpu, insn, user(cpu));
    }

    /// Writes a user shadow stack from CPL 0.
    private static void wruss(Cpu cpu, Instruction insn) {
        if ((cpu.cr4 & Cr4.CET) == 0 || cpu.realOrVirtual8086()) {
            throw cpu.ud();
        }
        ControlRegisters.requireCpl0(cpu);
        store(cpu, insn, true);
    }

    private static void store(Cpu cpu, Instruction insn, boolean user) {
        int size = insn.size0;
        long linear = cpu.linear(insn, size, true);
        if ((linear & (size - 1)) != 0) {
            throw cpu.gp(0);
        }
        ShadowStack.write(cpu, linear, size, cpu.reg(insn.reg1, size), user);
    }

    private static void setBusy(Cpu cpu) {
        require(cpu, 0);
        ControlRegisters.requireCpl0(cpu);
        long ssp = cpu.cet.plSsp[0];
        if ((ssp & 7) != 0) {
            throw cpu.gp(0);
        }
        boolean reachable = cpu.is64Bit() || ssp >>> 32 == 0;
        if (!reachable || !ShadowStack.compareAndSet(cpu, ssp, ssp, ssp | Cet.TOKEN_BUSY, false)) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_SETSSBSY);
        }
        cpu.cet.ssp = ssp;
    }

    private static void clearBusy(Cpu cpu, Instruction insn) {
        require(cpu, 0);
        ControlRegisters.requireCpl0(cpu);
        long linear = cpu.linear(insn, 8, true);
        if ((linear & 7) != 0) {
            throw cpu.gp(0);
        }
        boolean valid = ShadowStack.compareAndSet(cpu, linear, linear | Cet.TOKEN_BUSY, linear, false);
        cpu.cet.ssp = 0;
        cpu.arithmeticFlags(valid ? 0 : (int) Rflags.CF);
    }
}
