package cloister.cli;

import cloister.cli.guest.FetchFailure;
import cloister.cli.guest.GuestCache;
import cloister.devices.ByteSink;
import cloister.sim.Scheduler.IdlePace;
import cloister.vmm.ExecChannel;
import cloister.vmm.Initramfs;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.Outcome;
import cloister.vmm.UserError;
import cloister.vmm.VmType;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParentCommand;

/// `cloister run`: boots a guest.
@Command(name = "run", mixinStandardHelpOptions = true, sortOptions = false,
        description = {"Boot a guest, by default Debian's cloud kernel with a busybox shell as a trust domain.",
            "Keys: Ctrl-A x leaves, Ctrl-A d writes a dump (see --dump-file), Ctrl-A Ctrl-A sends a Ctrl-A."},
        exitCodeListHeading = "%nExit codes:%n",
        exitCodeList = {"0:the guest powered off (with --exec: the command's code)", "64:wrong option", "65:broken input file",
            "69:JDK, network or mirror missing", "70:internal error", "80:guest panic", "81:triple fault", "82:guest waits for ever",
            "83:guest reset", "84:feature missing in Cloister", "85:private pages not reclaimed", "86:--exec without result",
            "87:the trust domain used memory wrongly", "124:time-out", "130:left with Ctrl-A x"})
sealed class RunCommand implements Callable<Integer> permits ProfileCommand {
    /// What every run gets, so that a panic ends the run and the console is ours. The crypto self-tests cost a billion
    /// instructions and prove nothing here.
    private static final String COMMAND_LINE = "console=ttyS0 panic=-1 cryptomgr.notests";

    @ParentCommand
    private Main main;

    @Option(names = {"--kernel", "-kernel"}, paramLabel = "FILE", description = "A Linux bzImage instead of the fetched one.")
    private Path kernel;

    @Option(names = {"--initrd", "-initrd"}, paramLabel = "FILE", description = "An initial RAM file system instead of busybox's.")
    private Path initrd;

    @Option(names = {"--append", "-append"}, paramLabel = "TEXT", description = "Added to the kernel's command line.")
    private String append = "";

    @Option(names = {"--memory", "-m"}, paramLabel = "SIZE", converter = MemorySize.class, defaultValue = "512M",
            description = "Guest memory, such as 512M or 2.5G. Default: ${DEFAULT-VALUE}.")
    private long memory;

    @Option(names = {"--cpus", "-smp"}, paramLabel = "N", defaultValue = "1", description = "vCPUs. Default: ${DEFAULT-VALUE}.")
    private int cpus;

    @Option(names = "--vm-type", paramLabel = "TYPE", defaultValue = "tdx",
            description = "tdx (a trust domain) or default (an ordinary VM). Default: ${DEFAULT-VALUE}.")
    private VmType vmType;

    @Option(names = "--seed", paramLabel = "N", defaultValue = "0",
            description = "Seed of every random number; same seed, same run. Default: ${DEFAULT-VALUE}.")
    private long seed;

    @Option(names = "--exec", paramLabel = "COMMAND",
            description = "Run one shell command in the guest, print its output, return its exit code.")
    private String exec;

    @Option(names = "--timeout", paramLabel = "SECONDS", description = "End the run after so much wall time.")
    private Integer timeout;

    @Mixin
    private ObserveOptions observe;

    @Option(names = "--offline", description = "Fetch nothing: the guest has to be in the cache.")
    private boolean offline;

    /// With `--exec`: the guest's console on standard error.
    private boolean verbose;

    private volatile boolean quit;

