package cloister.isa;

/// An operand given to the [Assembler].
public sealed interface Operand {
    /// A general register of `size` bytes, numbered as in [OperandKind#GPR].
    record Gpr(int number, int size) implements Operand {
    }

    /// A register of another file.
    record Register(OperandKind kind, int number) implements Operand {
    }

    /// An immediate; with a label its address is added.
    record Imm(long value, Label label) implements Operand {
    }

    /// A branch target.
    record Target(Label label) implements Operand {
    }

    /// A far pointer with a 16- or 32-bit offset (`size` 4 or 6 with the selector).
    record Far(int selector, long offset, Label label, int size) implements Operand {
    }

    /// A memory operand. `size` 0: taken from the other operand. `segment` -1: the default. With a label its address is
    /// added to the displacement, relative to the next instruction if `ripRelative`.
    record Mem(int size, Gpr base, Gpr index, int scale, long disp, Label label, boolean ripRelative, int segment)
        implements Operand {

        public Mem {
            if (scale != 1 && scale != 2 && scale != 4 && scale != 8) {
                throw new IllegalArgumentException("scale " + scale);
            }
        }

        /// This operand with a size in bytes.
        public Mem sized(int bytes) {
            return new Mem(bytes, base, index, scale, disp, label, ripRelative, segment);
        }

        /// This operand through segment register `register`.
        public Mem through(Register register) {
            return new Mem(size, base, index, scale, disp, label, ripRelative, register.number);
        }
    }
}
