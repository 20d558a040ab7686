package cloister.sim;

/// The places at which a host thread may lose the baton. [DESIGN Determinism]
public enum SwitchPoint {
    SEAMCALL_ENTRY, SEAMCALL_EXIT, TRY_LOCK, VM_ENTRY, VM_EXIT, SPTE_CHANGE, IPI, GUEST_SLICE
}
