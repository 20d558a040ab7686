package cloister.cli;

import cloister.devices.ByteSink;
import java.util.ArrayDeque;
import java.util.Deque;

/// Keeps the last lines of the guest's console, so that a failed `--exec` can show them, and notices a kernel panic.
final class ConsoleTail implements ByteSink {
    private static final int LINES = 24;
    private static final int LONGEST = 400;
    private static final String PANIC = "Kernel panic - not syncing";

    private final ByteSink next;
    private final Deque<String> lines = new ArrayDeque<>();
    private final StringBuilder line = new StringBuilder();
    private String panic;

    ConsoleTail(ByteSink next) {
        this.next = next;
    }

    @Override public void accept(int octet) {
        next.accept(octet);
        if (octet == '\n' || line.length() >= LONGEST) {
            endLine();
        } else if (octet >= ' ') {
            line.append((char) octet);
        }
    }

    private void endLine() {
        String text = line.toString();
        line.setLength(0);
        int at = text.indexOf(PANIC);
        if (at >= 0 && panic == null) {
            panic = text.substring(at);
        }
        lines.addLast(text);
        if (lines.size() > LINES) {
            lines.removeFirst();
        }
    }

    /// The panic message, or null.
    String panic() {
        return panic;
    }

    /// Writes the kept lines to standard error.
    void show() {
        lines.forEach(text -> System.err.println("guest: " + text));
        if (!line.isEmpty()) {
            System.err.println("guest: " + line);
        }
    }
}
