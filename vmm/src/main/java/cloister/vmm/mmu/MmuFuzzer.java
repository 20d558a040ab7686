package cloister.vmm.mmu;

import cloister.kvm.Defect;
import cloister.sim.Entropy;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.LongConsumer;

/// Plays random sequences, each on a new machine and with a seed of its own, until one contradicts the model; makes that one short.
public final class MmuFuzzer {
    private static final int SEQUENCE = 4000;
    private static final int LONG_REPLAYS = 60;
    private static final int MAX_REPLAYS = 1500;

    private final long seed;
    private final TdStart start;
    private final Set<Defect> defects;
    private final MmuCoverage coverage = new MmuCoverage();
    private int replays;
    /// The kind of finding that is being made short.
    private String sought;

    /// What contradicts the model.
    ///
    /// @param step     the number of the step in the run, from 1
    /// @param sequence the steps that show it, shrunk
    public record Found(long step, String message, List<String> sequence) {
    }

    /// @param start   how TDs are initialised
    /// @param defects what KVM does wrong
    public MmuFuzzer(long seed, TdStart start, Set<Defect> defects) {
        this.seed = seed;
        this.start = start;
        this.defects = Set.copyOf(defects);
    }

    /// Carries out `wanted` steps.
    ///
    /// @return the first finding, or null
    public Found run(long wanted, LongConsumer progress) {
        long done = 0;
        for (int sequence = 0; done < wanted; sequence++) {
            var random = new Entropy(seed).stream("mmu " + sequence);
            var machine = MmuGenerator.machine(random);
            var generator = new MmuGenerator(random, machine);
            var steps = new ArrayList<MmuStep>(List.of(machine));
            int length = (int) Math.min(SEQUENCE, wanted - done);
            try {
                MmuRun.play(machine, model -> {
                    if (steps.size() > length) {
                        return null;
                    }
                    steps.add(generator.next(model));
                    return steps.getLast();
                }, start, defects, coverage);
            } catch (MmuFinding finding) {
                return shrink(steps, finding, done + steps.size() - 1);
            }
            done += steps.size() - 1;
            progress.accept(done);
        }
        return null;
    }

    /// How often each operation ended how.
    public String coverage() {
        return coverage.toString();
    }

    /// What was seen at least once.
    public Set<String> seen() {
        return coverage.seen();
    }

    /// Replays a sequence.
    ///
    /// @return what it contradicts, or null
    /// @throws IllegalArgumentException when a line is not a step
    public static String replay(List<String> lines, TdStart start, Set<Defect> defects) {
        return play(MmuStep.parse(lines), start, defects);
    }

    private static String play(List<MmuStep> steps, TdStart start, Set<Defect> defects) {
        var rest = steps.listIterator(1);
        try {
            MmuRun.play(steps.getFirst(), model -> rest.hasNext() ? rest.next() : null, start, defects, new MmuCoverage());
            return null;
        } catch (MmuFinding finding) {
            return finding.getMessage();
        }
    }

    // --- making a sequence short

    private String tried(List<MmuStep> steps) {
        replays++;
        return play(steps, start, defects);
    }

    /// The first word: what looked, or what was done. A shorter sequence that shows something else is another matter.
    private static String kind(String message) {
        return message.substring(0, (message + " ").indexOf(' '));
    }

    private boolean shows(List<MmuStep> steps) {
        var message = tried(steps);
        return message != null && kind(message).equals(sought);
    }

    private Found shrink(List<MmuStep> steps, MmuFinding first, long step) {
        List<MmuStep> kept = new ArrayList<>(steps);
        String message = tried(kept);
        if (message == null) {
            return new Found(step, first.getMessage() + " (not when replayed)", lines(kept));
        }
        sought = kind(message);
        kept = lastSteps(kept);
        if (message.startsWith(StepWalk.NO_END)) {
            replays = MAX_REPLAYS - LONG_REPLAYS; // each waits long for an end
        }
        for (int chunk = kept.size() / 2; chunk >= 1 && replays < MAX_REPLAYS; chunk /= 2) {
            for (int from = kept.size() - chunk; from >= 1 && replays < MAX_REPLAYS; from -= chunk) {
                var fewer = new ArrayList<>(kept.subList(0, from));
                fewer.addAll(kept.subList(Math.min(kept.size(), from + chunk), kept.size()));
                kept = shows(fewer) ? fewer : kept;
            }
        }
        for (int i = 1; i < kept.size(); i++) {
            for (var access : kept.get(i).meanwhile()) {
                var fewer = new ArrayList<>(kept);
                fewer.set(i, kept.get(i).without(access));
                kept = replays < MAX_REPLAYS && shows(fewer) ? fewer : kept;
            }
        }
        return new Found(step, tried(kept), lines(kept));
    }

    /// The machine and as few of the last steps as show it, in powers of two.
    private List<MmuStep> lastSteps(List<MmuStep> steps) {
        for (int count = 8; count < steps.size() - 1; count *= 2) {
            var last = new ArrayList<>(List.of(steps.getFirst()));
            last.addAll(steps.subList(steps.size() - count, steps.size()));
            if (shows(last)) {
                return last;
            }
        }
        return steps;
    }

    private static List<String> lines(List<MmuStep> steps) {
        return steps.stream().map(MmuStep::toString).toList();
    }
}
