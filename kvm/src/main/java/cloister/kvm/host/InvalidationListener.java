package cloister.kvm.host;

/// Linux's MMU notifier of one VM: told before and after what is behind a range of the VMM's memory changes. Between the two calls
/// nothing of the range may be mapped. The calls for one range come in pairs; ranges may overlap and nest. [LINUX struct
/// mmu_notifier_ops]
public interface InvalidationListener {
    /// Unmaps the range. Returns when no guest can reach the pages any more.
    ///
    /// @param start first address of the range in user memory
    /// @param end   first address after it
    void beginInvalidation(long start, long end);

    /// What is behind the range now will stay.
    void endInvalidation(long start, long end);

    /// Whether a guest accessed a page of the range since the last call; forgets it. [LINUX clear_flush_young]
    boolean clearAccessed(long start, long end);
}
