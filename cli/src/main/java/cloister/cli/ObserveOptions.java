package cloister.cli;

import cloister.cli.trace.TraceBound;
import cloister.cli.trace.TraceFilter;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.MachineStats;
import cloister.vmm.ProfileSink;
import cloister.vmm.UserError;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import picocli.CommandLine.Option;

/// The options that look at a run, and what they do before, in and after it. None of them changes the run.
final class ObserveOptions {
    private static final int MAX_DUMP_SECONDS = 1_000_000;

    /// How `--stats` prints.
    enum StatsFormat { text, json }

    /// What the times of a Perfetto trace are.
    enum TraceClock { virtual, host }

    @Option(names = "--trace", paramLabel = "KIND[:NAME],...", split = ",", hideParamSyntax = true,
            description = "Trace events of these kinds: seamcall, tdcall, vmcall (TDVMCALLs), exits, sept (TDH.MEM.*), lock, sched, "
                    + "console, user (KVM_RUN). A name chooses of a kind: seamcall:MEM.PAGE.AUG, vmcall:MAP_GPA, seamcall:MEM.*.")
    private List<String> trace = List.of();

    @Option(names = "--trace-out", paramLabel = "FILE",
            description = "Where the trace goes. FILE.jsonl is JSON lines, FILE.pftrace is for ui.perfetto.dev, other names text. "
                    + "Default: text on standard error.")
    private Path traceOut;

    @Option(names = "--trace-from", paramLabel = "WHERE",
            description = "Begin the trace at a virtual time (1.5, 20ms, 3us), at the console line that contains TEXT (line:TEXT), or at "
                    + "the Nth of the events (event:N).")
    private String traceFrom;

    @Option(names = "--trace-until", paramLabel = "WHERE",
            description = "End the trace there; event:N counts the events written.")
    private String traceUntil;

    @Option(names = "--trace-clock", paramLabel = "CLOCK", defaultValue = "virtual",
            description = "Times of a FILE.pftrace: virtual (the guest's time, in which SEAMCALLs take none) or host (this machine's). "
                    + "Default: ${DEFAULT-VALUE}.")
    private TraceClock traceClock = TraceClock.virtual;

    @Option(names = "--stats", description = "Say what the run cost, on standard error.")
    private boolean stats;

    @Option(names = "--stats-format", paramLabel = "FORMAT",
            description = "Print --stats as text or as json (docs/stats.schema.json). Default: text.")
    private StatsFormat statsFormat;

    @Option(names = "--stats-out", paramLabel = "FILE", description = "Write --stats to a file.")
    private Path statsOut;

    @Option(names = "--dump-on-exit", paramLabel = "FILE",
            description = "When the guest has ended, write what the TDX module knows (TD and VP fields, Secure EPT, PAMT, KeyIDs), "
                    + "and with which memory types the guest uses memory. FILE.json is JSON (for 'cloister inspect'), other names text.")
    private Path dumpOnExit;

    @Option(names = "--dump-at", paramLabel = "SECONDS",
            description = "Write such a dump to --dump-file when the guest's virtual time is there, and go on.")
    private Double dumpAt;

    @Option(names = "--dump-file", paramLabel = "FILE", defaultValue = "cloister-dump.json",
            description = "Where --dump-at and Ctrl-A d write. Default: ${DEFAULT-VALUE}.")
    private Path dumpFile = Path.of("cloister-dump.json");

    private final List<TraceFilter> filters = new ArrayList<>();
    private TraceBound from;
    private TraceBound until;
    private long period;
    private ProfileSink profile;
    private Consumer<MemorySegment> profileEnd;
    private MemorySegment kernel;
    private volatile boolean unwritten;

    /// Samples the run as well.
    ///
    /// @param every instructions between two samples
    /// @param sink  takes them
    /// @param end   called with the kernel's image when all is over
    void profile(long every, ProfileSink sink, Consumer<MemorySegment> end) {
        period = every;
        profile = sink;
        profileEnd = end;
    }

