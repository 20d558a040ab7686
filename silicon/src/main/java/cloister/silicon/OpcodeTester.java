package cloister.silicon;

import cloister.isa.Decoder;
import cloister.isa.Disassembler;
import cloister.isa.Instruction;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;

/// Runs [OpcodeSweep] on this machine's processor or takes its recorded outcomes, and compares the model's.
final class OpcodeTester {
    private static final int BATCH = 20_000;
    /// Differences of one opcode that are reported in words.
    private static final int SHOWN = 2;

    private final List<Opcode> batch = new ArrayList<>();
    private final Decoder decoder = new Decoder();
    private final Map<String, Integer> differences = new TreeMap<>();
    private final OpcodeRules rules = new OpcodeRules();
    private Model model = new Model();
    private int count;

    /// Records silicon's outcomes into `writer`.
    void record(OpcodeVectors.Writer writer) throws IOException {
        try {
            OpcodeSweep.forEach(o -> {
                batch.add(o);
                if (batch.size() == BATCH) {
                    flush(writer);
                }
            });
            flush(writer);
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
    }

    private void flush(OpcodeVectors.Writer writer) {
        List<Case> cases = new ArrayList<>();
        for (Opcode o : batch) {
            if (runsNatively(o)) {
                cases.add(testCase(o, o.bytes()));
            }
        }
        try {
            List<Outcome> outcomes = new Silicon().runOnce(cases, c -> OpcodeSweep.initial(c.mode(), c.start()));
            int next = 0;
            for (Opcode o : batch) {
                if (runsNatively(o)) {
                    writer.add(OpcodeOutcome.of(outcomes.get(next), cases.get(next++).start()));
                } else {
                    writer.add(new OpcodeOutcome(Outcome.LOST, 0, 0));
                }
            }
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        batch.clear();
    }

    private static boolean runsNatively(Opcode o) {
        return !OpcodeRules.entersSystem(o) && !OpcodeRules.entersHypervisor(o);
    }

    private static Case testCase(Opcode o, byte[] code) {
        return new Case(o.mode(), code, 0, 0, List.of());
    }

    /// Compares the model with recorded outcomes.
    ///
    /// @param stride compares each `stride`-th case
    /// @param report gets each difference in words
    /// @return how many cases of each opcode differ
    Map<String, Integer> compare(OpcodeVectors.Reader reader, Model.Engine engine, int stride, Consumer<String> report)
            throws IOException {
        try {
            OpcodeSweep.forEach(o -> {
                OpcodeOutcome expected = rules.expected(o, next(reader));
                if (count++ % stride == 0 && expected.vector() != Outcome.LOST) {
                    compare(o, expected, engine, report);
                }
            });
        } catch (UncheckedIOException e) {
            throw e.getCause();
        }
        return differences;
    }

    /// Rules that no case needed.
    List<String> unusedRules() {
        return rules.unused();
    }

    int count() {
        return count;
    }

    private static OpcodeOutcome next(OpcodeVectors.Reader reader) {
        try {
            return reader.next();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private void compare(Opcode o, OpcodeOutcome expected, Model.Engine engine, Consumer<String> report) {
        Instruction i = decoder.decode(o.mode(), o.bytes(), 0, o.bytes().length);
        Case c = testCase(o, Arrays.copyOf(o.bytes(), i.length));
        String actual;
        try {
            OpcodeOutcome outcome = model.once(c, OpcodeSweep.initial(o.mode(), c.start()), engine);
            boolean same = engine == Model.Engine.STEP ? outcome.equals(expected)
                : outcome.vector() == expected.vector() && outcome.errorCode() == expected.errorCode(); // more may have run
            if (same) {
                return;
            }
            actual = outcome.toString();
        } catch (RuntimeException | AssertionError e) {
            actual = e.toString().lines().findFirst().orElse("");
            model = new Model();
        }
        String opcode = String.format(Locale.ROOT, "map %d %02x %s %s", o.map(), o.opcode(), o.coding(), i.op);
        if (differences.merge(opcode, 1, Integer::sum) <= SHOWN) {
            report.accept(o + "  " + Disassembler.format(i, 0) + ": expected " + expected + ", model " + actual);
        }
    }
}
