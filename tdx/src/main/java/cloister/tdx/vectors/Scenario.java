package cloister.tdx.vectors;

/// A file of recorded calls that begins at power-on.
///
/// @param file     its name under the directory, without `.gz`
/// @param family   one letter
/// @param group    a part of the family
/// @param platform the recorded platform
public record Scenario(String file, String family, String group, String platform) {
}