    /// What kernel runs.
    void kernel(MemorySegment image) {
        kernel = image;
    }

    /// Whether something that was to be written was not; that was said.
    boolean unwritten() {
        return unwritten;
    }

    /// Says that `file` could not be written, which decides the exit code.
    ///
    /// @param failure what happened, in the words of the operating system where it has any
    void unwritten(Path file, IOException failure) {
        unwritten = true;
        System.err.println("cloister: cannot write " + file + " (" + failure.getMessage() + ")");
    }

    /// @throws UserError when an option is wrong
    void check() {
        checkTrace();
        if (statsFormat != null || statsOut != null) {
            stats = true;
        }
        if (statsOut != null) {
            DumpFile.check("--stats-out", statsOut);
        }
        if (dumpOnExit != null) {
            DumpFile.check("--dump-on-exit", dumpOnExit);
        }
        if (dumpAt != null) {
            if (!(dumpAt >= 0 && dumpAt < MAX_DUMP_SECONDS)) {
                throw UserError.usage("--dump-at " + dumpAt + " is no time: choose 0 to " + MAX_DUMP_SECONDS + " seconds");
            }
            DumpFile.check("--dump-file", dumpFile);
        }
    }

    private void checkTrace() {
        if (trace.isEmpty() && (traceOut != null || traceFrom != null || traceUntil != null)) {
            throw UserError.usage((traceOut != null ? "--trace-out" : traceFrom != null ? "--trace-from" : "--trace-until")
                    + " without --trace: say what to trace");
        }
        String option = "--trace: ";
        try {
            for (var word : trace) {
                filters.add(TraceFilter.of(word));
            }
            option = "--trace-from: ";
            from = traceFrom == null ? null : TraceBound.of(traceFrom);
            option = "--trace-until: ";
            until = traceUntil == null ? null : TraceBound.of(traceUntil);
        } catch (IllegalArgumentException e) {
            throw UserError.usage(option + e.getMessage());
        }
        if (traceOut != null) {
            DumpFile.check("--trace-out", traceOut);
        }
        if (traceClock == TraceClock.host
                && (traceOut == null || !traceOut.toString().toLowerCase(Locale.ROOT).endsWith(".pftrace"))) {
            throw UserError.usage("--trace-clock host needs --trace-out FILE.pftrace: text and JSON have virtual times only");
        }
    }

    /// The observer of the run; the caller closes it after the run.
    Tracer tracer() {
        return Tracer.open(filters, from, until, traceOut, traceClock == TraceClock.host);
    }

    /// What the machine must be told.
    MachineConfig applyTo(MachineConfig config, Tracer tracer) {
        return config.observer(tracer).timed(stats);
    }

    /// Before the run.
    void before(Machine machine) {
        if (profile != null) {
            machine.sample(period, profile);
        }
        if (dumpAt != null) {
            machine.inspectAt((long) (dumpAt * 1e9), module -> dump(new Dump(module, machine.memoryTypes())));
        }
    }

    /// After the run, before its teardown.
    void afterRun(Machine machine) {
        if (dumpOnExit != null && !DumpFile.write(dumpOnExit, Dump.of(machine))) {
            unwritten = true;
        }
    }

    /// When all is over.
    ///
    /// @param torn whether the guest was torn down
    void atEnd(MachineStats what, boolean torn) {
        if (profile != null) {
            profileEnd.accept(kernel);
        }
        if (stats) {
            print(what, torn);
        }
    }

    private void print(MachineStats what, boolean torn) {
        String text = statsFormat == StatsFormat.json ? StatsJson.write(what) : StatsReport.of(what, torn);
        if (statsOut == null) {
            System.err.print(text);
            return;
        }
        try {
            Files.writeString(statsOut, text);
        } catch (IOException e) {
            unwritten(statsOut, e);
        }
    }

    /// Writes a dump to `--dump-file`.
    void dump(Dump dump) {
        if (DumpFile.write(dumpFile, dump)) {
            System.err.println("cloister: dump written to " + dumpFile);
        } else {
            unwritten = true;
        }
    }
}
