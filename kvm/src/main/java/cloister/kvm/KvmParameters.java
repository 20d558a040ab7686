package cloister.kvm;

/// What the module is loaded with.
///
/// @param mmioCaching   mmio_caching: whether accesses to MMIO are recognised by an entry of their own. Without it there are no TDs.
///                      [LINUX arch/x86/kvm/mmu/spte.c]
/// @param mmioParameter a choice of [KvmPolicy#MMIO_PARAMETER]
/// @param ept           ept: whether guests' memory is mapped by EPT. Without it their own tables are shadowed, and there are no TDs.
///                      [LINUX arch/x86/kvm/vmx/vmx.c]
/// @param nxHugePages   nx_huge_pages: large pages are not executable, for processors with the multihit erratum, which ours have not.
///                      [LINUX arch/x86/kvm/mmu/mmu.c]
/// @param nxRecoveryRatio    nx_huge_pages_recovery_ratio: one of how many small pages made for execution is given up each time; 0: none
/// @param nxRecoveryPeriodMs nx_huge_pages_recovery_period_ms: milliseconds between two times; 0: an hour by the ratio
public record KvmParameters(boolean mmioCaching, String mmioParameter, boolean ept, boolean nxHugePages, int nxRecoveryRatio,
                            int nxRecoveryPeriodMs) {
    /// Linux's nx_huge_pages_recovery_ratio.
    public static final int NX_RECOVERY_RATIO = 60;
    /// As upstream.
    public static final KvmParameters DEFAULT = new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst());

    /// With EPT.
    public KvmParameters(boolean mmioCaching, String mmioParameter) {
        this(mmioCaching, mmioParameter, true);
    }

    /// Without nx_huge_pages, as upstream on processors without the erratum.
    public KvmParameters(boolean mmioCaching, String mmioParameter, boolean ept) {
        this(mmioCaching, mmioParameter, ept, false, NX_RECOVERY_RATIO, 0);
    }

    /// The same with other parameters of nx_huge_pages.
    public KvmParameters withNxHugePages(boolean on, int recoveryRatio, int recoveryPeriodMs) {
        return new KvmParameters(mmioCaching, mmioParameter, ept, on, recoveryRatio, recoveryPeriodMs);
    }
}
