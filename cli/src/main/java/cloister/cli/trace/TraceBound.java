package cloister.cli.trace;

import cloister.vmm.observe.TraceEvent;
import java.math.BigDecimal;
import java.util.Locale;

/// Where a trace begins or ends: a virtual time, a line of the console, a number of events.
public sealed interface TraceBound {
    /// A virtual time in nanoseconds.
    record Time(long nanos) implements TraceBound {
    }

    /// The first line of the console that contains a text.
    record Line(String text) implements TraceBound {
    }

    /// So many events of the kinds that are traced.
    record Events(long count) implements TraceBound {
    }

    /// `1.5` (seconds), `20ms`, `3us`, `7ns`, `line:TEXT` or `event:N`.
    ///
    /// @throws IllegalArgumentException with a message for people when `text` is none of them
    static TraceBound of(String text) {
        if (text.startsWith("line:") && text.length() > "line:".length()) {
            return new Line(text.substring("line:".length()));
        }
        try {
            if (text.startsWith("event:")) {
                long count = Long.parseLong(text.substring("event:".length()));
                if (count > 0) {
                    return new Events(count);
                }
            } else {
                long nanos = nanos(text.toLowerCase(Locale.ROOT));
                if (nanos >= 0) {
                    return new Time(nanos);
                }
            }
        } catch (ArithmeticException | NumberFormatException e) {
            // said below
        }
        throw new IllegalArgumentException("'" + text + "' is no place in a run: choose a virtual time such as 1.5, 20ms or 3us, "
                + "line:TEXT for a line of the console, or event:N");
    }

    private static long nanos(String text) {
        String[] units = {"ns", "us", "ms", "s"};
        int digits = 0;
        for (var unit : units) {
            if (text.endsWith(unit)) {
                return new BigDecimal(text.substring(0, text.length() - unit.length())).movePointRight(digits).longValueExact();
            }
            digits += 3;
        }
        return new BigDecimal(text).movePointRight(9).longValueExact();
    }

    /// Whether the run has come there.
    ///
    /// @param event what happens
    /// @param count how many events of the kinds that are traced there have been, this one included if it is one
    default boolean reached(TraceEvent event, long count) {
        return switch (this) {
            case Time(long nanos) -> event.nanos() >= nanos;
            case Line(String text) -> event instanceof TraceEvent.ConsoleLine line && line.text().contains(text);
            case Events(long wanted) -> count >= wanted;
        };
    }
}
