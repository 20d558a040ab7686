package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;

/// PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM. [SDM Vol. 2 "Imm8 Control Byte Operation for PCMPESTRI / PCMPESTRM /
/// PCMPISTRI / PCMPISTRM"]
final class StringCompare {
    private StringCompare() {
    }

    static boolean handles(Op op) {
        return switch (op) {
            case PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM -> true;
            default -> false;
        };
    }

    static void execute(Cpu cpu, Instruction insn) {
        SimdOperands.requireSse(cpu);
        long[] x = cpu.fpu.xmm;
        int d = 2 * insn.reg0;
        int s = SimdOperands.sourceUnaligned(cpu, insn);
        int control = (int) insn.imm;
        int count = (control & 1) != 0 ? 8 : 16;
        boolean explicit = insn.op == Op.PCMPESTRI || insn.op == Op.PCMPESTRM;
        boolean wide = insn.has(Instruction.PREFIX_REX_W);
        int length1 = explicit ? length(cpu.r[Cpu.RAX], wide, count) : length(x, d, control, count);
        int length2 = explicit ? length(cpu.r[Cpu.RDX], wide, count) : length(x, s, control, count);
        int result = polarity(aggregate(x, d, s, control, length1, length2), control, count, length2);
        cpu.arithmeticFlags((result != 0 ? 1 : 0) | (length2 < count ? 0x40 : 0) | (length1 < count ? 0x80 : 0)
                | ((result & 1) << 11));
        boolean high = (control & 0x40) != 0;
        if (insn.op == Op.PCMPESTRI || insn.op == Op.PCMPISTRI) {
            cpu.r[Cpu.RCX] = result == 0 ? count
                    : high ? 31 - Integer.numberOfLeadingZeros(result) : Integer.numberOfTrailingZeros(result);
        } else if (high) {
            x[0] = expand(result, count);
            x[1] = expand(result >> (count / 2), count);
        } else {
            x[0] = result;
            x[1] = 0;
        }
    }

    /// An explicit length: the register's magnitude, saturated.
    private static int length(long register, boolean wide, int count) {
        long value = wide ? register : (int) register;
        return value == Long.MIN_VALUE ? count : (int) Math.min(Math.abs(value), count);
    }

    /// An implicit length: elements before the first zero.
    private static int length(long[] x, int r, int control, int count) {
        int n = 0;
        while (n < count && element(x, r, n, control) != 0) {
            n++;
        }
        return n;
    }

    private static int element(long[] x, int r, int n, int control) {
        boolean words = (control & 1) != 0;
        int value = (int) SseMoves.lane(x, r, n, words ? 2 : 1);
        return (control & 2) == 0 ? value : words ? (short) value : (byte) value;
    }

    /// IntRes1: bit `j` is about element `j` of the second operand.
    private static int aggregate(long[] x, int d, int s, int control, int length1, int length2) {
        int count = (control & 1) != 0 ? 8 : 16;
        int result = 0;
        for (int j = 0; j < count; j++) {
            boolean bit = switch ((control >> 2) & 3) {
                case 0 -> j < length2 && any(x, d, element(x, s, j, control), control, length1);
                case 1 -> j < length2 && inRanges(x, d, element(x, s, j, control), control, length1);
                case 2 -> j < length1 && j < length2 ? element(x, d, j, control) == element(x, s, j, control)
                        : j >= length1 && j >= length2;
                default -> startsAt(x, d, s, j, control, length1, length2);
            };
            if (bit) {
                result |= 1 << j;
            }
        }
        return result;
    }

    private static boolean any(long[] x, int d, int value, int control, int length1) {
        for (int n = 0; n < length1; n++) {
            if (element(x, d, n, control) == value) {
                return true;
            }
        }
        return false;
    }

    private static boolean inRanges(long[] x, int d, int value, int control, int length1) {
        for (int n = 0; n + 1 < length1; n += 2) {
            if (value >= element(x, d, n, control) && value <= element(x, d, n + 1, control)) {
                return true;
            }
        }
        return false;
    }

    /// Whether the first operand's string stands at element `j` of the second, as far as the register reaches.
    private static boolean startsAt(long[] x, int d, int s, int j, int control, int length1, int length2) {
        int count = (control & 1) != 0 ? 8 : 16;
        for (int n = 0; n < length1 && j + n < count; n++) {
            if (j + n >= length2 || element(x, d, n, control) != element(x, s, j + n, control)) {
                return false;
            }
        }
        return true;
    }

    /// IntRes2.
    private static int polarity(int result, int control, int count, int length2) {
        int all = (1 << count) - 1;
        return switch ((control >> 4) & 3) {
            case 1 -> ~result & all;
            case 3 -> result ^ ((1 << length2) - 1);
            default -> result;
        };
    }

    private static long expand(int bits, int count) {
        long r = 0;
        int width = 128 / count;
        for (int n = 0; n < count / 2; n++) {
            if (((bits >> n) & 1) != 0) {
                r |= (width == 8 ? 0xffL : 0xffffL) << (n * width);
            }
        }
        return r;
    }
}
