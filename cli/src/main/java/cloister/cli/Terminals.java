package cloister.cli;

import picocli.CommandLine.Help.Ansi;

/// Which of the standard streams are terminals. The launcher looks, because Java cannot tell for each of them.
enum Terminals {
    STDOUT('1'), STDERR('2');

    /// The system property with the digits of the streams that are terminals.
    static final String PROPERTY = "cloister.terminals";

    private final char digit;

    Terminals(char digit) {
        this.digit = digit;
    }

    boolean present() {
        return System.getProperty(PROPERTY, "").indexOf(digit) >= 0;
    }

    /// Colours are for people at a terminal who did not refuse them (`NO_COLOR`, see no-color.org).
    Ansi colours() {
        boolean refused = !System.getenv().getOrDefault("NO_COLOR", "").isEmpty() || "dumb".equals(System.getenv("TERM"));
        return present() && !refused ? Ansi.ON : Ansi.OFF;
    }
}
