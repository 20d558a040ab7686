package cloister.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/// `cloister man`: the manual pages of all commands.
@Command(name = "man", mixinStandardHelpOptions = true, description = "Write the manual pages of all commands to a folder.",
        footer = {"", "Then:  man DIR/cloister-run.1"})
final class ManCommand implements Callable<Integer> {
    @Option(names = "--out", paramLabel = "DIR", required = true, description = "The folder, made if it is not there.")
    private Path out;

    @Spec
    private CommandSpec spec;

    @Override public Integer call() {
        try {
            Files.createDirectories(out);
            write(spec.root());
            return ExitCode.SUCCESS.code();
        } catch (IOException e) {
            System.err.println("cloister: cannot write " + out + " (" + e.getMessage() + "): choose another --out.");
            return ExitCode.USAGE.code();
        }
    }

    private void write(CommandSpec command) throws IOException {
        Files.writeString(out.resolve(ManPage.name(command) + ".1"), ManPage.of(command));
        for (CommandLine below : command.subcommands().values()) {
            write(below.getCommandSpec());
        }
    }
}
