package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.spec.x86.ExceptionVector;

/// Near control transfers and the stack.
final class BranchInstructions {
    private BranchInstructions() {
    }

    /// Makes `target`, cut to `size` bytes, the next instruction; #GP(0) when CS does not reach there.
    static void transfer(Cpu cpu, long target, int size) {
        cpu.nextRip = checked(cpu, target, size);
    }

    private static long checked(Cpu cpu, long target, int size) {
        long to = Cpu.truncate(target, size);
        boolean allowed = cpu.is64Bit() ? cpu.canonical(to)
                : Long.compareUnsigned(to, cpu.segLimit[Cpu.CS] & 0xffff_ffffL) <= 0;
        if (!allowed) {
            throw cpu.gp(0);
        }
        return to;
    }

    private static long branchTarget(Cpu cpu, Instruction insn) {
        return insn.kind0 == OperandKind.REL ? cpu.nextRip + insn.imm : cpu.readOperand(insn, 0);
    }

    static void jmp(Cpu cpu, Instruction insn) {
        transfer(cpu, branchTarget(cpu, insn), insn.operandSize);
        if (insn.kind0 != OperandKind.REL) {
            cpu.cet.near(insn);
        }
    }

    static void jcc(Cpu cpu, Instruction insn) {
        if (cpu.condition(insn.cc)) {
            transfer(cpu, cpu.nextRip + insn.imm, insn.operandSize);
        }
    }

    static void loop(Cpu cpu, Instruction insn) {
        int width = insn.addressSize;
        long count = Cpu.truncate(cpu.r[Cpu.RCX], width);
        if (insn.op == Op.JCXZ) {
            if (count == 0) {
                transfer(cpu, cpu.nextRip + insn.imm, insn.operandSize);
            }
            return;
        }
        count = Cpu.truncate(count - 1, width);
        boolean zero = cpu.r[Slot.RESULT] == 0;
        boolean taken = count != 0 && switch (insn.op) {
            case LOOPE -> zero;
            case LOOPNE -> !zero;
            default -> true;
        };
        if (taken) {
            transfer(cpu, cpu.nextRip + insn.imm, insn.operandSize);
        }
        cpu.reg(Cpu.RCX, width, count);
    }

    static void call(Cpu cpu, Instruction insn) {
        long target = checked(cpu, branchTarget(cpu, insn), insn.operandSize);
        ShadowStack.call(cpu, insn);
        cpu.push(cpu.nextRip, insn.operandSize);
        cpu.nextRip = target;
        if (insn.kind0 != OperandKind.REL) {
            cpu.cet.near(insn);
        }
    }

    static void ret(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        long sp = Cpu.truncate(cpu.r[Cpu.RSP], width);
        long target = cpu.read(cpu.linear(Cpu.SS, sp, size, false), size);
        long ssp = ShadowStack.ret(cpu, target);
        transfer(cpu, target, size);
        cpu.cet.ssp = ssp;
        long release = insn.kind0 == OperandKind.IMM ? insn.imm & 0xffff : 0;
        cpu.reg(Cpu.RSP, width, sp + size + release);
    }

    static void push(Cpu cpu, Instruction insn) {
        cpu.push(cpu.readOperand(insn, 0), insn.operandSize);
    }

    static void pop(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        if (insn.kind0 != OperandKind.MEM) {
            long value = cpu.pop(size);
            cpu.reg(insn.reg0, size, value);
            return;
        }
        // An RSP in the operand's address is the incremented one. [SDM Vol. 2 "POP"]
        long before = cpu.r[Cpu.RSP];
        long value = cpu.pop(size);
        try {
            cpu.write(cpu.linear(insn, size, true), size, value);
        } catch (GuestFault | VmExitSignal e) {
            cpu.r[Cpu.RSP] = before;
            throw e;
        }
    }

    static void pusha(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        long sp = Cpu.truncate(cpu.r[Cpu.RSP], width);
        long bottom = Cpu.truncate(sp - 8L * size, width);
        long linear = cpu.linear(Cpu.SS, bottom, 8 * size, true);
        cpu.probeWrite(linear, 8 * size);
        for (int i = 0; i < 8; i++) {
            cpu.write(linear + (long) (7 - i) * size, size, cpu.r[i]);
        }
        cpu.reg(Cpu.RSP, width, bottom);
    }

    static void popa(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        long sp = Cpu.truncate(cpu.r[Cpu.RSP], width);
        long linear = cpu.linear(Cpu.SS, sp, 8 * size, false);
        cpu.probeRead(linear, 8 * size);
        for (int i = 0; i < 8; i++) {
            if (i != Cpu.RSP) {
                cpu.reg(i, size, cpu.read(linear + (long) (7 - i) * size, size));
            }
        }
        cpu.reg(Cpu.RSP, width, sp + 8L * size);
    }

    /// [SDM Vol. 2 "ENTER"]
    static void enter(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        int level = (int) insn.imm2 & 31;
        long oldSp = cpu.r[Cpu.RSP];
        long sp = Cpu.truncate(oldSp - size, width);
        cpu.write(cpu.linear(Cpu.SS, sp, size, true), size, cpu.r[Cpu.RBP]);
        long frame = sp;
        long bp = Cpu.truncate(cpu.r[Cpu.RBP], width);
        for (int i = 1; i < level; i++) {
            bp = Cpu.truncate(bp - size, width);
            long pointer = cpu.read(cpu.linear(Cpu.SS, bp, size, false), size);
            sp = Cpu.truncate(sp - size, width);
            cpu.write(cpu.linear(Cpu.SS, sp, size, true), size, pointer);
        }
        if (level > 0) {
            sp = Cpu.truncate(sp - size, width);
            cpu.write(cpu.linear(Cpu.SS, sp, size, true), size, frame);
        }
        sp = Cpu.truncate(sp - (insn.imm & 0xffff), width);
        cpu.probeWrite(cpu.linear(Cpu.SS, sp, 1, true), 1);
        cpu.reg(Cpu.RBP, size, frame);
        cpu.reg(Cpu.RSP, width, sp);
    }

    static void leave(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        long sp = Cpu.truncate(cpu.r[Cpu.RBP], width);
        long value = cpu.read(cpu.linear(Cpu.SS, sp, size, false), size);
        cpu.reg(Cpu.RSP, width, sp + size);
        cpu.reg(Cpu.RBP, size, value);
    }

    static void bound(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        long linear = cpu.linear(insn, 2 * size, false);
        long index = IntegerInstructions.signExtend(cpu.reg(insn.reg0, size), size);
        long lower = IntegerInstructions.signExtend(cpu.read(linear, size), size);
        long upper = IntegerInstructions.signExtend(cpu.read(linear + size, size), size);
        if (index < lower || index > upper) {
            throw cpu.fault(ExceptionVector.BR, 0);
        }
    }
}
