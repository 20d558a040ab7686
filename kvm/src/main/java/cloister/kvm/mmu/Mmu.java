package cloister.kvm.mmu;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.GuestMemFile;
import cloister.kvm.host.Held;
import cloister.kvm.host.InvalidationListener;
import cloister.kvm.host.Mutex;
import cloister.kvm.host.RwLock;
import cloister.kvm.host.Srcu;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/// The memory of one VM: its slots and attributes, its page tables, and how they follow what the VMM does to its memory. [LINUX
/// Documentation/virt/kvm/x86/mmu.rst]
///
/// Locks, outermost first: slots_lock around changes of slots and attributes; SRCU sections of who looks at slots; mmu_lock around
/// page tables, shared by faults and exclusive for unmapping. [LINUX Documentation/virt/kvm/locking.rst]
public final class Mmu implements Persistent, InvalidationListener, GuestMemFile.Owner {
    /// Pages of 1 GiB.
    public static final int MAX_HUGE_PAGE_LEVEL = 3;
    static final int PAGE_SHIFT = 12;
    static final long PAGE_MASK = (1L << PAGE_SHIFT) - 1;
    private static final long NO_RANGE = -1;
    private static final int SYSTEM_MANAGEMENT_SPACES = 2;
    /// Bits of a guest-physical address that the guest's own tables can hold.
    private static final int GUEST_ADDRESS_BITS = 52;

    private final MmuModule module;
    private final MmuVm vm;
    private final boolean privateMemory;
    private final RwLock lock;
    private final Mutex slotsLock;
    private final FaultIn faultIn;
    private final Srcu slotReaders;
    private final MemSlots slots;
    private final MemoryAttributes attributes = new MemoryAttributes();
    private final TdpMmu tdp;
    private final ShadowMmu shadow;
    private final HugePages hugePages;
    private final NxHugePages nxHugePages;
    private final Tracking tracking;
    private final DirtyLog dirtyLog = new DirtyLog(this);
    private final MemoryTypes memoryTypes = new MemoryTypes(this);
    private ExternalPageTables external;
    private long directBits;
    private long mmioValue;
    private final Set<Defect> defects = EnumSet.noneOf(Defect.class);
    private boolean slotZapAllQuirk;
    private boolean preFaultAllowed = true;
    private boolean mapsForL1;
    private boolean readOnlySlots = true;
    private final PageCounts pages = new PageCounts();
    private long lostPages;

    // Invalidation: who maps a page checks under mmu_lock that none of it changed since before the page was looked up.
    private int activeInvalidations;
    private int invalidationsInProgress;
    private long invalidationSequence;
    private long invalidFirst = NO_RANGE;
    private long invalidEnd = NO_RANGE;

    /// An empty memory.
    ///
    /// @param name          whose, for messages about locks
    /// @param privateMemory whether the VM type has memory attributes; there is no system-management mode then
    public Mmu(MmuModule module, MmuVm vm, String name, boolean privateMemory) {
        this.module = module;
        this.vm = vm;
        this.privateMemory = privateMemory;
        var lockdep = module.lockdep();
        this.lock = new RwLock(lockdep, lockdep.spinning("mmu_lock"), name);
        this.slotsLock = new Mutex(lockdep, lockdep.sleeping("slots_lock"), name);
        this.slotReaders = new Srcu(lockdep, lockdep.sleeping("kvm->srcu"), name);
        this.slots = new MemSlots(this, privateMemory ? 1 : SYSTEM_MANAGEMENT_SPACES);
        this.tdp = new TdpMmu(this, new PageTables(module.memory(), module.frames(), module.scheduler()));
        this.shadow = new ShadowMmu(this, tdp.tables);
        this.hugePages = new HugePages(this, tdp);
        this.nxHugePages = new NxHugePages(this, module);
        this.tracking = new Tracking(this, tdp);
        this.mmioValue = module.masks().mmioValue();
        this.slotZapAllQuirk = !privateMemory;
        this.faultIn = new FaultIn(this);
        module.userMemory().addListener(this);
    }

    // --- what the VM is

    /// The VM is a TD: private memory is mapped by `externalTables`, whose content a mirror root keeps; shared memory by a direct root,
    /// at addresses with `sharedBit`. Slots cannot be read-only, guest PAT counts, and MMIO is told to the guest by #VE. [LINUX
    /// tdx_vm_init, tdx_td_init]
    ///
    /// @param sharedBit the SHARED bit of a guest-physical address
    public void mirror(ExternalPageTables externalTables, long sharedBit) {
        external = externalTables;
        directBits = sharedBit >>> PAGE_SHIFT;
        mmioValue = 0;
        memoryTypes.ignoreGuestPatQuirk(false);
        readOnlySlots = false;
    }

