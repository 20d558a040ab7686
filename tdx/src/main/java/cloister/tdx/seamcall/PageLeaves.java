package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R11;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.CacheWriteBack;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Measurement;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdr;

/// TD pages, and physical memory: TDH.MEM.PAGE.*, TDH.PHYMEM.*. [TDX-BASE "Physical Memory
/// Management"]
public final class PageLeaves {
    private static final int LINE = PhysicalMemory.LINE_SIZE;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;

    private PageLeaves() {
    }

    public static void add(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var tdrPage = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RDX);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.NONE, SeamcallLeaf.MEM_PAGE_ADD)) {
            var tdcs = td.tdcs();
            long gpa = Gpa.gpa(info);
            if (!Gpa.isPageInfo(info, 0, 0) || !Gpa.isValid(gpa, tdcs, true)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            var slot = td.sept().walk(tdcs.eptp(), gpa, 0);
            if (slot.level() != 0) {
                lp.reportEntry(slot.value(), slot.level());
                throw new LeafFailure(TdxStatus.EPT_WALK_FAILED, OperandId.RCX);
            }
            if (!SeptState.of(slot.value()).allows(SeamcallLeaf.MEM_PAGE_ADD)) {
                lp.reportEntry(slot.value(), 0);
                throw new LeafFailure(TdxStatus.EPT_ENTRY_STATE_INCORRECT, OperandId.RCX);
            }
            module.requireShared(lp.reg(R9), PAGE, OperandId.R9);
            try (var page = module.lockFree(lp, lp.reg(R8), OperandId.R8)) {
                copyPage(module.memory, lp.reg(R9), td.tdr().withKey(page.pa()));
                slot.write(SeptEntry.leaf(SeptEntry.RWX, page.pa(), SeptState.MAPPED));
                Measurement.extend(module.tdDigest(tdrPage.pa()), "MEM.PAGE.ADD", gpa);
                td.tdr().addChildren(1);
                page.entry().assign(PageType.REG, tdrPage.pa());
                page.entry().bepoch(0);
            }
        }
    }

    public static void copyPage(PhysicalMemory memory, long from, long to) {
        var content = new byte[(int) PAGE];
        memory.read(from, content, 0, content.length);
        memory.movdir64b(to, content, 0, content.length / LINE);
    }

    public static void aug(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdrPa, 0, 1, LockMode.SHARED)) {
            if (!SeptState.of(target.entry).allows(SeamcallLeaf.MEM_PAGE_AUG)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            try (var page = module.pamt.lockFree(lp, lp.reg(R8), target.level, OperandId.R8)) {
                target.replace(SeptEntry.leaf(0, page.pa(), SeptState.PENDING));
                target.td.tdr().addChildren(1L << 9 * target.level);
                page.entry().assign(PageType.REG, target.tdrPage.pa());
                page.entry().bepoch(0);
            }
        }
    }

    public static void remove(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.MEM_PAGE_REMOVE, info, tdrPa, 0, 2, LockMode.SHARED)) {
            var state = SeptState.of(target.entry);
            if (!SeptEntry.isLeaf(target.entry) || !state.allows(SeamcallLeaf.MEM_PAGE_REMOVE)) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            target.entry = SeptEntry.withoutPendingCount(target.entry, target.level);
            long pa = SeptEntry.leafPa(target.entry, target.gpa, target.level);
            try (var page = module.pamt.lockImplicit(lp, pa, target.level, LockMode.EXCLUSIVE, OperandId.RCX)) {
                SeptLeaves.requireTracked(target, page.entry());
                for (int vm = 1; vm <= target.td.tdcs().numL2Vms(); vm++) {
                    if (target.isAliased(vm)) {
                        target.l2(vm).write(SeptEntry.L2_INIT);
                    }
                }
                target.replace(target.td.tdcs().opState().importInProgress()
                        ? SeptState.REMOVED.bits() | SeptEntry.SUPPRESS_VE : SeptEntry.INIT);
                target.td.tdr().addChildren(-(1L << 9 * target.level));
                page.entry().type(PageType.NDA);
                lp.reg(RCX, pa);
            }
        }
    }

    private static void clearOutputs(LpState lp) {
        for (int register : new int[] {RCX, RDX, R8, R9, R10, R11}) {
            lp.reg(register, 0);
        }
    }

    private static LockedPage walk(LpState lp, long pa, LockMode mode) throws LeafFailure {
        if (!lp.module.isPageAddress(pa, PAGE)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        return lp.module.pamt.walkToLeaf(lp, pa, mode, OperandId.RCX);
    }

    public static void reclaim(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long pa = lp.reg(RCX);
        clearOutputs(lp);
        try (var page = walk(lp, pa, LockMode.EXCLUSIVE)) {
            int type = page.entry().type();
            if (type == PageType.NDA || type == PageType.RSVD) {
                throw new LeafFailure(TdxStatus.PAGE_METADATA_INCORRECT, OperandId.RCX);
            }
            lp.reg(RCX, type);
            lp.reg(RDX, page.entry().ownerPa());
            lp.reg(R8, page.size());
            if ((pa & Pamt.bytes(page.size()) - 1) != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            if (type == PageType.TDR) {
                var tdr = module.tdr(pa);
                if (tdr.lifecycleState() != Tdr.TEARDOWN) {
                    throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
                }
                if (tdr.u64(Tdr.CHLDCNT) != 0) {
                    throw new LeafFailure(TdxStatus.TD_ASSOCIATED_PAGES_EXIST);
                }
            } else {
                try (var owner = module.lockOwner(lp, page, LockMode.SHARED)) {
                    var tdr = module.tdr(owner.pa());
                    if (tdr.lifecycleState() != Tdr.TEARDOWN) {
                        throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
                    }
                    tdr.addChildren(-(1L << 9 * page.size()));
                }
            }
            page.entry().type(PageType.NDA);
            module.forget(pa);
        }
    }

    public static void readMetadata(LpState lp, int version) throws LeafFailure {
        long pa = lp.reg(RCX);
        clearOutputs(lp);
        try (var page = walk(lp, pa, LockMode.SHARED)) {
            int type = page.entry().type();
            lp.reg(RCX, type);
            lp.reg(RDX, page.entry().ownerPa());
            lp.reg(R8, page.size());
            if (type == PageType.REG || type == PageType.EPT) {
                lp.reg(R9, page.entry().bepoch());
            }
        }
    }

    public static void pageWriteBack(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.pamt.lock(lp, lp.reg(RCX) & ~module.config.keyIdMask, Pamt.SIZE_4K, LockMode.SHARED,
                PageType.NDA, OperandId.RCX)) {
            page.entry(); // Caches are coherent with memory here: nothing is left to flush.
        }
    }

    public static void cacheWriteBack(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long command = lp.reg(RCX);
        if (Long.compareUnsigned(command, 1) > 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var cycle = module.writeBack[lp.packageId];
        if (!Sharex.tryExclusive(lp, cycle.lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.WBCACHE);
        }
        try {
            if (!Sharex.tryShared(lp, module.keys.lock)) {
                throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KOT);
            }
            try {
                writeBack(lp, cycle, command != 0);
            } finally {
                Sharex.releaseShared(module.keys.lock);
            }
        } finally {
            Sharex.releaseExclusive(cycle.lock);
        }
    }

    private static void writeBack(LpState lp, CacheWriteBack cycle, boolean resume) throws LeafFailure {
        var module = lp.module;
        var config = module.config;
        long block = 0;
        if (resume) {
            block = cycle.interruptionPoint;
            if (block == 0) {
                throw new LeafFailure(TdxStatus.WBCACHE_RESUME_ERROR);
            }
        } else {
            cycle.interruptionPoint = 0;
            long flushed = 0;
            for (int key = config.privateKeyIdMin; key <= config.privateKeyIdMax; key++) {
                if (module.keys.state(key) == KeyOwnership.State.FLUSHED) {
                    flushed |= 1L << key;
                }
            }
            if (flushed == 0) {
                throw new LeafFailure(TdxStatus.NO_HKID_READY_TO_WBCACHE);
            }
            cycle.flushedKeyIds = flushed;
        }
        do {
            lp.cpu.wrmsr(Msr.IA32_WBNOINVDP, block);
            block++;
            if (block < config.cacheSubBlocks && lp.hostInterruptPending()) {
                cycle.interruptionPoint = block;
                throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
            }
        } while (block < config.cacheSubBlocks);
        cycle.interruptionPoint = 0;
        for (int key = config.privateKeyIdMin; key <= config.privateKeyIdMax; key++) {
            if ((cycle.flushedKeyIds >>> key & 1) != 0) {
                module.keys.writeBackPackages(key, module.keys.writeBackPackages(key) & ~(1 << lp.packageId));
            }
        }
    }
}
