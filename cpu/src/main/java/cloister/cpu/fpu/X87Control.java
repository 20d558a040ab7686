package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;

/// x87 control instructions: control and status words, environment, save and restore.
final class X87Control {
    private X87Control() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        FpuState s = cpu.fpu;
        switch (insn.op) {
            case FWAIT -> {
                X87Operands.requireWait(cpu);
                X87Operands.checkPending(cpu);
                return;
            }
            case FNOP, FLDCW, FLDENV, FRSTOR -> {
                X87Operands.require(cpu);
                X87Operands.checkPending(cpu);
            }
            default -> X87Operands.require(cpu);
        }
        switch (insn.op) {
            case FNOP -> s.fip = cpu.rip;
            case FNINIT -> s.finit();
            case FNCLEX -> s.fsw &= 0x7f00;
            case FNSTCW -> cpu.writeOperand(insn, 0, s.fcw);
            case FNSTSW -> cpu.writeOperand(insn, 0, s.fsw);
            case FLDCW -> {
                s.fcw = X87.legalControl((int) cpu.readOperand(insn, 0));
                X87.updateSummary(s);
            }
            case FNSTENV -> {
                long at = environmentAddress(cpu, insn, true);
                cpu.probeWrite(at, insn.size0);
                storeEnvironment(cpu, insn, at);
                s.fcw |= 0x3f;
                X87.updateSummary(s);
            }
            case FLDENV -> loadEnvironment(cpu, insn, environmentAddress(cpu, insn, false));
            case FNSAVE -> save(cpu, insn);
            case FRSTOR -> restore(cpu, insn);
            default -> throw new IllegalStateException(insn.op + " is no x87 control instruction");
        }
    }

    private static long environmentAddress(Cpu cpu, Instruction insn, boolean write) {
        return cpu.linear(insn.segment, cpu.ea(insn), insn.size0, write);
    }

    private static boolean wide(Instruction insn) {
        return insn.operandSize != 2;
    }

    private static int environmentSize(Instruction insn) {
        return wide(insn) ? 28 : 14;
    }

    /// [SDM Vol. 1 "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE"]: four layouts.
    private static void storeEnvironment(Cpu cpu, Instruction insn, long at) {
        FpuState s = cpu.fpu;
        boolean real = cpu.realOrVirtual8086();
        int unit = wide(insn) ? 4 : 2;
        long high = wide(insn) ? 0xffff_0000L : 0;
        cpu.write(at, unit, high | s.fcw);
        cpu.write(at + unit, unit, high | s.fsw);
        cpu.write(at + 2 * unit, unit, high | s.tagWord());
        if (real) {
            cpu.write(at + 3 * unit, unit, high | (s.fip & 0xffff));
            cpu.write(at + 4 * unit, unit, pointerHigh(s.fip, wide(insn)) | (s.fop & 0x7ff));
            cpu.write(at + 5 * unit, unit, high | (s.fdp & 0xffff));
            cpu.write(at + 6 * unit, unit, pointerHigh(s.fdp, wide(insn)));
        } else {
            cpu.write(at + 3 * unit, unit, s.fip);
            cpu.write(at + 4 * unit, unit, s.fcs | (wide(insn) ? (s.fop & 0x7ffL) << 16 : 0));
            cpu.write(at + 5 * unit, unit, s.fdp);
            cpu.write(at + 6 * unit, unit, high | s.fds);
        }
    }

    /// Bits 31:16 (19:16 in the narrow layout) of a real-mode pointer in bits 27:12 (15:12).
    private static long pointerHigh(long pointer, boolean wide) {
        return ((pointer >>> 16) & (wide ? 0xffff : 0xf)) << 12;
    }

    private static void loadEnvironment(Cpu cpu, Instruction insn, long at) {
        int unit = wide(insn) ? 4 : 2;
        long fcw = cpu.read(at, unit);
        long fsw = cpu.read(at + unit, unit);
        long ftw = cpu.read(at + 2 * unit, unit);
        long ip = cpu.read(at + 3 * unit, unit);
        long ipHigh = cpu.read(at + 4 * unit, unit);
        long dp = cpu.read(at + 5 * unit, unit);
        long dpHigh = cpu.read(at + 6 * unit, unit);
        FpuState s = cpu.fpu;
        s.fcw = X87.legalControl((int) fcw);
        s.fsw = (int) fsw & 0xffff;
        s.tagWord((int) ftw);
        s.fcs = s.fds = 0;
        if (cpu.realOrVirtual8086()) {
            int mask = wide(insn) ? 0xffff : 0xf;
            s.fip = (ip & 0xffff) | (((ipHigh >>> 12) & mask) << 16);
            s.fop = (int) ipHigh & 0x7ff;
            s.fdp = (dp & 0xffff) | (((dpHigh >>> 12) & mask) << 16);
        } else {
            s.fip = ip;
            s.fop = wide(insn) ? (int) (ipHigh >>> 16) & 0x7ff : 0;
            s.fdp = dp;
        }
        X87.updateSummary(s);
    }

    private static void save(Cpu cpu, Instruction insn) {
        long at = environmentAddress(cpu, insn, true);
        cpu.probeWrite(at, insn.size0);
        storeEnvironment(cpu, insn, at);
        FpuState s = cpu.fpu;
        for (int n = 0; n < 8; n++) {
            int p = X87.physical(s, n);
            long register = at + environmentSize(insn) + 10 * n;
            for (int k = 0; k < 4; k++) { // in pieces that need no more alignment than the image has
                cpu.write16(register + 2 * k, (s.st[p] >>> (16 * k)) & 0xffff);
            }
            cpu.write16(register + 8, s.stExponent[p]);
        }
        s.finit();
    }

    private static void restore(Cpu cpu, Instruction insn) {
        long at = environmentAddress(cpu, insn, false);
        cpu.probeRead(at, insn.size0);
        loadEnvironment(cpu, insn, at);
        FpuState s = cpu.fpu;
        for (int n = 0; n < 8; n++) {
            int p = X87.physical(s, n);
            long register = at + environmentSize(insn) + 10 * n;
            s.st[p] = 0;
            for (int k = 0; k < 4; k++) {
                s.st[p] |= cpu.read16(register + 2 * k) << (16 * k);
            }
            s.stExponent[p] = (int) cpu.read16(register + 8);
        }
    }
}
