package cloister.cli;

import cloister.vmm.MachineObserver;
import cloister.vmm.UserError;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;

/// Writes what `--trace` asked for, one line per event.
final class Tracer implements MachineObserver, AutoCloseable {
    private final Set<TraceKind> kinds;
    private final PrintStream out;

    private Tracer(Set<TraceKind> kinds, PrintStream out) {
        this.kinds = kinds;
        this.out = out;
    }

    static Tracer open(TraceKind[] kinds, Path file) {
        var wanted = kinds.length == 0 ? EnumSet.noneOf(TraceKind.class) : EnumSet.copyOf(List.of(kinds));
        if (file == null) {
            return new Tracer(wanted, System.err);
        }
        try {
            return new Tracer(wanted, new PrintStream(file.toFile(), StandardCharsets.UTF_8));
        } catch (IOException e) {
            throw UserError.usage("--trace-out: cannot write " + file + ": " + e.getMessage());
        }
    }

    @Override public void progress(String step) {
        Progress.say(step);
    }

    @Override public boolean wants(Kind kind) {
        return kinds.contains(TraceKind.of(kind));
    }

    @Override public void event(Kind kind, int processor, long ticks, String text) {
        out.printf(Locale.ROOT, "%,d %s %d: %s%n", ticks, TraceKind.of(kind), processor, text);
    }

    @Override public void close() {
        if (out != System.err) {
            out.close();
        }
    }
}
