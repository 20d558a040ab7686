package cloister.cli;

import cloister.kvm.Defect;
import cloister.tdx.ModuleFuzz;
import cloister.vmm.GuestFuzz;
import cloister.vmm.MmuFuzz;
import cloister.vmm.VmType;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import picocli.CommandLine.Command;
import picocli.CommandLine.Option;

/// `cloister fuzz`: fuzzers of parts of the platform.
@Command(name = "fuzz", mixinStandardHelpOptions = true, description = "Run a part of the platform against random input.")
final class FuzzCommand {
    private static final long PROGRESS = 100_000;
    private static final int DEFECT = ExitCode.DIFFERENCE.code();

    /// `cloister fuzz module`.
    @Command(name = "module", mixinStandardHelpOptions = true,
            description = "Drive random SEAMCALLs and TDCALLs from several processors and check the TDX module's invariants.")
    int module(
            @Option(names = "--seed", paramLabel = "N", defaultValue = "1",
                    description = "The run's seed; one seed gives one run (default ${DEFAULT-VALUE}).") long seed,
            @Option(names = "--calls", paramLabel = "M", defaultValue = "1000000",
                    description = "How many calls to make (default ${DEFAULT-VALUE}).") long calls,
            @Option(names = "--replay", paramLabel = "FILE", description = "Replay the calls in a file instead.") Path replay,
            @Option(names = "--coverage", description = "Print how often each function ended with each status.")
            boolean coverage,
            @Option(names = "--out", paramLabel = "FILE", defaultValue = "fuzz-finding.txt",
                    description = "Where a finding's shrunk calls go (default ${DEFAULT-VALUE}).") Path out) {
        if (calls < 1) {
            System.err.println("cloister: --calls " + calls + ": choose 1 or more.");
            return ExitCode.USAGE.code();
        }
        try {
            return replay != null ? replay(replay) : run(seed, calls, coverage, out);
        } catch (IOException e) {
            System.err.println("cloister: cannot use the file " + e.getMessage() + ": choose another --out or --replay.");
            return ExitCode.USAGE.code();
        } catch (IllegalArgumentException e) {
            System.err.println("cloister: " + replay + " is not a sequence of calls (" + e.getMessage() + ").");
            return ExitCode.DATA.code();
        }
    }

    /// `cloister fuzz guest`.
    @Command(name = "guest", mixinStandardHelpOptions = true,
            description = "Run random programs in trust domains and ordinary VMs and check that nothing breaks.")
    int guest(
            @Option(names = "--seed", paramLabel = "N", defaultValue = "1",
                    description = "The run's seed; one seed gives one run (default ${DEFAULT-VALUE}).") long seed,
            @Option(names = "--programs", paramLabel = "M", defaultValue = "20000",
                    description = "How many programs to run (default ${DEFAULT-VALUE}).") long programs,
            @Option(names = "--vm-type", paramLabel = "TYPE",
                    description = "tdx or default (an ordinary VM) for all of them; else half of them each.") VmType vmType,
            @Option(names = "--replay", paramLabel = "FILE", description = "Run the program in a file instead.") Path replay,
            @Option(names = "--out", paramLabel = "FILE", defaultValue = "fuzz-program.txt",
                    description = "Where the shrunk program of a finding goes (default ${DEFAULT-VALUE}).") Path out) {
        if (programs < 1) {
            System.err.println("cloister: --programs must be at least 1.");
            return ExitCode.USAGE.code();
        }
        try {
            return replay != null ? replayGuest(replay) : runGuests(seed, programs, vmType, out);
        } catch (IOException e) {
            System.err.println("cloister: cannot use the file " + e.getMessage() + ": choose another --out or --replay.");
            return ExitCode.USAGE.code();
        } catch (IllegalArgumentException e) {
            System.err.println("cloister: " + replay + " is not a program (" + e.getMessage() + ").");
            return ExitCode.DATA.code();
        }
    }

    private static int replayGuest(Path file) throws IOException {
        String broken = GuestFuzz.replay(InputFile.lines(file));
        System.out.println(broken == null ? "Nothing is broken." : "Broken: " + broken);
        return broken == null ? ExitCode.SUCCESS.code() : DEFECT;
    }

    private static int runGuests(long seed, long programs, VmType vmType, Path out) throws IOException {
        var fuzz = new GuestFuzz(seed);
        long start = System.nanoTime();
        var finding = fuzz.run(programs, vmType, done -> System.out.printf(Locale.ROOT, "%d programs, %.0f per second%n", done,
                done / ((System.nanoTime() - start) / 1e9)));
        fuzz.outcomes().forEach((outcome, count) -> System.out.printf(Locale.ROOT, "  %-16s %d%n", outcome, count));
        if (finding == null) {
            System.out.printf(Locale.ROOT, "Seed %d, %d programs: nothing broke.%n", seed, programs);
            return ExitCode.SUCCESS.code();
        }
        List<String> lines = new ArrayList<>(List.of("# seed " + seed + ", program " + finding.number(),
                "# " + finding.message().lines().findFirst().orElse("")));
        lines.addAll(finding.program());
        Files.write(out, lines);
        System.out.printf(Locale.ROOT, "Seed %d, program %d: %s%nThe program: %s (cloister fuzz guest --replay %s)%n", seed,
                finding.number(), finding.message(), out, out);
        if (!finding.alone()) {
            System.out.printf(Locale.ROOT, "It breaks nothing on a host of its own: cloister fuzz guest --seed %d --programs %d%s%n", seed,
                    finding.number() + 1, vmType == null ? "" : " --vm-type " + vmType);
        }
        return DEFECT;
    }

