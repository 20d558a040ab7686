package cloister.tdx.vectors;

import java.util.List;
import java.util.Locale;

/// Where a scenario and its replay part, or why it cannot be replayed.
///
/// @param places   where the step is, then the steps that include its file, innermost first; empty when a file cannot be read
/// @param testCase the label of the last reset; may be empty
/// @param call     the step in words: leaf, processor, input; may be empty
/// @param items    the values that differ; none when there is a problem
/// @param problem  why the step cannot be replayed; empty when values differ
public record Difference(List<Place> places, String testCase, String call, List<Item> items, String problem) {
    private static final int LONGEST_NAME = 12;
    private static final int LONGEST_VALUE = 20;

    /// A place in a file.
    ///
    /// @param file its name under the directory
    /// @param line from 1
    public record Place(String file, int line) {
    }

    /// A value that differs.
    ///
    /// @param subject  the register, memory or property compared
    /// @param expected what was recorded
    /// @param got      what our module did
    /// @param reading  which field of the value it is and what its values mean; may be empty
    public record Item(String subject, String expected, String got, String reading) {
    }

    /// A file that cannot be read.
    static Difference unreadable(String problem) {
        return new Difference(List.of(), "", "", List.of(), problem);
    }

    /// As a few indented lines.
    public String text() {
        var text = new StringBuilder();
        if (!places.isEmpty()) {
            text.append(places.getFirst().file()).append(':').append(places.getFirst().line());
            places.stream().skip(1).forEach(p -> text.append(", included by ").append(p.file()).append(':').append(p.line()));
            text.append(testCase.isEmpty() ? "" : ", case " + testCase).append("\n  ");
        }
        if (!call.isEmpty()) {
            text.append(call).append("\n    ");
        }
        text.append(problem);
        for (var item : items) {
            boolean isShort = item.subject().length() <= LONGEST_NAME && item.expected().length() <= LONGEST_VALUE;
            text.append(item == items.getFirst() ? "" : "\n    ")
                    .append(String.format(Locale.ROOT, isShort ? "%-4s expected %-18s  got %s" : "%s\n      expected %s\n      got      %s",
                            item.subject(), item.expected(), item.got()))
                    .append(item.reading().isEmpty() ? "" : "\n      " + item.reading());
        }
        return text.toString();
    }
}
