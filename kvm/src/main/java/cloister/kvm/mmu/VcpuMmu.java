package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import cloister.spec.vmx.Ept;
import java.util.List;

/// One vCPU's view of its VM's memory: the roots that it has loaded, by the role that its mode gives. [LINUX struct kvm_mmu,
/// arch/x86/kvm/mmu/mmu.c]
public final class VcpuMmu implements Persistent {
    /// What the vCPU knows that the MMU does not.
    public interface Owner {
        /// Whether a signal waits for the vCPU's thread.
        boolean signalPending();

        /// Whether the VM is broken.
        boolean vmDead();

        /// The vCPU's MTRRs.
        GuestMtrrs mtrrs();

        /// Whether CPUID tells the guest of MTRRs.
        boolean hasMtrrs();

        /// Whether CR0.CD is 1 as the guest sees it.
        boolean cachesDisabled();

        /// The guest's PKRU, where CR4.PKE counts.
        default int protectionKeyRights() {
            return 0;
        }
    }

    // Page-fault error codes; the low bits are those of #PF.
    /// The entry was present.
    public static final long ERROR_PRESENT = PageFault.ERROR_PRESENT;
    /// The access was a write.
    public static final long ERROR_WRITE = PageFault.ERROR_WRITE;
    /// The access was an instruction fetch.
    public static final long ERROR_FETCH = PageFault.ERROR_FETCH;
    /// The access was made with CPL 3.
    public static final long ERROR_USER = PageFault.ERROR_USER;
    /// An explicit supervisor access with RFLAGS.AC: CR4.SMAP does not apply. No bit of #PF.
    public static final long ERROR_ALLOWS_USER = PageFault.ERROR_ALLOWS_USER;
    /// The access went to private memory.
    public static final long ERROR_PRIVATE = PageFault.ERROR_PRIVATE;

    private static final int FOUR_LEVEL_BITS = 48;

    private final Mmu mmu;
    private final Owner owner;
    private final PageFault fault = new PageFault();
    private final DirtyRing ring;
    private int guestAddressBits = FOUR_LEVEL_BITS;
    private boolean smm;
    private boolean guestMode;
    private boolean twoDimensional = true;
    private MmuRole role;
    private MmuPage root;
    private MmuPage mirrorRoot;
    private boolean rootChanged;
    private final MmioCache mmioCache = new MmioCache();
    /// The guest's own tables are shadowed; null as long as they never were.
    private ShadowVcpu shadow;
    private boolean shadowing;
    private long faultGpa;

    /// The MMU of a new vCPU: no root is loaded.
    public VcpuMmu(Mmu mmu, Owner owner) {
        this.mmu = mmu;
        this.owner = owner;
        this.ring = mmu.dirtyLog().newRing();
        chooseRole();
        if (!mmu.masks().isEpt()) {
            guestPaging(0, 0, 0, 0); // without EPT there is nothing but shadow pages
        }
    }

    // --- role

    private void chooseRole() {
        int max = mmu.parameters().maxTdpLevel();
        int level = max == 5 && guestAddressBits <= FOUR_LEVEL_BITS ? 4 : max;
        role = shadowing ? new MmuRole(shadow.rootRole()) : MmuRole.directRoot(level, smm, guestMode, mmu.masks().accessedDirty());
    }

    /// The guest's physical address width: CPUID 80000008 EAX 7:0, of a TD 23:16. More than 48 bits take 5 levels. [LINUX
    /// kvm_mmu_get_tdp_level, kvm_mmu_after_set_cpuid]
    public void guestAddressBits(int bits) {
        guestAddressBits = bits;
        unload();
        chooseRole();
    }

    /// The mode that the vCPU runs in; another one has other roots. [LINUX kvm_init_mmu]
    ///
    /// @param inSmm         system-management mode
    /// @param inGuestMode   a nested guest runs
    /// @param byGuestPhysical whether the tables in use are indexed by the VM's guest-physical addresses: false while those of a
    ///                      nested guest or of a guest's own paging are shadowed
    public void mode(boolean inSmm, boolean inGuestMode, boolean byGuestPhysical) {
        if (mmu.hasMirror() && (inSmm || inGuestMode || !byGuestPhysical)) {
            throw new IllegalStateException("a TD has no system-management mode, and what it nests is not KVM's");
        }
        smm = inSmm;
        guestMode = inGuestMode;
        twoDimensional = byGuestPhysical;
        unload();
        shadowing = shadowing && !byGuestPhysical;
        chooseRole();
    }

