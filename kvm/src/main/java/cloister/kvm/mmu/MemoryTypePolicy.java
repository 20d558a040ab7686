package cloister.kvm.mmu;

/// Which memory type a mapping gets. One per VM, chosen by name: [#named].
public interface MemoryTypePolicy {
    /// The memory type of a leaf entry. [LINUX get_mt_mask]
    ///
    /// @param types    what the VM's mappings go by
    /// @param vcpu     for which the entry is made; its MTRRs and CR0.CD may count
    /// @param gfn      the first guest frame of the page
    /// @param level    1 for 4 KiB; a policy by ranges must have said in [#maxLevel] that the whole page has one type
    /// @param hostMmio whether the page behind is no memory
    /// @return bits of an EPT entry: memory type in 5:3, ignore-PAT in 6
    long typeBits(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level, boolean hostMmio);

    /// The largest level up to `level` whose page around `gfn` has one type.
    default int maxLevel(MemoryTypes types, VcpuMmu.Owner vcpu, long gfn, int level) {
        return level;
    }

    /// Whether entries depend on the attached devices, so that the first one with non-coherent DMA, and the end of the last, make them
    /// wrong.
    boolean followsDevices(MemoryTypes types);

    /// Whether entries depend on the vCPU's MTRRs and CR0.CD now, so that a change of these makes them wrong.
    default boolean followsGuest(MemoryTypes types) {
        return false;
    }

    /// The policy of Linux 7.2, `upstream-7.2`: uncached for host MMIO, else write-back; the guest's PAT is ignored unless non-coherent
    /// DMA is attached or the quirk is off.
    static MemoryTypePolicy upstream() {
        return UpstreamMemoryType.INSTANCE;
    }

    /// The policy of earlier versions, `mtrr`: with non-coherent DMA the guest's MTRRs and CR0.CD decide.
    static MemoryTypePolicy byGuestMtrrs() {
        return MtrrMemoryType.INSTANCE;
    }

    /// The policy called `name`, or null when there is none.
    static MemoryTypePolicy named(String name) {
        return switch (name) {
            case "upstream-7.2" -> upstream();
            case "mtrr" -> byGuestMtrrs();
            case "proposed-2023" -> ProposedTdMemoryType.INSTANCE;
            default -> null;
        };
    }
}
