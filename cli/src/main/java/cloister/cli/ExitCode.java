package cloister.cli;

/// The exit codes of `cloister`. With `--exec` a guest that ran the command returns the command's own code instead of
/// [#SUCCESS]; the codes from 64 on follow sysexits.h where it has a word for them.
enum ExitCode {
    /// The guest powered itself off.
    SUCCESS(0),
    /// `vectors`: a recorded result differs from ours; `fuzz`: an invariant broke.
    DIFFERENCE(1),
    /// An option or argument is wrong.
    USAGE(64),
    /// An input file (kernel, initrd) is broken or cannot be used.
    DATA(65),
    /// Something that is needed is not there: JDK, Maven, network, mirror.
    UNAVAILABLE(69),
    /// A defect of Cloister.
    INTERNAL(70),
    /// What was to be written, to standard output or a file, could not be.
    OUTPUT(74),
    /// The guest panicked or reported a fatal error.
    GUEST_PANIC(80),
    /// A virtual CPU hit a triple fault.
    TRIPLE_FAULT(81),
    /// Every virtual CPU waits and nothing can wake one, or none but the kernel's own timers.
    STALLED(82),
    /// The guest asked for a reset.
    RESET(83),
    /// The guest used a feature that this version lacks; the message names it.
    UNSUPPORTED(84),
    /// Private pages were not all reclaimed after power-off.
    LEAK(85),
    /// `--exec`: the guest powered off without reporting the command's exit code.
    NO_RESULT(86),
    /// A guest did what it does not survive, such as, in a trust domain, using memory that it had not accepted; the message
    /// says what and where.
    GUEST_FAULT(87),
    /// Host threads are in each other's way for ever; the message says which and how.
    LIVELOCK(88),
    /// `--timeout` ran out.
    TIMEOUT(124),
    /// The user left with the escape key.
    QUIT(130),
    /// Nobody reads standard output any more; as a shell has it for a program that SIGPIPE ended.
    BROKEN_PIPE(141);

    private final int code;

    ExitCode(int code) {
        this.code = code;
    }

    int code() {
        return code;
    }
}