    /// Slots of the VM type cannot be read-only.
    public void forbidReadOnlySlots() {
        readOnlySlots = false;
    }

    /// Sets the mark of the VM's entries for MMIO; 0 makes an access a violation that can become #VE. [LINUX
    /// kvm_mmu_set_mmio_spte_value]
    public void mmioValue(long value) {
        mmioValue = value;
    }

    /// Whether KVM_PRE_FAULT_MEMORY may populate anything yet. [LINUX pre_fault_allowed]
    public void preFaultAllowed(boolean value) {
        preFaultAllowed = value;
    }

    boolean preFaultAllowed() {
        return preFaultAllowed;
    }

    /// Whether KVM_PRE_FAULT_MEMORY populates other tables than the vCPU's, see [cloister.kvm.KvmPolicy#PRE_FAULT].
    public void mapsForL1(boolean value) {
        mapsForL1 = value;
    }

    boolean mapsForL1() {
        return mapsForL1;
    }

    /// Makes the VM do something wrong that KVM once did, so that the consequences can be seen.
    public void plant(Defect defect) {
        defects.add(defect);
    }

    /// Whether the VM was told to do `defect`.
    @Override public boolean has(Defect defect) {
        return defects.contains(defect);
    }

    /// KVM_X86_QUIRK_SLOT_ZAP_ALL on or off: whether deleting a slot drops all page tables.
    public void slotZapAllQuirk(boolean on) {
        slotZapAllQuirk = on && !privateMemory;
    }

    /// Turns the workaround for the multihit erratum on or off; all large pages go. [LINUX set_nx_huge_pages]
    public void nxHugePages(boolean on) {
        if (on != nxHugePages.enabled()) {
            try (var held = slotsLock.lock()) {
                nxHugePages.enabled(on);
                zapAllFast();
            }
        }
    }

    /// Gives up one of every `ratio` tables that are there only because something was executed. [LINUX nx_huge_pages_recovery_ratio]
    public void recoverNxHugePages(int ratio) {
        nxHugePages.recover(ratio);
    }

    /// Whether slots can be read-only.
    public boolean allowsReadOnlySlots() {
        return readOnlySlots;
    }

    boolean hasMirror() {
        return external != null;
    }

    ExternalPageTables external() {
        return external;
    }

    /// The SHARED bit of a TD's guest-physical addresses, 0 for others.
    public long sharedBit() {
        return directBits << PAGE_SHIFT;
    }

    /// The same as a bit of frame numbers. [LINUX kvm_gfn_direct_bits]
    long directBits() {
        return directBits;
    }

    /// What frame numbers have in the tree of `page` beside the guest's. [LINUX kvm_gfn_root_bits]
    long rootBits(MmuPage page) {
        return page.isMirror() ? 0 : directBits;
    }

    /// The last guest frame that can have memory. [LINUX kvm_mmu_max_gfn]
    long maxGfn() {
        int bits = masks().usesEpt() ? masks().maxPhyAddr() : GUEST_ADDRESS_BITS;
        return (1L << (bits - PAGE_SHIFT)) - 1;
    }

    long mmioValue() {
        return mmioValue;
    }

    // --- parts

    /// What all VMs share.
    public MmuModule module() {
        return module;
    }

    SpteMasks masks() {
        return module.masks();
    }

    MmuParameters parameters() {
        return module.parameters();
    }

    /// The memory slots.
    public MemSlots slots() {
        return slots;
    }

    /// The memory attributes.
    public MemoryAttributes attributes() {
        return attributes;
    }

    /// How mappings are cached.
    public MemoryTypes memoryTypes() {
        return memoryTypes;
    }

    /// Which pages were written.
    public DirtyLog dirtyLog() {
        return dirtyLog;
    }

    TdpMmu tdp() {
        return tdp;
    }

    ShadowMmu shadow() {
        return shadow;
    }

    HugePages hugePages() {
        return hugePages;
    }

    NxHugePages nxHugePages() {
        return nxHugePages;
    }

    Tracking tracking() {
        return tracking;
    }

    FaultIn faultIn() {
        return faultIn;
    }

