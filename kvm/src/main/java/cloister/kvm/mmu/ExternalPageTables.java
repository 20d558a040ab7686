package cloister.kvm.mmu;

/// Page tables that only another agent may write, mirrored by KVM: a TD's Secure EPT behind SEAMCALLs. [LINUX
/// set_external_spte, free_external_spt]
public interface ExternalPageTables {
    /// Outcome of an update.
    enum Result { DONE, BUSY, FAILED }

    /// Links an empty table for `gfn` below an entry of `level`. mmu_lock is held shared.
    ///
    /// @param tablePa a frame that the external tables take
    Result linkTable(long gfn, int level, long tablePa);

    /// Maps a page. mmu_lock is held shared.
    Result mapLeaf(long gfn, int level, long pa);

    /// Unmaps a page; no vCPU can reach it any more afterwards. mmu_lock is held exclusively.
    ///
    /// @return false when the page could not be taken back and is lost
    boolean removeLeaf(long gfn, int level, long pa);

    /// Takes back the frame of a table, when the whole address space is gone.
    ///
    /// @return false when the frame is lost
    boolean reclaimTable(long tablePa);
}
