package cloister.kvm.mmu;

import cloister.kvm.KvmException;

/// Handles faults of a vCPU whose tables are shadow pages: walks the guest's tables, makes the pages that are missing on the way down, and
/// the entry. [LINUX FNAME(page_fault), FNAME(fetch), direct_map, mmu_set_spte]
final class ShadowFaults {
    private final Mmu mmu;
    private final VcpuMmu vcpu;
    private final ShadowVcpu shadowVcpu;
    private final ShadowMmu shadow;
    private final SpteMasks masks;
    private final ShadowPrefetch prefetch;
    private boolean wroteOwnTable;

    ShadowFaults(Mmu mmu, VcpuMmu vcpu, ShadowVcpu shadowVcpu) {
        this.mmu = mmu;
        this.vcpu = vcpu;
        this.shadowVcpu = shadowVcpu;
        this.shadow = mmu.shadow();
        this.masks = mmu.masks();
        this.prefetch = new ShadowPrefetch(mmu, vcpu, shadowVcpu);
    }

    boolean wroteOwnTable() {
        return wroteOwnTable;
    }

    /// [LINUX FNAME(page_fault), direct_page_fault]
    FaultResult handle(PageFault fault, long address, long error, int pkru) {
        wroteOwnTable = false;
        var paging = shadowVcpu.paging();
        int access = Spte.ACCESS_ALL;
        if (paging.translates()) {
            var walker = shadowVcpu.walker();
            if (!walker.walk(vcpu, paging, shadowVcpu.guestRoot(), shadowVcpu.pdptes(), address, error, pkru)) {
                return FaultResult.REFLECT;
            }
            fault.gfn = walker.gfn;
            fault.maxLevel = Math.min(walker.level, Mmu.MAX_HUGE_PAGE_LEVEL);
            access = walker.access;
        } else {
            fault.gfn = address >>> Mmu.PAGE_SHIFT;
            fault.maxLevel = 2; // PAE paging has no larger pages
        }
        fault.slot = vcpu.slot(fault.gfn);
        if (!fault.reserved && fault.present && fault.write && shadow.isTracked(fault.slot, fault.gfn)) {
            wroteOwnTable = usesTable(fault.gfn);
            return FaultResult.WRITE_PROTECTED;
        }
        var result = mmu.faultIn().find(vcpu, fault);
        if (result != null) {
            return result;
        }
        if (fault.slot != null && fault.write && (access & Spte.ACCESS_WRITE) == 0) {
            // CR0.WP is 0 and the kernel writes: its page for the while, and none that it may execute with SMEP.
            access = (access | Spte.ACCESS_WRITE) & ~(Spte.ACCESS_USER | (paging.smep() ? Spte.ACCESS_EXECUTE : 0));
        }
        mmu.lockExclusive();
        try {
            if (!shadow.makeAvailable()) {
                return FaultResult.NO_MEMORY;
            }
            if (!shadowVcpu.isLoaded() || shadowVcpu.isStale()
                    || (fault.slot != null && mmu.mustRetry(fault.invalidationSequence, fault.gfn))) {
                return FaultResult.RETRY;
            }
            return map(fault, address, access);
        } catch (KvmException noMemory) {
            return FaultResult.NO_MEMORY;
        } finally {
            mmu.unlockExclusive();
        }
    }

    /// Whether the last walk went through the table at `gfn`.
    private boolean usesTable(long gfn) {
        var paging = shadowVcpu.paging();
        for (int level = shadowVcpu.walker().level; paging.translates() && level <= paging.topLevel(); level++) {
            if (shadowVcpu.walker().tableGfn(level) == gfn) {
                return true;
            }
        }
        return false;
    }

