package cloister.cli;

import cloister.cli.guest.FetchProgress;
import java.util.Locale;

/// What the user is told while waiting, on standard error: a line for each step, and on a terminal a bar for what takes long.
/// With `--quiet` nothing.
final class Progress implements FetchProgress {
    /// The system property that is `true` with `--quiet`; the command line is read once for the whole process.
    static final String QUIET = "cloister.quiet";
    /// The system property that is `true` with `--verbose`.
    static final String VERBOSE = "cloister.verbose";
    private static final int WIDTH = 24;
    private static final String ERASE_LINE = "\r\033[K";

    private boolean drawn;

    static void say(String line) {
        if (!Boolean.getBoolean(QUIET)) {
            System.err.println("cloister: " + line);
        }
    }

    @Override public synchronized void step(String what) {
        erase();
        say(what);
    }

    @Override public synchronized void downloaded(String what, long bytes, long of) {
        bar(bytes, of, String.format(Locale.ROOT, "%.1f of %.1f MB", bytes / 1e6, of / 1e6));
    }

    @Override public synchronized void detail(String line) {
        if (Boolean.getBoolean(VERBOSE)) {
            erase();
            System.err.println(line);
        }
    }

    /// Draws how much of something is done, where somebody can see it; it goes with the next step or with [#erase()].
    ///
    /// @param of    above 0
    /// @param words the same in words
    synchronized void bar(long done, long of, String words) {
        if (Terminals.STDERR.present() && !Boolean.getBoolean(QUIET)) {
            int full = (int) Math.clamp(done * WIDTH / of, 0, WIDTH);
            System.err.print(ERASE_LINE + "cloister: [" + "#".repeat(full) + ".".repeat(WIDTH - full) + "] " + words);
            System.err.flush();
            drawn = true;
        }
    }

    /// Removes the bar.
    synchronized void erase() {
        if (drawn) {
            System.err.print(ERASE_LINE);
            System.err.flush();
            drawn = false;
        }
    }
}
