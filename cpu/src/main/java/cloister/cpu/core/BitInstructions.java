package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// Bit tests, scans, counts, BMI1, BMI2 and CRC32.
final class BitInstructions {
    /// The Castagnoli polynomial, reflected. [SDM Vol. 2 "CRC32"]
    private static final int CRC32C = 0x82f63b78;

    private BitInstructions() {
    }

    static void bitTest(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long index = insn.kind1 == OperandKind.IMM ? insn.imm
                : IntegerInstructions.signExtend(cpu.reg(insn.reg1, insn.size1), insn.size1);
        long bit = 1L << (index & (8 * size - 1));
        boolean write = insn.op != Op.BT;
        long a;
        if (insn.kind0 == OperandKind.MEM) {
            long offset = cpu.ea(insn);
            if (insn.kind1 != OperandKind.IMM) { // the index reaches beyond the operand: a bit string
                offset = Cpu.truncate(offset + ((index >> 3) & -(long) size), insn.addressSize);
            }
            long linear = cpu.linear(insn.segment, offset, size, write);
            if (write) {
                a = cpu.tlb.readForWrite(linear, size);
                cpu.write(linear, size, changed(insn.op, a, bit));
            } else {
                a = cpu.read(linear, size);
            }
        } else {
            a = cpu.reg(insn.reg0, size);
            if (write) {
                cpu.reg(insn.reg0, size, changed(insn.op, a, bit));
            }
        }
        setCarry(cpu.r, (a & bit) != 0);
    }

    /// BT changes CF and keeps ZF; the others are undefined and stay.
    static void setCarry(long[] r, boolean carry) {
        Flags.set(r, (Flags.arithmetic(r) & ~Flags.CF) | (carry ? Flags.CF : 0));
    }

    private static long changed(Op op, long a, long bit) {
        return switch (op) {
            case BTS -> a | bit;
            case BTR -> a & ~bit;
            default -> a ^ bit;
        };
    }

    static void scan(Cpu cpu, Instruction insn) {
        long a = cpu.readOperand(insn, 1);
        if (a == 0) { // the destination is undefined by the manual, unchanged in processors
            Flags.set(cpu.r, Flags.ZF | Flags.PF);
            return;
        }
        cpu.reg(insn.reg0, insn.size0, insn.op == Op.BSF ? Long.numberOfTrailingZeros(a) : 63 - Long.numberOfLeadingZeros(a));
        Flags.set(cpu.r, 0);
    }

    static void count(Cpu cpu, Instruction insn) {
        int bits = 8 * insn.size0;
        long a = cpu.readOperand(insn, 1);
        long result = switch (insn.op) {
            case TZCNT -> Math.min(bits, Long.numberOfTrailingZeros(a));
            case LZCNT -> Long.numberOfLeadingZeros(a) - (64 - bits);
            default -> Long.bitCount(a);
        };
        cpu.reg(insn.reg0, insn.size0, result);
        int flags = insn.op == Op.POPCNT ? (a == 0 ? Flags.ZF : 0)
                : (result == 0 ? Flags.ZF : 0) | (a == 0 ? Flags.CF : 0);
        Flags.set(cpu.r, flags);
    }

    static void andn(Cpu cpu, Instruction insn) {
        long result = ~cpu.readOperand(insn, 1) & cpu.readOperand(insn, 2);
        cpu.reg(insn.reg0, insn.size0, result);
        Flags.result(cpu.r, result, insn.size0, 0);
    }

    static void lowestBit(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long a = cpu.readOperand(insn, 1);
        long result = switch (insn.op) {
            case BLSI -> a & -a;
            case BLSMSK -> a ^ (a - 1);
            default -> a & (a - 1);
        };
        result = IntegerInstructions.mask(result, size);
        cpu.reg(insn.reg0, size, result);
        boolean carry = insn.op == Op.BLSI ? a != 0 : a == 0;
        Flags.result(cpu.r, result, size, carry ? Flags.CF : 0);
    }

    static void extract(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        int bits = 8 * size;
        long a = cpu.readOperand(insn, 1);
        long control = cpu.readOperand(insn, 2);
        long result;
        boolean carry = false;
        if (insn.op == Op.BZHI) {
            int n = (int) control & 0xff;
            carry = n >= bits;
            result = carry ? a : a & ((1L << n) - 1);
        } else {
            int start = (int) control & 0xff;
            int length = ((int) control >>> 8) & 0xff;
            result = start >= bits ? 0 : a >>> start;
            result = length >= 64 ? result : result & ((1L << length) - 1);
        }
        cpu.reg(insn.reg0, size, result);
        Flags.result(cpu.r, result, size, carry ? Flags.CF : 0);
    }

    static void scatter(Cpu cpu, Instruction insn) {
        long a = cpu.readOperand(insn, 1);
        long mask = cpu.readOperand(insn, 2);
        cpu.reg(insn.reg0, insn.size0, insn.op == Op.PDEP ? Long.expand(a, mask) : Long.compress(a, mask));
    }

    static void crc32(Cpu cpu, Instruction insn) {
        int crc = (int) cpu.r[insn.reg0];
        long data = cpu.readOperand(insn, 1);
        for (int i = 0; i < insn.size1; i++) {
            crc ^= (int) (data >>> (8 * i)) & 0xff;
            for (int bit = 0; bit < 8; bit++) {
                crc = (crc >>> 1) ^ ((crc & 1) * CRC32C);
            }
        }
        cpu.reg(insn.reg0, insn.size0, crc & 0xffff_ffffL);
    }
}
