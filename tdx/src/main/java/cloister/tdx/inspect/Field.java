package cloister.tdx.inspect;

import java.util.List;

/// A metadata field. [TDX-ABI "Metadata (Non-Memory State) Fields"]
///
/// @param name         the specification's name
/// @param elementBytes 1, 2, 4 or 8
/// @param values       its elements in order of identifier
public record Field(String name, int elementBytes, List<Long> values) {
}