    /// [LINUX FNAME(fetch)]
    private FaultResult map(PageFault fault, long address, int access) {
        var paging = shadowVcpu.paging();
        var walker = shadowVcpu.walker();
        var table = shadowVcpu.rootFor(address);
        if (table == null || (paging.translates() && walker.changed(paging, paging.topLevel()))) {
            return FaultResult.RETRY;
        }
        long frame = address >>> Mmu.PAGE_SHIFT;
        // The guest's tables: one page for each.
        while (paging.translates() && table.level() > walker.level) {
            table.shadow.writeFlood = 0;
            int level = table.level() - 1;
            int index = PageTables.index(frame, table.level());
            var child = shadow.child(shadowVcpu, table, index, walker.tableGfn(level), false, walker.tableAccess(level));
            if (child != null && child.shadow.unsyncChildren != 0) {
                shadow.sync().children(shadowVcpu, child);
            }
            if (shadowVcpu.isStale() || walker.changed(paging, level)) {
                return FaultResult.RETRY;
            }
            if (child != null) {
                if (child.isInvalid()) {
                    return FaultResult.RETRY;
                }
                shadow.link(table, index, child);
            }
            wroteOwnTable |= fault.write && walker.tableGfn(level) == fault.gfn;
            table = shadow.tables.child(shadow.tables.read(table, index));
        }
        wroteOwnTable |= fault.write && paging.translates() && walker.tableGfn(paging.topLevel()) == fault.gfn;
        mmu.tdp().adjustToLargePage(vcpu, fault);
        // A large page of the guest that is small in the VMM's memory: pages of our own below.
        while (table.level() > fault.goalLevel) {
            int index = PageTables.index(frame, table.level());
            dropForeignTable(table, index, access);
            var child = shadow.child(shadowVcpu, table, index, fault.gfn & -PageTables.span(table.level()), true, access);
            if (child != null) {
                child.nxHugePageDisallowed = fault.hugePageDisallowed;
                shadow.link(table, index, child);
            }
            table = shadow.tables.child(shadow.tables.read(table, index));
        }
        int index = PageTables.index(frame, table.level());
        var result = leaf(fault, table, index, access);
        if (result != FaultResult.SPURIOUS) {
            prefetch.around(table, index);
        }
        return result;
    }

    /// A table below a large page whose rights are others now. [LINUX validate_direct_spte]
    private void dropForeignTable(MmuPage table, int index, int access) {
        long spte = shadow.tables.read(table, index);
        if (Spte.isPresent(spte) && !Spte.isLarge(spte)) {
            var child = shadow.tables.child(spte);
            if (MmuRole.access(child.role) != access) {
                shadow.unlink(table, index, child);
                mmu.flushRemoteTlbs();
            }
        }
    }

    /// [LINUX mmu_set_spte]
    private FaultResult leaf(PageFault fault, MmuPage page, int index, int access) {
        int level = page.level();
        long gfn = fault.gfn & -PageTables.span(level);
        long old = shadow.tables.read(page, index);
        if (fault.slot == null) {
            if (Spte.isPresent(old) && shadow.clear(page, index, null)) {
                mmu.flushRemoteTlbs();
            }
            shadow.tables.write(page, index, masks.mmio(mmu.mmioValue(), fault.gfn << Mmu.PAGE_SHIFT,
                    mmu.slots().generation(page.addressSpace()), access));
            return FaultResult.EMULATE;
        }
        long spte = mmu.leaf(vcpu, page, fault, access);
        boolean wasMapped = Spte.isPresent(old) && Spte.isLeaf(old, level) && Spte.address(old) == Spte.address(spte)
                && ShadowState.gfn(page, index) == gfn;
        boolean flush = false;
        if (wasMapped) {
            flush = (old & ~spte) != 0;
        } else {
            flush = shadow.clear(page, index, null);
        }
        if (spte != old) {
            shadow.tables.write(page, index, spte);
        }
        if (wasMapped) {
            page.shadow.translation(index, gfn, access);
        } else {
            shadow.reverse().add(fault.slot, page, index, gfn, access);
        }
        if (flush) {
            mmu.flushRemoteTlbs();
        }
        if (fault.writeProtected && fault.write) {
            return FaultResult.WRITE_PROTECTED;
        }
        return spte == old ? FaultResult.SPURIOUS : FaultResult.FIXED;
    }
}
