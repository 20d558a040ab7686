package cloister.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/// What became of standard output.
final class StandardOutput {
    private StandardOutput() {
    }

    /// Writes out what is still held back.
    ///
    /// @return `code`, or if something could not be written that: in silence where nobody reads any more, else with a message
    static int written(int code) {
        if (!System.out.checkError()) {
            return code;
        }
        if (isPipe()) {
            return ExitCode.BROKEN_PIPE.code();
        }
        System.err.println("cloister: cannot write standard output.");
        return ExitCode.OUTPUT.code();
    }

    /// Whether `failure` to write a standard stream only means that nobody reads it any more, as when it goes to `head`. The message of
    /// the operating system may be in any language, but a pipe fails in no other way.
    static boolean isClosedPipe(IOException failure) {
        return String.valueOf(failure.getMessage()).contains("Broken pipe") || isPipe();
    }

    private static boolean isPipe() {
        try {
            String target = Files.readSymbolicLink(Path.of("/proc/self/fd/1")).toString();
            return target.startsWith("pipe:") || target.startsWith("socket:");
        } catch (IOException | UnsupportedOperationException e) {
            return false;
        }
    }
}
