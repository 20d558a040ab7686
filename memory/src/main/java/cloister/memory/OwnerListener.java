package cloister.memory;

/// Told when a frame leaves the KeyID through which it was accessed, so that processors stop touching its plain
/// content directly. Their translations stay: only the short cut goes.
@FunctionalInterface
public interface OwnerListener {
    /// @param frame the frame number (physical address without KeyID, divided by 4096)
    void ownerChanged(long frame);
}
