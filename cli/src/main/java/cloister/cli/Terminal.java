package cloister.cli;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/// The user's terminal, raw while a guest runs: every key goes to the guest, but for the escape key Ctrl-A, which takes one more.
/// What is written to it still begins new lines at the left.
final class Terminal implements AutoCloseable {
    private static final int ESCAPE = 1;
    private static final String KEYS = """
            cloister: Ctrl-A x        leaves: the guest is switched off
            cloister: Ctrl-A d        writes a dump of the TDX module (--dump-file)
            cloister: Ctrl-A Ctrl-A   sends a Ctrl-A to the guest
            cloister: Ctrl-A ?        shows these keys
            """;

    private final String savedSettings;
    private boolean escaped;

    /// What keys can ask for beside input.
    interface Wishes {
        /// The user leaves.
        void quit();

        /// The user wants a dump.
        void dump();
    }

    /// @param savedSettings what [#close] gives back to stty; null for nothing
    Terminal(String savedSettings) {
        this.savedSettings = savedSettings;
    }

    /// Whether a person sits at standard input.
    static boolean present() {
        return stty("-g") != null;
    }

    /// Takes the terminal at standard input: says how to leave, then gives every key to the guest until [#close].
    static Terminal take() {
        System.err.println("cloister: Ctrl-A x leaves, Ctrl-A ? shows the keys");
        var terminal = new Terminal(stty("-g"));
        Runtime.getRuntime().addShutdownHook(new Thread(terminal::restore, "restore-terminal"));
        stty("raw", "-echo", "opost");
        return terminal;
    }

    /// What of `typed` is for the guest; the rest is done.
    byte[] keys(byte[] typed, Wishes wishes) {
        var forGuest = new ByteArrayOutputStream(typed.length);
        for (byte key : typed) {
            if (escaped) {
                escaped = false;
                switch (key) {
                    case 'x', 'X' -> wishes.quit();
                    case 'd', 'D' -> wishes.dump();
                    case '?', 'h', 'H' -> System.err.print(KEYS);
                    case ESCAPE -> forGuest.write(ESCAPE);
                    default -> { } // a slip: neither the guest nor we know what was meant
                }
            } else if (key == ESCAPE) {
                escaped = true;
            } else {
                forGuest.write(key);
            }
        }
        return forGuest.toByteArray();
    }

    @Override public void close() {
        restore();
    }

    private void restore() {
        if (savedSettings != null) {
            stty(savedSettings);
        }
    }

    /// Runs stty on our own standard input; null when that is not a terminal or there is no stty.
    private static String stty(String... arguments) {
        try {
            var command = new ArrayList<String>();
            command.add("stty");
            command.addAll(List.of(arguments));
            var process = new ProcessBuilder(command).redirectInput(ProcessBuilder.Redirect.INHERIT)
                    .redirectError(ProcessBuilder.Redirect.DISCARD).start();
            var output = new String(process.getInputStream().readAllBytes()).strip();
            return process.waitFor() == 0 ? output : null;
        } catch (IOException e) {
            return null;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return null;
        }
    }
}