    /// The guest translates by its own tables, and they are shadowed: there is no EPT. Called whenever one of the registers changes, with
    /// what they are then. [LINUX kvm_init_shadow_mmu, kvm_mmu_reset_context]
    public void guestPaging(long cr0, long cr3, long cr4, long efer) {
        shadow(GuestPaging.legacy(cr0, cr4, efer, guestAddressBits), cr3);
    }

    /// A guest hypervisor's guest runs, and the EPT that it uses for it is shadowed. [LINUX kvm_init_shadow_ept_mmu]
    ///
    /// @param guestEptp   the guest hypervisor's EPT pointer
    /// @param executeOnly whether the guest hypervisor's processor has pages that can be executed only
    public void guestEpt(long guestEptp, boolean executeOnly) {
        guestMode = true;
        shadow(GuestPaging.ept(guestEptp, executeOnly, guestAddressBits), guestEptp);
    }

    private void shadow(GuestPaging paging, long guestRoot) {
        if (!shadowing) {
            unload();
            shadowing = true;
            twoDimensional = false;
        }
        if (shadow == null) {
            shadow = new ShadowVcpu(mmu, this);
        }
        shadow.use(paging, smm, guestMode, guestRoot);
        chooseRole();
    }

    Owner owner() {
        return owner;
    }

    Mmu mmu() {
        return mmu;
    }

    /// Whether the tables in use are indexed by the VM's guest-physical addresses, see [#mode].
    boolean isByGuestPhysical() {
        return twoDimensional;
    }

    /// The role of the root that the vCPU uses now or will load.
    public MmuRole role() {
        return role;
    }

    private int addressSpace() {
        return smm ? 1 : 0;
    }

    DirtyRing ring() {
        return ring;
    }

    /// The ring of the vCPU's writes, null when writes go to bitmaps.
    public DirtyRing dirtyRing() {
        return ring;
    }

    // --- roots

    /// Loads the roots unless valid ones are loaded; before every entry, and before the tables are used for the vCPU. [LINUX
    /// kvm_mmu_reload]
    ///
    /// @throws KvmException ENOMEM
    public void reload() {
        if (shadowing) {
            rootChanged |= shadow.reload();
            return;
        }
        if (root != null && !root.isInvalid()) {
            return;
        }
        mmu.nxHugePages().recovery().start();
        unload();
        mmu.lockShared();
        try {
            if (mmu.hasMirror() && mirrorRoot == null) {
                mirrorRoot = mmu.tdp().root(MmuRole.mirrored(role.word()));
            }
            root = mmu.tdp().root(role.word());
        } finally {
            mmu.unlockShared();
        }
        rootChanged = true;
    }

    void rootLoaded() {
        rootChanged = true;
    }

    /// The guest dropped its translations of the current address space: shadow pages follow what it changed. [LINUX kvm_mmu_sync_roots]
    public void syncRoots() {
        if (shadowing) {
            shadow.syncRoots();
        }
    }

    /// The guest dropped its translations with `pcid`.
    ///
    /// @param pcidsInUse CR4.PCIDE; without it, only the current address space has translations
    public void invalidatePcid(long pcid, boolean pcidsInUse) {
        if (shadowing) {
            shadow.invalidatePcid(pcid, pcidsInUse);
        }
    }

    /// The guest dropped all translations. [LINUX kvm_vcpu_flush_tlb_guest]
    public void invalidateAll() {
        if (shadowing) {
            shadow.forgetPrevious();
            shadow.syncRoots();
        }
    }

    /// The guest dropped its translations of `address`. [LINUX kvm_mmu_invlpg]
    public void invalidateAddress(long address) {
        if (shadowing) {
            shadow.invalidateAddress(address);
        }
    }

    /// Emulated code wrote for the vCPU to guest-physical `gpa`: where tables are shadowed, the shadow follows. [LINUX
    /// kvm_page_track_write]
    public void trackWrite(long gpa, int bytes) {
        mmu.shadow().trackWrite(gpa, bytes);
    }

