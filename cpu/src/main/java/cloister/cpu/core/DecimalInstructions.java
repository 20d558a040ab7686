package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.x86.ExceptionVector;

/// The decimal adjustments of AL and AX, algorithms as in [SDM Vol. 2].
final class DecimalInstructions {
    private DecimalInstructions() {
    }

    static void asciiAdjust(Cpu cpu, Instruction insn) {
        long al = cpu.r[Cpu.RAX] & 0xff;
        long ax = cpu.r[Cpu.RAX] & 0xffff;
        boolean adjust = (al & 15) > 9 || Flags.adjust(cpu.r);
        if (adjust) {
            ax = insn.op == Op.AAA ? ax + 0x106 : ax - 0x106;
        }
        cpu.reg(Cpu.RAX, 2, ax & 0xff0f);
        Flags.result(cpu.r, ax & 0x0f, 1, adjust ? Flags.CF | Flags.AF : 0);
    }

    static void aam(Cpu cpu, Instruction insn) {
        long divisor = insn.imm & 0xff;
        if (divisor == 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        long al = cpu.r[Cpu.RAX] & 0xff;
        cpu.reg(Cpu.RAX, 2, ((al / divisor) << 8) | (al % divisor));
        Flags.result(cpu.r, al % divisor, 1, 0);
    }

    static void aad(Cpu cpu, Instruction insn) {
        long ax = cpu.r[Cpu.RAX];
        long al = ((ax & 0xff) + ((ax >>> 8) & 0xff) * (insn.imm & 0xff)) & 0xff;
        cpu.reg(Cpu.RAX, 2, al);
        Flags.result(cpu.r, al, 1, 0);
    }

    static void decimalAdjust(Cpu cpu, Instruction insn) {
        boolean add = insn.op == Op.DAA;
        int old = (int) cpu.r[Cpu.RAX] & 0xff;
        boolean oldCarry = Flags.carry(cpu.r);
        int al = old;
        boolean carry = false;
        boolean adjust = (old & 15) > 9 || Flags.adjust(cpu.r);
        if (adjust) {
            carry = oldCarry || (add ? al + 6 > 0xff : al < 6);
            al = (add ? al + 6 : al - 6) & 0xff;
        }
        if (old > 0x99 || oldCarry) {
            al = (add ? al + 0x60 : al - 0x60) & 0xff;
            carry = true;
        }
        cpu.reg(Cpu.RAX, 1, al);
        Flags.result(cpu.r, al, 1, (carry ? Flags.CF : 0) | (adjust ? Flags.AF : 0));
    }
}
