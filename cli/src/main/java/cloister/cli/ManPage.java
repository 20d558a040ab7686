package cloister.cli;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import picocli.CommandLine;
import picocli.CommandLine.Model.ArgSpec;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Model.OptionSpec;

/// The manual page of a command, made from what its help says, in man(7)'s macros.
final class ManPage {
    private final CommandSpec spec;
    private final StringBuilder out = new StringBuilder();

    private ManPage(CommandSpec spec) {
        this.spec = spec;
    }

    /// `cloister-run` for `cloister run`.
    static String name(CommandSpec spec) {
        return spec.qualifiedName("-");
    }

    /// The page's source.
    static String of(CommandSpec spec) {
        return new ManPage(spec).write();
    }

    private String write() {
        var usage = spec.usageMessage();
        macro("TH", quoted(name(spec).toUpperCase(Locale.ROOT)), "1", quoted(""), quoted("cloister " + Main.VERSION),
                quoted("Cloister"));
        section("NAME");
        String[] about = usage.description();
        text(roff(name(spec)) + " \\- " + (about.length == 0 ? "" : roff(about[0].strip().replaceFirst("\\.$", ""))));
        section("SYNOPSIS");
        text("\\fB" + roff(spec.qualifiedName()) + "\\fR " + (spec.subcommands().isEmpty() ? "" : "COMMAND ") + "[OPTIONS]"
                + spec.positionalParameters().stream().map(p -> " " + roff(p.paramLabel())).collect(Collectors.joining()));
        section("DESCRIPTION");
        for (String line : about) {
            macro("PP");
            text(roff(line));
        }
        commands();
        parameters();
        options();
        codes();
        var footer = Stream.of(usage.footer()).filter(line -> !line.isBlank()).toList();
        if (!footer.isEmpty()) {
            section("NOTES");
            footer.forEach(line -> {
                text(roff(line));
                macro("br");
            });
        }
        seeAlso();
        return out.toString();
    }

    private void commands() {
        if (!spec.subcommands().isEmpty()) {
            section("COMMANDS");
            spec.subcommands().values().stream().map(CommandLine::getCommandSpec).distinct().forEach(command ->
                    tagged("\\fB" + roff(command.name()) + "\\fR", List.of(command.usageMessage().description())));
        }
    }

    private void parameters() {
        if (!spec.positionalParameters().isEmpty()) {
            section("ARGUMENTS");
            spec.positionalParameters().forEach(p -> tagged("\\fI" + roff(p.paramLabel()) + "\\fR", described(p)));
        }
    }

    private void options() {
        section("OPTIONS");
        for (OptionSpec option : spec.options()) {
            if (!option.hidden()) {
                String value = option.arity().max() > 0 ? " \\fI" + roff(option.paramLabel()) + "\\fR" : "";
                tagged(Stream.of(option.names()).map(n -> "\\fB" + roff(n) + "\\fR").collect(Collectors.joining(", ")) + value,
                        described(option));
            }
        }
    }

    private void codes() {
        var codes = spec.usageMessage().exitCodeList();
        if (!codes.isEmpty()) {
            section("EXIT STATUS");
            codes.forEach((code, meaning) -> tagged("\\fB" + roff(code.strip()) + "\\fR", List.of(meaning)));
        }
    }

    private void seeAlso() {
        var pages = new ArrayList<String>();
        if (spec.parent() != null) {
            pages.add(name(spec.parent()));
        }
        spec.subcommands().values().stream().map(c -> name(c.getCommandSpec())).distinct().forEach(pages::add);
        if (!pages.isEmpty()) {
            section("SEE ALSO");
            text(pages.stream().map(page -> "\\fB" + roff(page) + "\\fR(1)").collect(Collectors.joining(", ")));
        }
    }

    private static List<String> described(ArgSpec argument) {
        var candidates = new ArrayList<String>();
        if (argument.completionCandidates() != null) {
            argument.completionCandidates().forEach(candidates::add);
        }
        return Stream.of(argument.description()).map(line -> line.replace("${DEFAULT-VALUE}", String.valueOf(argument.defaultValueString()))
                .replace("${COMPLETION-CANDIDATES}", String.join(", ", candidates))).toList();
    }

    private void section(String title) {
        macro("SH", title);
    }

    private void tagged(String tag, List<String> lines) {
        macro("TP");
        text(tag);
        lines.forEach(line -> text(roff(line)));
    }

    private void macro(String... words) {
        out.append('.').append(String.join(" ", words)).append('\n');
    }

    /// A line must not begin as a request does.
    private void text(String line) {
        if (!line.isBlank()) {
            out.append(line.startsWith(".") || line.startsWith("'") ? "\\&" : "").append(line).append('\n');
        }
    }

    private static String quoted(String word) {
        return '"' + roff(word) + '"';
    }

    private static String roff(String text) {
        return text.replace("%n", " ").replace("\n", " ").replace("\\", "\\e").replace("-", "\\-").strip();
    }
}
