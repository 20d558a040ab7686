package cloister.isa;

import cloister.isa.Operand.Far;
import cloister.isa.Operand.Gpr;
import cloister.isa.Operand.Imm;
import cloister.isa.Operand.Mem;
import cloister.isa.Operand.Register;

/// The names of operands for users of the [Assembler], to be imported statically.
public final class Operands {
    public static final Gpr RAX = new Gpr(0, 8);
    public static final Gpr RCX = new Gpr(1, 8);
    public static final Gpr RDX = new Gpr(2, 8);
    public static final Gpr RBX = new Gpr(3, 8);
    public static final Gpr RSP = new Gpr(4, 8);
    public static final Gpr RBP = new Gpr(5, 8);
    public static final Gpr RSI = new Gpr(6, 8);
    public static final Gpr RDI = new Gpr(7, 8);
    public static final Gpr R8 = new Gpr(8, 8);
    public static final Gpr R9 = new Gpr(9, 8);
    public static final Gpr R10 = new Gpr(10, 8);
    public static final Gpr R11 = new Gpr(11, 8);
    public static final Gpr R12 = new Gpr(12, 8);
    public static final Gpr R13 = new Gpr(13, 8);
    public static final Gpr R14 = new Gpr(14, 8);
    public static final Gpr R15 = new Gpr(15, 8);
    public static final Gpr EAX = new Gpr(0, 4);
    public static final Gpr ECX = new Gpr(1, 4);
    public static final Gpr EDX = new Gpr(2, 4);
    public static final Gpr EBX = new Gpr(3, 4);
    public static final Gpr ESP = new Gpr(4, 4);
    public static final Gpr EBP = new Gpr(5, 4);
    public static final Gpr ESI = new Gpr(6, 4);
    public static final Gpr EDI = new Gpr(7, 4);
    public static final Gpr R8D = new Gpr(8, 4);
    public static final Gpr R9D = new Gpr(9, 4);
    public static final Gpr R10D = new Gpr(10, 4);
    public static final Gpr R11D = new Gpr(11, 4);
    public static final Gpr R12D = new Gpr(12, 4);
    public static final Gpr R13D = new Gpr(13, 4);
    public static final Gpr R14D = new Gpr(14, 4);
    public static final Gpr R15D = new Gpr(15, 4);
    public static final Gpr AX = new Gpr(0, 2);
    public static final Gpr CX = new Gpr(1, 2);
    public static final Gpr DX = new Gpr(2, 2);
    public static final Gpr BX = new Gpr(3, 2);
    public static final Gpr SP = new Gpr(4, 2);
    public static final Gpr BP = new Gpr(5, 2);
    public static final Gpr SI = new Gpr(6, 2);
    public static final Gpr DI = new Gpr(7, 2);
    public static final Gpr R8W = new Gpr(8, 2);
    public static final Gpr R9W = new Gpr(9, 2);
    public static final Gpr R10W = new Gpr(10, 2);
    public static final Gpr R11W = new Gpr(11, 2);
    public static final Gpr R12W = new Gpr(12, 2);
    public static final Gpr R13W = new Gpr(13, 2);
    public static final Gpr R14W = new Gpr(14, 2);
    public static final Gpr R15W = new Gpr(15, 2);
    public static final Gpr AL = new Gpr(0, 1);
    public static final Gpr CL = new Gpr(1, 1);
    public static final Gpr DL = new Gpr(2, 1);
    public static final Gpr BL = new Gpr(3, 1);
    public static final Gpr SPL = new Gpr(4, 1);
    public static final Gpr BPL = new Gpr(5, 1);
    public static final Gpr SIL = new Gpr(6, 1);
    public static final Gpr DIL = new Gpr(7, 1);
    public static final Gpr R8B = new Gpr(8, 1);
    public static final Gpr R9B = new Gpr(9, 1);
    public static final Gpr R10B = new Gpr(10, 1);
    public static final Gpr R11B = new Gpr(11, 1);
    public static final Gpr R12B = new Gpr(12, 1);
    public static final Gpr R13B = new Gpr(13, 1);
    public static final Gpr R14B = new Gpr(14, 1);
    public static final Gpr R15B = new Gpr(15, 1);
    public static final Gpr AH = new Gpr(16, 1);
    public static final Gpr CH = new Gpr(17, 1);
    public static final Gpr DH = new Gpr(18, 1);
    public static final Gpr BH = new Gpr(19, 1);
    public static final Register ES = new Register(OperandKind.SREG, 0);
    public static final Register CS = new Register(OperandKind.SREG, 1);
    public static final Register SS = new Register(OperandKind.SREG, 2);
    public static final Register DS = new Register(OperandKind.SREG, 3);
    public static final Register FS = new Register(OperandKind.SREG, 4);
    public static final Register GS = new Register(OperandKind.SREG, 5);
    public static final Register CR0 = new Register(OperandKind.CREG, 0);
    public static final Register CR2 = new Register(OperandKind.CREG, 2);
    public static final Register CR3 = new Register(OperandKind.CREG, 3);
    public static final Register CR4 = new Register(OperandKind.CREG, 4);
    public static final Register CR8 = new Register(OperandKind.CREG, 8);
    public static final Register DR0 = new Register(OperandKind.DREG, 0);
    public static final Register DR1 = new Register(OperandKind.DREG, 1);
    public static final Register DR2 = new Register(OperandKind.DREG, 2);
    public static final Register DR3 = new Register(OperandKind.DREG, 3);
    public static final Register DR6 = new Register(OperandKind.DREG, 6);
    public static final Register DR7 = new Register(OperandKind.DREG, 7);

