package cloister.kvm;

/// `struct kvm_msr_entry`.
public record MsrEntry(int index, long data) {
}
