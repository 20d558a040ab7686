package cloister.vmm;

/// The user asked for something that cannot be done. The message is one line and says what is wrong and what to do.
public final class UserError extends RuntimeException {
    private static final long serialVersionUID = 1L;

    /// Process exit code of a usage error (an option's value is wrong).
    public static final int USAGE = 64;
    /// Process exit code of unusable guest input (kernel, initrd, firmware).
    public static final int BAD_INPUT = 65;

    private final int exitCode;

    /// @param exitCode the documented process exit code, [#USAGE] or [#BAD_INPUT]
    public UserError(int exitCode, String message) {
        super(message);
        this.exitCode = exitCode;
    }

    /// A wrong option value.
    public static UserError usage(String message) {
        return new UserError(USAGE, message);
    }

    /// An unusable file.
    public static UserError badInput(String message) {
        return new UserError(BAD_INPUT, message);
    }

    /// The documented process exit code.
    public int exitCode() {
        return exitCode;
    }
}
