package cloister.vmm;

/// How a run ended.
public sealed interface Outcome {
    /// The guest powered off (ACPI S5).
    record PowerOff() implements Outcome {
    }

    /// The guest asked for a reset; `mechanism` names the register it used.
    record Reset(String mechanism) implements Outcome {
    }

    /// The guest reported a fatal error: TDVMCALL ReportFatalError, or "Kernel panic" as the start of a console line
    /// followed by a halt of every vCPU.
    record GuestPanic(String message) implements Outcome {
    }

    /// A vCPU triple-faulted; `detail` holds the registers as far as the VMM may see them.
    record TripleFault(String detail) implements Outcome {
    }

    /// A guest did what it does not survive, such as, in a trust domain, using memory that it had not accepted. `message` is one
    /// line: what, where, and how KVM and QEMU would say it.
    record GuestFault(String message) implements Outcome {
    }

    /// [Machine#requestStop] was called.
    record TimedOut() implements Outcome {
    }

    /// The user left.
    record Quit() implements Outcome {
    }

    /// Nobody can see what the guest says any more, so it was stopped.
    record OutputLost() implements Outcome {
    }

    /// Every vCPU waits for an event that can never come.
    record Stalled() implements Outcome {
    }

    /// Host threads are in each other's way for ever, although they run. `message` is one line: what each of them does.
    record Livelock(String message) implements Outcome {
    }

    /// The console's input is at its end and the guest has said nothing for so many seconds of its time; only timers of its kernel go on.
    record Silent(long seconds) implements Outcome {
    }

    /// The guest used something that Cloister lacks; the first line of `text` names it, registers follow.
    record MissingFeature(String text) implements Outcome {
    }

    /// The platform could not go on: a dead VM, a bug. `text` is for developers and has many lines.
    record InternalError(String text) implements Outcome {
    }
}
