package cloister.kvm;

import cloister.spec.kvm.CpuidEntry;
import java.util.List;

/// `struct kvm_tdx_cmd`: a KVM_TDX_ sub-command. A command with nonzero `hwError`, or with flags that the sub-command
/// does not know, fails with EINVAL.
public final class KvmTdxCmd {
    /// The argument of a sub-command, which says which one it is.
    public sealed interface Data {
    }

    /// KVM_TDX_INIT_VCPU.
    ///
    /// @param initialRcx what the vCPU finds in RCX and R8
    public record InitVcpu(long initialRcx) implements Data {
    }

    /// KVM_TDX_FINALIZE_VM.
    public record FinalizeVm() implements Data {
    }

    /// KVM_TDX_GET_CPUID.
    ///
    /// @param table what is filled
    public record GetCpuid(CpuidTable table) implements Data {
    }

    private final int flags;
    private final Data data;
    /// Out: the SEAMCALL's completion status when one failed; must be 0 on the way in.
    public long hwError;

    private KvmTdxCmd(int flags, Data data) {
        this.flags = flags;
        this.data = data;
    }

    /// KVM_TDX_CAPABILITIES: fills `capabilities`. E2BIG when its table has too few entries.
    public static KvmTdxCmd capabilities(Capabilities capabilities) {
        return new KvmTdxCmd(0, capabilities);
    }

    /// KVM_TDX_INIT_VM. EINVAL when initialised already or a parameter is not allowed, EBUSY when vCPUs exist.
    public static KvmTdxCmd initVm(InitVm params) {
        return new KvmTdxCmd(0, params);
    }

    /// KVM_TDX_INIT_VCPU. EINVAL when the vCPU is initialised or not in x2APIC mode by CPUID.
    ///
    /// @param initialRcx what the vCPU finds in RCX and R8
    public static KvmTdxCmd initVcpu(long initialRcx) {
        return new KvmTdxCmd(0, new InitVcpu(initialRcx));
    }

    /// KVM_TDX_INIT_MEM_REGION. EINVAL on bad arguments or state, EIO when a page is mapped already, EINTR when a signal is
    /// pending; `region` advances.
    ///
    /// @param flags 0 or [cloister.spec.kvm.KvmAbi#TDX_MEASURE_MEMORY_REGION]
    public static KvmTdxCmd initMemRegion(int flags, MemRegion region) {
        return new KvmTdxCmd(flags, region);
    }

    /// KVM_TDX_FINALIZE_VM. EINVAL when finalised already, EBUSY.
    public static KvmTdxCmd finalizeVm() {
        return new KvmTdxCmd(0, new FinalizeVm());
    }

    /// KVM_TDX_GET_CPUID on a vCPU: fills `table`. E2BIG updates [CpuidTable#capacity].
    public static KvmTdxCmd getCpuid(CpuidTable table) {
        return new KvmTdxCmd(0, new GetCpuid(table));
    }

    /// A command with any flags, as a careless caller would build it.
    public KvmTdxCmd withFlags(int newFlags) {
        var copy = new KvmTdxCmd(newFlags, data);
        copy.hwError = hwError;
        return copy;
    }

    /// Its flags.
    public int flags() {
        return flags;
    }

    /// The argument: which sub-command it is.
    public Data data() {
        return data;
    }

    /// `struct kvm_cpuid2`: room for entries, and the entries.
    public static final class CpuidTable {
        /// In: how many entries fit. Out: how many there are.
        public int capacity;
        /// Out.
        public List<CpuidEntry> entries = List.of();

        /// @param capacity room for so many entries
        public CpuidTable(int capacity) {
            this.capacity = capacity;
        }
    }

    /// `struct kvm_tdx_capabilities`.
    public static final class Capabilities implements Data {
        public long supportedAttrs;
        public long supportedXfam;
        public long kernelTdvmcallinfo1R11;
        public long userTdvmcallinfo1R11;
        public long kernelTdvmcallinfo1R12;
        public long userTdvmcallinfo1R12;
        /// The CPUID bits that INIT_VM may configure.
        public final CpuidTable cpuid = new CpuidTable(256);
    }

    /// `struct kvm_tdx_init_vm`.
    ///
    /// @param attributes    TD attributes
    /// @param xfam          extended features available mask
    /// @param mrConfigId    48 bytes
    /// @param mrOwner       48 bytes
    /// @param mrOwnerConfig 48 bytes
    /// @param cpuid         values of the configurable leaves; the others are given as the module virtualises them or absent
    public record InitVm(long attributes, long xfam, byte[] mrConfigId, byte[] mrOwner, byte[] mrOwnerConfig,
                         List<CpuidEntry> cpuid) implements Data {
    }

    /// `struct kvm_tdx_init_mem_region`.
    public static final class MemRegion implements Data {
        /// Page-aligned address in [UserMemory].
        public long sourceAddr;
        /// Page-aligned private address.
        public long gpa;
        public long nrPages;

        /// All three in one go.
        public MemRegion(long sourceAddr, long gpa, long nrPages) {
            this.sourceAddr = sourceAddr;
            this.gpa = gpa;
            this.nrPages = nrPages;
        }
    }
}
