package cloister.cpu.core;

import cloister.isa.Op;

/// Instructions that read, change and write one memory operand, outside the interpreter's big method. Code word: operation in bits
/// 3:0, log2 of the size in bits 5:4.
final class ReadModifyWrite {
    private static final Op[] OPERATIONS = {Op.ADD, Op.OR, Op.ADC, Op.SBB, Op.AND, Op.SUB, Op.XOR, Op.INC, Op.DEC, Op.NEG,
        Op.NOT, Op.XADD, Op.XCHG, Op.CMPXCHG};

    private ReadModifyWrite() {
    }

    static int code(Op op, int size) {
        for (int i = 0; i < OPERATIONS.length; i++) {
            if (OPERATIONS[i] == op) {
                return i | (Integer.numberOfTrailingZeros(size) << 4);
            }
        }
        throw new IllegalArgumentException(op.toString());
    }

    /// Bytes of the operand.
    static int size(int code) {
        return 1 << ((code >> 4) & 3);
    }

    /// @param slot      the source register, also the second destination of XADD and XCHG
    /// @param immediate added to the source
    static void execute(Cpu cpu, long linear, int code, int slot, long immediate) {
        long[] r = cpu.r;
        int size = size(code);
        long a = cpu.tlb.readForWrite(linear, size);
        long b = r[slot] + immediate;
        long result = switch (code & 15) {
            case 0 -> a + b;
            case 1 -> a | b;
            case 2 -> a + b + (Flags.carry(r) ? 1 : 0);
            case 3 -> a - b - (Flags.carry(r) ? 1 : 0);
            case 4 -> a & b;
            case 5 -> a - b;
            case 6 -> a ^ b;
            case 7 -> a + 1;
            case 8 -> a - 1;
            case 9 -> -a;
            case 10 -> ~a;
            case 11 -> a + b;
            case 12 -> b;
            default -> a == IntegerInstructions.mask(r[Cpu.RAX], size) ? b : a;
        };
        cpu.tlb.write(linear, size, result);
        commit(cpu, code & 15, size, a, b, result, slot);
    }

    private static void commit(Cpu cpu, int operation, int size, long a, long b, long result, int slot) {
        long[] r = cpu.r;
        switch (operation) {
            case 0 -> Flags.add(r, a, b, 0, size);
            case 2 -> Flags.add(r, a, b, Flags.carry(r) ? 1 : 0, size);
            case 3 -> Flags.subtract(r, a, b, Flags.carry(r) ? 1 : 0, size);
            case 5 -> Flags.subtract(r, a, b, 0, size);
            case 7 -> IntegerInstructions.incFlags(r, result, size);
            case 8 -> IntegerInstructions.decFlags(r, result, size);
            case 9 -> Flags.subtract(r, 0, a, 0, size);
            case 10 -> {
            }
            case 11 -> {
                cpu.reg(slot, size, a);
                Flags.add(r, a, b, 0, size);
            }
            case 12 -> cpu.reg(slot, size, a);
            case 13 -> {
                long accumulator = cpu.reg(Cpu.RAX, size);
                if (a != accumulator) {
                    cpu.reg(Cpu.RAX, size, a);
                }
                Flags.subtract(r, accumulator, a, 0, size);
            }
            default -> Flags.result(r, result, size, 0);
        }
    }
}