    /// The roots of two-dimensional paging, for who inspects the VM.
    public void inspectRoots(List<KvmInspection.Root> found) {
        tdp.inspect(found);
    }

    // --- locks

    void lockShared() {
        lock.lockShared();
    }

    void unlockShared() {
        lock.unlockShared();
    }

    void lockExclusive() {
        lock.lockExclusive();
    }

    void unlockExclusive() {
        lock.unlockExclusive();
    }

    /// mmu_lock itself, for who must keep page tables from changing. [LINUX tdx_td_vcpu_init]
    public RwLock lock() {
        return lock;
    }

    /// Takes slots_lock.
    public Held lockSlots() {
        return slotsLock.lock();
    }

    /// Sections in which slots that were found stay valid. [LINUX kvm->srcu]
    public Srcu slotReaders() {
        return slotReaders;
    }

    /// KVM_SET_NR_MMU_PAGES: how many shadow pages there may be. slots_lock is held. [LINUX kvm_mmu_change_mmu_pages]
    public void shadowPages(long most) {
        lockExclusive();
        shadow.quota(most);
        unlockExclusive();
    }

    boolean lockIsContended() {
        return lock.isContended();
    }

    /// Lets others have mmu_lock when somebody waits for it.
    ///
    /// @return whether the lock was released meanwhile
    boolean giveWay(boolean shared) {
        return shared ? lock.relaxShared() : lock.relaxExclusive();
    }

    void letOthersRun() {
        module.scheduler().switchPoint(SwitchPoint.YIELD, this, 0);
    }

    // --- the VM

    void flushRemoteTlbs() {
        vm.flushRemoteTlbs();
    }

    void reloadRoots() {
        vm.reloadRoots();
    }

    void syncCpuDirtyLogs() {
        vm.syncCpuDirtyLogs();
    }

    void bug() {
        vm.bug();
    }

    /// A frame that the external tables did not give back is never used again.
    void lost(long pa) {
        lostPages++;
        module.frames().quarantine(pa);
    }

    /// Pages that external tables did not give back.
    public long lostPages() {
        return lostPages;
    }

    /// How many pages of each size the guest has mapped.
    public PageCounts pages() {
        return pages;
    }

    // --- ioctls

    /// KVM_SET_USER_MEMORY_REGION2. @throws KvmException as [MemSlots#setUserRegion]
    public void setMemoryRegion(UserMemoryRegion region) {
        try (var held = slotsLock.lock()) {
            slots.setUserRegion(region);
        }
    }

    /// KVM_SET_MEMORY_ATTRIBUTES. [LINUX kvm_vm_ioctl_set_mem_attributes]
    ///
    /// @return how many pages changed
    /// @throws KvmException EINVAL
    public long setAttributes(long gpa, long size, long newAttributes) {
        long supported = privateMemory ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0;
        require((newAttributes & ~supported) == 0, "attributes 0x" + Long.toHexString(newAttributes));
        require(size != 0 && Long.compareUnsigned(gpa + size, gpa) >= 0, "range is empty or wraps");
        require(((gpa | size) & PAGE_MASK) == 0, "range is not whole pages");
        long first = gpa >>> PAGE_SHIFT;
        long end = (gpa + size) >>> PAGE_SHIFT;
        boolean isPrivate = newAttributes != 0;
        try (var held = slotsLock.lock()) {
            if (attributes.has(first, end, isPrivate)) {
                return 0;
            }
            // Only slots of the one address space: where attributes are, there is no system-management mode.
            boolean found = beginAttributes(first, end, isPrivate);
            long changed = attributes.set(first, end, isPrivate);
            if (found) {
                lock.lockExclusive();
                endInvalidation();
                lock.unlockExclusive();
            }
            return changed;
        }
    }

    private boolean beginAttributes(long first, long end, boolean isPrivate) {
        boolean found = false;
        boolean flush = false;
        for (var slot : slots.set(0).all()) {
            long from = Math.max(first, slot.baseGfn());
            long to = Math.min(end, slot.endGfn());
            if (from >= to) {
                continue;
            }
            if (!found) {
                found = true;
                lock.lockExclusive();
                startInvalidation();
            }
            // A large page that the range cuts must not be made either until the attributes are set.
            long largest = PageTables.span(MAX_HUGE_PAGE_LEVEL);
            addToInvalidation(Math.max(slot.baseGfn(), from & -largest), Math.min(slot.endGfn(), (to + largest - 1) & -largest));
            if (!has(Defect.CONVERSION_LEAVES_MAPPINGS)) {
                flush |= tdp.zapLeaves(0, rootTypes(!isPrivate), from, to, true) | shadow.unmap(slot, from, to);
            }
        }
        if (flush) {
            vm.flushRemoteTlbs();
        }
        if (found) {
            lock.unlockExclusive();
        }
        return found;
    }

