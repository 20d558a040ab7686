package cloister.kvm.mmu;

/// Parameters of the module and properties of the processor that page tables depend on. [LINUX Documentation/admin-guide/
/// kernel-parameters.txt]
///
/// @param nxHugePages      large pages are not executable (nx_huge_pages)
/// @param eagerPageSplit   large pages are split when dirty logging starts, not when they are written (eager_page_split)
/// @param maxHugePageLevel the largest page: 1, 2 or 3 for 1 GiB
/// @param maxTdpLevel      levels that the processor can walk: 4 or 5
/// @param cpuDirtyLogSize  entries of the processor's own dirty log, 0 when it has none: then only write protection shows writes
/// @param nxRecovery       how fast small pages are given up that nx_huge_pages made
public record MmuParameters(boolean nxHugePages, boolean eagerPageSplit, int maxHugePageLevel, int maxTdpLevel, int cpuDirtyLogSize,
                            NxRecoveryPace nxRecovery) {
    /// What Linux does on a processor with all page sizes, 5-level walks and no dirty log, and without the multihit erratum.
    public static final MmuParameters DEFAULT = new MmuParameters(false, true, Mmu.MAX_HUGE_PAGE_LEVEL, 5, 0);

    /// The same with Linux's pace of recovery.
    public MmuParameters(boolean nxHugePages, boolean eagerPageSplit, int maxHugePageLevel, int maxTdpLevel, int cpuDirtyLogSize) {
        this(nxHugePages, eagerPageSplit, maxHugePageLevel, maxTdpLevel, cpuDirtyLogSize, NxRecoveryPace.DEFAULT);
    }
}
