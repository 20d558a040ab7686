package cloister.kvm.vmx;

/// An exit to the VMM that is not finished: what KVM does with the VMM's answer. [LINUX vcpu->arch.complete_userspace_io]
sealed interface PendingVmxExit {
    /// IN: the item goes to the accumulator.
    record PortRead(int size) implements PendingVmxExit {
    }

    /// OUT: only the instruction is left to be passed.
    record PortWrite() implements PendingVmxExit {
    }

    /// INS or OUTS, one item of it.
    ///
    /// @param in  the item goes to memory at `gpa`
    /// @param rep RCX counts, and the instruction goes on until it is used up
    /// @param mask the address size
    record PortString(boolean in, int size, long gpa, boolean rep, long mask) implements PendingVmxExit {
    }

    /// An emulated instruction waits for what MMIO reads.
    record MmioRead() implements PendingVmxExit {
    }
}
