package cloister.cli;

import java.util.concurrent.Callable;
import picocli.AutoComplete;
import picocli.CommandLine;
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

    /// zsh runs bash's completions through an adapter of its own, which knows no compopt. picocli gives it an alias, but that comes too
    /// late where the script is read as a whole. #compdef makes the file one that zsh loads by itself.
    private static final String ZSH_FIRST = """
            #compdef cloister
            autoload -U +X bashcompinit && bashcompinit
            (( $+functions[compopt] )) || compopt() { : }
            """;

    /// When zsh loads the file, it does so to complete something at once.
    private static final String ZSH_LAST = """
            [[ "${funcstack[1]}" != _cloister ]] || _bash_complete -o default -F _complete_cloister
            """;

    @Parameters(paramLabel = "SHELL", description = "${COMPLETION-CANDIDATES}.")
    private Shell shell;

    @Spec
    private CommandSpec spec;

    @Override public Integer call() {
        System.out.print(script(shell, spec.root().commandLine()));
        return ExitCode.SUCCESS.code();
    }

    /// The script for a shell.
    ///
    /// @param root the whole command line
    static String script(Shell shell, CommandLine root) {
        String bash = AutoComplete.bash("cloister", root);
        return shell == Shell.bash ? bash : ZSH_FIRST + bash + ZSH_LAST;
    }
}
