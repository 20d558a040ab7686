package cloister.kvm.mmu;

/// What KVM knows of one page of page tables. [LINUX struct kvm_mmu_page]
final class MmuPage {
    /// [MmuRole] of the page. Only `invalid` changes in the life of a page.
    int role;
    /// The first guest frame that the page maps, without the SHARED bit.
    long gfn;
    /// The frame with the entries.
    long tablePa;
    /// Of a mirror page: the frame that the external tables hold in its place, 0 for a root.
    long externalPa;
    /// The page whose entry links this one, null for a root.
    MmuPage parent;
    int parentIndex;
    /// References to a root: one of the MMU itself until it is invalidated, one of each vCPU that has it loaded.
    int rootCount;
    /// The root is invalid and waits for being zapped by who invalidated it.
    boolean scheduledToZap;
    /// A large page was refused here because it would have been executable. [LINUX nx_huge_page_disallowed]
    boolean nxHugePageDisallowed;
    /// Links of the list of pages that could become large again, were it not for execution.
    boolean possibleNxHugePage;
    /// Of a page that shadows a guest's table, or that maps below one; null in the trees of two-dimensional paging.
    ShadowState shadow;

    int level() {
        return MmuRole.level(role);
    }

    boolean isMirror() {
        return MmuRole.isMirror(role);
    }

    boolean isInvalid() {
        return MmuRole.isInvalid(role);
    }

    int addressSpace() {
        return MmuRole.addressSpace(role);
    }
}