    /// The roots that have private or shared mappings. [LINUX kvm_gfn_range_filter_to_root_types]
    private int rootTypes(boolean isPrivate) {
        return TdpMmu.INVALID | (isPrivate && hasMirror() ? TdpMmu.MIRROR : TdpMmu.DIRECT);
    }

    /// Whether guest frame `gfn` is private. [LINUX kvm_mem_is_private]
    boolean isPrivate(long gfn) {
        return privateMemory && attributes.isPrivate(gfn);
    }

    /// KVM_CREATE_GUEST_MEMFD. [LINUX kvm_gmem_create]
    ///
    /// @throws KvmException EINVAL
    public GuestMemFile createGuestMemfd(long size, long flags) {
        require((flags & ~guestMemfdFlags()) == 0, "guest_memfd flags 0x" + Long.toHexString(flags));
        require(size > 0 && (size & PAGE_MASK) == 0, "guest_memfd size " + size);
        return new GuestMemFile(module.frames(), module.userMemory(), size, flags, this);
    }

    /// KVM_CAP_GUEST_MEMFD_FLAGS.
    public long guestMemfdFlags() {
        return privateMemory ? GuestMemFile.FLAG_MMAP : GuestMemFile.FLAG_MMAP | GuestMemFile.FLAG_INIT_SHARED;
    }

    private static void require(boolean condition, String text) {
        if (!condition) {
            throw new KvmException(Errno.EINVAL, text);
        }
    }

    // --- changes of slots, called by MemSlots with slots_lock held

    /// A slot is deleted or moved: what it maps is unmapped. [LINUX kvm_arch_flush_shadow_memslot]
    void flushSlot(MemSlot slot) {
        if (slotZapAllQuirk) {
            zapAllFast();
            return;
        }
        lock.lockExclusive();
        try {
            shadow.zapTables(slot);
            if (tdp.zapLeaves(-1, TdpMmu.VALID | TdpMmu.INVALID, slot.baseGfn(), slot.endGfn(), true)
                    | shadow.unmap(slot, slot.baseGfn(), slot.endGfn())) {
                vm.flushRemoteTlbs();
            }
        } finally {
            lock.unlockExclusive();
        }
    }

    /// The slots have a new generation: when its bits in MMIO entries start anew, entries of old times could pass for new. [LINUX
    /// kvm_arch_memslots_updated]
    void slotsUpdated(long generation) {
        long bits = generation & Spte.GENERATION_MASK & ~(slots.addressSpaces() - 1L);
        if (bits == 0 && masks().mmioCaching()) {
            zapAllFast();
        }
        vm.kickVcpus();
    }

    /// Slots do not change while the VMM's memory does: begin and end of an invalidation meet the same ones. [LINUX
    /// mn_active_invalidate_count]
    void awaitNoInvalidation() {
        while (activeInvalidations != 0) {
            if (module.scheduler().current() == null) {
                throw new IllegalStateException("slots change in the middle of an invalidation of user memory");
            }
            letOthersRun();
        }
    }

    void synchronizeSlotReaders() {
        slotReaders.synchronize();
    }

    // --- dropping all page tables

    /// Makes all direct roots invalid and zaps them while vCPUs go on with new ones. slots_lock is held. [LINUX
    /// kvm_mmu_zap_all_fast]
    void zapAllFast() {
        lock.lockExclusive();
        tdp.invalidateRoots(TdpMmu.DIRECT);
        vm.reloadRoots();
        shadow.zapAllFast();
        lock.unlockExclusive();
        lock.lockShared();
        tdp.zapInvalidatedRoots(true);
        lock.unlockShared();
    }

    /// Unmaps guest frames `[first, end)` in all address spaces; of a TD only what is shared. [LINUX kvm_zap_gfn_range]
    public void zapRange(long first, long end) {
        zap(first, end, hasMirror() ? TdpMmu.DIRECT : TdpMmu.VALID);
    }

    /// The same in the trees that `roots` names: [TdpMmu#DIRECT] or [TdpMmu#VALID].
    void zap(long first, long end, int roots) {
        lock.lockExclusive();
        startInvalidation();
        addToInvalidation(first, end);
        if (tdp.zapLeaves(-1, roots, first, end, true) | shadow.unmapAll(first, end)) {
            vm.flushRemoteTlbs();
        }
        endInvalidation();
        lock.unlockExclusive();
    }

