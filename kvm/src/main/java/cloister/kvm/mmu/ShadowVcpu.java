package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import cloister.spec.kvm.Errno;
import cloister.spec.x86.Pte;
import java.util.ArrayList;
import java.util.List;

/// One vCPU's use of shadow pages: the guest's paging, the roots for it, and faults. [LINUX shadow_mmu_init_context,
/// mmu_alloc_shadow_roots, kvm_mmu_new_pgd, FNAME(page_fault)]
final class ShadowVcpu {
    /// Roots of other address spaces that are kept. (KVM_MMU_NUM_PREV_ROOTS)
    private static final int PREVIOUS = 3;
    private static final int PAE_ROOTS = 4;
    private static final int PAE_SHIFT = 18;
    private static final long FOUR_GIB = 1L << 32;
    private static final int MOST_TRIES = 4096;
    private static final long PCID_MASK = 0xfff;

    private final Mmu mmu;
    private final VcpuMmu vcpu;
    private final ShadowMmu shadow;
    private final GuestMemory memory;
    private final GuestWalker walker;
    private final ShadowFaults faults;
    private GuestPaging paging;
    private int rootRole;
    private long guestRoot;
    private final long[] pdptes = new long[PAE_ROOTS];
    private MmuPage root;
    private final MmuPage[] paeRoots = new MmuPage[PAE_ROOTS];
    /// The processor's PDPTEs, 0 before PAE paging is used first.
    private long paeTablePa;
    private final MmuPage[] previous = new MmuPage[PREVIOUS];
    private final long[] previousRoots = new long[PREVIOUS];
    private boolean loaded;

    ShadowVcpu(Mmu mmu, VcpuMmu vcpu) {
        this.mmu = mmu;
        this.vcpu = vcpu;
        this.shadow = mmu.shadow();
        this.memory = new GuestMemory(mmu);
        this.walker = new GuestWalker(memory);
        this.faults = new ShadowFaults(mmu, vcpu, this);
    }

    GuestPaging paging() {
        return paging;
    }

    int rootRole() {
        return rootRole;
    }

    GuestMemory memory() {
        return memory;
    }

    GuestWalker walker() {
        return walker;
    }

    long guestRoot() {
        return guestRoot;
    }

    long[] pdptes() {
        return pdptes;
    }

    boolean isLoaded() {
        return loaded;
    }

    // --- what the guest uses

    /// The guest's paging changed, or the table it begins with: other roots. [LINUX kvm_init_mmu]
    ///
    /// @param newRoot CR3 or the EPT pointer
    void use(GuestPaging newPaging, boolean smm, boolean guestMode, long newRoot) {
        int role = MmuRole.shadowRoot(newPaging, smm, guestMode);
        if (!newPaging.equals(paging) || role != rootRole) {
            unload();
            paging = newPaging;
            rootRole = role;
        }
        newRoot(newRoot);
        if (paging.isPae()) {
            loadPdptes();
        }
    }

    /// The registers into which PAE paging loads the table of CR3. A table outside of memory has no present entries. [LINUX load_pdptrs]
    private void loadPdptes() {
        for (int i = 0; i < PAE_ROOTS; i++) {
            long entry;
            try {
                entry = memory.read((guestRoot & 0xffff_ffe0L) + (8 * i), 8);
            } catch (KvmException outsideMemory) {
                entry = 0;
            }
            if (entry != pdptes[i]) {
                pdptes[i] = entry;
                unload();
            }
        }
    }

