package cloister.memory;

/// Told about writes to watched frames, so that processors drop what they decoded from them.
@FunctionalInterface
public interface WriteListener {
    /// `[pa, pa + length)` touches a watched frame and is about to change.
    void written(long pa, long length);
}
