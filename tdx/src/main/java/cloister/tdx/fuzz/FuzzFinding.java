package cloister.tdx.fuzz;

import java.util.Locale;

/// The module broke an invariant, or let an exception escape.
final class FuzzFinding extends RuntimeException {
    private static final long serialVersionUID = 1L;

    FuzzFinding(String message) {
        super(message);
    }

    FuzzFinding(String message, Throwable cause) {
        super(message, cause);
    }

    static void check(boolean holds, String format, Object... arguments) {
        if (!holds) {
            throw new FuzzFinding(String.format(Locale.ROOT, format, arguments));
        }
    }
}
