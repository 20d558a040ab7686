package cloister.kvm.mmu;

/// What becomes of the module's parameter mmio_caching when masks of entries change: they change once when the module is loaded, for legacy
/// tables, and again for EPT or for an encryption bit. See [cloister.kvm.KvmPolicy#MMIO_PARAMETER].
public enum MmioParameter {
    /// What the user wanted is kept apart from what came of it, and each new mark is judged by it alone.
    SNAPSHOT,
    /// Legacy tables as such have no mark. Each kind of vendor code sets its own, and until then MMIO is not cached.
    VENDOR_SETS,
    /// A mark that does not work clears the parameter itself, and no later one can bring it back.
    CLEARED_FOR_GOOD;

    /// The rule with the name that the policy has.
    public static MmioParameter of(String choice) {
        return switch (choice) {
            case "vendor-sets" -> VENDOR_SETS;
            case "cleared-for-good" -> CLEARED_FOR_GOOD;
            default -> SNAPSHOT;
        };
    }
}
