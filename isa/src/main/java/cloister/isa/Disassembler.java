package cloister.isa;

import java.util.Locale;

/// Prints instructions in Intel syntax as `objdump -M intel` does. What decoding does not keep is not printed: redundant
/// prefixes, displacements of zero and the length of immediates.
public final class Disassembler {
    private static final String[] GPR64 = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
        "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    private static final String[] GPR8 = {"al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil",
        "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b", "ah", "ch", "dh", "bh"};
    private static final String[] SEGMENT = {"es", "cs", "ss", "ds", "fs", "gs"};
    private static final String[] CC = {"o", "no", "b", "ae", "e", "ne", "be", "a", "s", "ns", "p", "np", "l", "ge", "le", "g"};
    private static final String[] COMPARE = {"eq", "lt", "le", "unord", "neq", "nlt", "nle", "ord"};
    private static final String[] CARRYLESS = {"lqlq", "hqlq", "lqhq", "hqhq"};
    private static final int DS = 3;
    private static final int SS = 2;

    private Disassembler() {
    }

    /// `instruction` at address `rip`.
    public static String format(Instruction instruction, long rip) {
        return switch (instruction.op) {
            case UNKNOWN, TRUNCATED, TOO_LONG -> "(bad)";
            default -> new Printer(instruction, rip).print();
        };
    }

    /// The name of general register `number` with `size` bytes.
    static String register(int number, int size) {
        if (size == 1) {
            return GPR8[number];
        }
        String name = GPR64[number];
        return switch (size) {
            case 8 -> name;
            case 4 -> number < 8 ? "e" + name.substring(1) : name + "d";
            default -> number < 8 ? name.substring(1) : name + "w";
        };
    }

    private static final class Printer {
        private final Instruction i;
        private final long rip;
        private final StringBuilder out = new StringBuilder();
        private int operands;
        private boolean immediateSuppressed;

        Printer(Instruction instruction, long rip) {
            i = instruction;
            this.rip = rip;
        }

        String print() {
            if (i.has(Instruction.PREFIX_LOCK)) {
                out.append("lock ");
            }
            if ((i.op == Op.CALL || i.op == Op.JMP) && i.kind0 != OperandKind.REL && i.has(Instruction.PREFIX_NOTRACK)) {
                out.append("notrack ");
            }
            String mnemonic = mnemonic();
            repeatPrefix();
            out.append(mnemonic);
            if (!implicitOperands()) {
                operand(i.kind0, i.reg0, i.size0, 0);
                operand(i.kind1, i.reg1, i.size1, 1);
                operand(i.kind2, i.reg2, i.size2, 2);
                operand(i.kind3, i.reg3, i.size3, 3);
            }
            return out.toString();
        }

        private void repeatPrefix() {
            boolean string = switch (i.op) {
                case MOVS, STOS, LODS, INS, OUTS, CMPS, SCAS -> true;
                default -> false;
            };
            boolean compares = i.op == Op.CMPS || i.op == Op.SCAS;
            if (string && i.has(Instruction.PREFIX_REP)) {
                out.append(compares ? "repz " : "rep ");
            } else if (string && i.has(Instruction.PREFIX_REPNE)) {
                out.append("repnz ");
            }
        }

        private String mnemonic() {
            String name = i.op.name().toLowerCase(Locale.ROOT);
            boolean wide = i.has(Instruction.PREFIX_REX_W);
            return switch (i.op) {
                case JCC -> "j" + CC[i.cc];
                case SETCC -> "set" + CC[i.cc];
                case CMOVCC -> "cmov" + CC[i.cc];
                case JCXZ -> i.addressSize == 8 ? "jrcxz" : i.addressSize == 4 ? "jecxz" : "jcxz";
                case MOV -> (i.kind1 == OperandKind.IMM && i.length >= 10 && i.kind0 == OperandKind.GPR)
                    || isOffset64() ? "movabs" : "mov";
                case MOV_SREG, MOV_CR, MOV_DR -> "mov";
                case PUSH_SREG -> "push";
                case POP_SREG -> "pop";
                case CALL_FAR -> "call";
                case JMP_FAR -> "jmp";
                case RET_FAR -> "retf";
                case IRET -> i.operandSize == 8 ? "iretq" : "iret";
                case MOVSD_XMM -> "movsd";
                case NOP -> i.kind0 == OperandKind.NONE && i.has(Instruction.PREFIX_OPERAND_SIZE)
                    ? i.operandSize == 2 ? "xchg ax,ax" : "xchg eax,eax" : "nop";
                case CMPPS, CMPPD, CMPSS, CMPSD_XMM -> compare(name);
                case PCLMULQDQ -> carryless();
                case FXSAVE, FXRSTOR, XSAVE, XRSTOR, XSAVEC, XSAVEOPT, XSAVES, XRSTORS -> wide ? name + "64" : name;
                case RDSSP, INCSSP, WRSS, WRUSS -> name + (wide ? "q" : "d");
                case SYSRET, SYSEXIT -> name + (wide ? "q" : "d");
                default -> name;
            };
        }

        private boolean isOffset64() {
            int opcode = i.bytes[i.length - 1 - Math.min(i.length - 1, i.addressSize)] & 0xFF;
            boolean memory = i.kind0 == OperandKind.MEM || i.kind1 == OperandKind.MEM;
            return memory && i.addressSize == 8 && i.base == Instruction.NO_REGISTER && i.index == Instruction.NO_REGISTER
                && i.length >= 9 && opcode >= 0xA0 && opcode <= 0xA3;
        }

        private String compare(String name) {
            if (i.imm > 7) {
                return name.replace("_xmm", "");
            }
            immediateSuppressed = true;
            return "cmp" + COMPARE[(int) i.imm] + name.substring(3, 5);
        }

        private String carryless() {
            if ((i.imm & ~0x11) != 0) {
                return "pclmulqdq";
            }
            immediateSuppressed = true;
            return "pclmul" + CARRYLESS[(int) ((i.imm & 1) | ((i.imm >> 3) & 2))] + "dq";
        }

        /// Operands that the syntax shows and decoding leaves out.
        private boolean implicitOperands() {
            String size = pointer(i.operandSize);
            String accumulator = register(0, Math.max(i.operandSize, 1));
            String source = size + SEGMENT[i.segment] + ":[" + register(6, i.addressSize) + "]";
            String destination = size + "es:[" + register(7, i.addressSize) + "]";
            String shown = switch (i.op) {
                case MOVS -> destination + "," + source;
                case CMPS -> source + "," + destination;
                case STOS -> destination + "," + accumulator;
                case LODS -> accumulator + "," + source;
                case SCAS -> accumulator + "," + destination;
                case INS -> destination + ",dx";
                case OUTS -> "dx," + source;
                case XLAT -> "BYTE PTR " + SEGMENT[i.segment] + ":[" + register(3, i.addressSize) + "]";
                default -> null;
            };
            if (shown != null) {
                out.append(' ').append(shown);
            }
            return shown != null;
        }

        private void operand(OperandKind kind, int reg, int size, int position) {
            if (kind == OperandKind.NONE || (kind == OperandKind.IMM && immediateSuppressed)) {
                return;
            }
            out.append(operands++ == 0 ? ' ' : ',');
            switch (kind) {
                case GPR -> out.append(register(reg, size));
                case MEM -> memory(size);
                case IMM -> hex(position > 0 && i.op == Op.ENTER ? i.imm2 : i.imm, size);
                case REL -> hex(rip + i.length + i.imm, i.operandSize);
                case FAR -> {
                    hex(i.imm2, 2);
                    out.append(':');
                    hex(i.imm, i.operandSize);
                }
                case XMM -> out.append("xmm").append(reg);
                case MMX -> out.append("mm").append(reg);
                case ST -> out.append(reg == 0 && i.kind1 == OperandKind.ST && (position == 0 || i.reg0 != 0) ? "st" : "st(" + reg + ")");
                case SREG -> out.append(SEGMENT[reg]);
                case CREG -> out.append("cr").append(reg);
                default -> out.append("dr").append(reg);
            }
        }


        private void hex(long value, int size) {
            long shown = size >= 8 ? value : value & ((1L << (8 * size)) - 1);
            boolean shiftByOne = shown == 1 && switch (i.op) {
                case ROL, ROR, RCL, RCR, SHL, SHR, SAR -> true;
                default -> false;
            };
            out.append(shiftByOne ? "1" : "0x" + Long.toHexString(shown));
        }

        private static String pointer(int size) {
            return switch (size) {
                case 1 -> "BYTE PTR ";
                case 2 -> "WORD PTR ";
                case 4 -> "DWORD PTR ";
                case 6 -> "FWORD PTR ";
                case 8 -> "QWORD PTR ";
                case 10 -> "TBYTE PTR ";
                case 16 -> "XMMWORD PTR ";
                default -> "";
            };
        }

        private void memory(int size) {
            switch (i.op) {
                case SGDT, SIDT, LGDT, LIDT, LDDQU, INVPCID -> { }
                default -> out.append(pointer(size));
            }
            boolean bare = i.base == Instruction.NO_REGISTER && i.index == Instruction.NO_REGISTER;
            int usual = i.base == 4 || i.base == 5 ? SS : DS;
            if (i.segment != usual || bare) {
                out.append(SEGMENT[i.segment]).append(':');
            }
            if (bare) {
                hexAddress(i.disp);
                return;
            }
            out.append('[');
            if (i.base != Instruction.NO_REGISTER) {
                out.append(i.base == Instruction.BASE_RIP ? i.addressSize == 4 ? "eip" : "rip" : register(i.base, i.addressSize));
            }
            if (i.index != Instruction.NO_REGISTER) {
                out.append(i.base == Instruction.NO_REGISTER ? "" : "+").append(register(i.index, i.addressSize));
                out.append(i.addressSize == 2 ? "" : "*" + (1 << i.scale));
            }
            if (i.base == Instruction.BASE_RIP) {
                out.append("+0x").append(Long.toHexString(i.addressSize == 4 ? i.disp & 0xFFFF_FFFFL : i.disp));
            } else if (i.disp != 0) {
                out.append(i.disp < 0 ? "-0x" : "+0x").append(Long.toHexString(Math.abs(i.disp)));
            }
            out.append(']');
        }

        private void hexAddress(long value) {
            long shown = i.addressSize == 8 ? value : value & ((1L << (8 * i.addressSize)) - 1);
            out.append("0x").append(Long.toHexString(shown));
        }
    }
}