    /// Frees all page tables. No vCPU exists any more; a TD's KeyID is free and its private memory is gone.
    public void destroy() {
        nxHugePages.recovery().stop();
        module.userMemory().removeListener(this);
        lock.lockExclusive();
        shadow.zapAllFast();
        tdp.zapAllDirect();
        tdp.invalidateRoots(TdpMmu.VALID);
        tdp.zapInvalidatedRoots(false);
        lock.unlockExclusive();
    }

    // --- invalidation of what is behind guest frames

    private void startInvalidation() {
        if (invalidationsInProgress++ == 0) {
            invalidFirst = NO_RANGE;
            invalidEnd = NO_RANGE;
        }
    }

    private void addToInvalidation(long first, long end) {
        if (invalidFirst == NO_RANGE) {
            invalidFirst = first;
            invalidEnd = end;
        } else {
            // Ranges of invalidations at the same time grow together until all have ended.
            invalidFirst = Math.min(invalidFirst, first);
            invalidEnd = Math.max(invalidEnd, end);
        }
    }

    private void endInvalidation() {
        invalidationSequence++;
        invalidationsInProgress--;
    }

    long invalidationSequence() {
        return invalidationSequence;
    }

    boolean invalidationInProgress() {
        return invalidationsInProgress != 0;
    }

    /// Whether what was found for `gfn` since `sequence` may have changed. Certain with mmu_lock held, a hint without. [LINUX
    /// mmu_invalidate_retry_gfn]
    boolean mustRetry(long sequence, long gfn) {
        if (has(Defect.FAULT_IGNORES_INVALIDATION)) {
            return false;
        }
        return (invalidationsInProgress != 0 && gfn >= invalidFirst && gfn < invalidEnd) || invalidationSequence != sequence;
    }

    @Override public void beginInvalidation(long start, long end) {
        activeInvalidations++;
        boolean found = false;
        boolean flush = false;
        try (var reading = slotReaders.read()) {
            for (int as = 0; as < slots.addressSpaces(); as++) {
                for (var slot : slots.set(as).all()) {
                    long from = slot.firstGfn(start);
                    long to = slot.endGfn(end);
                    if (from >= to) {
                        continue;
                    }
                    if (!found) {
                        found = true;
                        lock.lockExclusive();
                        startInvalidation();
                    }
                    addToInvalidation(from, to);
                    flush |= tdp.zapLeaves(as, rootTypes(false), from, to, true) | shadow.unmap(slot, from, to);
                }
            }
            if (flush && !has(Defect.INVALIDATION_WITHOUT_FLUSH)) {
                vm.flushRemoteTlbs();
            }
            if (found) {
                lock.unlockExclusive();
            }
        }
    }

    @Override public void endInvalidation(long start, long end) {
        try (var reading = slotReaders.read()) {
            if (concerns(start, end)) {
                lock.lockExclusive();
                endInvalidation();
                lock.unlockExclusive();
            }
        }
        activeInvalidations--;
    }

    @Override public boolean clearAccessed(long start, long end) {
        boolean accessed = false;
        try (var reading = slotReaders.read(); var held = lock.lockShared()) {
            for (int as = 0; as < slots.addressSpaces(); as++) {
                for (var slot : slots.set(as).all()) {
                    long from = slot.firstGfn(start);
                    long to = slot.endGfn(end);
                    accessed |= from < to && tracking.age(as, from, to, false);
                }
            }
        }
        return accessed;
    }

    private boolean concerns(long start, long end) {
        for (int as = 0; as < slots.addressSpaces(); as++) {
            for (var slot : slots.set(as).all()) {
                if (slot.firstGfn(start) < slot.endGfn(end)) {
                    return true;
                }
            }
        }
        return false;
    }

    @Override public void beginGmemInvalidation(List<GuestMemFile.Binding> bindings, long first, long end, boolean isPrivate) {
        if (bindings.isEmpty()) {
            return;
        }
        lock.lockExclusive();
        startInvalidation();
        boolean flush = false;
        for (var binding : bindings) {
            var slot = (MemSlot) binding;
            long from = slot.baseGfn() + Math.max(first, slot.gmemPgoff()) - slot.gmemPgoff();
            long to = slot.baseGfn() + Math.min(end, slot.gmemPgoff() + slot.npages()) - slot.gmemPgoff();
            addToInvalidation(from, to);
            flush |= tdp.zapLeaves(slot.addressSpace(), rootTypes(isPrivate), from, to, true) | shadow.unmap(slot, from, to);
        }
        if (flush) {
            vm.flushRemoteTlbs();
        }
        lock.unlockExclusive();
    }

