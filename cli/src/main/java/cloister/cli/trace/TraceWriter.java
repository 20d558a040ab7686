package cloister.cli.trace;

import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.io.Closeable;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Locale;

/// Writes a trace in some format.
public interface TraceWriter extends Closeable {
    /// Whether the format shows events of `kind` beside those that were asked for, when `asked` were.
    default boolean alsoWants(TraceKind kind, TraceKind asked) {
        return false;
    }

    /// One event; events come in order of time.
    ///
    /// @throws IOException when it cannot be written
    void write(TraceEvent event) throws IOException;

    /// The format that the name of a file asks for: `.jsonl` or `.json` JSON lines, `.pftrace` Perfetto, others text.
    ///
    /// @param hostClock whether times are wall times since now instead of virtual; only Perfetto can show that
    static TraceWriter of(Path file, OutputStream out, boolean hostClock) throws IOException {
        String name = file == null ? "" : file.getFileName().toString().toLowerCase(Locale.ROOT);
        if (name.endsWith(".pftrace")) {
            return new PerfettoTrace(out, hostClock);
        }
        return name.endsWith(".jsonl") || name.endsWith(".json") ? new JsonTrace(out) : new TextTrace(out);
    }

    /// Bytes of a line.
    static byte[] utf8(CharSequence text) {
        return text.toString().getBytes(StandardCharsets.UTF_8);
    }
}