    /// Gives up shadowing the table at guest-physical `gpa`. [LINUX kvm_mmu_unprotect_gfn_and_retry]
    ///
    /// @return whether there was one: the access that was refused may be tried again
    public boolean unprotect(long gpa) {
        return mmu.shadow().unprotect(gpa >>> Mmu.PAGE_SHIFT);
    }

    /// Whether a root was loaded that the processor does not know yet. Who asks tells it [#eptp] or [#rootPa], and makes it drop its
    /// translations; asked again, the answer is no.
    public boolean takeRootChange() {
        boolean changed = rootChanged;
        rootChanged = false;
        return changed;
    }

    /// Gives the direct root back; a TD's mirror stays until the vCPU goes. [LINUX kvm_mmu_unload]
    public void unload() {
        mmioCache.dropGvas();
        if (shadowing) {
            shadow.unload();
        }
        if (root == null) {
            return;
        }
        mmu.lockShared();
        mmu.tdp().put(root);
        mmu.unlockShared();
        root = null;
    }

    /// The vCPU goes.
    public void destroy() {
        unload();
        if (shadow != null) {
            shadow.destroy();
        }
        if (mirrorRoot != null) {
            mmu.lockShared();
            mmu.tdp().put(mirrorRoot);
            mmu.unlockShared();
            mirrorRoot = null;
        }
    }

    /// Whether a root is loaded.
    public boolean isLoaded() {
        return shadowing ? shadow.isLoaded() : root != null;
    }

    /// The physical address of the loaded direct root, or of the shadow of a guest's.
    public long rootPa() {
        return shadowing ? shadow.rootPa() : root.tablePa;
    }

    /// The EPT pointer of the loaded direct root: write-back, accessed and dirty flags when the processor has them. [SDM Vol. 3 "EPT
    /// Pointer"]
    public long eptp() {
        int level = shadowing ? shadow.rootLevel() : root.level();
        return rootPa() | Ept.TYPE_WB | ((long) (level - 1) << 3)
                | (mmu.masks().accessedDirty() ? Ept.EPTP_ACCESSED_DIRTY : 0);
    }

    // --- faults

    /// Handles an access that the tables did not let through. [LINUX kvm_mmu_page_fault]
    ///
    /// @param gpa   with the SHARED bit, if there is one; where tables of a guest are shadowed, the address that these translate
    /// @param error ERROR_ bits; in a VM whose attributes alone tell private memory, PRIVATE is added
    public FaultResult fault(long gpa, long error) {
        boolean isPrivate = !shadowing && !mmu.hasMirror() && mmu.isPrivate(gpa >>> Mmu.PAGE_SHIFT);
        return handle(gpa, isPrivate ? error | ERROR_PRIVATE : error, false);
    }

    /// Whether the access that was handled last was one to private memory.
    public boolean lastFaultWasPrivate() {
        return fault.isPrivate;
    }

    /// The guest-physical address that the last fault came to, when the guest's tables translated it.
    public long faultGpa() {
        return faultGpa;
    }

    /// After [FaultResult#REFLECT]: the error code of the page fault that the guest gets. For a guest's EPT, the bit of reserved bits means
    /// a misconfiguration.
    public int guestError() {
        return shadow.walker().errorCode;
    }

    /// After [FaultResult#REFLECT] of a guest's EPT: the access and the rights, as in an exit qualification.
    public long guestQualification() {
        return shadow.walker().exitQualification;
    }

    /// After [FaultResult#WRITE_PROTECTED]: whether the write goes to a table that its own translation uses. [#unprotect] does not help
    /// then.
    public boolean wroteOwnTable() {
        return shadowing && shadow.wroteOwnTable();
    }

    MemSlot slot(long gfn) {
        return mmu.slots().find(addressSpace(), gfn);
    }

    /// Whether the slot of `gpa` is being deleted or moved.
    public boolean slotIsGoing(long gpa) {
        var slot = mmu.slots().find(addressSpace(), (gpa >>> Mmu.PAGE_SHIFT) & ~mmu.directBits());
        return slot != null && slot.isInvalid();
    }

