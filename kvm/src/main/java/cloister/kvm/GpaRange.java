package cloister.kvm;

/// `struct kvm_pre_fault_memory`: in, the range; out, what is left of it. [LINUX "KVM_PRE_FAULT_MEMORY"]
public final class GpaRange {
    public long gpa;
    public long size;
    /// No flag is defined: 0.
    public long flags;

    /// @param gpa  page-aligned
    /// @param size bytes, page-aligned
    public GpaRange(long gpa, long size) {
        this.gpa = gpa;
        this.size = size;
    }
}
