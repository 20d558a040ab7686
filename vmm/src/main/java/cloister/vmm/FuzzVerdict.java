package cloister.vmm;

/// How a program of the guest fuzzer ended.
///
/// @param broken what no guest may bring about, or null
record FuzzVerdict(Outcome outcome, String broken) {
}
