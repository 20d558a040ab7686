package cloister.kvm.mmu;

/// Which memory type a mapping gets. One per VM, chosen by name; see the factories for what there is.
@FunctionalInterface
public interface MemoryTypePolicy {
    /// The memory type of a leaf entry. [LINUX get_mt_mask]
    ///
    /// @param mmu      the VM's MMU: [Mmu#hasNoncoherentDma], [Mmu#ignoresGuestPat]
    /// @param gfn      the first guest frame of the page
    /// @param level    1 for 4 KiB; a policy by ranges must have said in [#maxLevel] that the whole page has one type
    /// @param hostMmio whether the page behind is no memory
    /// @return bits of an EPT entry: memory type in 5:3, ignore-PAT in 6
    long typeBits(Mmu mmu, long gfn, int level, boolean hostMmio);

    /// The largest level up to `level` whose page around `gfn` has one type.
    default int maxLevel(Mmu mmu, long gfn, int level) {
        return level;
    }

    /// The policy of Linux 7.2, `upstream-7.2`: uncached for host MMIO, else write-back; the guest's PAT is ignored unless non-coherent
    /// DMA is attached or the quirk is off.
    static MemoryTypePolicy upstream() {
        return UpstreamMemoryType.INSTANCE;
    }
}
