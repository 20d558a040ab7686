package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.CacheWriteBack;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Sharex;

/// TDH.PHYMEM.CACHE.WB, leaf 40: writes back the caches of this LP's package, sub-block by sub-block, and is interruptible. KeyIDs
/// that were flushed before it started are then no longer in these caches. [TDX-ABI "TDH.PHYMEM.CACHE.WB"]
final class PhymemCacheWb implements HostLeaf {
    private static final int RESUME = 1;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long command = lp.reg(RCX);
        if (Long.compareUnsigned(command, RESUME) > 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var cycle = module.writeBack[lp.packageId];
        long busy = TdxStatus.OPERAND_BUSY.with(OperandId.WBCACHE);
        try (var _ = Sharex.hold(lp, cycle.lock, LockMode.EXCLUSIVE, busy);
                var _ = module.keys.lockShared(lp)) {
            long block = command == RESUME ? resume(cycle) : start(module, cycle);
            writeBack(lp, cycle, block);
            for (int key = cycle.flushedKeyIds.nextSetBit(0); key >= 0; key = cycle.flushedKeyIds.nextSetBit(key + 1)) {
                module.keys.writeBackPackages(key, module.keys.writeBackPackages(key) & ~(1 << lp.packageId));
            }
        }
    }

    private static long start(ModuleState module, CacheWriteBack cycle) throws LeafFailure {
        cycle.interruptionPoint = 0;
        cycle.flushedKeyIds.clear();
        for (int key = module.config.privateKeyIdMin; key <= module.config.privateKeyIdMax; key++) {
            if (module.keys.state(key) == KeyOwnership.State.FLUSHED) {
                cycle.flushedKeyIds.set(key);
            }
        }
        if (cycle.flushedKeyIds.isEmpty()) {
            throw new LeafFailure(TdxStatus.NO_HKID_READY_TO_WBCACHE);
        }
        return 0;
    }

    private static long resume(CacheWriteBack cycle) throws LeafFailure {
        if (cycle.interruptionPoint == 0) {
            throw new LeafFailure(TdxStatus.WBCACHE_RESUME_ERROR);
        }
        return cycle.interruptionPoint;
    }

    private static void writeBack(LpState lp, CacheWriteBack cycle, long from) throws LeafFailure {
        long blocks = lp.module.config.cacheSubBlocks;
        long block = from;
        do {
            lp.cpu.wrmsr(Msr.IA32_WBNOINVDP, block);
            block++;
            if (Long.compareUnsigned(block, blocks) < 0 && lp.hostInterruptPending()) {
                cycle.interruptionPoint = block;
                throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
            }
        } while (Long.compareUnsigned(block, blocks) < 0);
        cycle.interruptionPoint = 0;
    }
}