    @Override public Integer call() throws FetchFailure {
        verbose = main.verbose();
        try {
            checkOptions();
            return run();
        } catch (UserError e) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return e.exitCode();
        }
    }

    /// What looks at the run.
    final ObserveOptions observe() {
        return observe;
    }

    /// Everything that can be known to be wrong before a guest is fetched.
    private void checkOptions() {
        new MachineConfig().memoryBytes(memory).cpus(cpus).checkSizes();
        checkFile(kernel, "--kernel");
        checkFile(initrd, "--initrd");
        if (exec != null && initrd != null) {
            throw UserError.usage("--exec needs the busybox guest: leave out --initrd");
        }
        if (timeout != null && timeout < 1) {
            throw UserError.usage("--timeout " + timeout + " is no time: choose 1 second or more");
        }
        observe.check();
    }

    private static void checkFile(Path file, String what) {
        if (file != null && !Files.exists(file)) {
            throw UserError.badInput(what + ": there is no file " + file + ": check the path");
        }
    }

    private int run() throws FetchFailure {
        var stdout = new PrintStream(new BufferedOutputStream(new FileOutputStream(FileDescriptor.out), 8192), false);
        var commandOutput = new ExecChannel(octet -> stdout.write(octet));
        ByteSink screen = exec == null ? flushingAtLineEnd(stdout) : verbose ? System.err::write : octet -> { };
        var tail = new ConsoleTail(screen);
        try (var terminal = exec == null ? Terminal.raw() : null;
                var tracer = observe.tracer()) {
            var config = observe.applyTo(config(), tracer).console(tail).secondSerial(commandOutput)
                    .interactive(exec == null).pace(terminal != null && terminal.interactive()
                            ? IdlePace.REAL_TIME : IdlePace.SKIP);
            try (var machine = new Machine(config)) {
                if (terminal != null) {
                    terminal.forward(key -> machine.consoleInput(new byte[] {(byte) key}), () -> {
                        quit = true;
                        machine.requestStop();
                    }, () -> machine.inspectSoon(observe::dump));
                }
                observe.before(machine);
                var done = new CountDownLatch(1);
                startTimer(machine, done);
                var outcome = machine.run();
                done.countDown();
                stdout.flush();
                observe.afterRun(machine);
                boolean torn = outcome instanceof Outcome.PowerOff || outcome instanceof Outcome.Reset;
                long leaked = torn ? machine.tearDown() : 0;
                observe.atEnd(machine.stats(), torn);
                if (leaked != 0) {
                    return ended(ExitCode.LEAK, leaked + " private pages could not be reclaimed", tail);
                }
                return report(outcome, tail, commandOutput);
            }
        } finally {
            stdout.flush();
        }
    }

    private MachineConfig config() throws FetchFailure {
        GuestCache.Guest guest = null;
        if (kernel == null || exec != null) {
            guest = GuestCache.ofUser().guest(offline, new Progress());
        }
        var image = kernel != null ? kernel : guest.kernel();
        observe.kernel(image);
        List<MemorySegment> ramDisk = List.of();
        if (initrd != null) {
            ramDisk = List.of(InputFile.mapInitrd(initrd));
        } else if (guest != null) {
            var packed = new Initramfs(InputFile.map(guest.busybox(), "busybox").toArray(ValueLayout.JAVA_BYTE));
            ramDisk = List.of(MemorySegment.ofArray((exec == null ? packed : packed.command(exec)).pack()));
        }
        String line = append.isBlank() ? COMMAND_LINE : COMMAND_LINE + " " + append;
        return new MachineConfig().vmType(vmType).kernel(InputFile.map(image, "--kernel"), image.toString()).initrd(ramDisk)
                .commandLine(line).memoryBytes(memory).cpus(cpus).seed(seed);
    }

    private static ByteSink flushingAtLineEnd(PrintStream out) {
        return octet -> {
            out.write(octet);
            // A prompt has no line end: printable characters after a pause show at the next flush of the input echo.
            out.flush();
        };
    }

    private void startTimer(Machine machine, CountDownLatch done) {
        if (timeout != null) {
            Thread.ofPlatform().daemon().name("timeout").start(() -> {
                try {
                    if (!done.await(timeout, TimeUnit.SECONDS)) {
                        machine.requestStop();
                    }
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            });
        }
    }

    private int report(Outcome outcome, ConsoleTail tail, ExecChannel commandOutput) {
        if (tail.panic() != null && !(outcome instanceof Outcome.TimedOut)) {
            return ended(ExitCode.GUEST_PANIC, "the guest panicked: " + tail.panic(), tail);
        }
        return switch (outcome) {
            case Outcome.PowerOff() -> poweredOff(tail, commandOutput);
            case Outcome.Reset(var mechanism) -> ended(ExitCode.RESET, "the guest asked for a reset (" + mechanism + ")", tail);
            case Outcome.GuestPanic(var message) -> ended(ExitCode.GUEST_PANIC, "the guest panicked: " + message, tail);
            case Outcome.TripleFault(var detail) -> ended(ExitCode.TRIPLE_FAULT, "triple fault: " + detail, tail);
            case Outcome.GuestFault(var message) -> ended(ExitCode.GUEST_FAULT, message, tail);
            case Outcome.TimedOut() when quit -> ExitCode.QUIT.code();
            case Outcome.TimedOut() -> ended(ExitCode.TIMEOUT, "the guest was still running after " + timeout
                    + " s: raise --timeout, or see where it hangs", tail);
            case Outcome.Stalled() -> ended(ExitCode.STALLED, "every vCPU waits and nothing can wake one", tail);
            case Outcome.MissingFeature(var text) -> ended(ExitCode.UNSUPPORTED, text, tail);
            case Outcome.InternalError(var text) -> ended(ExitCode.INTERNAL, text, tail);
        };
    }

    private int poweredOff(ConsoleTail tail, ExecChannel commandOutput) {
        if (exec == null) {
            return ExitCode.SUCCESS.code();
        }
        var status = commandOutput.exitStatus();
        return status.isPresent() ? status.getAsInt()
                : ended(ExitCode.NO_RESULT, "the guest powered off without running the command to its end", tail);
    }

    private int ended(ExitCode code, String message, ConsoleTail tail) {
        if (exec != null && !verbose) {
            tail.show();
        }
        System.err.println("cloister: " + message);
        return code.code();
    }
}
