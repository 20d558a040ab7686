package cloister.kvm;

import cloister.spec.kvm.CpuidEntry;
import java.util.List;

/// A vCPU file descriptor. Used by one host thread, its vCPU thread, except [#kick].
public interface KvmVcpu {
    /// The id given at creation.
    int id();

    /// KVM_SET_CPUID2.
    ///
    /// @throws KvmException E2BIG, EINVAL after the first run when it would change anything
    void setCpuid2(List<CpuidEntry> entries);

    /// KVM_GET_CPUID2.
    List<CpuidEntry> getCpuid2();

    /// KVM_GET_REGS. @throws KvmException EINVAL for a TD
    KvmRegs getRegs();

    /// KVM_SET_REGS. @throws KvmException EINVAL for a TD
    void setRegs(KvmRegs regs);

    /// KVM_GET_SREGS. @throws KvmException EINVAL for a TD
    KvmSregs getSregs();

    /// KVM_SET_SREGS. @throws KvmException EINVAL for a TD or inconsistent values
    void setSregs(KvmSregs sregs);

    /// KVM_GET_MSRS: reads until the first MSR that cannot be read.
    List<MsrEntry> getMsrs(int... indices);

    /// KVM_SET_MSRS: writes until the first MSR that cannot be written.
    ///
    /// @return how many were written
    int setMsrs(List<MsrEntry> entries);

    /// KVM_GET_LAPIC: the 1 KiB register page. @throws KvmException EINVAL without in-kernel local APIC or for a TD
    byte[] getLapic();

    /// KVM_SET_LAPIC. @throws KvmException as [#getLapic]
    void setLapic(byte[] registers);

    /// KVM_GET_MP_STATE.
    MpState getMpState();

    /// KVM_SET_MP_STATE. @throws KvmException EINVAL for a TD
    void setMpState(MpState state);

    /// KVM_MEMORY_ENCRYPT_OP on the vCPU: INIT_VCPU, INIT_MEM_REGION, GET_CPUID.
    ///
    /// @throws KvmException as documented at [KvmTdxCmd]
    void memoryEncryptOp(KvmTdxCmd cmd);

    /// KVM_PRE_FAULT_MEMORY. `range` is advanced by what was done.
    ///
    /// @throws KvmException EINVAL: flags, a range that is empty, wraps or is not whole pages, an address with the SHARED bit. And only
    ///         when nothing at all was done: EINTR while a [#kick] waits for [#run]; EOPNOTSUPP where tables are not indexed by the VM's
    ///         addresses, or before the TD is final; ENOENT where MMIO is; EAGAIN while the slot goes; EFAULT; ENOMEM; EIO
    void preFaultMemory(GpaRange range);

    /// KVM_NMI.
    void nmi();

    /// The ring of the pages that this vCPU wrote; null without KVM_CAP_DIRTY_LOG_RING.
    DirtyGfnRing dirtyRing();

    /// The shared page of this vCPU: why [#run] returned, and the VMM's answers.
    KvmRun kvmRun();

    /// KVM_RUN: completes the previous exit with the VMM's answer, then runs the guest until the VMM is needed.
    ///
    /// Where the ioctl returns EINTR (a [#kick]) this returns [KvmExit.Intr]; where it returns EFAULT with memory-fault
    /// information this returns [KvmExit.MemoryFault].
    ///
    /// @return the exit, also in [KvmRun#exit]
    /// @throws KvmException EINVAL when a TD is not ready, EIO when the VM is dead, EAGAIN when the vCPU has waited for its INIT and
    ///         was woken: run it again
    KvmExit run();

    /// Makes [#run] return with [KvmExit.Intr] soon, as a signal to the vCPU thread does. Called by any host thread.
    void kick();
}
