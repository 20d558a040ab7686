package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.KvmPolicy;
import java.util.List;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import picocli.AutoComplete;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.TypeConversionException;

/// What the command line takes, and how it describes itself.
class CommandLineTest {
    @ParameterizedTest
    @CsvSource({"512, 512", "512M, 512", "512MiB, 512", "2815m, 2815", "2.5G, 2560", "0.5g, 512", "1048576K, 1024",
        "1T, 1048576", "4GB, 4096"})
    void sizes(String text, long mebibytes) {
        assertThat(new MemorySize().convert(text)).isEqualTo(mebibytes << 20);
    }

    @ParameterizedTest
    @CsvSource({"'', is not a size", "12Q, is not a size", "G, is not a size", "-1G, is not a size", "1.M, is not a size",
        "1K, whole number of MiB",
        "2.0001G, whole number of MiB", "9999999P, more memory than any machine has"})
    void whatIsNoSize(String text, String says) {
        assertThatThrownBy(() -> new MemorySize().convert(text)).isInstanceOf(TypeConversionException.class).hasMessageContaining(says);
    }

    @ParameterizedTest
    @CsvSource(nullValues = "-", value = {"rnu, run", "rn, run", "inspekt, inspect", "vector, vectors", "--cpsu, --cpus",
        "boot, -", "xyz, -", "f, -"})
    void misspeltWords(String typed, String meant) {
        var words = List.of("run", "fetch", "inspect", "vectors", "--cpus", "--memory");
        assertThat(Spelling.nearest(typed, words).orElse(null)).isEqualTo(meant);
    }

    /// What QEMU's users type first.
    @Test void qemusNamesOfOptions() {
        var run = Main.commandLine().parseArgs("run", "-m", "2G", "-smp", "2", "-kernel", "k", "-initrd", "i", "-append", "quiet debug")
                .subcommand();
        assertThat((Long) run.matchedOptionValue("--memory", 0L)).isEqualTo(2L << 30);
        assertThat((Integer) run.matchedOptionValue("--cpus", 0)).isEqualTo(2);
        assertThat((Object) run.matchedOptionValue("--kernel", null)).hasToString("k");
        assertThat((Object) run.matchedOptionValue("--initrd", null)).hasToString("i");
        assertThat((Object) run.matchedOptionValue("--append", null)).isEqualTo("quiet debug");
    }

    @Test void helpFitsEightyColumnsAndHasNoEmptyDescription() {
        everyCommand(Main.commandLine()).forEach(command -> {
            assertThat(command.getUsageMessage(CommandLine.Help.Ansi.OFF).lines()).as(command.getCommandName())
                    .allMatch(line -> line.length() <= 80).noneMatch(line -> line.contains("]...]"));
            assertThat(command.getCommandSpec().options()).allMatch(option -> option.hidden() || option.description().length > 0);
        });
    }

    @Test void manualPagesAreRoffAndSayWhatTheHelpSays() {
        String page = ManPage.of(Main.commandLine().getSubcommands().get("run").getCommandSpec());
        assertThat(page).startsWith(".TH \"CLOISTER\\-RUN\" 1").contains(".SH NAME\ncloister\\-run \\- Boot a guest",
                "\\fB\\-\\-memory\\fR, \\fB\\-m\\fR \\fISIZE\\fR\n", "Default: 512M.", ".SH EXIT STATUS", "\\fBcloister\\fR(1)");
        assertThat(page).doesNotContain("${");
        assertThat(page.lines().filter(line -> line.startsWith("."))).allMatch(line -> line.matches("\\.(TH|SH|TP|PP|br)( .*)?"));
    }

    @Test void completionKnowsEveryCommandAndOption() {
        String script = AutoComplete.bash("cloister", Main.commandLine());
        everyCommand(Main.commandLine()).flatMap(command -> command.getCommandSpec().options().stream())
                .flatMap(option -> Stream.of(option.names())).forEach(name -> assertThat(script).contains("'" + name + "'"));
    }

    /// zsh completes the first time, too, when it has just loaded the script, and has what the script calls before it is read.
    @Test void completionForZshIsOneThatItLoadsByItself() {
        var lines = CompletionCommand.script(CompletionCommand.Shell.zsh, Main.commandLine()).lines().toList();
        assertThat(lines).startsWith("#compdef cloister", "autoload -U +X bashcompinit && bashcompinit",
                "(( $+functions[compopt] )) || compopt() { : }");
        assertThat(lines.getLast()).contains("_bash_complete -o default -F _complete_cloister");
        assertThat(lines).contains("complete -F _complete_cloister -o default cloister cloister.sh cloister.bash");
    }

    /// A word that an option takes has one spelling: in the help, in completion, in messages.
    @Test void wordsHaveOneSpelling() {
        everyCommand(Main.commandLine()).flatMap(command -> Stream.concat(command.getCommandSpec().options().stream(),
                command.getCommandSpec().positionalParameters().stream())).filter(arg -> arg.typeInfo().isEnum()).forEach(arg ->
                        assertThat(arg.completionCandidates()).as(arg.paramLabel()).allSatisfy(word -> assertThat(
                                String.join(" ", arg.description())).matches(text -> text.contains("${COMPLETION-CANDIDATES}")
                                || Pattern.compile("\\b" + word + "\\b").matcher(text).find())));
        assertThat(AutoComplete.bash("cloister", Main.commandLine())).contains("\"tdx\" \"default\"").doesNotContain("TDX");
        for (var type : List.of("tdx", "TDX", "Default")) {
            assertThat(Main.commandLine().parseArgs("run", "--vm-type", type).errors()).isEmpty();
        }
    }

    @Test void theHelpNamesEveryPolicyAndEveryChoice() {
        String help = Main.commandLine().getSubcommands().get("run").getUsageMessage(CommandLine.Help.Ansi.OFF).replaceAll("\\s+", "");
        for (var policy : KvmPolicy.values()) {
            assertThat(help).contains(policy.policyName() + "=" + String.join("|", policy.choices()));
        }
    }

    /// Whatever is wrong with a command line is said in a sentence about what was typed.
    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            run --policy zap            | --policy: 'zap' is no NAME=VALUE
            run --vm-type sgx           | --vm-type: 'sgx' is none of tdx, default
            fuzz mmu --plant X          | --plant: 'X' is none of NONCOHERENT_DMA_ZAPS_MIRROR
            completion tcsh             | SHELL: 'tcsh' is none of bash, zsh
            version                     | there is no command 'version'; did you mean '--version'?
            """)
    void whatIsWrongIsSaidPlainly(String line, String says) {
        assertThatThrownBy(() -> Main.commandLine().parseArgs(line.strip().split(" "))).isInstanceOfSatisfying(ParameterException.class,
                e -> assertThat(UsageMessage.of(e)).startsWith(says));
    }

    private static Stream<CommandLine> everyCommand(CommandLine from) {
        return Stream.concat(Stream.of(from), from.getSubcommands().values().stream().flatMap(CommandLineTest::everyCommand));
    }
}
