package cloister.kvm;

/// A file in memory that several mappings of a [UserMemory] may share.
public interface SharedFile extends AutoCloseable {
    /// Bytes.
    long size();

    /// Frees its pages; no mapping of it may exist any more.
    @Override void close();
}