    private static int replay(Path file) throws IOException {
        var lines = InputFile.lines(file);
        if (lines.stream().allMatch(line -> line.isBlank() || line.startsWith("#"))) {
            throw new IllegalArgumentException("it has no call");
        }
        var broken = ModuleFuzz.replay(lines);
        System.out.println(broken == null ? "Nothing is broken." : "Broken: " + broken);
        return broken == null ? ExitCode.SUCCESS.code() : DEFECT;
    }

    private static int run(long seed, long calls, boolean coverage, Path out) throws IOException {
        var fuzz = new ModuleFuzz(seed);
        long start = System.nanoTime();
        long[] next = {PROGRESS};
        var finding = fuzz.run(calls, done -> {
            if (done >= next[0]) {
                System.out.printf(Locale.ROOT, "%d calls, %.0f per second%n", done, done / ((System.nanoTime() - start) / 1e9));
                next[0] = done + PROGRESS;
            }
        });
        if (coverage) {
            System.out.print(fuzz.coverage());
        }
        if (finding == null) {
            System.out.printf(Locale.ROOT, "Seed %d, %d calls: every invariant held.%n", seed, calls);
            return ExitCode.SUCCESS.code();
        }
        List<String> lines = new ArrayList<>(List.of("# seed " + seed + ", call " + finding.call(), "# " + finding.message()));
        lines.addAll(finding.sequence());
        Files.write(out, lines);
        System.out.printf(Locale.ROOT, "Seed %d, call %d: %s%n%d lines that show it: %s (cloister fuzz module --replay %s)%n", seed,
                finding.call(), finding.message(), finding.sequence().size(), out, out);
        return DEFECT;
    }

    /// `cloister fuzz mmu`.
    @Command(name = "mmu", mixinStandardHelpOptions = true,
            description = "Change the memory of VMs and TDs at random while their guests use it, and compare what they see with a model.")
    int mmu(
            @Option(names = "--seed", paramLabel = "N", defaultValue = "1",
                    description = "The run's seed; one seed gives one run (default ${DEFAULT-VALUE}).") long seed,
            @Option(names = "--ops", paramLabel = "M", defaultValue = "1000000",
                    description = "How many operations to carry out (default ${DEFAULT-VALUE}).") long operations,
            @Option(names = "--replay", paramLabel = "FILE", description = "Replay the operations in a file instead.") Path replay,
            @Option(names = "--plant", paramLabel = "DEFECT",
                    description = "What KVM is to do wrong, to see it found: ${COMPLETION-CANDIDATES}.") Set<Defect> defects,
            @Option(names = "--coverage", description = "Print how often each operation ended how.") boolean coverage,
            @Option(names = "--out", paramLabel = "FILE", defaultValue = "fuzz-finding.txt",
                    description = "Where a finding's shrunk operations go (default ${DEFAULT-VALUE}).") Path out) {
        if (operations < 1) {
            System.err.println("cloister: --ops " + operations + ": choose 1 or more.");
            return ExitCode.USAGE.code();
        }
        Set<Defect> planted = defects == null ? Set.of() : defects;
        try {
            return replay != null ? replayMmu(replay, planted) : runMmu(new MmuFuzz(seed, planted), seed, operations, coverage, out);
        } catch (IOException e) {
            System.err.println("cloister: cannot use the file " + e.getMessage() + ": choose another --out or --replay.");
            return ExitCode.USAGE.code();
        } catch (IllegalArgumentException | IndexOutOfBoundsException e) {
            System.err.println("cloister: " + replay + " is not a sequence of operations (" + e.getMessage() + ").");
            return ExitCode.DATA.code();
        }
    }

    private static int replayMmu(Path file, Set<Defect> defects) throws IOException {
        var broken = MmuFuzz.replay(InputFile.lines(file), defects);
        System.out.println(broken == null ? "Nothing is broken." : "Broken: " + broken);
        return broken == null ? ExitCode.SUCCESS.code() : DEFECT;
    }

    private static int runMmu(MmuFuzz fuzz, long seed, long operations, boolean coverage, Path out) throws IOException {
        long start = System.nanoTime();
        long[] next = {PROGRESS};
        var finding = fuzz.run(operations, done -> {
            if (done >= next[0]) {
                System.out.printf(Locale.ROOT, "%d operations, %.0f per second%n", done, done / ((System.nanoTime() - start) / 1e9));
                next[0] = done + PROGRESS;
            }
        });
        if (coverage) {
            System.out.print(fuzz.coverage());
        }
        if (finding == null) {
            System.out.printf(Locale.ROOT, "Seed %d, %d operations: guests saw what the model says.%n", seed, operations);
            return ExitCode.SUCCESS.code();
        }
        List<String> lines = new ArrayList<>(List.of("# seed " + seed + ", operation " + finding.operation(),
                "# " + finding.message()));
        lines.addAll(finding.sequence());
        Files.write(out, lines);
        System.out.printf(Locale.ROOT, "Seed %d, operation %d: %s%n%d lines that show it: %s (cloister fuzz mmu --replay %s)%n", seed,
                finding.operation(), finding.message(), finding.sequence().size(), out, out);
        return DEFECT;
    }
}