    @Override public void endGmemInvalidation(List<GuestMemFile.Binding> bindings, long first, long end) {
        if (!bindings.isEmpty()) {
            lock.lockExclusive();
            endInvalidation();
            lock.unlockExclusive();
        }
    }

    // --- finding the page of a fault

    /// The largest page that may map `gfn`. mmu_lock is held. [LINUX kvm_mmu_max_mapping_level]
    ///
    /// @param vcpu for which it is mapped, or null for no one in particular
    int maxMappingLevel(VcpuMmu vcpu, MemSlot slot, long gfn, boolean isPrivate, int limit) {
        int level = Math.min(limit, parameters().maxHugePageLevel());
        while (level > 1 && !(slot.allowsLargePage(gfn, level) && hasOneAttribute(gfn, level))) {
            level--;
        }
        if (level == 1 || isPrivate || slot.gmemOnly()) {
            return 1; // pages of a guest_memfd are small
        }
        level = Math.min(level, module.userMemory().mappingLevel(slot.hva(gfn)));
        return level == 1 ? 1 : memoryTypes.maxLevel(vcpu, gfn, level);
    }

    private boolean hasOneAttribute(long gfn, int level) {
        long span = PageTables.span(level);
        return !privateMemory || attributes.isUniform(gfn & -span, (gfn & -span) + span);
    }

    /// Whether entries of a root with `role` need write protection although the processor has a dirty log. [LINUX
    /// kvm_mmu_page_ad_need_write_protect]
    boolean isNestedWithDirtyLog(int role) {
        return parameters().cpuDirtyLogSize() > 0 && MmuRole.isGuestMode(role);
    }

    /// The entry that a fault puts into `table`. [LINUX make_spte]
    ///
    /// @param allowed ACCESS_ bits of [Spte]
    long leaf(VcpuMmu vcpu, MmuPage table, PageFault fault, int allowed) {
        var masks = masks();
        int level = table.level();
        int access = allowed;
        if (level > 1 && fault.nxHugePages) {
            access &= ~(Spte.ACCESS_EXECUTE | Spte.ACCESS_USER_EXECUTE);
        }
        long adType = !MmuRole.hasAccessedDirty(table.role) ? Spte.AD_DISABLED
                : isNestedWithDirtyLog(table.role) ? Spte.AD_WRITE_PROTECT_ONLY : 0;
        long gfn = fault.gfn & -PageTables.span(level);
        long types = masks.isEpt() ? memoryTypes.typeBits(vcpu, gfn, level, fault.hostMmio) : 0;
        long spte = masks.leaf(fault.pa, level, adType, access, types, fault.hostMmio, fault.mayWrite, !fault.prefetch);
        if (fault.mayWrite && (access & Spte.ACCESS_WRITE) != 0
                && !(fault.prefetch && dirtyLog.isFull(vcpu, fault.slot))) {
            fault.writeProtected = shadow.keepsReadOnly(fault.slot, fault.gfn, true, fault.prefetch);
            spte = fault.writeProtected ? spte : masks.writable(spte);
        }
        if (fault.prefetch) {
            spte = masks.aged(spte);
        }
        assert masks.reservedBits(spte, level) == 0 : "entry 0x" + Long.toHexString(spte) + " of level " + level;
        if (Spte.isWritable(spte)) {
            dirtyLog.mark(vcpu, fault.slot, fault.gfn);
        }
        return spte;
    }

    @Override public String stateName() {
        return "mmu";
    }

    @Override public void describe(StateSink to) {
        to.part(slots);
        to.part(attributes);
        to.part(memoryTypes);
        to.words("tdp", tdp.rootTables());
        to.field("directBits", directBits);
        to.field("mmioValue", mmioValue);
        to.flag("slotZapAllQuirk", slotZapAllQuirk);
        to.flag("readOnlySlots", readOnlySlots);
        to.part(pages);
        to.field("lostPages", lostPages);
        to.flag("preFaultAllowed", preFaultAllowed);
        to.text("defects", defects);
        to.field("invalidationSequence", invalidationSequence);
    }
}
