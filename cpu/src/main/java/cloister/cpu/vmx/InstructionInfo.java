package cloister.cpu.vmx;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// The VM-exit instruction-information field. [SDM Vol. 3 "Information for VM Exits Due to Instruction Execution"]
final class InstructionInfo {
    private static final int REGISTER_OPERAND = 1 << 10;
    private static final int NO_INDEX = 1 << 22;
    private static final int NO_BASE = 1 << 27;

    private InstructionInfo() {
    }

    /// Address size in bits 9:7: 0, 1, 2 for 16, 32, 64 bits.
    static int addressSize(Instruction insn) {
        return (insn.addressSize == 8 ? 2 : insn.addressSize == 4 ? 1 : 0) << 7;
    }

    /// INS and OUTS: address size and segment.
    static int string(Instruction insn) {
        return addressSize(insn) | (insn.segment << 15);
    }

    /// VMCLEAR, VMPTRLD, VMPTRST, VMXON, XSAVES, XRSTORS: a memory operand.
    static int memory(Instruction insn) {
        int info = insn.scale | addressSize(insn) | (insn.segment << 15);
        info |= insn.index == Instruction.NO_REGISTER ? NO_INDEX : insn.index << 18;
        boolean noBase = insn.base == Instruction.NO_REGISTER || insn.base == Instruction.BASE_RIP;
        return info | (noBase ? NO_BASE : insn.base << 23);
    }

    /// VMREAD, VMWRITE, INVEPT, INVVPID, INVPCID: besides the register or memory operand, another register in bits 31:28.
    static int register(Instruction insn) {
        if (insn.kind0 == OperandKind.MEM) {
            return memory(insn) | (insn.reg1 << 28);
        }
        if (insn.kind1 == OperandKind.MEM) {
            return memory(insn) | (insn.reg0 << 28);
        }
        // Register forms exist for VMREAD (r/m first) and VMWRITE (r/m second).
        return insn.op == Op.VMREAD
                ? (insn.reg0 << 3) | REGISTER_OPERAND | (insn.reg1 << 28)
                : (insn.reg1 << 3) | REGISTER_OPERAND | (insn.reg0 << 28);
    }

    /// LGDT, LIDT, SGDT, SIDT with the instruction in bits 29:28; LLDT, LTR, SLDT, STR likewise.
    static int descriptorTable(Instruction insn) {
        int identity = switch (insn.op) {
            case SGDT, SLDT -> 0;
            case SIDT, STR -> 1;
            case LGDT, LLDT -> 2;
            case LIDT, LTR -> 3;
            default -> throw new IllegalArgumentException(insn.op.name());
        };
        if (insn.kind0 == OperandKind.GPR) {
            return (insn.reg0 << 3) | REGISTER_OPERAND | (identity << 28);
        }
        boolean table = insn.op == Op.SGDT || insn.op == Op.SIDT || insn.op == Op.LGDT || insn.op == Op.LIDT;
        return memory(insn) | (table && insn.operandSize >= 4 ? 1 << 11 : 0) | (identity << 28);
    }
}
