package cloister.tdx.fuzz;

import java.util.ArrayList;
import java.util.List;

/// One step of a fuzzed sequence, with concrete operands, so that a sequence replays without its generator. Steps of other
/// processors may run inside it, each at one of its switch points.
///
/// As text: `LP KIND OPERAND...`, operands in hexadecimal; a step inside another follows it as `+POINT LP KIND ...`.
final class FuzzStep {
    /// What a step does, and how many operands it has.
    enum Kind {
        /// SEAMCALL: RAX, RCX, RDX, R8, R9, R10, R11, whether an interrupt waits.
        CALL(8),
        /// A VM exit: reason, qualification, GPA, interruption information, RIP's advance, RAX, RCX, RDX, R8, R9, R10,
        /// whether an interrupt waits, instructions retired.
        EXIT(13),
        /// The guest writes to a page: GPA.
        ACCESS(1),
        /// The VMM writes TD_PARAMS: page, ATTRIBUTES, XFAM, words at 16, 24, 32 and 40.
        PARAMS(7),
        /// The VMM fills a page that is free: page, value.
        FILL(2);

        final int operands;

        Kind(int operands) {
            this.operands = operands;
        }
    }

    /// @param point the switch point, from 0
    record Inner(int point, FuzzStep step) {
    }

    final int lp;
    final Kind kind;
    final long[] operands;
    final List<Inner> inner = new ArrayList<>(0);

    FuzzStep(int lp, Kind kind, long... operands) {
        if (operands.length != kind.operands) {
            throw new IllegalArgumentException(kind + " has " + kind.operands + " operands");
        }
        this.lp = lp;
        this.kind = kind;
        this.operands = operands;
    }

    FuzzStep withoutInner() {
        return new FuzzStep(lp, kind, operands);
    }

    private String line() {
        var text = new StringBuilder().append(lp).append(' ').append(kind);
        for (long operand : operands) {
            text.append(' ').append(Long.toHexString(operand));
        }
        return text.toString();
    }

    @Override public String toString() {
        var text = new StringBuilder(line());
        inner.forEach(i -> text.append("\n+").append(i.point).append(' ').append(i.step.line()));
        return text.toString();
    }

    /// Reads a sequence; lines that start with # and empty ones say nothing.
    ///
    /// @throws IllegalArgumentException for a line that is not a step
    static List<FuzzStep> parse(List<String> lines) {
        var steps = new ArrayList<FuzzStep>();
        for (var line : lines) {
            if (line.isBlank() || line.startsWith("#")) {
                continue;
            }
            var words = line.trim().split(" +");
            if (words[0].startsWith("+")) {
                steps.getLast().inner.add(new Inner(Integer.parseInt(words[0].substring(1)), parse(words, 1)));
            } else {
                steps.add(parse(words, 0));
            }
        }
        return steps;
    }

    private static FuzzStep parse(String[] words, int from) {
        var operands = new long[words.length - from - 2];
        for (int i = 0; i < operands.length; i++) {
            operands[i] = Long.parseUnsignedLong(words[from + 2 + i], 16);
        }
        return new FuzzStep(Integer.parseInt(words[from]), Kind.valueOf(words[from + 1]), operands);
    }
}
