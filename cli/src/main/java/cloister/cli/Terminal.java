package cloister.cli;

import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.IntConsumer;

/// The user's terminal in raw mode: every key goes to the guest, but for the escape key Ctrl-A, which takes one more:
/// `x` leaves, `d` dumps, Ctrl-A sends a Ctrl-A.
final class Terminal implements AutoCloseable {
    private static final int ESCAPE = 1;
    private final String savedSettings;

    private Terminal(String savedSettings) {
        this.savedSettings = savedSettings;
    }

    /// Switches to raw mode where standard input is a terminal; a pipe or file is left alone.
    static Terminal raw() {
        String saved = stty("-g");
        if (saved != null) {
            var terminal = new Terminal(saved);
            Runtime.getRuntime().addShutdownHook(new Thread(terminal::restore, "restore-terminal"));
            stty("raw", "-echo");
            return terminal;
        }
        return new Terminal(null);
    }

    /// Whether a person sits at standard input.
    boolean interactive() {
        return savedSettings != null;
    }

    /// Reads standard input on a daemon thread until its end.
    ///
    /// @param key  gets each byte, 0..255, for the guest
    /// @param quit runs when the user leaves
    /// @param dump runs when the user asks for a dump
    void forward(IntConsumer key, Runnable quit, Runnable dump) {
        Thread.ofPlatform().daemon().name("console-input").start(() -> {
            // Not System.in: its buffering and locking are of no use here.
            try (var in = new FileInputStream(FileDescriptor.in)) {
                boolean escaped = false;
                for (int c = in.read(); c >= 0; c = in.read()) {
                    if (escaped) {
                        escaped = false;
                        if (c == 'x' || c == 'X') {
                            quit.run();
                        } else if (c == 'd' || c == 'D') {
                            dump.run();
                        } else {
                            key.accept(c);
                        }
                    } else if (c == ESCAPE && interactive()) {
                        escaped = true;
                    } else {
                        key.accept(c);
                    }
                }
            } catch (IOException e) {
                System.err.println("cloister: console input ended: " + e.getMessage());
            }
        });
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
