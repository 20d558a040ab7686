package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.ExceptionVector;

/// MUL, IMUL, MULX, DIV, IDIV.
final class MultiplyDivide {
    private MultiplyDivide() {
    }

    /// The manual leaves SF, ZF, AF and PF undefined; here they follow the low half, as processors do for SF and PF.
    private static void flags(Cpu cpu, long low, int size, boolean overflow) {
        Flags.result(cpu.r, low, size, overflow ? Flags.CF | Flags.OF : 0);
    }

    static void mul(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long a = cpu.reg(Cpu.RAX, size);
        long b = cpu.readOperand(insn, 0);
        long low = a * b;
        long high = size == 8 ? Math.unsignedMultiplyHigh(a, b) : low >>> (8 * size);
        store(cpu, size, low, high);
        flags(cpu, low, size, high != 0);
    }

    private static void store(Cpu cpu, int size, long low, long high) {
        if (size == 1) {
            cpu.reg(Cpu.RAX, 2, low);
        } else {
            cpu.reg(Cpu.RAX, size, low);
            cpu.reg(Cpu.RDX, size, high);
        }
    }

    static void imul(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        if (insn.kind1 == OperandKind.NONE) {
            long a = IntegerInstructions.signExtend(cpu.reg(Cpu.RAX, size), size);
            long b = IntegerInstructions.signExtend(cpu.readOperand(insn, 0), size);
            long low = a * b;
            long high = size == 8 ? Math.multiplyHigh(a, b) : low >> (8 * size);
            store(cpu, size, low, high);
            flags(cpu, low, size, overflows(a, b, low, size));
            return;
        }
        boolean three = insn.kind2 != OperandKind.NONE;
        long a = IntegerInstructions.signExtend(cpu.readOperand(insn, three ? 1 : 0), size);
        long b = IntegerInstructions.signExtend(cpu.readOperand(insn, three ? 2 : 1), size);
        long low = a * b;
        cpu.reg(insn.reg0, size, low);
        flags(cpu, low, size, overflows(a, b, low, size));
    }

    static boolean overflows(long a, long b, long low, int size) {
        return size == 8 ? Math.multiplyHigh(a, b) != low >> 63 : IntegerInstructions.signExtend(low, size) != low;
    }

    static void mulx(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long a = cpu.reg(Cpu.RDX, size);
        long b = cpu.readOperand(insn, 2);
        long low = a * b;
        long high = size == 8 ? Math.unsignedMultiplyHigh(a, b) : low >>> 32;
        cpu.reg(insn.reg1, size, low); // low first: when both are one register, it holds the high half
        cpu.reg(insn.reg0, size, high);
    }

    static void div(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long divisor = cpu.readOperand(insn, 0);
        if (divisor == 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        if (size == 8) {
            divide128(cpu, divisor);
            return;
        }
        long dividend = dividend(cpu, size);
        long quotient = Long.divideUnsigned(dividend, divisor);
        if (quotient >>> (8 * size) != 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        quotientAndRemainder(cpu, size, quotient, Long.remainderUnsigned(dividend, divisor));
    }

    private static long dividend(Cpu cpu, int size) {
        return size == 1 ? cpu.r[Cpu.RAX] & 0xffff
                : (cpu.reg(Cpu.RDX, size) << (8 * size)) | cpu.reg(Cpu.RAX, size);
    }

    private static void quotientAndRemainder(Cpu cpu, int size, long quotient, long remainder) {
        if (size == 1) {
            cpu.reg(Cpu.RAX, 2, (quotient & 0xff) | ((remainder & 0xff) << 8));
        } else {
            cpu.reg(Cpu.RAX, size, quotient);
            cpu.reg(Cpu.RDX, size, remainder);
        }
    }

    private static void divide128(Cpu cpu, long divisor) {
        long high = cpu.r[Cpu.RDX];
        long low = cpu.r[Cpu.RAX];
        if (Long.compareUnsigned(high, divisor) >= 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        long quotient = quotient(high, low, divisor);
        cpu.r[Cpu.RAX] = quotient;
        cpu.r[Cpu.RDX] = low - quotient * divisor;
    }

    /// `high:low / divisor` for `high < divisor`: schoolbook division in halves of 32 bits. [Knuth, TAOCP Vol. 2, Algorithm D]
    static long quotient(long high, long low, long divisor) {
        if (high == 0) {
            return Long.divideUnsigned(low, divisor);
        }
        int shift = Long.numberOfLeadingZeros(divisor);
        long d = divisor << shift;
        long h = shift == 0 ? high : (high << shift) | (low >>> (64 - shift));
        long l = low << shift;
        long q1 = digit(h, l >>> 32, d);
        long rest = ((h << 32) | (l >>> 32)) - q1 * d;
        long q0 = digit(rest, l & 0xffff_ffffL, d);
        return (q1 << 32) | q0;
    }

    private static long digit(long high, long next, long d) {
        long d1 = d >>> 32;
        long d0 = d & 0xffff_ffffL;
        long q = Long.divideUnsigned(high, d1);
        long rest = high - q * d1;
        while (q >>> 32 != 0 || Long.compareUnsigned(q * d0, (rest << 32) | next) > 0) {
            q--;
            rest += d1;
            if (rest >>> 32 != 0) {
                break;
            }
        }
        return q;
    }

    static void idiv(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long divisor = IntegerInstructions.signExtend(cpu.readOperand(insn, 0), size);
        if (divisor == 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        if (size == 8) {
            signedDivide128(cpu, divisor);
            return;
        }
        long dividend = size == 1 ? (short) cpu.r[Cpu.RAX] : IntegerInstructions.signExtend(dividend(cpu, size), 2 * size);
        if (dividend == Long.MIN_VALUE && divisor == -1) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        long quotient = dividend / divisor;
        if (IntegerInstructions.signExtend(quotient, size) != quotient) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        quotientAndRemainder(cpu, size, quotient, dividend % divisor);
    }

    private static void signedDivide128(Cpu cpu, long divisor) {
        long high = cpu.r[Cpu.RDX];
        long low = cpu.r[Cpu.RAX];
        if (high == low >> 63 && !(low == Long.MIN_VALUE && divisor == -1)) {
            cpu.r[Cpu.RAX] = low / divisor;
            cpu.r[Cpu.RDX] = low % divisor;
            return;
        }
        boolean negative = high < 0;
        if (negative) {
            low = -low;
            high = ~high + (low == 0 ? 1 : 0);
        }
        long d = Math.abs(divisor);
        if (Long.compareUnsigned(high, d) >= 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        long quotient = quotient(high, low, d);
        long remainder = low - quotient * d;
        boolean negativeQuotient = negative != divisor < 0;
        if (negativeQuotient ? Long.compareUnsigned(quotient, Long.MIN_VALUE) > 0 : quotient < 0) {
            throw cpu.fault(ExceptionVector.DE, 0);
        }
        cpu.r[Cpu.RAX] = negativeQuotient ? -quotient : quotient;
        cpu.r[Cpu.RDX] = negative ? -remainder : remainder;
    }
}
