package cloister.cpu.vmx;

/// How a VMX instruction of the host ended. [SDM Vol. 3 "Conventions" of VMX instructions]
public enum VmxStatus {
    /// VMsucceed. For VMLAUNCH and VMRESUME: the VM entry happened and a VM exit followed (perhaps an entry-failure exit).
    SUCCEED,
    /// VMfailInvalid (CF): there is no current VMCS.
    FAIL_INVALID,
    /// VMfailValid (ZF): the field VM_INSTRUCTION_ERROR tells.
    FAIL_VALID
}
