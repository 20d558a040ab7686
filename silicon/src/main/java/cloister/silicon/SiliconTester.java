package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/// Runs random cases on this machine's processor and on the model and prints every difference.
///
/// `SiliconTester [--seed N] [--cases M] [--engine run|step] [--only TEXT]`: M cases of every form, forms whose name
/// contains TEXT.
public final class SiliconTester {
    private long seed = 1;
    private int cases = 10;
    private Model.Engine engine = Model.Engine.RUN;
    private String only = "";
    private int shown = 3;

    private SiliconTester() {
    }

    public static void main(String[] args) throws IOException {
        SiliconTester tester = new SiliconTester();
        for (int n = 0; n + 1 < args.length; n += 2) {
            switch (args[n]) {
                case "--seed" -> tester.seed = Long.parseLong(args[n + 1]);
                case "--cases" -> tester.cases = Integer.parseInt(args[n + 1]);
                case "--engine" -> tester.engine = Model.Engine.valueOf(args[n + 1].toUpperCase());
                case "--only" -> tester.only = args[n + 1];
                case "--shown" -> tester.shown = Integer.parseInt(args[n + 1]);
                default -> throw new IllegalArgumentException("unknown option " + args[n]);
            }
        }
        if (!Silicon.available()) {
            System.err.println("The silicon tester needs Linux on x86-64.");
            System.exit(2);
        }
        System.exit(tester.run() ? 0 : 1);
    }

    private boolean run() throws IOException {
        List<Case> all = new ArrayList<>();
        List<Template> templates = new ArrayList<>();
        for (CodeMode mode : List.of(CodeMode.BITS64, CodeMode.BITS32)) {
            templates.addAll(Template.all(mode));
        }
        CaseGenerator generator = new CaseGenerator(seed);
        List<String> barren = new ArrayList<>();
        for (Template template : templates) {
            if (template.form().contains(only)) {
                int before = all.size();
                for (int n = 0; n < cases; n++) {
                    Case c = generator.next(template);
                    if (c != null) {
                        all.add(c);
                    }
                }
                if (all.size() == before) {
                    barren.add(template.mode() + " " + template.form());
                }
            }
        }
        System.out.printf("%d forms, %d cases, no case for %d forms %s%n", templates.size(), all.size(), barren.size(), barren.subList(0, Math.min(barren.size(), 12)));
        return compare(all);
    }

    private boolean compare(List<Case> all) throws IOException {
        long start = System.nanoTime();
        List<Outcome> native_ = new Silicon().run(all);
        System.out.printf("silicon: %d ms%n", (System.nanoTime() - start) / 1_000_000);
        start = System.nanoTime();
        Model model = new Model();
        Decoder decoder = new Decoder();
        Map<String, Integer> failures = new TreeMap<>();
        int lost = 0;
        int total = 0;
        for (int n = 0; n < all.size(); n++) {
            Case c = all.get(n);
            Instruction i = decoder.decode(c.mode(), c.code(), 0, c.code().length);
            String difference;
            try {
                lost += native_.get(n).vector() == Outcome.LOST ? 1 : 0;
                difference = Comparison.differences(c, i, native_.get(n), model.run(c, engine));
            } catch (RuntimeException | AssertionError e) {
                difference = c + " " + cloister.isa.Disassembler.format(i, 0) + ": " + e;
                model = new Model();
            }
            if (difference != null) {
                total++;
                if (failures.merge(i.op.name(), 1, Integer::sum) <= shown) {
                    System.out.println(difference);
                }
            }
        }
        System.out.printf("model: %d ms; %d lost, %d different: %s%n", (System.nanoTime() - start) / 1_000_000, lost, total, failures);
        return total == 0;
    }
}