    private FaultResult handle(long gpa, long error, boolean prefetch) {
        int reading = mmu.slotReaders().readLock();
        try {
            fault.start(error, prefetch, mmu.nxHugePages().enabled());
            faultGpa = gpa;
            if (shadowing) {
                var shadowed = shadow.fault(fault, gpa, error & ~PageFault.ERROR_RESERVED, owner.protectionKeyRights());
                faultGpa = (fault.gfn << Mmu.PAGE_SHIFT) | (gpa & ((1L << Mmu.PAGE_SHIFT) - 1));
                return shadowed;
            }
            fault.gfn = (gpa >>> Mmu.PAGE_SHIFT) & ~mmu.directBits();
            fault.slot = mmu.slots().find(addressSpace(), fault.gfn);
            var result = handle(fault);
            return result == FaultResult.EMULATE && fault.isPrivate ? FaultResult.MEMORY_FAULT : result;
        } finally {
            mmu.slotReaders().readUnlock(reading);
        }
    }

    private FaultResult handle(PageFault f) {
        if (root == null) {
            return FaultResult.RETRY;
        }
        if ((f.gfn | mmu.rootBits(root)) >>> (9 * root.level()) != 0) {
            // Where the tables do not reach: no entry may stand for it, and there is nothing to map.
            return f.slot == null && !f.isPrivate ? FaultResult.EMULATE : FaultResult.FAULT;
        }
        if (f.present && f.write && !f.reserved && mmu.shadow().isTracked(f.slot, f.gfn)) {
            return FaultResult.WRITE_PROTECTED;
        }
        if (canBeFast(f)) {
            var fast = mmu.tdp().fastFault(this, root, f);
            if (fast != null) {
                return fast;
            }
        }
        var result = mmu.faultIn().find(this, f);
        if (result != null) {
            return result;
        }
        mmu.lockShared();
        try {
            boolean stale = root.isInvalid() || (f.slot != null && mmu.mustRetry(f.invalidationSequence, f.gfn));
            return stale ? FaultResult.RETRY : mmu.tdp().map(this, f.isPrivate && mirrorRoot != null ? mirrorRoot : root, f);
        } finally {
            mmu.unlockShared();
        }
    }

    /// [LINUX page_fault_can_be_fast]
    private boolean canBeFast(PageFault f) {
        if (f.reserved || f.slot == null || (f.isPrivate && mmu.hasMirror()) || f.isPrivate != mmu.isPrivate(f.gfn)) {
            return false;
        }
        return f.present ? f.write : !mmu.masks().accessedDirty();
    }

    /// Handles an entry with reserved bits or a misconfiguration: MMIO that is cached, or once was. [LINUX handle_mmio_page_fault]
    public FaultResult misconfiguration(long gpa) {
        if (twoDimensional && mmioCache.hasGpa(gpa, mmu.slots().generation(addressSpace()))) {
            return FaultResult.EMULATE;
        }
        long spte = lookUp(gpa);
        if (!mmu.masks().isMmio(spte, mmu.mmioValue())) {
            return FaultResult.RETRY; // zapped meanwhile
        }
        long generation = mmu.slots().generation(addressSpace());
        if ((generation & MemSlotSet.UPDATE_IN_PROGRESS) != 0
                || Spte.generation(spte) != (generation & Spte.GENERATION_MASK)) {
            return handle(gpa, PageFault.ERROR_RESERVED, false);
        }
        rememberMmio(gpa >>> Mmu.PAGE_SHIFT);
        faultGpa = shadowing ? mmu.masks().mmioGpa(spte) | (gpa & ((1L << Mmu.PAGE_SHIFT) - 1)) : gpa;
        return FaultResult.EMULATE;
    }

    void rememberMmio(long gfn) {
        if (shadowing) {
            return; // the address of the access is no guest-physical one
        }
        mmioCache.remember(0, gfn, 0, mmu.slots().generation(addressSpace()));
    }

    /// Where the last access to MMIO went.
    MmioCache mmioCache() {
        return mmioCache;
    }

    private long lookUp(long gpa) {
        var start = shadowing ? shadow.rootFor(gpa) : root;
        if (start == null) {
            return Spte.NONPRESENT;
        }
        mmu.tdp().tables.beginWalk();
        try {
            return mmu.tdp().lookUp(start, (gpa >>> Mmu.PAGE_SHIFT) & ~mmu.directBits());
        } finally {
            mmu.tdp().tables.endWalk();
        }
    }

