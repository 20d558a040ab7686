package cloister.memory;

/// Told about writes to watched frames, so that processors drop what they decoded from them.
public interface WriteListener {
    /// `[pa, pa + length)` touches a watched frame and is about to change.
    void written(long pa, long length);

    /// Somebody began to watch `frame`: writes to it must no longer go past [PhysicalMemory].
    void watchStarted(long frame);
}
