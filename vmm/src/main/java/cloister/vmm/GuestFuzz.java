package cloister.vmm;

import cloister.vmm.fuzz.GuestProgram;
import cloister.vmm.fuzz.GuestProgram.Start;
import cloister.vmm.fuzz.ProgramGenerator;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.function.LongConsumer;
import java.util.function.LongSupplier;

/// The fuzzer of guest programs: random programs in trust domains and ordinary VMs, on one host after the other. Whatever a
/// program does, the run ends with a reason that is the guest's: no exception and no internal error, no hang, no feature that is missing
/// without a name; the host's memory is unchanged; the TDX module gives every page back.
public final class GuestFuzz {
    /// A host serves so many programs.
    private static final int PROGRAMS_PER_HOST = 2_000;
    /// A program that takes longer hangs.
    private static final long HANG_NANOS = 60_000_000_000L;
    private static final String HANG = "hangs";
    private static final int SHRINKING_LIMIT = 400;

    /// A program that broke something.
    ///
    /// @param number  which program of the run, from 0
    /// @param message what broke, in many lines
    /// @param program the shrunk program, for [#replay]
    /// @param alone   whether the program breaks something without those that ran before it on its host; else it is not shrunk
    public record Finding(long number, String message, List<String> program, boolean alone) {
    }

    private final ProgramGenerator.Pools pools = new ProgramGenerator.Pools();
    private final Map<String, Long> outcomes = new TreeMap<>();
    private final long seed;

    /// @param seed one seed, one sequence of programs
    public GuestFuzz(long seed) {
        this.seed = seed;
    }

    /// How often programs ended in each way.
    public Map<String, Long> outcomes() {
        return outcomes;
    }

    /// Runs programs until one breaks something.
    ///
    /// @param programs how many
    /// @param vmType   of all; null: half of them each
    /// @param progress is told how many have run, now and then
    /// @return what broke first, or null
    public Finding run(long programs, VmType vmType, LongConsumer progress) {
        for (long done = 0; done < programs;) {
            var batch = new Batch(done, Math.min(programs - done, PROGRAMS_PER_HOST), vmType);
            batch.run();
            if (batch.broken != null) {
                return finding(batch, program(batch.number, vmType));
            }
            done += batch.count;
            progress.accept(done);
        }
        return null;
    }

    private static Finding finding(Batch batch, GuestProgram whole) {
        boolean hangs = batch.broken.startsWith(HANG);
        boolean alone = hangs || replay(whole) != null;
        return new Finding(batch.number, batch.broken, (hangs || !alone ? whole : shrunk(whole)).lines(), alone);
    }

    /// Runs the program in `lines` on a host of its own.
    ///
    /// @return what it broke, or null
    /// @throws IllegalArgumentException when the lines are no program
    public static String replay(List<String> lines) {
        return replay(GuestProgram.parse(lines));
    }

    private static String replay(GuestProgram program) {
        long startedNanos = System.nanoTime();
        var host = FuzzedMachine.host();
        String[] broken = new String[1];
        boolean ended = watched(host, () -> startedNanos, () -> {
            try {
                onHost(host, () -> {
                    var machine = new FuzzedMachine(host);
                    broken[0] = machine.run(program).broken();
                    if (broken[0] == null) { // what the first left behind may break the second
                        broken[0] = machine.run(program).broken();
                    }
                });
            } catch (RuntimeException | Error e) {
                broken[0] = Failures.withStack(e);
            }
        });
        return ended ? broken[0] : hanging();
    }

    /// Runs `body`, which uses `host`, on a thread of its own, until it ends or has begun nothing new for [#HANG_NANOS]. What hangs cannot
    /// be ended: the host is left to it.
    ///
    /// @param startedNanos when the last program began
    /// @return whether it ended
    private static boolean watched(Host host, LongSupplier startedNanos, Runnable body) {
        var runner = Thread.ofPlatform().daemon().name("guest fuzz").start(body);
        try {
            while (!runner.join(Duration.ofSeconds(1))) {
                if (System.nanoTime() - startedNanos.getAsLong() > HANG_NANOS) {
                    return false;
                }
            }
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        host.close();
        return true;
    }

    /// What hangs, and where.
    private static String hanging() {
        var text = new StringBuilder(HANG + " for " + HANG_NANOS / 1_000_000_000 + " s:\n");
        Thread.getAllStackTraces().forEach((thread, stack) -> {
            if (thread.getName().equals("fuzz")) {
                for (var element : stack) {
                    text.append("  at ").append(element).append('\n');
                }
            }
        });
        return text.toString();
    }

    private static void onHost(Host host, Runnable body) {
        host.scheduler().spawn("fuzz", body);
        host.scheduler().run();
    }

    GuestProgram program(long number, VmType vmType) {
        long own = new SplittableRandom(seed * 0x9e3779b97f4a7c15L + number).nextLong();
        return ProgramGenerator.program(own, start(number, vmType), pools);
    }

    private static Start start(long number, VmType vmType) {
        if (vmType == VmType.TDX || (vmType == null && number % 2 == 0)) {
            return number / 2 % 2 == 0 ? Start.TD : Start.TD_VE;
        }
        return switch ((int) (number / 2 % 8)) {
            case 0, 1 -> Start.PROTECTED;
            case 2 -> Start.REAL;
            default -> Start.LONG;
        };
    }

    /// Leaves out pieces as long as something breaks.
    private static GuestProgram shrunk(GuestProgram whole) {
        var program = whole;
        int tries = 0;
        for (boolean smaller = true; smaller && tries < SHRINKING_LIMIT;) {
            smaller = false;
            for (int n = program.pieces().size() - 1; n >= 0; n--) {
                var without = program.without(n);
                tries++;
                if (replay(without) != null) {
                    program = without;
                    smaller = true;
                }
            }
        }
        return program;
    }

    /// Programs that run on one host.
    private final class Batch {
        private final long first;
        private final long count;
        private final VmType vmType;
        private volatile long number;
        private volatile long startedNanos;
        private volatile String broken;

        Batch(long first, long count, VmType vmType) {
            this.first = first;
            this.count = count;
            this.vmType = vmType;
        }

        void run() {
            startedNanos = System.nanoTime();
            number = first;
            var host = FuzzedMachine.host();
            if (!watched(host, () -> startedNanos, () -> runOn(host))) {
                broken = hanging();
            }
        }

        private void runOn(Host host) {
            try {
                onHost(host, () -> runAll(new FuzzedMachine(host)));
            } catch (RuntimeException | Error e) {
                broken = Failures.withStack(e);
            }
        }

        private void runAll(FuzzedMachine machine) {
            for (long n = first; n < first + count && broken == null; n++) {
                number = n;
                startedNanos = System.nanoTime();
                var verdict = machine.run(program(n, vmType));
                outcomes.merge(verdict.outcome().getClass().getSimpleName(), 1L, Long::sum);
                broken = verdict.broken();
            }
        }
    }
}
