package cloister.memory;

/// Acts between two accesses of one processor, as another processor may: a scheduler of fine steps, software that changes
/// what is being read. Only accesses through [PhysicalMemory]'s methods are seen, not those through its window.
public interface AccessObserver {
    /// `bytes` at `pa` are about to be read.
    void beforeRead(long pa, long bytes);

    /// `bytes` at `pa` have been written.
    void afterWrite(long pa, long bytes);
}
