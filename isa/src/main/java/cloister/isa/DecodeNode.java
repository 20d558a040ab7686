package cloister.isa;

/// A node of the decision tree behind one opcode: a leaf with its row (or none), or a choice by one property.
final class DecodeNode {
    /// The properties that rows distinguish besides their opcode, in the order in which the tree asks for them.
    enum Selector {
        MODE(2), PREFIX(4), REX_B(2), OPERAND_SIZE(3), MODRM(256);

        final int values;

        Selector(int values) {
            this.values = values;
        }
    }

    static final DecodeNode UNKNOWN = new DecodeNode((InstructionForm) null);

    /// Null in a leaf.
    final Selector selector;
    final DecodeNode[] next;
    /// Null in a choice, and in the leaf of undefined encodings.
    final InstructionForm form;

    DecodeNode(InstructionForm form) {
        this.form = form;
        selector = null;
        next = null;
    }

    DecodeNode(Selector selector, DecodeNode[] next) {
        this.selector = selector;
        this.next = next;
        form = null;
    }
}
