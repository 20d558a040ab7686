package cloister.kvm.tdx;

import cloister.spec.tdx.FieldTable;

/// Identifiers of the metadata fields that KVM reads and writes, by the names of the specification. [TDX-ABI "Metadata (Non-Memory
/// State) Fields"]
final class Metadata {
    // The module's, read by TDH.SYS.RD.
    static final long TDX_FEATURES0 = FieldTable.SYS.id("TDX_FEATURES0");
    static final long MAX_TDMRS = FieldTable.SYS.id("MAX_TDMRS");
    static final long MAX_RESERVED_PER_TDMR = FieldTable.SYS.id("MAX_RESERVED_PER_TDMR");
    static final long PAMT_4K_ENTRY_SIZE = FieldTable.SYS.id("PAMT_4K_ENTRY_SIZE");
    static final long PAMT_2M_ENTRY_SIZE = FieldTable.SYS.id("PAMT_2M_ENTRY_SIZE");
    static final long PAMT_1G_ENTRY_SIZE = FieldTable.SYS.id("PAMT_1G_ENTRY_SIZE");
    static final long TDCS_BASE_SIZE = FieldTable.SYS.id("TDCS_BASE_SIZE");
    static final long TDVPS_BASE_SIZE = FieldTable.SYS.id("TDVPS_BASE_SIZE");
    static final long ATTRIBUTES_FIXED0 = FieldTable.SYS.id("ATTRIBUTES_FIXED0");
    static final long ATTRIBUTES_FIXED1 = FieldTable.SYS.id("ATTRIBUTES_FIXED1");
    static final long XFAM_FIXED0 = FieldTable.SYS.id("XFAM_FIXED0");
    static final long XFAM_FIXED1 = FieldTable.SYS.id("XFAM_FIXED1");
    static final long NUM_CPUID_CONFIG = FieldTable.SYS.id("NUM_CPUID_CONFIG");
    static final long MAX_VCPUS_PER_TD = FieldTable.SYS.id("MAX_VCPUS_PER_TD");
    static final long CPUID_CONFIG_LEAVES = FieldTable.SYS.id("CPUID_CONFIG_LEAVES");
    static final long CPUID_CONFIG_VALUES = FieldTable.SYS.id("CPUID_CONFIG_VALUES");

    // A TD's, read by TDH.MNG.RD.
    static final long TSC_OFFSET = FieldTable.TD.id("TSC_OFFSET");
    static final long CPUID_VALUES = FieldTable.TD.id("CPUID_VALUES");

    // A VCPU's, read and written by TDH.VP.RD and TDH.VP.WR.
    static final long VCPU_STATE_DETAILS = FieldTable.VP.id("VCPU_STATE_DETAILS");
    static final long PEND_NMI = FieldTable.VP.id("PEND_NMI");

    /// TDX_FEATURES0: the module does not change RBP.
    static final long FEATURE_NO_RBP_MOD = 1L << 18;
    /// TDX_FEATURES0: TD_CTLS.ENUM_TOPOLOGY exists.
    static final long FEATURE_TOPOLOGY_ENUM = 1L << 20;
    /// VCPU_STATE_DETAILS: an interrupt is pending in the virtual APIC.
    static final long VMXIP = 1;

    private Metadata() {
    }
}
