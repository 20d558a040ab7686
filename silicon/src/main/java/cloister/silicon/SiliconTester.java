package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Disassembler;
import cloister.isa.Instruction;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;

/// Runs random cases on this machine's processor and on the model and prints every difference.
///
/// `SiliconTester [--seed N] [--cases M] [--sequences M] [--engine run|step] [--only TEXT] [--shown N] [--record FILE]`: M cases of
/// every form (whose name contains TEXT), M sequences in each mode; at most N differences of an operation are printed.
/// `--record` writes cases and silicon's outcomes to a file of vectors. `--opcodes FILE` compares the opcode sweep instead, with the
/// outcomes in the file, which is recorded first if it does not exist.
public final class SiliconTester {
    private static final List<CodeMode> MODES = List.of(CodeMode.BITS64, CodeMode.BITS32, CodeMode.BITS16);

    private long seed = 1;
    private int cases = 10;
    private int sequences;
    private Model.Engine engine = Model.Engine.RUN;
    private String only = "";
    private int shown = 3;
    private Path record;
    private Path opcodes;

    private SiliconTester() {
    }

    /// Exit status 0 when nothing differs, 1 when something does, 2 for a wrong option.
    public static void main(String[] args) throws IOException {
        SiliconTester tester = new SiliconTester();
        for (int n = 0; n < args.length; n += 2) {
            if (n + 1 == args.length || !tester.option(args[n], args[n + 1])) {
                System.err.println("unknown or incomplete option " + args[n]);
                System.exit(2);
            }
        }
        if (!Silicon.available()) {
            System.err.println("The silicon tester needs Linux on x86-64.");
            System.exit(2);
        }
        System.exit((tester.opcodes == null ? tester.run() : tester.runOpcodes()) ? 0 : 1);
    }

    private boolean option(String name, String value) {
        switch (name) {
            case "--seed" -> seed = Long.parseLong(value);
            case "--cases" -> cases = Integer.parseInt(value);
            case "--sequences" -> sequences = Integer.parseInt(value);
            case "--engine" -> engine = Model.Engine.valueOf(value.toUpperCase(Locale.ROOT));
            case "--only" -> only = value;
            case "--shown" -> shown = Integer.parseInt(value);
            case "--opcodes" -> opcodes = Path.of(value);
            case "--record" -> record = Path.of(value);
            default -> {
                return false;
            }
        }
        return true;
    }

    private boolean runOpcodes() throws IOException {
        OpcodeTester tester = new OpcodeTester();
        if (!Files.exists(opcodes)) {
            try (OpcodeVectors.Writer writer = new OpcodeVectors.Writer(Files.newOutputStream(opcodes))) {
                tester.record(writer);
            }
        }
        try (OpcodeVectors.Reader reader = new OpcodeVectors.Reader(Files.newInputStream(opcodes))) {
            Map<String, Integer> different = tester.compare(reader, engine, 1, System.out::println);
            System.out.printf(Locale.ROOT, "%d opcodes, different: %s, rules without a case: %s%n",
                tester.count(), different, tester.unusedRules());
            return different.isEmpty();
        }
    }

    private boolean run() throws IOException {
        try (Vectors.Writer writer = record == null ? null : new Vectors.Writer(Files.newOutputStream(record))) {
            Run run = new Run(writer);
            CaseGenerator generator = new CaseGenerator(seed);
            int forms = 0;
            int without = 0;
            for (CodeMode mode : MODES) {
                List<Template> templates = Template.all(mode).stream().filter(template -> template.form().contains(only)).toList();
                forms += templates.size();
                for (Template template : templates) {
                    int before = run.cases;
                    for (int n = 0; n < cases; n++) {
                        Case c = generator.next(template);
                        if (c != null) {
                            run.add(c);
                        }
                    }
                    without += run.cases == before && cases > 0 ? 1 : 0;
                }
                List<Template> integer = templates.stream().filter(Template::setsFlags).toList();
                for (int n = 0; n < sequences; n++) {
                    run.add(generator.sequence(n % 3 == 0 && !integer.isEmpty() ? integer : templates));
                }
            }
            run.flush();
            System.out.printf(Locale.ROOT,
                    "%d forms (%d without a case), %d cases, %d lost, %d different: %s%n", forms, without, run.cases, run.lost,
                run.different, run.failures);
            return run.different == 0;
        }
    }

    /// Runs cases in batches and keeps count.
    private final class Run {
        private static final int BATCH = 10_000;

        private final Vectors.Writer writer;
        private final List<Case> batch = new ArrayList<>();
        private final Decoder decoder = new Decoder();
        private Model model = new Model();
        private final Map<String, Integer> failures = new TreeMap<>();
        private int cases;
        private int lost;
        private int different;

        Run(Vectors.Writer writer) {
            this.writer = writer;
        }

        void add(Case c) throws IOException {
            cases++;
            batch.add(c);
            if (batch.size() == BATCH) {
                flush();
            }
        }

        void flush() throws IOException {
            List<Outcome> outcomes = new Silicon().run(batch);
            for (int n = 0; n < batch.size(); n++) {
                if (outcomes.get(n).vector() == Outcome.LOST) {
                    lost++;
                } else if (writer != null) {
                    writer.add(batch.get(n), outcomes.get(n));
                }
                compare(batch.get(n), outcomes.get(n));
            }
            batch.clear();
        }

        private void compare(Case c, Outcome outcome) {
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            String difference;
            try {
                difference = Comparison.differences(c, i, outcome, model.run(c, engine));
            } catch (RuntimeException | AssertionError e) {
                difference = c + " " + Disassembler.format(i, c.codeAddress()) + ": " + e;
                model = new Model();
            }
            if (difference != null) {
                different++;
                if (failures.merge(i.op.name(), 1, Integer::sum) <= shown) {
                    System.out.println(difference);
                }
            }
        }
    }
}
