package cloister.tdx.fuzz;

import cloister.sim.Entropy;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;
import java.util.function.LongConsumer;

/// Drives random sequences of calls against the module and checks its invariants after each. Sequences start at a module
/// just brought up and have a seed of their own, so that a finding needs no more than its sequence.
public final class Fuzzer {
    private static final int SEQUENCE = 20_000;
    private static final int SWEEP_INTERVAL = 250;
    private static final int INNER_ONE_IN = 24;
    private static final int INNER_POINTS = 10;
    private static final int MAX_REPLAYS = 1500;

    /// A broken invariant.
    ///
    /// @param call     the number of the call in the run, from 1
    /// @param message  what is broken
    /// @param sequence the steps that break it, shrunk, one or more lines each
    public record Finding(long call, String message, List<String> sequence) {
    }

    private final long seed;
    private final FuzzCoverage coverage = new FuzzCoverage();
    private final Consumer<FuzzMachine> saboteur;
    private long calls;

    /// @param seed the run's seed
    public Fuzzer(long seed) {
        this(seed, machine -> { });
    }

    /// @param saboteur breaks something after a step, to see that it is found
    Fuzzer(long seed, Consumer<FuzzMachine> saboteur) {
        this.seed = seed;
        this.saboteur = saboteur;
    }

    /// Runs about `wanted` steps.
    ///
    /// @param progress is told the number of steps done now and then
    /// @return the first finding, or null
    public Finding run(long wanted, LongConsumer progress) {
        for (int sequence = 0; calls < wanted; sequence++) {
            var entropy = new Entropy(seed).stream("sequence " + sequence);
            var steps = new ArrayList<FuzzStep>();
            try (var run = new Run(new FuzzMachine(coverage), entropy, steps, saboteur)) {
                run.generate((int) Math.min(SEQUENCE, wanted - calls));
            } catch (FuzzFinding finding) {
                calls += steps.size();
                return shrink(steps, finding);
            }
            calls += steps.size();
            progress.accept(calls);
        }
        return null;
    }

    /// Steps of the run so far.
    public long calls() {
        return calls;
    }

    /// How often each function was called and succeeded, as a table; [#run] adds to it.
    public String coverage() {
        return coverage.toString();
    }

    /// The functions that succeeded at least once.
    Set<String> successes() {
        return coverage.successful();
    }

    /// Replays a sequence, checking everything after each step.
    ///
    /// @return what is broken, or null
    public static String replay(List<String> lines) {
        return new Fuzzer(0).replay(FuzzStep.parse(lines), 1);
    }

    private String replay(List<FuzzStep> steps, int sweepInterval) {
        try (var run = new Run(new FuzzMachine(new FuzzCoverage()), null, new ArrayList<>(), saboteur)) {
            run.replay(steps, sweepInterval);
            return null;
        } catch (FuzzFinding finding) {
            return finding.getMessage();
        }
    }

    private Finding shrink(List<FuzzStep> steps, FuzzFinding first) {
        int sweep = Math.max(1, steps.size() / 64);
        List<FuzzStep> kept = new ArrayList<>(steps);
        int replays = 0;
        for (int chunk = Math.max(1, kept.size() / 2); chunk >= 1 && replays < MAX_REPLAYS;) {
            boolean dropped = false;
            for (int from = kept.size() - chunk; from > -chunk && replays < MAX_REPLAYS; from -= chunk) {
                var tried = new ArrayList<>(kept.subList(0, Math.max(0, from)));
                tried.addAll(kept.subList(from + chunk, kept.size()));
                replays++;
                if (replay(tried, Math.max(1, tried.size() / 64)) != null) {
                    kept = tried;
                    dropped = true;
                }
            }
            chunk = dropped && chunk == 1 ? 1 : chunk / 2;
        }
        for (int i = 0; i < kept.size() && replays < MAX_REPLAYS; i++, replays++) {
            var tried = new ArrayList<>(kept);
            tried.set(i, kept.get(i).withoutInner());
            kept = !kept.get(i).inner.isEmpty() && replay(tried, 1) != null ? tried : kept;
        }
        var message = replay(kept, kept.size() < 500 ? 1 : sweep);
        var lines = new ArrayList<String>();
        kept.forEach(step -> lines.addAll(step.toString().lines().toList()));
        return new Finding(calls, message == null ? first.getMessage() : message, lines);
    }

    /// One sequence on one machine.
    static final class Run implements AutoCloseable {
        final FuzzMachine machine;
        final FuzzChecker checker;
        private final Entropy random;
        private final FuzzGenerator generator;
        private final List<FuzzStep> steps;
        private final Consumer<FuzzMachine> saboteur;
        private int point;
        private FuzzStep current;
        /// At which switch point of the current step to invent another, or -1.
        private int inventAt = -1;

        Run(FuzzMachine machine, Entropy random, List<FuzzStep> steps, Consumer<FuzzMachine> saboteur) {
            this.machine = machine;
            this.checker = new FuzzChecker(machine);
            this.random = random;
            this.generator = random == null ? null : new FuzzGenerator(machine, checker, random);
            this.steps = steps;
            this.saboteur = saboteur;
            for (var cpu : machine.cpus) {
                cpu.atSwitchPoint(() -> switchPoint(cpu.lp()));
            }
        }

        List<FuzzStep> steps() {
            return steps;
        }

        void generate(int count) {
            while (steps.size() < count && !machine.ended) {
                var step = generator.next(random.nextInt(machine.cpus.length));
                steps.add(step);
                inventAt = random.nextInt(INNER_ONE_IN) == 0 ? random.nextInt(INNER_POINTS) : -1;
                execute(step, steps.size() % SWEEP_INTERVAL == 0);
            }
            if (!machine.ended) {
                checker.sweep();
            }
        }

        void replay(List<FuzzStep> sequence, int sweepInterval) {
            for (int i = 0; i < sequence.size() && !machine.ended; i++) {
                execute(sequence.get(i), (i + 1) % sweepInterval == 0 || i == sequence.size() - 1);
            }
        }

        private void execute(FuzzStep step, boolean sweep) {
            point = 0;
            current = step;
            machine.execute(step);
            current = null;
            if (machine.ended) {
                return;
            }
            saboteur.accept(machine);
            checker.quick(step);
            if (sweep) {
                checker.sweep();
            }
        }

        private void switchPoint(int lp) {
            if (current == null || lp != current.lp) {
                return;
            }
            int here = point++;
            if (here == inventAt) {
                inventAt = -1;
                int other = random.nextInt(machine.cpus.length);
                if (!machine.busy[other]) {
                    var step = generator.next(other);
                    current.inner.add(new FuzzStep.Inner(here, step));
                    machine.execute(step);
                }
                return;
            }
            for (var inner : random == null ? current.inner : List.<FuzzStep.Inner>of()) {
                if (inner.point() == here) {
                    machine.execute(inner.step());
                }
            }
        }

        @Override public void close() {
            machine.close();
        }
    }
}