    /// MOV to CR3: takes a root that is still there, or has one loaded before the next entry. [LINUX kvm_mmu_new_pgd, fast_pgd_switch]
    private void newRoot(long newRoot) {
        if (newRoot == guestRoot) {
            return;
        }
        if (!loaded || !paging.hasSingleRoot()) {
            unload();
            guestRoot = newRoot;
            return;
        }
        // The current root goes to the front of the previous ones; the one that is wanted comes out, or the last one goes.
        var wanted = root;
        long wantedRoot = guestRoot;
        for (int i = 0; i < PREVIOUS; i++) {
            var page = previous[i];
            long value = previousRoots[i];
            previous[i] = wanted;
            previousRoots[i] = wantedRoot;
            wanted = page;
            wantedRoot = value;
            if (page != null && value == newRoot) {
                break;
            }
        }
        guestRoot = newRoot;
        root = null;
        loaded = false;
        if (wanted != null && wantedRoot == newRoot && !shadow.mustReload(wanted)) {
            root = wanted;
            loaded = true;
            vcpu.rootLoaded();
        } else if (wanted != null) {
            giveBack(wanted);
        }
    }

    private void giveBack(MmuPage page) {
        mmu.lockExclusive();
        shadow.put(page);
        mmu.unlockExclusive();
    }

    /// Gives all roots back. [LINUX kvm_mmu_unload]
    void unload() {
        forgetPrevious();
        unloadCurrent();
    }

    /// Gives the roots back that are kept for other address spaces.
    void forgetPrevious() {
        for (int i = 0; i < PREVIOUS; i++) {
            if (previous[i] != null) {
                giveBack(previous[i]);
                previous[i] = null;
            }
        }
    }

    private void unloadCurrent() {
        for (int i = 0; i < PAE_ROOTS; i++) {
            if (paeRoots[i] != null) {
                giveBack(paeRoots[i]);
                paeRoots[i] = null;
            }
        }
        if (root != null) {
            giveBack(root);
            root = null;
        }
        loaded = false;
    }

    void destroy() {
        unload();
        if (paeTablePa != 0) {
            mmu.module().frames().free(paeTablePa);
        }
    }

    /// Whether a loaded root must be given back: it is obsolete. [LINUX is_obsolete_root]
    boolean isStale() {
        if (root != null && shadow.mustReload(root)) {
            return true;
        }
        for (var page : paeRoots) {
            if (page != null && shadow.mustReload(page)) {
                return true;
            }
        }
        return false;
    }

    // --- roots

    /// Loads roots unless valid ones are loaded. [LINUX kvm_mmu_load]
    ///
    /// @return whether others are loaded than before
    /// @throws KvmException ENOMEM
    boolean reload() {
        if (loaded && !isStale()) {
            return false;
        }
        unloadCurrent();
        for (int i = 0; i < PREVIOUS; i++) {
            if (previous[i] != null && shadow.mustReload(previous[i])) {
                giveBack(previous[i]);
                previous[i] = null;
            }
        }
        if (!paging.hasSingleRoot() && paeTablePa == 0) {
            paeTablePa = allocateBelowFourGib();
        }
        mmu.lockExclusive();
        try {
            if (!shadow.makeAvailable()) {
                throw new KvmException(Errno.ENOSPC, "the quota of shadow pages is used up by roots");
            }
            if (paging.hasSingleRoot()) {
                root = take(paging.tableGfn(guestRoot), rootRole);
            } else {
                loadPaeRoots();
            }
            loaded = true;
            synchronize();
        } finally {
            mmu.unlockExclusive();
        }
        return true;
    }

    /// A table outside of memory has an empty root: the walk tells the guest. [LINUX kvm_mmu_is_dummy_root]
    private MmuPage take(long gfn, int role) {
        var page = shadow.page(this, gfn, role);
        page.rootCount++;
        return page;
    }

    private void loadPaeRoots() {
        for (int i = 0; i < PAE_ROOTS; i++) {
            long gfn = paging.isPae() ? paging.tableGfn(pdptes[i]) : paging.translates() ? paging.tableGfn(guestRoot)
                    : (long) i << PAE_SHIFT;
            if (!paging.isPae() || (pdptes[i] & Pte.P) != 0) {
                // A directory of 32-bit paging takes four pages, of 1 GiB each.
                paeRoots[i] = take(gfn, paging.entryBytes() == 4 ? MmuRole.withQuadrant(rootRole, i) : rootRole);
            }
            mmu.module().memory().write(paeTablePa + (8 * i), 8, paeRoots[i] == null ? 0 : paeRoots[i].tablePa | Pte.P);
        }
    }

