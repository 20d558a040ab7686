package cloister.cli;

import cloister.cli.trace.TraceBound;
import cloister.cli.trace.TraceFilter;
import cloister.cli.trace.TraceWriter;
import cloister.vmm.MachineObserver;
import cloister.vmm.UserError;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;

/// Writes what `--trace` asked for: chooses the events and hands them to the writer of the format.
final class Tracer implements MachineObserver, AutoCloseable {
    private static final int BUFFER_BYTES = 1 << 16;

    private final List<TraceFilter> filters;
    private final TraceBound from;
    private final TraceBound until;
    private final TraceWriter writer;
    private final String name;
    private boolean begun;
    private boolean over;
    private boolean failed;
    private long seen;
    private long written;

    Tracer(List<TraceFilter> filters, TraceBound from, TraceBound until, TraceWriter writer, String name) {
        this.filters = filters;
        this.from = from;
        this.until = until;
        this.writer = writer;
        this.name = name;
        this.begun = from == null;
    }

    /// @param file where the trace goes; null for standard error
    /// @throws UserError when the file cannot be written
    static Tracer open(List<TraceFilter> filters, TraceBound from, TraceBound until, Path file, boolean hostClock) {
        if (filters.isEmpty()) {
            return new Tracer(filters, from, until, null, "");
        }
        try {
            OutputStream out = file == null ? new StandardError() : new BufferedOutputStream(Files.newOutputStream(file), BUFFER_BYTES);
            String name = file == null ? "standard error" : file.toString();
            return new Tracer(filters, from, until, TraceWriter.of(file, out, hostClock), name);
        } catch (IOException e) {
            throw UserError.usage("--trace-out: cannot write " + file + " (" + e.getMessage() + "): choose another file");
        }
    }

    /// Standard error, which is not ours to close and swallows nothing.
    private static final class StandardError extends OutputStream {
        @Override public void write(int octet) {
            System.err.write(octet);
        }

        @Override public void write(byte[] bytes, int offset, int length) {
            System.err.write(bytes, offset, length);
        }
    }

    @Override public void progress(String step) {
        Progress.say(step);
    }

    @Override public boolean wants(TraceKind kind) {
        return filters.stream().anyMatch(f -> f.needs(kind)) || (kind == TraceKind.CONSOLE && writer != null && followsConsole())
                || (writer != null && Arrays.stream(TraceKind.values()).anyMatch(asked -> writer.alsoWants(kind, asked) && asked(asked)));
    }

    private boolean asked(TraceKind kind) {
        return filters.stream().anyMatch(f -> f.kind() == kind);
    }

    private boolean followsConsole() {
        return from instanceof TraceBound.Line || until instanceof TraceBound.Line;
    }

    @Override public void event(TraceEvent event) {
        if (over) {
            return;
        }
        boolean wanted = isWanted(event);
        boolean whole = wanted && !isBeginning(event);
        if (whole) {
            seen++;
        }
        if (!begun) {
            begun = from.reached(event, seen);
        }
        if (!begun) {
            return;
        }
        if (whole) {
            written++;
        }
        over = until != null && until.reached(event, written);
        if (wanted && !(over && until instanceof TraceBound.Time)) {
            write(event);
        }
    }

    /// What begins now and is counted when it ends.
    private static boolean isBeginning(TraceEvent event) {
        return event instanceof TraceEvent.SeamcallEntry || event instanceof TraceEvent.TdcallEntry
                || event instanceof TraceEvent.GuestEntry;
    }

    private boolean isWanted(TraceEvent event) {
        for (var filter : filters) {
            if (filter.matches(event)) {
                return true;
            }
            if (writer.alsoWants(event.kind(), filter.kind())) {
                return true;
            }
        }
        return false;
    }

    private void write(TraceEvent event) {
        try {
            writer.write(event);
        } catch (IOException e) {
            fail(e);
        }
    }

    private void fail(IOException e) {
        over = true;
        if (!failed) {
            failed = true;
            System.err.println("cloister: cannot write the trace to " + name + " (" + e.getMessage() + ")");
        }
    }

    /// Whether something could not be written.
    boolean failed() {
        return failed;
    }

    /// After a run: an empty trace without a word looks like a broken one.
    void sayWhenEmpty() {
        if (writer != null && written == 0 && !failed) {
            Progress.say("the trace is empty: " + (!begun ? "the run never came to --trace-from"
                    : "nothing that --trace names happened" + (from == null ? "" : " after --trace-from")));
        }
    }

    @Override public void close() {
        if (writer != null) {
            try {
                writer.close();
            } catch (IOException e) {
                fail(e);
            }
        }
    }
}
