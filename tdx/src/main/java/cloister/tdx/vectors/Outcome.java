package cloister.tdx.vectors;

/// What became of a scenario.
///
/// @param steps      its steps
/// @param replayed   those replayed without a difference
/// @param difference the first difference, or null
public record Outcome(Scenario scenario, int steps, int replayed, Difference difference) {
    /// Whether every step was replayed and none differed.
    public boolean passed() {
        return difference == null && replayed == steps;
    }
}
