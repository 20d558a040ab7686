package cloister.tdx.fuzz;

import cloister.sim.Entropy;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Consumer;
import java.util.function.LongConsumer;
import java.util.function.Supplier;

/// Drives random sequences of calls against the module and checks its invariants. Sequences start at a module just loaded and
/// have a seed of their own, so that a finding needs no more than its sequence.
public final class Fuzzer {
    private static final int SEQUENCE = 20_000;
    private static final int BRINGUP_SEQUENCE = 4_000;

    /// A broken invariant.
    ///
    /// @param call     the number of the call in the run, from 1
    /// @param message  what is broken
    /// @param sequence the steps that break it, shrunk, one line each
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
        return onVirtualThread(() -> runHere(wanted, progress));
    }

    /// Lanes are virtual threads; changing from one to another is cheapest when the driver is one, too.
    private static <T> T onVirtualThread(Supplier<T> work) {
        var result = new AtomicReference<T>();
        var failure = new AtomicReference<Throwable>();
        var thread = Thread.ofVirtual().start(() -> {
            try {
                result.set(work.get());
            } catch (Throwable t) {
                failure.set(t);
            }
        });
        try {
            thread.join();
        } catch (InterruptedException e) {
            throw new IllegalStateException(e);
        }
        switch (failure.get()) {
            case null -> {
            }
            case RuntimeException e -> throw e;
            case Error e -> throw e;
            default -> throw new IllegalStateException(failure.get());
        }
        return result.get();
    }

    private Finding runHere(long wanted, LongConsumer progress) {
        for (int sequence = 0; calls < wanted; sequence++) {
            var random = new Entropy(seed).stream("sequence " + sequence);
            boolean wild = sequence % 4 == 3; // the bring-up is part of what is fuzzed
            var steps = new ArrayList<FuzzStep>();
            steps.add(platform(random, wild));
            if (!wild) {
                steps.add(new FuzzStep(0, FuzzStep.Kind.BOOT, 1 + random.nextInt(2)));
            }
            try (var run = new FuzzRun(FuzzRun.platformOf(steps), coverage, random, wild, saboteur)) {
                run.replay(steps, Integer.MAX_VALUE);
                run.generate(steps, (int) Math.min(wild ? BRINGUP_SEQUENCE : SEQUENCE, wanted - calls));
            } catch (FuzzFinding finding) {
                calls += steps.size();
                return new Shrinker(saboteur).shrink(steps, finding, calls);
            }
            calls += steps.size();
            progress.accept(calls);
        }
        return null;
    }

    private static FuzzStep platform(Entropy random, boolean wild) {
        return new FuzzStep(0, FuzzStep.Kind.PLATFORM, 1 + random.nextInt(2), wild && random.nextInt(2) == 0 ? random.nextLong() : 0);
    }

    /// How often each function ended with each status, as a table; [#run] adds to it.
    public String coverage() {
        return coverage.toString();
    }

    FuzzCoverage statuses() {
        return coverage;
    }

    /// Replays a sequence, checking everything after each step.
    ///
    /// @return what is broken, or null
    /// @throws IllegalArgumentException when a line is not a step
    public static String replay(List<String> lines) {
        var steps = FuzzStep.parse(lines);
        return onVirtualThread(() -> new Shrinker(machine -> { }).replay(steps, 1));
    }
}
