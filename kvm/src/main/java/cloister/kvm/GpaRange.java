package cloister.kvm;

/// `struct kvm_pre_fault_memory`: in, the range; out, what is left of it.
public final class GpaRange {
    public long gpa;
    public long size;

    /// @param gpa  page-aligned
    /// @param size bytes, page-aligned
    public GpaRange(long gpa, long size) {
        this.gpa = gpa;
        this.size = size;
    }
}