    private Operands() {
    }

    /// XMM0 to XMM15.
    public static Register xmm(int number) {
        return new Register(OperandKind.XMM, number);
    }

    /// MM0 to MM7.
    public static Register mm(int number) {
        return new Register(OperandKind.MMX, number);
    }

    /// ST(0) to ST(7).
    public static Register st(int number) {
        return new Register(OperandKind.ST, number);
    }

    /// An immediate.
    public static Imm imm(long value) {
        return new Imm(value, null);
    }

    /// The address of `label` as an immediate.
    public static Imm address(Label label) {
        return new Imm(0, label);
    }

    /// The address of `label` plus `offset` as an immediate.
    public static Imm address(Label label, long offset) {
        return new Imm(offset, label);
    }

    /// `[base]`
    public static Mem mem(Gpr base) {
        return mem(base, null, 1, 0);
    }

    /// `[base + disp]`
    public static Mem mem(Gpr base, long disp) {
        return mem(base, null, 1, disp);
    }

    /// `[base + index * scale + disp]`; `base` may be null.
    public static Mem mem(Gpr base, Gpr index, int scale, long disp) {
        return new Mem(0, base, index, scale, disp, null, false, -1);
    }

    /// `[disp]`, an absolute offset.
    public static Mem abs(long disp) {
        return mem(null, null, 1, disp);
    }

    /// `[label]`, its address as the displacement.
    public static Mem abs(Label label) {
        return new Mem(0, null, null, 1, 0, label, false, -1);
    }

    /// `[label + base]`, the label's address as the displacement.
    public static Mem abs(Label label, Gpr base) {
        return new Mem(0, base, null, 1, 0, label, false, -1);
    }

    /// `[rip + label]`, only in 64-bit mode.
    public static Mem rip(Label label) {
        return new Mem(0, null, null, 1, 0, label, true, -1);
    }

    /// One byte at `mem`.
    public static Mem byteAt(Mem mem) {
        return mem.sized(1);
    }

    /// Two bytes at `mem`.
    public static Mem wordAt(Mem mem) {
        return mem.sized(2);
    }

    /// Four bytes at `mem`.
    public static Mem dwordAt(Mem mem) {
        return mem.sized(4);
    }

    /// Eight bytes at `mem`.
    public static Mem qwordAt(Mem mem) {
        return mem.sized(8);
    }

    /// `selector:offset` for far transfers with a 16-bit offset.
    public static Far far16(int selector, Label label) {
        return new Far(selector, 0, label, 4);
    }

    /// `selector:offset` for far transfers with a 32-bit offset.
    public static Far far32(int selector, Label label) {
        return new Far(selector, 0, label, 6);
    }

    /// `selector:offset` for far transfers with a 16-bit offset.
    public static Far far16(int selector, int offset) {
        return new Far(selector, offset, null, 4);
    }

    /// `selector:offset` for far transfers with a 32-bit offset.
    public static Far far32(int selector, long offset) {
        return new Far(selector, offset, null, 6);
    }
}
