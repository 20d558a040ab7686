package cloister.kvm.vmx;

/// An exit to the VMM that is not finished: what KVM does with the VMM's answer. [LINUX vcpu->arch.complete_userspace_io]
sealed interface PendingVmxExit {
    /// IN: the item goes to the accumulator.
    record PortRead(int size) implements PendingVmxExit {
    }

    /// OUT: only the instruction is left to be passed.
    record PortWrite() implements PendingVmxExit {
    }

    /// RDMSR of what KVM refuses: the VMM's value, or #GP.
    record ReadMsr() implements PendingVmxExit {
    }

    /// WRMSR likewise.
    record WriteMsr() implements PendingVmxExit {
    }

    /// A hypercall: the answer goes to RAX, or EAX outside 64-bit mode.
    record Hypercall() implements PendingVmxExit {
    }

    /// An emulated instruction: [cloister.kvm.emulate.InstructionEmulator] knows the rest.
    record Emulation() implements PendingVmxExit {
    }
}
