package cloister.cli;

import cloister.tdx.vectors.Outcome;
import cloister.tdx.vectors.VectorSet;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `cloister vectors`: replays recorded behaviour of the TDX module on ours and reports every difference.
@Command(name = "vectors", mixinStandardHelpOptions = true,
        description = "Replay recorded behaviour of the TDX module and compare every result.",
        footer = {"", "Exit code: 0 no difference, 1 a scenario differs, 65 DIR is missing or malformed."})
final class VectorsCommand implements Callable<Integer> {
    private static final String ROW = "%-62s %9d %8d %8d %7d%n";
    private static final int ABOUT = 58;

    @Parameters(paramLabel = "DIR", description = "A directory of vectors, such as vectors/1.5.06.")
    private Path directory;

    @Option(names = "--threads", paramLabel = "N",
            description = "Scenarios replayed at a time (default: as many as there are processors).")
    private int threads = Runtime.getRuntime().availableProcessors();

    @Override public Integer call() {
        if (threads < 1) {
            System.err.println("cloister: --threads " + threads + ": choose 1 or more.");
            return ExitCode.USAGE.code();
        }
        try {
            var vectors = VectorSet.open(directory);
            Progress.say("replaying " + vectors.scenarios().size() + " scenarios ...");
            var outcomes = vectors.replay(threads);
            table(vectors, outcomes);
            outcomes.stream().filter(o -> !o.passed()).forEach(VectorsCommand::explain);
            return (outcomes.stream().allMatch(Outcome::passed) ? ExitCode.SUCCESS : ExitCode.DIFFERENCE).code();
        } catch (IOException e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return ExitCode.DATA.code();
        }
    }

    private static void table(VectorSet vectors, List<Outcome> outcomes) {
        System.out.printf("%-62s %9s %8s %8s %7s%n", "family", "scenarios", "steps", "passed", "failed");
        vectors.families().forEach((family, about) -> row(family + "  " + abbreviate(about),
                outcomes.stream().filter(o -> o.scenario().family().equals(family)).toList()));
        row("all", outcomes);
    }

    private static String abbreviate(String about) {
        return about.length() <= ABOUT ? about : about.substring(0, ABOUT - 3) + "...";
    }

    private static void row(String name, List<Outcome> outcomes) {
        int passed = (int) outcomes.stream().filter(Outcome::passed).count();
        System.out.printf(ROW, name, outcomes.size(), outcomes.stream().mapToInt(Outcome::steps).sum(), passed,
                outcomes.size() - passed);
    }

    private static void explain(Outcome outcome) {
        var at = outcome.difference();
        System.out.println();
        System.out.println(outcome.scenario().file() + " differs after " + outcome.replayed() + " of " + outcome.steps() + " steps"
                + (at == null ? "" : ":\n  " + at.text().replace("\n", "\n  ")));
    }
}
