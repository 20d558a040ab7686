package cloister.cli;

/// What the user is told while waiting, on standard error.
final class Progress {
    private Progress() {
    }

    static void say(String line) {
        System.err.println("cloister: " + line);
    }
}
