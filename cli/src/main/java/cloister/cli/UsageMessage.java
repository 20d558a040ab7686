package cloister.cli;

import java.util.ArrayList;
import java.util.Locale;
import java.util.regex.Pattern;
import picocli.CommandLine;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/// Says in a sentence what is wrong with a command line.
final class UsageMessage {
    private static final Pattern NO_NUMBER = Pattern.compile("'(.*)' is not an? (?:int|long|short|Integer|Long)\\b.*");
    private static final Pattern NO_DECIMAL = Pattern.compile("'(.*)' is not a (?:double|float|Double|Float)\\b.*");
    private static final Pattern INVALID = Pattern.compile("(?s)Invalid value for (?:option|positional parameter) (.*?): (.*)");
    private static final Pattern ENUM = Pattern.compile("expected one of \\[(.*)] \\(case-insensitive\\) but was '(.*)'");

    private UsageMessage() {
    }

    static String of(ParameterException e) {
        var line = e.getCommandLine();
        String problem = e instanceof UnmatchedArgumentException unmatched ? unmatched(unmatched, line) : value(e.getMessage());
        String command = line.getCommandSpec().qualifiedName();
        return problem + (problem.endsWith("?") ? " See '" : "; see '") + command + " --help'";
    }

    private static String unmatched(UnmatchedArgumentException e, CommandLine line) {
        String word = e.getUnmatched().getFirst();
        if (word.startsWith("-") && word.length() > 1) {
            String name = word.replaceFirst("=.*", "");
            return "there is no option '" + name + "'" + meant(name, new ArrayList<>(line.getCommandSpec().optionsMap().keySet()));
        }
        var commands = line.getSubcommands().keySet();
        return commands.isEmpty() ? "'" + word + "' is one argument too many"
                : "there is no command '" + word + "'" + meant(word, new ArrayList<>(commands));
    }

    private static String meant(String word, ArrayList<String> words) {
        return Spelling.nearest(word, words).map(near -> "; did you mean '" + near + "'?").orElse("");
    }

    private static String value(String message) {
        var invalid = INVALID.matcher(message);
        if (!invalid.matches()) {
            return message;
        }
        String where = invalid.group(1).replaceFirst("^'(.*?)'.*", "$1");
        return where + ": " + reason(invalid.group(2));
    }

    private static String reason(String text) {
        var number = NO_NUMBER.matcher(text);
        if (number.matches()) {
            return "'" + number.group(1) + "' is not a whole number that fits";
        }
        var decimal = NO_DECIMAL.matcher(text);
        if (decimal.matches()) {
            return "'" + decimal.group(1) + "' is not a number";
        }
        var word = ENUM.matcher(text);
        return word.matches() ? "'" + word.group(2) + "' is none of " + word.group(1).toLowerCase(Locale.ROOT) : text;
    }
}
