package cloister.tdx.fuzz;

import cloister.memory.Poison;
import cloister.sim.Entropy;
import cloister.spec.tdx.SeamRegs;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Consumer;

/// One sequence on one machine.
final class FuzzRun implements AutoCloseable {
    private static final int SWEEP_INTERVAL = 250;
    private static final int INSPECTION_INTERVAL = 997;
    /// When a sequence nears its end, memory may be destroyed.
    private static final int LAST_STEPS = 150;

    final FuzzMachine machine;
    final FuzzChecker checker;
    private final FuzzGenerator generator;
    private final Entropy random;
    private final boolean wild;
    private final Consumer<FuzzMachine> saboteur;
    private int sinceSweep;
    private int busyChecks;
    private Set<FuzzStep> failures = new HashSet<>();

    /// @param random source of new steps, or null to replay
    /// @param wild   whether new steps fuzz the bring-up, too
    FuzzRun(FuzzPlatform platform, FuzzCoverage coverage, Entropy random, boolean wild, Consumer<FuzzMachine> saboteur) {
        this.machine = new FuzzMachine(platform, coverage);
        this.checker = new FuzzChecker(machine);
        this.random = random;
        this.wild = wild;
        this.generator = random == null ? null : new FuzzGenerator(machine, checker, random, wild);
        this.saboteur = saboteur;
        machine.watch(this::completed);
    }

    /// The platform that a sequence asks for.
    static FuzzPlatform platformOf(List<FuzzStep> steps) {
        for (var step : steps) {
            if (step.kind == FuzzStep.Kind.PLATFORM) {
                return new FuzzPlatform(step.operands[0] == 2 ? 2 : 1, step.operands[1]);
            }
        }
        return FuzzPlatform.USUAL;
    }

    /// From now on collects the SEAMCALLs that fail.
    void noteFailures(Set<FuzzStep> into) {
        failures = into;
    }

    private void completed(FuzzStep step) {
        checker.completed(step);
        if (step.kind == FuzzStep.Kind.CALL && machine.registers(step.lp).get(SeamRegs.RAX) < 0) {
            failures.add(step);
        }
        if (generator != null) {
            generator.completed(step);
        }
    }

    /// Invents steps and executes them, until there are `count` or the machine cannot go on.
    void generate(List<FuzzStep> steps, int count) {
        while (steps.size() < count && !machine.ended) {
            FuzzStep step;
            try {
                step = wild && random.nextInt(LAST_STEPS) == 0 && steps.size() > count - LAST_STEPS ? generator.corruption()
                        : generator.next();
            } catch (Poison destroyed) {
                break; // the generator cannot look at the module any more
            }
            steps.add(step);
            execute(step, SWEEP_INTERVAL);
        }
        finish();
    }

    void replay(List<FuzzStep> sequence, int sweepInterval) {
        for (var step : sequence) {
            execute(step, sweepInterval);
        }
        if (random == null) {
            finish();
        }
    }

    /// Lets every call come to its end.
    private void finish() {
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            execute(new FuzzStep(lp, FuzzStep.Kind.RUN), Integer.MAX_VALUE);
        }
        if (machine.ended) {
            return;
        }
        check(0);
        inspect();
    }

    /// People may look at the module at any time.
    private void inspect() {
        try {
            machine.core.inspect();
        } catch (RuntimeException e) {
            throw new FuzzFinding("the module cannot be inspected: " + e, e);
        }
    }

    private void execute(FuzzStep step, int sweepInterval) {
        checker.begin(step);
        machine.execute(step);
        if (machine.ended) {
            return;
        }
        saboteur.accept(machine);
        try {
            check(sweepInterval);
        } catch (Poison poison) {
            throw new FuzzFinding("a structure of the module is destroyed: " + poison.getMessage(), poison);
        }
    }

    private void check(int sweepInterval) {
        if (machine.corrupted) {
            return;
        }
        sinceSweep++;
        if (!machine.quiet()) {
            checker.always();
            if (++busyChecks % INSPECTION_INTERVAL == 0) {
                inspect();
            }
            return;
        }
        checker.quick();
        if (sinceSweep >= sweepInterval) {
            sinceSweep = 0;
            checker.sweep();
        }
    }

    @Override public void close() {
        machine.close();
    }
}
