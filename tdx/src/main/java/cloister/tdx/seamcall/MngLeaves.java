package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.KeyOwnership.State;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.PageType;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.TdInit;
import cloister.tdx.core.TdParams;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;

/// TD creation, keys and teardown: TDH.MNG.*. [TDX-BASE "TD Life Cycle Management"]
public final class MngLeaves {
    private static final int PCONFIG_ENTROPY_ERROR = 2;
    private static final int PCONFIG_DEVICE_BUSY = 5;

    private MngLeaves() {
    }

    /// Gives `keyId` a new key on this LP's package.
    public static void programKey(LpState lp, int keyId) throws LeafFailure {
        switch (lp.cpu.programKey(keyId)) {
            case 0 -> {
            }
            case PCONFIG_ENTROPY_ERROR -> throw new LeafFailure(TdxStatus.KEY_GENERATION_FAILED);
            case PCONFIG_DEVICE_BUSY -> throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KET);
            default -> throw new ModuleHalt("PCONFIG rejected KeyID " + keyId);
        }
    }

    private static void lockKeys(LpState lp) throws LeafFailure {
        if (!Sharex.tryExclusive(lp, lp.module.keys.lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KOT);
        }
    }

    public static void create(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long keyId = lp.reg(RDX);
        if (keyId >>> 16 != 0 || !module.isPrivateKeyId((int) keyId)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        try (var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
            lockKeys(lp);
            try {
                if (module.keys.state((int) keyId) != State.FREE) {
                    throw new LeafFailure(TdxStatus.HKID_NOT_FREE);
                }
                var tdr = module.tdr(page.pa());
                module.fillPage(tdr.pages[0], 0);
                for (int i = 0; i < 4; i++) {
                    tdr.u64(Tdr.TD_UUID + 8 * i, lp.cpu.rdseed());
                    tdr.u64(Tdr.SEAMDB_NONCE + 8 * i, ModuleVersion.SEAMDB_NONCE);
                }
                module.keys.state((int) keyId, State.ASSIGNED);
                tdr.u16(Tdr.HKID, (int) keyId);
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.HKID_ASSIGNED);
                tdr.u64(Tdr.SEAMDB_INDEX, ModuleVersion.SEAMDB_INDEX);
                tdr.u16(Tdr.HANDOFF_VERSION, ModuleVersion.HANDOFF);
                page.entry().assign(PageType.TDR, 0);
            } finally {
                Sharex.releaseExclusive(module.keys.lock);
            }
        }
    }

    public static void keyConfig(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX)) {
            var tdr = module.tdr(page.pa());
            if (tdr.fatal()) {
                throw new LeafFailure(TdxStatus.TD_FATAL);
            }
            if (tdr.lifecycleState() != Tdr.HKID_ASSIGNED) {
                throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
            }
            long bit = 1L << lp.packageId;
            if ((tdr.u64(Tdr.PKG_CONFIG_BITMAP) & bit) != 0) {
                throw new LeafFailure(TdxStatus.KEY_CONFIGURED);
            }
            programKey(lp, tdr.keyId());
            long configured = tdr.u64(Tdr.PKG_CONFIG_BITMAP) | bit;
            tdr.u64(Tdr.PKG_CONFIG_BITMAP, configured);
            if (configured == module.packageConfigBitmap) {
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.KEYS_CONFIGURED);
            }
        }
    }

    public static void addCx(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var tdrPage = module.lockTdr(lp, lp.reg(RDX), LockMode.EXCLUSIVE, OperandId.RDX)) {
            var tdr = module.tdr(tdrPage.pa());
            if (tdr.fatal()) {
                throw new LeafFailure(TdxStatus.TD_FATAL);
            }
            if (tdr.lifecycleState() != Tdr.KEYS_CONFIGURED) {
                throw new LeafFailure(TdxStatus.TD_KEYS_NOT_CONFIGURED);
            }
            int index = tdr.numTdcx();
            if (index > Tdcs.MAX_PAGES - 1) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            try (var page = module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
                long hpa = tdr.withKey(page.pa());
                module.fillPage(hpa, index == Tdcs.MSR_BITMAPS_PAGE ? -1L
                        : index == Tdcs.SEPT_ROOT_PAGE ? SeptEntry.INIT : SeptEntry.L2_INIT);
                if (index + 1 > Tdcs.MIN_PAGES
                        && !new Tdcs(module.memory, tdr).opState().allows(SeamcallLeaf.MNG_ADDCX)) {
                    throw new LeafFailure(TdxStatus.OP_STATE_INCORRECT);
                }
                tdr.u64(Tdr.TDCX_PA + 8 * index, hpa);
                tdr.u32(Tdr.NUM_TDCX, index + 1);
                if (index + 1 == Tdcs.MIN_PAGES) {
                    var tdcs = new Tdcs(module.memory, tdr);
                    for (int i = 0; i < 4; i++) {
                        tdcs.u64(Tdcs.MIG_ENC_KEY + 8 * i, lp.cpu.rdseed());
                    }
                }
                tdr.addChildren(1);
                page.entry().assign(PageType.TDCX, tdrPage.pa());
            }
        }
    }

    public static void vpFlushDone(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX)) {
            lockKeys(lp);
            try {
                var tdr = module.tdr(page.pa());
                int state = tdr.lifecycleState();
                if (state != Tdr.KEYS_CONFIGURED && state != Tdr.HKID_ASSIGNED) {
                    throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
                }
                if (tdr.numTdcx() >= Tdcs.MIN_PAGES) {
                    var tdcs = new Tdcs(module.memory, tdr);
                    if (tdcs.opState().anyInitialized() && tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) != 0) {
                        throw new LeafFailure(TdxStatus.FLUSHVP_NOT_DONE);
                    }
                }
                module.keys.writeBackPackages(tdr.keyId(), module.packageConfigBitmap);
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.BLOCKED);
                module.keys.state(tdr.keyId(), State.FLUSHED);
            } finally {
                Sharex.releaseExclusive(module.keys.lock);
            }
        }
    }

    public static void keyFreeId(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        try (var page = module.lockTdr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX)) {
            var tdr = module.tdr(page.pa());
            if (tdr.lifecycleState() != Tdr.BLOCKED) {
                throw new LeafFailure(TdxStatus.LIFECYCLE_STATE_INCORRECT);
            }
            lockKeys(lp);
            try {
                if (module.keys.writeBackPackages(tdr.keyId()) != 0) {
                    throw new LeafFailure(TdxStatus.WBCACHE_NOT_COMPLETE);
                }
                module.keys.state(tdr.keyId(), State.FREE);
                tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.TEARDOWN);
            } finally {
                Sharex.releaseExclusive(module.keys.lock);
            }
        }
    }

    /// Deprecated: does nothing.
    public static void keyReclaimId(LpState lp, int version) {
    }

    public static void init(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long tdrPa = lp.reg(RCX);
        lp.reg(RCX, 0);
        if ((lp.cpu.rdmsr(cloister.spec.x86.Msr.IA32_MISC_ENABLE) & PlatformCheck.LIMIT_CPUID_MAXVAL) != 0) {
            throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
        }
        try (var page = module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RCX);
                var td = TdAccess.open(lp, module.tdr(page.pa()), LockMode.NONE, SeamcallLeaf.MNG_INIT)) {
            module.requireShared(lp.reg(RDX), TdParams.BYTES, OperandId.RDX);
            new TdInit(lp, td.tdr(), td.tdcs(), new TdParams(module.memory, lp.reg(RDX))).run();
        }
    }

    /// Copies of a hash, as words of a structure.
    public static byte[] bytes(PhysicalMemory memory, long hpa, int length) {
        var result = new byte[length];
        memory.read(hpa, result, 0, length);
        return result;
    }
}
