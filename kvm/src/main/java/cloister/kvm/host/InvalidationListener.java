package cloister.kvm.host;

/// Linux's MMU notifier: told before frames behind a range of the VMM's memory go away.
@FunctionalInterface
public interface InvalidationListener {
    /// @param start first address of the range in user memory
    /// @param end   first address after it
    void invalidateRange(long start, long end);
}
