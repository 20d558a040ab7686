package cloister.tdx.fuzz;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.function.Consumer;

/// Makes a sequence that breaks something short: steps go while something still breaks, then stops, then operands.
final class Shrinker {
    private static final int MAX_REPLAYS = 2500;
    private static final int SWEEPS = 64;

    private final Consumer<FuzzMachine> saboteur;
    private int replays;

    Shrinker(Consumer<FuzzMachine> saboteur) {
        this.saboteur = saboteur;
    }

    /// @return what is broken, or null
    String replay(List<FuzzStep> steps, int sweepInterval) {
        replays++;
        try (var run = new FuzzRun(FuzzRun.platformOf(steps), new FuzzCoverage(), null, false, saboteur)) {
            run.replay(steps, sweepInterval);
            return null;
        } catch (FuzzFinding finding) {
            return finding.getMessage();
        }
    }

    private boolean breaks(List<FuzzStep> steps) {
        return replay(steps, Math.max(1, steps.size() / SWEEPS)) != null;
    }

    private boolean mayGoOn() {
        return replays < MAX_REPLAYS;
    }

    Fuzzer.Finding shrink(List<FuzzStep> steps, FuzzFinding first, long calls) {
        List<FuzzStep> kept = new ArrayList<>(steps);
        if (breaks(kept)) {
            kept = withoutFailures(kept);
            kept = withoutAllStops(kept);
            kept = withoutSteps(kept);
            kept = withoutStops(kept);
            kept = withoutOperands(kept);
            kept = withoutSteps(kept);
        }
        var message = replay(kept, Math.max(1, kept.size() / (4 * SWEEPS)));
        return new Fuzzer.Finding(calls, message == null ? first.getMessage() : message, kept.stream().map(FuzzStep::toString).toList());
    }

    /// Calls that failed hardly matter.
    private List<FuzzStep> withoutFailures(List<FuzzStep> steps) {
        var failed = new HashSet<FuzzStep>();
        try (var run = new FuzzRun(FuzzRun.platformOf(steps), new FuzzCoverage(), null, false, saboteur)) {
            run.noteFailures(failed);
            run.replay(steps, Integer.MAX_VALUE);
        } catch (FuzzFinding expected) {
            // what failed before is known
        }
        var tried = new ArrayList<>(steps);
        tried.removeIf(failed::contains);
        return breaks(tried) ? tried : steps;
    }

    private List<FuzzStep> withoutAllStops(List<FuzzStep> steps) {
        var tried = new ArrayList<FuzzStep>();
        for (var step : steps) {
            if (step.kind != FuzzStep.Kind.RUN) {
                tried.add(step.whole());
            }
        }
        return breaks(tried) ? tried : steps;
    }

    private List<FuzzStep> withoutSteps(List<FuzzStep> steps) {
        var kept = steps;
        for (int chunk = Math.max(1, kept.size() / 2); chunk >= 1 && mayGoOn();) {
            boolean dropped = false;
            for (int from = kept.size() - chunk; from > -chunk && mayGoOn(); from -= chunk) {
                var tried = new ArrayList<>(kept.subList(0, Math.max(0, from)));
                tried.addAll(kept.subList(from + chunk, kept.size()));
                if (breaks(tried)) {
                    kept = tried;
                    dropped = true;
                }
            }
            chunk = dropped && chunk == 1 ? 1 : chunk / 2;
        }
        return kept;
    }

    private List<FuzzStep> withoutStops(List<FuzzStep> steps) {
        var kept = steps;
        for (int i = 0; i < kept.size() && mayGoOn(); i++) {
            if (!kept.get(i).toTheEnd()) {
                kept = tryInstead(kept, i, kept.get(i).whole());
            }
        }
        return kept;
    }

    private List<FuzzStep> withoutOperands(List<FuzzStep> steps) {
        var kept = steps;
        for (int i = 0; i < kept.size() && mayGoOn(); i++) {
            for (int j = 1; j < kept.get(i).operands.length && kept.size() < SWEEPS && mayGoOn(); j++) {
                var step = kept.get(i);
                if (step.operands[j] != 0) {
                    var simpler = new FuzzStep(step.lp, step.kind, step.operands).stopAt(step.points, step.fine);
                    simpler.operands[j] = 0;
                    kept = tryInstead(kept, i, simpler);
                }
            }
        }
        return kept;
    }

    private List<FuzzStep> tryInstead(List<FuzzStep> steps, int index, FuzzStep simpler) {
        var tried = new ArrayList<>(steps);
        tried.set(index, simpler);
        return breaks(tried) ? tried : steps;
    }
}
