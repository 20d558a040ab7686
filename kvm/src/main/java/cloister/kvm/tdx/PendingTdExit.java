package cloister.kvm.tdx;

/// An exit to the VMM that is not finished: what KVM does with the VMM's answer. [LINUX vcpu->arch.complete_userspace_io]
sealed interface PendingTdExit {
    /// A TDVMCALL that reads a port or MMIO: the item goes to R11.
    record Read(int size) implements PendingTdExit {
    }

    /// MapGPA: the chunk at `nextGpa` is asked for; the range ends at `endGpa`, both with the SHARED bit as the guest gave it.
    record MapGpa(long nextGpa, long endGpa) implements PendingTdExit {
    }

    /// GetTdVmCallInfo: R11 to R14 and the status.
    record CallInfo() implements PendingTdExit {
    }

    /// RDMSR of what KVM refuses: the VMM's value goes to R11, or the operand is invalid.
    record ReadMsr() implements PendingTdExit {
    }

    /// WRMSR likewise, without a value.
    record WriteMsr() implements PendingTdExit {
    }

    /// GetQuote and SetupEventNotifyInterrupt: the status.
    record Status() implements PendingTdExit {
    }
}
