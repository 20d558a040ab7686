package cloister.tdx.vectors;

/// The first difference between a scenario and its replay.
///
/// @param file     the file of the step: the scenario's, or that of a setup which it includes
/// @param line     the step's line in the file, from 1
/// @param call     the step in words: leaf, processor, input
/// @param subject  the register, memory or property compared
/// @param expected what was recorded
/// @param got      what our module did
/// @param reading  which field of the value it is and what its values mean; may be empty
public record Difference(String file, int line, String call, String subject, String expected, String got, String reading) {
    /// As a few indented lines.
    public String text() {
        return file + ":" + line + "\n    " + call + "\n    " + subject + ": expected " + expected + ", got " + got
                + (reading.isEmpty() ? "" : "\n    " + reading);
    }
}
