package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Instruction;

/// Effective addresses of memory operands.
final class Addressing {
    private Addressing() {
    }

    /// The linear address of the memory operand of `i` in `state`, of which `rip` is the instruction's address.
    static long effective(CodeMode mode, Instruction i, MachineState state) {
        long offset = i.disp;
        if (i.base == Instruction.BASE_RIP) {
            offset += state.rip + i.length;
        } else if (i.base != Instruction.NO_REGISTER) {
            offset += state.gpr[i.base];
        }
        if (i.index != Instruction.NO_REGISTER) {
            offset += state.gpr[i.index] << i.scale;
        }
        return truncate(offset, i.addressSize) + segmentBase(mode, i);
    }

    static long truncate(long offset, int addressSize) {
        return addressSize == 8 ? offset : offset & ((1L << (8 * addressSize)) - 1);
    }

    static long segmentBase(CodeMode mode, Instruction i) {
        return i.segment == 4 ? Layout.FS_BASE : i.segment == 5 ? Layout.GS_BASE : Layout.dataBase(mode);
    }
}
