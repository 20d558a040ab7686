package cloister.cli;

import cloister.vmm.Outcome;
import java.io.IOException;

/// Says how a run ended: a message on standard error where it did not end well, and the exit code.
///
/// @param console where the guest spoke
/// @param exec    whether a command was run
/// @param quiet   whether the guest's console was shown to nobody, so that its end is worth showing
/// @param timeout seconds that the run had
record RunReport(GuestConsole console, boolean exec, boolean quiet, int timeout) {
    /// The exit code of a run whose output is written.
    ///
    /// @param leaked private pages that could not be reclaimed
    int exitCode(Outcome outcome, long leaked) {
        if (console.failure() != null) {
            return outputLost(console.failure());
        }
        if (leaked != 0) {
            return ended(ExitCode.LEAK, leaked + " private pages could not be reclaimed");
        }
        String panic = console.tail().panic();
        boolean stopped = outcome instanceof Outcome.TimedOut || outcome instanceof Outcome.Quit;
        return panic != null && !stopped ? ended(ExitCode.GUEST_PANIC, "the guest panicked: " + panic) : exitCode(outcome);
    }

    private int exitCode(Outcome outcome) {
        return switch (outcome) {
            case Outcome.PowerOff() -> poweredOff();
            case Outcome.Reset(var mechanism) -> ended(ExitCode.RESET, "the guest asked for a reset (" + mechanism + ")");
            case Outcome.GuestPanic(var message) -> ended(ExitCode.GUEST_PANIC, "the guest panicked: " + message);
            case Outcome.TripleFault(var detail) -> ended(ExitCode.TRIPLE_FAULT, "triple fault: " + detail);
            case Outcome.GuestFault(var message) -> ended(ExitCode.GUEST_FAULT, message);
            case Outcome.Quit() -> ExitCode.QUIT.code();
            case Outcome.TimedOut() -> ended(ExitCode.TIMEOUT, "the guest was still running after " + timeout
                    + " s: raise --timeout, or see where it hangs");
            case Outcome.OutputLost() -> ExitCode.OUTPUT.code(); // only with a failure, which was said
            case Outcome.Stalled() -> ended(ExitCode.STALLED, "every vCPU waits and nothing can wake one");
            case Outcome.Livelock(var message) -> ended(ExitCode.LIVELOCK, message);
            case Outcome.Silent(long seconds) -> ended(ExitCode.STALLED, "standard input is at its end, and the guest has been idle for "
                    + seconds + " s of its time");
            case Outcome.MissingFeature(var text) -> ended(ExitCode.UNSUPPORTED, text);
            case Outcome.InternalError(var text) -> ended(ExitCode.INTERNAL, text);
        };
    }

    private int poweredOff() {
        if (!exec) {
            return ExitCode.SUCCESS.code();
        }
        var status = console.exitStatus();
        return status.isPresent() ? status.getAsInt()
                : ended(ExitCode.NO_RESULT, "the guest powered off without running the command to its end");
    }

    private static int outputLost(IOException failure) {
        if (StandardOutput.isClosedPipe(failure)) {
            return ExitCode.BROKEN_PIPE.code();
        }
        System.err.println("cloister: cannot write what the guest says (" + failure.getMessage() + ").");
        return ExitCode.OUTPUT.code();
    }

    private int ended(ExitCode code, String message) {
        if (quiet) {
            console.tail().show();
        }
        System.err.println("cloister: " + message);
        return code.code();
    }
}
