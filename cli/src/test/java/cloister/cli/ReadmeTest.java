package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// Every command that the documents show is one that the program takes: its words, the values of its options, the files of the repository.
class ReadmeTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final Pattern SHOWN = Pattern.compile("(?:(?m)^(?s)```\\n(.*?)```)|`([^`\\n]*)`");
    private static final String LAUNCHER = "./cloister ";
    private static final Set<String> LAUNCHERS_OWN = Set.of("test", "bench", "dist", "COMMAND");
    private static final String SHELL = "|;&<>)";

    static Stream<String> commands() throws IOException {
        var found = new ArrayList<String>();
        for (var file : List.of("README.md", "docs/reference.md", "docs/td-firmware.md", "docs/silicon.md")) {
            SHOWN.matcher(Files.readString(ROOT.resolve(file))).results()
                    .flatMap(m -> (m.group(1) != null ? m.group(1) : m.group(2)).lines()).filter(line -> line.contains(LAUNCHER))
                    .map(line -> line.substring(line.indexOf(LAUNCHER) + LAUNCHER.length())).forEach(found::add);
        }
        return found.stream();
    }

    @ParameterizedTest
    @MethodSource("commands")
    void isTaken(String line) {
        var words = words(line);
        if (LAUNCHERS_OWN.contains(words.getFirst())) {
            return;
        }
        var parsed = Main.commandLine().parseArgs(words.toArray(String[]::new));
        if (parsed.subcommand().commandSpec().userObject() instanceof RunCommand run) {
            assertThatCode(run::checkValues).doesNotThrowAnyException();
        }
        assertThat(words).filteredOn(word -> word.startsWith("vectors/")).allMatch(word -> Files.exists(ROOT.resolve(word)));
    }

    /// The words of a command as the shell makes them, up to what is the shell's.
    private static List<String> words(String line) {
        var words = new ArrayList<String>();
        var word = new StringBuilder();
        char quote = 0;
        for (char c : line.toCharArray()) {
            if (quote == 0 && SHELL.indexOf(c) >= 0) {
                if (word.toString().matches("\\d")) {
                    word.setLength(0); // of 2>errors
                }
                break;
            } else if (c == quote) {
                quote = 0;
            } else if (quote == 0 && (c == '\'' || c == '"')) {
                quote = c;
            } else if (quote == 0 && c == ' ') {
                add(words, word);
            } else {
                word.append(c);
            }
        }
        add(words, word);
        return words;
    }

    private static void add(List<String> words, StringBuilder word) {
        if (!word.isEmpty()) {
            words.add(word.toString());
            word.setLength(0);
        }
    }
}
