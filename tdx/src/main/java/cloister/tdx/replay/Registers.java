package cloister.tdx.replay;

import java.util.List;

/// The general registers in encoding order, as the vectors name them.
final class Registers {
    static final List<String> NAMES = List.of("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12",
            "r13", "r14", "r15");
    static final int COUNT = 16;
    static final int RAX = 0;
    static final int RCX = 1;
    static final int RDX = 2;
    static final int RBX = 3;
    static final int RSP = 4;

    private Registers() {
    }

    /// The registers of `in`, each on top of `base`.
    static void into(Step in, long[] base) {
        in.eachRegister(i -> base[i] = in.required(NAMES.get(i)));
    }

    /// Registers that are not zero, in one line.
    static String describe(long[] values) {
        var text = new StringBuilder();
        for (int i = 0; i < COUNT; i++) {
            if (i != RSP && values[i] != 0) {
                text.append(text.isEmpty() ? "" : " ").append(NAMES.get(i)).append('=').append(VectorWords.hex(values[i]));
            }
        }
        return text.isEmpty() ? "all registers 0" : text.toString();
    }
}
