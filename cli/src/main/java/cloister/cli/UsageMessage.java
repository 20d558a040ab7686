package cloister.cli;

import java.util.ArrayList;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/// Says in a sentence what is wrong with a command line.
final class UsageMessage {
    private static final Pattern NO_NUMBER = Pattern.compile("'(.*)' is not an? (?:int|long|short|Integer|Long)\\b.*");
    private static final Pattern NO_DECIMAL = Pattern.compile("'(.*)' is not a (?:double|float|Double|Float)\\b.*");
    private static final Pattern INVALID = Pattern.compile("(?s)Invalid value for (?:option|positional parameter) (.*?): (.*)");
    private static final Pattern NO_PAIR = Pattern.compile(
            "Value for option option '(.*?)' \\((.*?)\\) should be in .* format but was (.*)");
    private static final Pattern NO_COMMAND = Pattern.compile("Unknown subcommand '(.*)'\\.");
    private static final Pattern ENUM = Pattern.compile("expected one of \\[(.*)] \\(case-insensitive\\) but was '(.*)'");

    private UsageMessage() {
    }

    static String of(ParameterException e) {
        var line = e.getCommandLine();
        String problem = e instanceof UnmatchedArgumentException unmatched ? unmatched(unmatched, line)
                : value(e.getMessage(), e.getArgSpec());
        String command = line.getCommandSpec().qualifiedName();
        return problem + (problem.endsWith("?") ? " See '" : "; see '") + command + " --help'";
    }

    /// The words that an option takes, as the help spells them.
    private static String words(ArgSpec argument, String otherwise) {
        return argument == null || argument.completionCandidates() == null ? otherwise : String.join(", ", argument.completionCandidates());
    }

    private static String unmatched(UnmatchedArgumentException e, CommandLine line) {
        String word = e.getUnmatched().getFirst();
        if (word.startsWith("-") && word.length() > 1) {
            String name = word.replaceFirst("=.*", "");
            return "there is no option '" + name + "'" + meant(name, new ArrayList<>(line.getCommandSpec().optionsMap().keySet()));
        }
        var commands = line.getSubcommands().keySet();
        if (commands.isEmpty()) {
            return "'" + word + "' is one argument too many";
        }
        var words = new ArrayList<>(commands);
        words.addAll(line.getCommandSpec().optionsMap().keySet()); // such as 'version' for --version
        return "there is no command '" + word + "'" + meant(word, words);
    }

    private static String meant(String word, ArrayList<String> words) {
        return Spelling.nearest(word, words).map(near -> "; did you mean '" + near + "'?").orElse("");
    }

    private static String value(String message, ArgSpec argument) {
        var pair = NO_PAIR.matcher(message);
        if (pair.matches()) {
            return pair.group(1) + ": '" + pair.group(3) + "' is no " + pair.group(2);
        }
        var command = NO_COMMAND.matcher(message);
        if (command.matches()) {
            return "there is no command '" + command.group(1) + "'";
        }
        var invalid = INVALID.matcher(message);
        if (!invalid.matches()) {
            return message;
        }
        String where = invalid.group(1).replaceFirst("^'(.*?)'.*", "$1").replaceFirst("^at index \\d+ \\((.*)\\)$", "$1");
        return where + ": " + reason(invalid.group(2), argument);
    }

    private static String reason(String text, ArgSpec argument) {
        var number = NO_NUMBER.matcher(text);
        if (number.matches()) {
            return "'" + number.group(1) + "' is not a whole number that fits";
        }
        var decimal = NO_DECIMAL.matcher(text);
        if (decimal.matches()) {
            return "'" + decimal.group(1) + "' is not a number";
        }
        var word = ENUM.matcher(text);
        return word.matches() ? "'" + word.group(2) + "' is none of " + words(argument, word.group(1)) : text;
    }
}
