package cloister.kvm;

/// Why KVM_RUN returned: one record per KVM_EXIT_ reason.
public sealed interface KvmExit {
    /// KVM_EXIT_IO: `count` items of `size` bytes in [KvmRun#data].
    ///
    /// @param out true: the guest wrote `data`; false: the VMM fills `data`
    record Io(boolean out, int size, int port, int count) implements KvmExit {
    }

    /// KVM_EXIT_MMIO: `length` bytes (1..8) in [KvmRun#data].
    record Mmio(long gpa, int length, boolean write) implements KvmExit {
    }

    /// KVM_EXIT_X86_RDMSR, if KVM_CAP_X86_USER_SPACE_MSR asks for it: answer in [KvmRun#ret], [KvmRun#msrError].
    ///
    /// @param reason a [cloister.spec.kvm.KvmAbi] MSR_EXIT_REASON_ bit
    record Rdmsr(int index, int reason) implements KvmExit {
    }

    /// KVM_EXIT_X86_WRMSR: answer in [KvmRun#msrError].
    ///
    /// @param reason a [cloister.spec.kvm.KvmAbi] MSR_EXIT_REASON_ bit
    record Wrmsr(int index, long value, int reason) implements KvmExit {
    }

    /// KVM_EXIT_HYPERCALL with KVM_HC_MAP_GPA_RANGE, the only one that exits: answer in [KvmRun#ret]. Of a TD it is 0 or a
    /// positive error number (EAGAIN, EINVAL are understood); of an ordinary VM it is what the guest finds in RAX, 0 or a negative
    /// error number.
    ///
    /// @param toPrivate whether the range shall become private
    record MapGpaRange(long gpa, long pages, boolean toPrivate) implements KvmExit {
    }

    /// KVM_EXIT_SYSTEM_EVENT.
    ///
    /// @param type [cloister.spec.kvm.KvmAbi] SYSTEM_EVENT_ number
    /// @param data for TDX_FATAL: the 16 general registers in encoding order of GHCI's ReportFatalError
    record SystemEvent(int type, long[] data) implements KvmExit {
    }

    /// KVM_EXIT_SHUTDOWN: triple fault.
    record Shutdown() implements KvmExit {
    }

    /// KVM_EXIT_INTERNAL_ERROR.
    ///
    /// @param suberror [cloister.spec.kvm.KvmAbi] INTERNAL_ERROR_ number
    /// @param text     what happened, with the instruction where known
    /// @param data     `kvm_run.internal.data`, whose length is `ndata`
    record InternalError(int suberror, String text, long... data) implements KvmExit {
    }

    /// KVM_EXIT_EXCEPTION: an exception of a TD that the TDX module left to the host.
    record Exception(int vector, int errorCode) implements KvmExit {
    }

    /// KVM_EXIT_FAIL_ENTRY.
    record FailEntry(long hardwareReason, int processor) implements KvmExit {
    }

    /// KVM_EXIT_TDX with GetQuote: answer in [KvmRun#ret], a TDVMCALL status.
    record TdxGetQuote(long gpa, long size) implements KvmExit {
    }

    /// KVM_EXIT_TDX with GetTdVmCallInfo leaf 1: answer in [KvmRun#ret] (status); R11..R14 as longs in [KvmRun#data].
    record TdxGetTdVmCallInfo(long leaf) implements KvmExit {
    }

    /// KVM_EXIT_TDX with SetupEventNotifyInterrupt: answer in [KvmRun#ret], a TDVMCALL status.
    record TdxSetupEventNotify(int vector) implements KvmExit {
    }

    /// KVM_EXIT_IOAPIC_EOI: the guest ended interrupt `vector`, which a userspace IOAPIC route uses.
    record IoapicEoi(int vector) implements KvmExit {
    }

    /// KVM_EXIT_MEMORY_FAULT (EFAULT): the access does not fit the memory attributes or no memory is behind it.
    ///
    /// @param flags [cloister.spec.kvm.KvmAbi#MEMORY_EXIT_FLAG_PRIVATE] when the access was private
    record MemoryFault(long flags, long gpa, long size) implements KvmExit {
    }

    /// KVM_EXIT_DIRTY_RING_FULL: the vCPU runs on when the VMM has harvested its ring and called [KvmVm#resetDirtyRings].
    record DirtyRingFull() implements KvmExit {
    }

    /// KVM_EXIT_INTR (EINTR): kicked, or [KvmRun#immediateExit] was set.
    record Intr() implements KvmExit {
    }
}
