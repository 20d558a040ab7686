package cloister.cli;

import java.util.concurrent.Callable;
import picocli.AutoComplete;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/// `cloister completion`: a script that completes commands and options in the shell.
@Command(name = "completion", mixinStandardHelpOptions = true,
        description = "Print a script that completes commands and options in the shell.",
        footer = {"", "For this shell:  eval \"$(cloister completion bash)\"",
            "For good (zsh):  cloister completion zsh > DIR/_cloister, DIR of $fpath"})
final class CompletionCommand implements Callable<Integer> {
    /// The shells that the script is for.
    enum Shell { bash, zsh }

    @Parameters(paramLabel = "SHELL", description = "${COMPLETION-CANDIDATES}.")
    private Shell shell;

    @Spec
    private CommandSpec spec;

    @Override public Integer call() {
        String script = AutoComplete.bash("cloister", spec.root().commandLine());
        // zsh runs bash's completions through an adapter of its own; #compdef makes the file one that it loads by itself.
        System.out.print(shell == Shell.bash ? script : "#compdef cloister\nautoload -U +X bashcompinit && bashcompinit\n" + script);
        return ExitCode.SUCCESS.code();
    }
}
