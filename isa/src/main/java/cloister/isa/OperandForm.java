package cloister.isa;

import java.util.List;

/// One operand of a table row in the notation of the SDM's opcode map: an addressing method and an operand type.
/// [SDM Vol. 2 "Key to Abbreviations"]
///
/// Methods as in the SDM: A B C D E G I J M N O P Q R S U V W. Ours: `Zx` is the register in the low three opcode bits,
/// `sIx` a sign-extended immediate shorter than the operand, `STi` the x87 register in ModRM.rm, `RvMw` and the like
/// a register of one type or memory of another.
record OperandForm(Method method, Type type, Type memoryType, int fixed) {
    /// Where the operand is encoded.
    enum Method {
        FIXED_GPR, FIXED_SREG, FIXED_ST, FIXED_XMM, ONE,
        OPCODE_GPR, VEX_GPR, REG_GPR, REG_XMM, REG_MMX, REG_SREG, REG_CREG, REG_DREG,
        RM_GPR_OR_MEM, RM_XMM_OR_MEM, RM_MMX_OR_MEM, RM_GPR, RM_XMM, RM_MMX, RM_ST, RM_MEM,
        IMM_UNSIGNED, IMM_SIGNED, RELATIVE, FAR_POINTER, OFFSET;

        boolean isRm() {
            return compareTo(RM_GPR_OR_MEM) >= 0 && compareTo(RM_MEM) <= 0;
        }

        boolean usesModRm() {
            return isRm() || (compareTo(REG_GPR) >= 0 && compareTo(REG_DREG) <= 0);
        }
    }

    /// How many bytes; some depend on the effective operand or address size.
    enum Type {
        NONE(0), B(1), W(2), D(4), Q(8), T(10), DQ(16), FX(512), ZMM(64),
        V(-1), Y(-1), Z(-1), P(-1), A(-1), S(-1), ENV(-1), SAVE(-1), ADDRESS(-1);

        private final int bytes;

        Type(int bytes) {
            this.bytes = bytes;
        }

        int bytes(int operandSize, int addressSize) {
            return switch (this) {
                case V -> operandSize;
                case Y -> operandSize == 8 ? 8 : 4;
                case Z -> operandSize == 2 ? 2 : 4;
                case P -> operandSize + 2;
                case A -> operandSize * 2;
                case S -> operandSize == 8 ? 10 : 6;
                case ENV -> operandSize == 2 ? 14 : 28;
                case SAVE -> operandSize == 2 ? 94 : 108;
                case ADDRESS -> addressSize;
                default -> bytes;
            };
        }

        static Type parse(String text) {
            return switch (text) {
                case "" -> NONE;
                case "b" -> B;
                case "w" -> W;
                case "d", "ss" -> D;
                case "q", "sd" -> Q;
                case "t" -> T;
                case "dq", "ps", "pd" -> DQ;
                case "v" -> V;
                case "y" -> Y;
                case "z" -> Z;
                case "p" -> P;
                case "a" -> A;
                case "s" -> S;
                case "env" -> ENV;
                case "save" -> SAVE;
                case "fx" -> FX;
                case "zmm" -> ZMM;
                default -> throw new IllegalArgumentException("operand type " + text);
            };
        }
    }

    private static final List<String> SEGMENTS = List.of("ES", "CS", "SS", "DS", "FS", "GS");

    static OperandForm parse(String text) {
        return switch (text) {
            case "AL" -> of(Method.FIXED_GPR, Type.B, 0);
            case "CL" -> of(Method.FIXED_GPR, Type.B, 1);
            case "AX" -> of(Method.FIXED_GPR, Type.W, 0);
            case "DX" -> of(Method.FIXED_GPR, Type.W, 2);
            case "rAX" -> of(Method.FIXED_GPR, Type.V, 0);
            case "eAX" -> of(Method.FIXED_GPR, Type.Z, 0);
            case "ES", "CS", "SS", "DS", "FS", "GS" ->
                of(Method.FIXED_SREG, Type.W, SEGMENTS.indexOf(text));
            case "ST0" -> of(Method.FIXED_ST, Type.T, 0);
            case "STi" -> of(Method.RM_ST, Type.T, 0);
            case "XMM0" -> of(Method.FIXED_XMM, Type.DQ, 0);
            case "1" -> of(Method.ONE, Type.B, 0);
            case "RvMw" -> new OperandForm(Method.RM_GPR_OR_MEM, Type.V, Type.W, 0);
            case "RdMw" -> new OperandForm(Method.RM_GPR_OR_MEM, Type.D, Type.W, 0);
            case "RdMb" -> new OperandForm(Method.RM_GPR_OR_MEM, Type.D, Type.B, 0);
            case "Ga" -> of(Method.REG_GPR, Type.ADDRESS, 0);
            case "Ra" -> of(Method.RM_GPR, Type.ADDRESS, 0);
            default -> text.startsWith("sI") ? of(Method.IMM_SIGNED, Type.parse(text.substring(2)), 0)
                : of(method(text.charAt(0)), Type.parse(text.substring(1)), 0);
        };
    }

    private static OperandForm of(Method method, Type type, int fixed) {
        return new OperandForm(method, type, type, fixed);
    }

    private static Method method(char letter) {
        return switch (letter) {
            case 'A' -> Method.FAR_POINTER;
            case 'B' -> Method.VEX_GPR;
            case 'C' -> Method.REG_CREG;
            case 'D' -> Method.REG_DREG;
            case 'E' -> Method.RM_GPR_OR_MEM;
            case 'G' -> Method.REG_GPR;
            case 'I' -> Method.IMM_UNSIGNED;
            case 'J' -> Method.RELATIVE;
            case 'M' -> Method.RM_MEM;
            case 'N' -> Method.RM_MMX;
            case 'O' -> Method.OFFSET;
            case 'P' -> Method.REG_MMX;
            case 'Q' -> Method.RM_MMX_OR_MEM;
            case 'R' -> Method.RM_GPR;
            case 'S' -> Method.REG_SREG;
            case 'U' -> Method.RM_XMM;
            case 'V' -> Method.REG_XMM;
            case 'W' -> Method.RM_XMM_OR_MEM;
            case 'Z' -> Method.OPCODE_GPR;
            default -> throw new IllegalArgumentException("addressing method " + letter);
        };
    }

    /// Whether this operand is one byte wide and so makes its instruction a byte instruction when it comes first.
    boolean isByteDestination() {
        return type == Type.B && switch (method) {
            case FIXED_GPR, OPCODE_GPR, REG_GPR, RM_GPR_OR_MEM, OFFSET -> memoryType == Type.B;
            default -> false;
        };
    }
}
