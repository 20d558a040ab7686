package cloister.spec.kvm;

/// The machine types of KVM_CREATE_VM on x86. [LINUX "KVM_CREATE_VM"]
public enum VmType {
    /// KVM_X86_DEFAULT_VM.
    DEFAULT(0),
    /// KVM_X86_SW_PROTECTED_VM: an ordinary VM with private memory, which only KVM keeps the VMM from; for development.
    SW_PROTECTED(1),
    /// KVM_X86_TDX_VM.
    TDX(5);

    private final int number;

    VmType(int number) {
        this.number = number;
    }

    /// The value of the ABI.
    public int number() {
        return number;
    }
}
