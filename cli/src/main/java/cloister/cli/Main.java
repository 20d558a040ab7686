package cloister.cli;

import cloister.cli.guest.FetchFailure;
import picocli.CommandLine;
import picocli.CommandLine.Command;

/// The `cloister` command.
@Command(name = "cloister", description = "A complete Intel TDX platform in Java: boots trust domains anywhere.",
        mixinStandardHelpOptions = true, version = "cloister 0.1.0",
        subcommands = {RunCommand.class, FetchCommand.class, InitrdCommand.class, VectorsCommand.class, InspectCommand.class,
                FuzzCommand.class},
        footer = {"", "To build and run every test: ./cloister test"})
public final class Main implements Runnable {
    private Main() {
    }

    /// Entry point of the launcher.
    public static void main(String[] args) {
        int code = execute(args);
        System.out.flush();
        // Not exit(): console input may block in a read that no interrupt ends.
        Runtime.getRuntime().halt(code);
    }

    private static int execute(String[] args) {
        try {
            return commandLine().execute(args);
        } catch (OutOfMemoryError e) {
            System.err.println("cloister: out of memory (" + e.getMessage() + "): set CLOISTER_HEAP, for example to 2g.");
            return ExitCode.UNAVAILABLE.code();
        } catch (Error e) {
            return failed(e);
        }
    }

    private static CommandLine commandLine() {
        return new CommandLine(new Main())
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setParameterExceptionHandler((e, args) -> {
                    System.err.println("cloister: " + e.getMessage() + "; see 'cloister "
                            + (e.getCommandLine().getCommandName().equals("cloister") ? "" : e.getCommandLine().getCommandName() + " ")
                            + "--help'.");
                    return ExitCode.USAGE.code();
                })
                .setExecutionExceptionHandler((e, line, result) -> failed(e));
    }

    private static int failed(Throwable e) {
        if (e instanceof FetchFailure) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return ExitCode.UNAVAILABLE.code();
        }
        System.err.println("cloister: internal error, please report it: " + e);
        if (System.getenv("CLOISTER_DEBUG") != null) {
            e.printStackTrace();
        } else {
            System.err.println("cloister: set CLOISTER_DEBUG=1 to see where.");
        }
        return ExitCode.INTERNAL.code();
    }

    @Override public void run() {
        CommandLine.usage(this, System.out);
    }
}
