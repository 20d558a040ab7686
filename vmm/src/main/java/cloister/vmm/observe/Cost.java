package cloister.vmm.observe;

/// What all events of one name cost.
///
/// @param name         the exit reason or the leaf
/// @param count        how many there were
/// @param failed       how many ended with an error status, `busy` among them; 0 for exits
/// @param busy         how many found a lock taken; 0 for exits
/// @param virtualNanos virtual time from their beginning to their end: an exit ends when its vCPU enters the guest again
/// @param hostNanos    wall time of this machine that they took; 0 when it was not measured
public record Cost(String name, long count, long failed, long busy, long virtualNanos, long hostNanos) {
}
