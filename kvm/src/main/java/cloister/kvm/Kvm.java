package cloister.kvm;

import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.List;

/// /dev/kvm: the system file descriptor.
public interface Kvm {
    /// KVM_CHECK_EXTENSION: 0 when unsupported, else the capability's value.
    long checkExtension(KvmCap cap);

    /// KVM_CREATE_VM.
    ///
    /// @throws KvmException EINVAL when the type is not supported (no TDX module)
    KvmVm createVm(VmType type);

    /// KVM_GET_SUPPORTED_CPUID: what ordinary VMs may be given.
    List<CpuidEntry> supportedCpuid();

    /// KVM_GET_MSR_INDEX_LIST.
    List<Integer> msrIndexList();

    /// The virtual memory of the VMM's process.
    UserMemory userMemory();

    /// Takes a logical processor out of use or back into use, as the host's administrator does in /sys/devices/system/cpu.
    ///
    /// @throws KvmException EINVAL when there is no such processor; EBUSY for the last one, and for the last one of a package while a TD
    ///         has a KeyID [LINUX tdx_offline_cpu]
    void processorOnline(int index, boolean online);

    /// From now on KVM compares what the host has in its registers before each vCPU comes to a processor with what it finds behind it;
    /// a difference ends the run as an internal error. Where Java's assertions are enabled for KVM it does so from the start.
    void checkHostState();

    /// Makes KVM lose `register` behind guests, to see it noticed; no part of Linux.
    void lose(HostRegister register);

    /// Counters over all VMs.
    KvmStats stats();
}
