package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// Shifts and rotates. [SDM Vol. 2 "SAL/SAR/SHL/SHR", "RCL/RCR/ROL/ROR"]
final class ShiftInstructions {
    private ShiftInstructions() {
    }

    static void shift(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        int count = (int) cpu.readOperand(insn, 1) & (size == 8 ? 63 : 31);
        if (insn.kind0 == OperandKind.MEM) {
            long linear = cpu.linear(insn, size, true);
            long a = cpu.tlb.readForWrite(linear, size);
            if (count != 0) {
                cpu.write(linear, size, compute(cpu.r, insn.op, a, count, size));
            }
            return;
        }
        long a = cpu.reg(insn.reg0, size);
        cpu.reg(insn.reg0, size, count == 0 ? a : compute(cpu.r, insn.op, a, count, size));
    }

    /// Shifts `a` (zero-extended) by a non-zero masked count and sets the flags.
    static long compute(long[] r, Op op, long a, int count, int size) {
        return switch (op) {
            case SHL -> shl(r, a, count, size);
            case SHR -> shr(r, a, count, size);
            case SAR -> sar(r, a, count, size);
            case ROL -> rol(r, a, count, size);
            case ROR -> ror(r, a, count, size);
            case RCL -> rcl(r, a, count, size);
            default -> rcr(r, a, count, size);
        };
    }

    static long shl(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        long result = count >= bits ? 0 : IntegerInstructions.mask(a << count, size);
        long carry = count > bits ? 0 : (a >>> (bits - count)) & 1;
        long overflow = ((result >>> (bits - 1)) & 1) ^ carry;
        Flags.result(r, result, size, (int) (carry | (overflow << 11)));
        return result;
    }

    static long shr(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        long result = count >= bits ? 0 : a >>> count;
        long carry = count > bits ? 0 : (a >>> (count - 1)) & 1;
        long overflow = (a >>> (bits - 1)) & 1;
        Flags.result(r, result, size, (int) (carry | (overflow << 11)));
        return result;
    }

    static long sar(long[] r, long a, int count, int size) {
        long extended = IntegerInstructions.signExtend(a, size);
        long carry = (extended >> (count - 1)) & 1;
        long result = IntegerInstructions.mask(extended >> count, size);
        Flags.result(r, result, size, (int) carry);
        return result;
    }

    private static void rotateFlags(long[] r, long carry, long overflow) {
        Flags.set(r, (Flags.arithmetic(r) & ~(Flags.CF | Flags.OF)) | (int) ((carry & 1) | ((overflow & 1) << 11)));
    }

    static long rol(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        int n = count & (bits - 1);
        long result = n == 0 ? a : IntegerInstructions.mask((a << n) | (a >>> (bits - n)), size);
        rotateFlags(r, result, result ^ (result >>> (bits - 1)));
        return result;
    }

    static long ror(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        int n = count & (bits - 1);
        long result = n == 0 ? a : IntegerInstructions.mask((a >>> n) | (a << (bits - n)), size);
        rotateFlags(r, result >>> (bits - 1), (result >>> (bits - 1)) ^ (result >>> (bits - 2)));
        return result;
    }

    private static long rcl(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        int n = count % (bits + 1);
        long carry = Flags.carry(r) ? 1 : 0;
        if (n == 0) {
            return a;
        }
        long result = a;
        for (int i = 0; i < n; i++) {
            long out = (result >>> (bits - 1)) & 1;
            result = IntegerInstructions.mask((result << 1) | carry, size);
            carry = out;
        }
        rotateFlags(r, carry, (result >>> (bits - 1)) ^ carry);
        return result;
    }

    private static long rcr(long[] r, long a, int count, int size) {
        int bits = 8 * size;
        int n = count % (bits + 1);
        long carry = Flags.carry(r) ? 1 : 0;
        if (n == 0) {
            return a;
        }
        long result = a;
        for (int i = 0; i < n; i++) {
            long out = result & 1;
            result = (result >>> 1) | (carry << (bits - 1));
            carry = out;
        }
        rotateFlags(r, carry, (result >>> (bits - 1)) ^ (result >>> (bits - 2)));
        return result;
    }

    static void doubleShift(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        int count = (int) cpu.readOperand(insn, 2) & (size == 8 ? 63 : 31);
        long linear = insn.kind0 == OperandKind.MEM ? cpu.linear(insn, size, true) : 0;
        long a = insn.kind0 == OperandKind.MEM ? cpu.tlb.readForWrite(linear, size) : cpu.reg(insn.reg0, size);
        if (count == 0) {
            if (insn.kind0 != OperandKind.MEM) {
                cpu.reg(insn.reg0, size, a);
            }
            return;
        }
        long b = cpu.reg(insn.reg1, size);
        long result = insn.op == Op.SHLD ? shld(cpu.r, a, b, count, size) : shrd(cpu.r, a, b, count, size);
        if (insn.kind0 == OperandKind.MEM) {
            cpu.write(linear, size, result);
        } else {
            cpu.reg(insn.reg0, size, result);
        }
    }

    static long shld(long[] r, long a, long b, int count, int size) {
        int bits = 8 * size;
        long result;
        long carry;
        if (count <= bits) {
            result = count == bits ? b : (a << count) | (b >>> (bits - count));
            carry = (a >>> (bits - count)) & 1;
        } else { // 16-bit operands only; undefined by the manual: processors go on with the first operand
            result = (b << (count - bits)) | (a >>> (2 * bits - count));
            carry = (b >>> (2 * bits - count)) & 1;
        }
        result = IntegerInstructions.mask(result, size);
        long overflow = ((result ^ a) >>> (bits - 1)) & 1;
        Flags.result(r, result, size, (int) (carry | (overflow << 11)));
        return result;
    }

    static long shrd(long[] r, long a, long b, int count, int size) {
        int bits = 8 * size;
        long result;
        long carry;
        if (count <= bits) {
            result = count == bits ? b : (a >>> count) | (b << (bits - count));
            carry = (a >>> (count - 1)) & 1;
        } else {
            result = (b >>> (count - bits)) | (a << (2 * bits - count));
            carry = (b >>> (count - bits - 1)) & 1;
        }
        result = IntegerInstructions.mask(result, size);
        long overflow = ((result ^ a) >>> (bits - 1)) & 1;
        Flags.result(r, result, size, (int) (carry | (overflow << 11)));
        return result;
    }

    /// SHLX, SHRX, SARX, RORX. [SDM Vol. 2 "SARX/SHLX/SHRX", "RORX"]
    static void withoutFlags(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        int count = (int) cpu.readOperand(insn, 2) & (size == 8 ? 63 : 31);
        long a = cpu.readOperand(insn, 1);
        cpu.reg(insn.reg0, size, switch (insn.op) {
            case SHLX -> a << count;
            case SHRX -> a >>> count;
            case SARX -> IntegerInstructions.signExtend(a, size) >> count;
            default -> size == 8 ? Long.rotateRight(a, count) : Integer.rotateRight((int) a, count);
        });
    }
}