    /// Whether the mirror root maps `gpa`.
    public boolean isPrivateMapped(long gpa) {
        if (mirrorRoot == null) {
            return false;
        }
        mmu.tdp().tables.beginWalk();
        try {
            return Spte.isPresent(mmu.tdp().lookUp(mirrorRoot, gpa >>> Mmu.PAGE_SHIFT));
        } finally {
            mmu.tdp().tables.endWalk();
        }
    }

    // --- populating

    /// Maps the page of `gpa` before anybody accesses it. [LINUX kvm_tdp_page_prefault]
    ///
    /// @param gpa   with the SHARED bit, if there is one
    /// @param error ERROR_ bits
    /// @return the level of the mapping, at least 1; or a negative error number: EOPNOTSUPP in a mode whose tables are not indexed by
    ///         guest-physical address, EINTR, EIO, ENOENT where only MMIO is, EAGAIN while the slot goes, EFAULT, ENOMEM
    public int mapPage(long gpa, long error) {
        if (!twoDimensional) {
            return -Errno.EOPNOTSUPP.number();
        }
        while (true) {
            if (owner.signalPending()) {
                return -Errno.EINTR.number();
            }
            if (owner.vmDead()) {
                return -Errno.EIO.number();
            }
            switch (handle(gpa, error, true)) {
                case RETRY -> {
                    mmu.letOthersRun();
                    reload();
                }
                case FIXED, SPURIOUS, WRITE_PROTECTED -> {
                    return fault.goalLevel;
                }
                case EMULATE -> {
                    return -Errno.ENOENT.number();
                }
                case INVALID_SLOT -> {
                    return -Errno.EAGAIN.number();
                }
                case MEMORY_FAULT, FAULT, REFLECT -> {
                    return -Errno.EFAULT.number();
                }
                case NO_MEMORY -> {
                    return -Errno.ENOMEM.number();
                }
                case BUGGED -> {
                    return -Errno.EIO.number();
                }
            }
        }
    }

    /// Maps a page of a guest_memfd whose frame is known, by the mirror root. slots_lock is held, and a root is loaded. [LINUX
    /// kvm_tdp_mmu_map_private_pfn]
    ///
    /// @return 0, or a negative error number: EINTR, EIO (also when it was mapped already), ENOMEM
    public int mapPrivate(long gpa, long pagePa) {
        while (true) {
            if (owner.signalPending()) {
                return -Errno.EINTR.number();
            }
            if (owner.vmDead()) {
                return -Errno.EIO.number();
            }
            fault.start(ERROR_PRIVATE, true, false);
            fault.gfn = gpa >>> Mmu.PAGE_SHIFT;
            fault.slot = mmu.slots().find(addressSpace(), fault.gfn);
            fault.pa = pagePa;
            fault.mayWrite = true;
            fault.maxLevel = 1;
            mmu.lockShared();
            FaultResult result;
            try {
                result = mmu.tdp().map(this, mirrorRoot, fault);
            } finally {
                mmu.unlockShared();
            }
            if (result == FaultResult.RETRY) {
                mmu.letOthersRun();
            } else {
                return result == FaultResult.FIXED ? 0
                        : -(result == FaultResult.NO_MEMORY ? Errno.ENOMEM : Errno.EIO).number();
            }
        }
    }

    /// The shadow roots that the vCPU has, for who inspects the VM.
    public void inspectRoots(List<KvmInspection.Root> found) {
        if (shadow != null) {
            shadow.inspect(found);
        }
    }

    @Override public String stateName() {
        return "mmu";
    }

    @Override public void describe(StateSink to) {
        to.field("guestAddressBits", guestAddressBits);
        to.flag("smm", smm);
        to.flag("guestMode", guestMode);
        to.flag("twoDimensional", twoDimensional);
        to.text("role", role.word());
        to.field("root", root == null ? 0 : root.tablePa);
        to.field("mirrorRoot", mirrorRoot == null ? 0 : mirrorRoot.tablePa);
        to.flag("rootChanged", rootChanged);
        to.flag("shadowing", shadowing);
        to.flag("ring", ring != null);
        if (ring != null) {
            to.part(ring);
        }
    }
}
