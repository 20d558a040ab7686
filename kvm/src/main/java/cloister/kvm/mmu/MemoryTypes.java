package cloister.kvm.mmu;

import cloister.kvm.Defect;
import cloister.sim.Persistent;
import cloister.sim.StateSink;

/// How a VM's mappings are cached: the policy, and what it goes by.
public final class MemoryTypes implements Persistent {
    private final Mmu mmu;
    private MemoryTypePolicy policy = MemoryTypePolicy.upstream();
    private int noncoherentDma;
    private boolean ignoreGuestPatQuirk = true;
    private boolean cacheDisableQuirk = true;

    MemoryTypes(Mmu mmu) {
        this.mmu = mmu;
    }

    /// Chooses the policy. Nothing must be mapped yet.
    public void policy(MemoryTypePolicy chosen) {
        policy = chosen;
    }

    /// KVM_X86_QUIRK_IGNORE_GUEST_PAT on or off.
    public void ignoreGuestPatQuirk(boolean on) {
        ignoreGuestPatQuirk = on;
    }

    boolean hasIgnoreGuestPatQuirk() {
        return ignoreGuestPatQuirk;
    }

    /// KVM_X86_QUIRK_CD_NW_CLEARED on or off.
    public void cacheDisableQuirk(boolean on) {
        cacheDisableQuirk = on;
    }

    /// Whether memory stays write-back while the guest has CR0.CD set.
    public boolean clearsCacheDisable() {
        return cacheDisableQuirk;
    }

    /// Whether a device whose accesses bypass the caches is attached to the VM.
    public boolean hasNoncoherentDma() {
        return noncoherentDma != 0;
    }

    /// Whether the guest's PAT has no effect: the quirk is on and every device's accesses are coherent. [LINUX vmx_ignore_guest_pat]
    public boolean ignoresGuestPat() {
        return ignoreGuestPatQuirk && noncoherentDma == 0;
    }

    /// A device whose accesses bypass the caches is attached to the VM or detached. With the first and after the last of them types
    /// change, and so the mappings go, but those of a TD's private memory; not where the policy has guest PAT count anyway. [LINUX
    /// kvm_noncoherent_dma_assignment_start_or_stop]
    public void noncoherentDma(boolean attached) {
        int before = noncoherentDma;
        noncoherentDma += attached ? 1 : -1;
        if ((before == 0) == (noncoherentDma == 0)) {
            return;
        }
        if (mmu.has(Defect.NONCOHERENT_DMA_ZAPS_MIRROR)) {
            mmu.zap(0, mmu.maxGfn() + 1, TdpMmu.VALID);
        } else if (policy.followsDevices(this)) {
            mmu.zapRange(0, mmu.maxGfn() + 1);
        }
    }

    /// A vCPU's MTRRs say other types for guest-physical addresses `[first, end)`, or its CR0.CD has changed, for which these are all
    /// addresses. Mappings whose type came from there go. [LINUX v6.8 update_mtrr, kvm_post_set_cr0]
    public void guestTypesChanged(long first, long end) {
        if (policy.followsGuest(this)) {
            long last = Math.min((end - 1) >>> Mmu.PAGE_SHIFT, mmu.maxGfn());
            mmu.zapRange(first >>> Mmu.PAGE_SHIFT, last + 1);
        }
    }

    /// @param vcpu for which the page is mapped, or null for no one in particular
    int maxLevel(VcpuMmu vcpu, long gfn, int level) {
        if (vcpu == null) {
            return policy.followsGuest(this) ? 1 : level;
        }
        return policy.maxLevel(this, vcpu.owner(), gfn, level);
    }

    long typeBits(VcpuMmu vcpu, long gfn, int level, boolean hostMmio) {
        return policy.typeBits(this, vcpu.owner(), gfn, level, hostMmio);
    }

    @Override public String stateName() {
        return "memoryTypes";
    }

    @Override public void describe(StateSink to) {
        to.field("noncoherentDma", noncoherentDma);
        to.flag("ignoreGuestPatQuirk", ignoreGuestPatQuirk);
        to.flag("cacheDisableQuirk", cacheDisableQuirk);
    }
}
