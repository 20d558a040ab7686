package cloister.kvm.host;

/// A lock that is held until it is closed. The same object for every acquisition of a lock: taking one allocates nothing.
@FunctionalInterface
public interface Held extends AutoCloseable {
    /// Releases the lock.
    @Override void close();
}
