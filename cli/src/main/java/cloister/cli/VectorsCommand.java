package cloister.cli;

import cloister.tdx.vectors.Outcome;
import cloister.tdx.vectors.VectorSet;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `cloister vectors`: replays recorded behaviour of the TDX module on ours and reports every difference.
@Command(name = "vectors", mixinStandardHelpOptions = true,
        description = "Replay recorded behaviour of the TDX module and compare every result.",
        footer = {"", "A step that cannot be replayed fails its scenario, and so does a file that",
            "cannot be read."},
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {"0:no difference", "1:a scenario fails", "64:wrong option", "65:there are no scenarios"})
final class VectorsCommand implements Callable<Integer> {
    private static final String ROW = "%-62s %9d %8d %8d %7d%n";
    private static final int ABOUT = 62;

    @Parameters(paramLabel = "DIR", description = "A directory of vectors, such as vectors/1.5.06; a part of one; or one scenario.")
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
            var progress = new Progress();
            int all = vectors.scenarios().size();
            var outcomes = vectors.replay(threads, begun -> progress.bar(begun, all, begun + " of " + all + " scenarios"));
            progress.erase();
            table(vectors, outcomes);
            outcomes.stream().filter(o -> !o.passed()).forEach(VectorsCommand::explain);
            sum(outcomes);
            return (outcomes.stream().allMatch(Outcome::passed) ? ExitCode.SUCCESS : ExitCode.DIFFERENCE).code();
        } catch (IOException e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return ExitCode.DATA.code();
        } catch (UncheckedIOException e) { // a folder below cannot be listed
            System.err.println("cloister: cannot read " + e.getCause().getMessage() + ": check its permissions.");
            return ExitCode.DATA.code();
        }
    }

    private static void table(VectorSet vectors, List<Outcome> outcomes) {
        System.out.printf(Locale.ROOT, "%-62s %9s %8s %8s %7s%n", "family", "scenarios", "steps", "passed", "failed");
        vectors.families().forEach((family, about) -> row(abbreviate(family + "  " + about),
                outcomes.stream().filter(o -> o.scenario().family().equals(family)).toList()));
        row("all", outcomes);
    }

    private static String abbreviate(String about) {
        return about.length() <= ABOUT ? about : about.substring(0, ABOUT - 3) + "...";
    }

    private static void row(String name, List<Outcome> outcomes) {
        int passed = (int) outcomes.stream().filter(Outcome::passed).count();
        System.out.printf(Locale.ROOT, ROW, name, outcomes.size(), outcomes.stream().mapToInt(Outcome::steps).sum(), passed,
                outcomes.size() - passed);
    }

    private static void explain(Outcome outcome) {
        var at = outcome.difference();
        System.out.println();
        System.out.println(outcome.scenario().file() + (outcome.steps() == 0 ? " cannot be replayed:"
                : (at.problem().isEmpty() ? " differs" : " stops") + " after " + outcome.replayed() + " of " + outcome.steps()
                + " steps:"));
        System.out.println("  " + at.text().replace("\n", "\n  "));
    }

    private static void sum(List<Outcome> outcomes) {
        long failed = outcomes.stream().filter(o -> !o.passed()).count();
        if (failed > 0) {
            System.out.println();
            System.out.println(failed + " of " + outcomes.size() + " scenarios fail.");
        }
    }
}