    /// CR3 holds 32 bits in PAE paging. (__GFP_DMA32)
    private long allocateBelowFourGib() {
        var frames = mmu.module().frames();
        var tooHigh = new ArrayList<Long>();
        try {
            for (int tries = 0; tries < MOST_TRIES; tries++) {
                long pa = frames.allocate();
                if (pa < FOUR_GIB) {
                    return pa;
                }
                tooHigh.add(pa);
            }
        } finally {
            tooHigh.forEach(frames::free);
        }
        throw new KvmException(Errno.ENOMEM, "no platform memory below 4 GiB is free for the root of PAE paging");
    }

    /// The address of the tables for the processor: CR3 or the EPT pointer without its other bits.
    long rootPa() {
        return root != null ? root.tablePa : paeTablePa;
    }

    int rootLevel() {
        return root.level();
    }

    /// Brings what is below the loaded roots up to date. mmu_lock is held exclusively. [LINUX kvm_mmu_sync_roots]
    private void synchronize() {
        if (rootIsDirect()) {
            return;
        }
        if (root != null) {
            shadow.sync().children(this, root);
        }
        for (var page : paeRoots) {
            if (page != null && !page.isInvalid()) {
                shadow.sync().children(this, page);
            }
        }
    }

    private boolean rootIsDirect() {
        return MmuRole.isDirect(rootRole);
    }

    /// The guest dropped all translations of the address space that it uses. [LINUX kvm_mmu_sync_roots]
    void syncRoots() {
        if (!loaded || rootIsDirect()) {
            return;
        }
        mmu.lockExclusive();
        try {
            synchronize();
        } finally {
            mmu.unlockExclusive();
        }
    }

    /// The guest dropped the translations of `pcid`: roots that are kept for it go. [LINUX kvm_invalidate_pcid]
    void invalidatePcid(long pcid, boolean pcidsInUse) {
        if (!pcidsInUse || (guestRoot & PCID_MASK) == pcid) {
            syncRoots();
        }
        for (int i = 0; pcidsInUse && i < PREVIOUS; i++) {
            if (previous[i] != null && (previousRoots[i] & PCID_MASK) == pcid) {
                giveBack(previous[i]);
                previous[i] = null;
            }
        }
    }

    /// INVLPG, in all roots: a page may be global. [LINUX kvm_mmu_invalidate_addr]
    void invalidateAddress(long address) {
        if (!loaded || rootIsDirect()) {
            return;
        }
        mmu.lockExclusive();
        try {
            var current = root != null ? root : paeRoots[(int) (address >>> 30) & 3];
            if (current != null) {
                shadow.sync().address(this, current, address);
            }
            for (var page : previous) {
                if (page != null && !page.isInvalid()) {
                    shadow.sync().address(this, page, address);
                }
            }
        } finally {
            mmu.unlockExclusive();
        }
    }

    /// The shadow page at which walks for `address` begin, null where PAE paging has none.
    MmuPage rootFor(long address) {
        return root != null ? root : paeRoots[(int) (address >>> 30) & 3];
    }

    // --- faults

    FaultResult fault(PageFault f, long address, long error, int pkru) {
        return faults.handle(f, address, error, pkru);
    }

    /// Whether the last fault was a write to a table that its own translation uses: the guest cannot write there on its own.
    boolean wroteOwnTable() {
        return faults.wroteOwnTable();
    }

    /// The roots of 4 or 5 levels, for who inspects the VM.
    void inspect(List<KvmInspection.Root> found) {
        for (int i = -1; i < PREVIOUS; i++) {
            var page = i < 0 ? root : previous[i];
            if (page != null && page.level() >= 4) {
                found.add(new KvmInspection.Root(KvmInspection.Tables.SHADOW, page.tablePa, page.level(), shadow.mustReload(page),
                        page.addressSpace()));
            }
        }
    }
}
