package cloister.cli;

import cloister.cli.guest.FetchFailure;
import java.io.File;
import java.io.IOException;
import java.util.Set;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Help;
import picocli.CommandLine.HelpCommand;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParseResult;
import picocli.CommandLine.RunLast;
import picocli.CommandLine.ScopeType;

/// The `cloister` command.
@Command(name = "cloister", description = "A complete Intel TDX platform in Java: boots trust domains anywhere.",
        mixinStandardHelpOptions = true, versionProvider = Main.Version.class,
        subcommands = {RunCommand.class, ProfileCommand.class, FetchCommand.class, InitrdCommand.class, VectorsCommand.class,
                InspectCommand.class, FuzzCommand.class, CompletionCommand.class, ManCommand.class, HelpCommand.class},
        footer = {"", "In a checkout also:",
            "  test [--all]  Build and run the tests; --all includes the slow ones.",
            "  bench         Run the JMH benchmarks; 'bench -h' shows JMH's options.",
            "  dist          Make an archive that runs without JDK and Maven.",
            "", "Exit codes and environment variables: docs/reference.md"})
public final class Main implements Runnable {
    static final String VERSION = "0.1.0";
    /// The system property with the launcher's path when it has no profile yet: `PATH --make-profile` makes one.
    private static final String PROFILER = "cloister.profiler";
    private static final Set<String> BOOTING = Set.of("run", "profile");
    /// After these a boot is not known to work.
    private static final Set<Integer> NOTHING_RAN = Set.of(ExitCode.USAGE.code(), ExitCode.DATA.code(), ExitCode.UNAVAILABLE.code(),
            ExitCode.INTERNAL.code());

    @Option(names = {"-q", "--quiet"}, scope = ScopeType.INHERIT, description = "No progress on standard error.")
    private boolean quiet;

    @Option(names = {"-v", "--verbose"}, scope = ScopeType.INHERIT,
            description = "Say more: the JDK, what apt answers, where an error arose; with run --exec, the guest's console.")
    private boolean verbose;

    private Main() {
    }

    /// `--version`.
    static final class Version implements IVersionProvider {
        @Override public String[] getVersion() {
            return new String[] {"cloister " + VERSION, "models the Intel TDX module 1.5.06, runs on JDK " + Runtime.version()};
        }
    }

    /// Entry point of the launcher.
    public static void main(String[] args) {
        int code = StandardOutput.written(execute(args));
        // Not exit(): console input may block in a read that no interrupt ends.
        Runtime.getRuntime().halt(code);
    }

    private static int execute(String[] args) {
        try {
            var line = commandLine();
            int code = line.execute(args);
            var parsed = line.getParseResult();
            if (parsed != null && parsed.hasSubcommand() && BOOTING.contains(parsed.subcommand().commandSpec().name())
                    && !parsed.subcommand().isUsageHelpRequested() && !NOTHING_RAN.contains(code)) {
                haveProfileMade();
            }
            return code;
        } catch (OutOfMemoryError e) {
            System.err.println("cloister: out of memory (" + e.getMessage() + "): set CLOISTER_HEAP, for example to 2g.");
            return ExitCode.UNAVAILABLE.code();
        } catch (Error e) {
            return failed(e);
        }
    }

    /// The whole command line, also for what describes it.
    static CommandLine commandLine() {
        var main = new Main();
        return new CommandLine(main)
                .setCaseInsensitiveEnumValuesAllowed(true)
                .setColorScheme(Help.defaultColorScheme(Terminals.STDOUT.colours()))
                .setExecutionStrategy(parsed -> main.execute(parsed))
                .setParameterExceptionHandler((e, args) -> {
                    System.err.println("cloister: " + UsageMessage.of(e) + ".");
                    return ExitCode.USAGE.code();
                })
                .setExecutionExceptionHandler((e, line, result) -> failed(e));
    }

    private int execute(ParseResult parsed) {
        System.setProperty(Progress.QUIET, Boolean.toString(quiet));
        System.setProperty(Progress.VERBOSE, Boolean.toString(verbose));
        return new RunLast().execute(parsed);
    }

    /// Whether `--verbose` is there.
    boolean verbose() {
        return verbose;
    }

    /// A boot worked, so the launcher may record another one, in the background.
    private static void haveProfileMade() {
        String launcher = System.getProperty(PROFILER, "");
        if (!launcher.isEmpty()) {
            try {
                new ProcessBuilder(launcher, "--make-profile").redirectInput(ProcessBuilder.Redirect.from(new File("/dev/null")))
                        .redirectOutput(ProcessBuilder.Redirect.DISCARD).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            } catch (IOException e) {
                // Later runs are slower, and try again.
            }
        }
    }

    private static int failed(Throwable e) {
        if (e instanceof FetchFailure) {
            System.err.println("cloister: " + e.getMessage() + ".");
            return ExitCode.UNAVAILABLE.code();
        }
        System.err.println("cloister: internal error, please report it: " + e);
        if (System.getenv("CLOISTER_DEBUG") != null || Boolean.getBoolean(Progress.VERBOSE)) {
            e.printStackTrace();
        } else {
            System.err.println("cloister: set CLOISTER_DEBUG=1 to see where.");
        }
        return ExitCode.INTERNAL.code();
    }

    @Override public void run() {
        CommandLine.usage(this, System.out, Help.defaultColorScheme(Terminals.STDOUT.colours()));
    }
}
