package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.MemoryEncryption;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.PlatformConsistency;
import cloister.tdx.core.Sharex;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdmr;
import cloister.tdx.core.TdmrCheck;
import cloister.tdx.core.TdmrInfo;
import cloister.tdx.core.Tdvps;

/// Platform-scope leaf functions: TDH.SYS.*. [TDX-BASE "Intel TDX Module Lifecycle"]
public final class SysLeaves {
    private static final int CMR_ENTRIES = 32;
    private static final int SYSINFO_BYTES = 1024;
    private static final int VENDOR_INTEL = 0x8086;
    private static final long SEAMRR_ADDRESS = (1L << ModuleState.MAX_PA) - (1L << 25);
    private static final int PAMT_ENTRIES_PER_CALL = 1024;
    private static final long GIB = 1L << 30;

    private SysLeaves() {
    }

    private static void lockGlobal(LpState lp, LockMode mode) throws LeafFailure {
        var word = lp.module.globalLock;
        boolean locked = mode == LockMode.EXCLUSIVE ? Sharex.tryExclusive(lp, word) : Sharex.tryShared(lp, word);
        if (!locked) {
            throw new LeafFailure(TdxStatus.SYS_BUSY);
        }
    }

    public static void init(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long reserved = lp.reg(RCX);
        clear(lp, RCX, RDX, R8, R9, R10);
        lockGlobal(lp, LockMode.EXCLUSIVE);
        try {
            if (reserved != 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            if (module.sysState != SysState.INIT_PENDING) {
                throw new LeafFailure(TdxStatus.SYS_INIT_NOT_PENDING);
            }
            new PlatformCheck(lp).run();
            var config = module.config;
            config.attributesFixed0 = Tdcs.DEBUG | Tdcs.ICSSD | (config.lass ? Tdcs.LASS : 0) | Tdcs.SEPT_VE_DISABLE
                    | Tdcs.MIGRATABLE | Tdcs.PKS | Tdcs.PERFMON;
            config.configFlagsFixed0 = PlatformConfig.CONFIG_FLAGS;
            long mask = lp.cpu.rdmsr(Msr.IA32_SEAMRR_MASK) & SEAMRR_ADDRESS;
            if (mask == 0) {
                throw new ModuleHalt("SEAMRR is not configured");
            }
            config.seamrrBase = lp.cpu.rdmsr(Msr.IA32_SEAMRR_BASE) & SEAMRR_ADDRESS;
            config.seamrrSize = Long.lowestOneBit(mask);
            module.initializedPackages = 0;
            module.packageConfigBitmap = 0;
            module.initializedLps = 0;
            module.sysState = SysState.INIT_DONE;
        } finally {
            Sharex.releaseExclusive(module.globalLock);
        }
    }

    private static void clear(LpState lp, int... registers) {
        for (int register : registers) {
            lp.reg(register, 0);
        }
    }

    public static void lpInit(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        clear(lp, RCX, RDX, R8);
        lockGlobal(lp, LockMode.SHARED);
        try {
            if (module.sysState != SysState.INIT_DONE) {
                throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_PENDING);
            }
            if (lp.initialized) {
                throw new LeafFailure(TdxStatus.SYS_LP_INIT_DONE);
            }
            lp.lastTdvprPa = ModuleState.NULL_PA;
            int seed = (int) lp.cpu.rdrand();
            if (seed == 0) {
                throw new LeafFailure(TdxStatus.RND_NO_ENTROPY);
            }
            lp.lfsr = seed;
            lp.cpu.inveptGlobal();
            new PlatformConsistency(lp).run();
            lp.initialized = true;
            module.initializedLps++;
            lp.guestRcxOnEntry = 0;
        } finally {
            Sharex.releaseShared(module.globalLock);
        }
    }

    public static void config(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        lockGlobal(lp, LockMode.EXCLUSIVE);
        try {
            if (module.sysState != SysState.INIT_DONE
                    || module.initializedLps < module.platform.logicalProcessors()) {
                throw new LeafFailure(TdxStatus.SYS_CONFIG_NOT_PENDING);
            }
            module.requireShared(lp.reg(RCX), 512, OperandId.RCX);
            long count = lp.reg(RDX);
            if (Long.compareUnsigned(count, TdmrInfo.MAX_TDMRS) > 0 || count == 0) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
            }
            long keyId = lp.reg(R8);
            if (keyId >>> 16 != 0 || !module.isPrivateKeyId((int) keyId)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
            }
            module.keys.state((int) keyId, KeyOwnership.State.RESERVED);
            module.globalKeyId = (int) keyId;
            var check = new TdmrCheck(module);
            for (int i = 0; i < count; i++) {
                long entry = module.memory.read(lp.reg(RCX) + 8L * i, 8);
                module.requireShared(entry, 512, OperandId.RCX);
                check.add(TdmrInfo.read(module.memory, entry));
            }
            module.tdmrs = check.tdmrs();
            completeCpuid(module.config);
            module.packageConfigBitmap = 0;
            module.sysState = SysState.CONFIG_DONE;
        } finally {
            Sharex.releaseExclusive(module.globalLock);
        }
    }

    /// Applies the bits that are the same for all TDs to the sampled CPUID values.
    private static void completeCpuid(PlatformConfig config) {
        var rows = CpuidTable.rows();
        for (int i = 0; i < rows.size(); i++) {
            var row = rows.get(i);
            for (int r = 0; r < 4; r++) {
                config.cpuid[i][r] = config.cpuid[i][r] & ~row.fixed0()[r] | row.fixed1()[r];
            }
        }
    }

    public static void keyConfig(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        lockGlobal(lp, LockMode.EXCLUSIVE);
        try {
            if (module.sysState != SysState.CONFIG_DONE) {
                throw new LeafFailure(TdxStatus.SYS_KEY_CONFIG_NOT_PENDING);
            }
            int bit = 1 << lp.packageId;
            if ((module.packageConfigBitmap & bit) != 0) {
                throw new LeafFailure(TdxStatus.KEY_CONFIGURED);
            }
            MemoryEncryption.programKey(lp, module.globalKeyId);
            module.packageConfigBitmap |= bit;
            module.initializedPackages++;
            if (module.initializedPackages == module.platform.packages()) {
                module.sysState = SysState.READY;
            }
        } finally {
            Sharex.releaseExclusive(module.globalLock);
        }
    }

    public static void tdmrInit(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long pa = lp.reg(RCX);
        lp.reg(RDX, 0);
        Tdmr tdmr = null;
        if (module.isPageAddress(pa, GIB)) {
            for (var candidate : module.tdmrs) {
                if (candidate.info.base() == pa) {
                    tdmr = candidate;
                }
            }
        }
        if (tdmr == null) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        if (!Sharex.tryExclusive(lp, tdmr.lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.RCX);
        }
        try {
            if (tdmr.lastInitialized >= tdmr.info.base() + tdmr.info.size()) {
                throw new LeafFailure(TdxStatus.TDMR_ALREADY_INITIALIZED);
            }
            module.pamt.initialize(tdmr, PAMT_ENTRIES_PER_CALL);
            tdmr.lastInitialized += PAMT_ENTRIES_PER_CALL * Pamt.bytes(Pamt.SIZE_4K);
            lp.reg(RDX, tdmr.lastInitialized & -GIB);
        } finally {
            Sharex.releaseExclusive(tdmr.lock);
        }
    }

    public static void info(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long pa = lp.reg(RCX);
        long bytes = lp.reg(RDX);
        long cmrPa = lp.reg(R8);
        long cmrEntries = lp.reg(R9);
        clear(lp, RDX, R9);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        module.requireShared(pa, SYSINFO_BYTES, OperandId.RCX);
        if (Long.compareUnsigned(bytes, SYSINFO_BYTES) < 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        module.memory.fill(pa, SYSINFO_BYTES, (byte) 0);
        module.requireShared(cmrPa, CMR_ENTRIES * 16, OperandId.R8);
        if (Long.compareUnsigned(cmrEntries, CMR_ENTRIES) < 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R9);
        }
        writeSysInfo(module, pa);
        var cmrs = module.platform.cmrs();
        for (int i = 0; i < CMR_ENTRIES; i++) {
            module.memory.write(cmrPa + 16L * i, 8, i < cmrs.size() ? cmrs.get(i).base() : 0);
            module.memory.write(cmrPa + 16L * i + 8, 8, i < cmrs.size() ? cmrs.get(i).size() : 0);
        }
        lp.reg(RDX, SYSINFO_BYTES);
        lp.reg(R9, CMR_ENTRIES);
    }

    private static void writeSysInfo(ModuleState module, long pa) {
        var memory = module.memory;
        var config = module.config;
        memory.write(pa + 4, 4, VENDOR_INTEL);
        memory.write(pa + 8, 4, ModuleVersion.BUILD_DATE);
        memory.write(pa + 12, 2, ModuleVersion.BUILD_NUM);
        memory.write(pa + 14, 2, ModuleVersion.MINOR);
        memory.write(pa + 16, 2, ModuleVersion.MAJOR);
        memory.write(pa + 18, 1, 1); // TDH.SYS.RD is available
        memory.write(pa + 32, 2, TdmrInfo.MAX_TDMRS);
        memory.write(pa + 34, 2, TdmrInfo.MAX_RESERVED);
        memory.write(pa + 36, 2, PamtEntry.BYTES);
        memory.write(pa + 48, 2, 4096 * Tdcs.MIN_PAGES);
        memory.write(pa + 52, 2, 4096 * Tdvps.MIN_PAGES);
        memory.write(pa + 64, 8, config.attributesFixed0);
        memory.write(pa + 72, 8, 0);
        memory.write(pa + 80, 8, config.xfamFixed0());
        memory.write(pa + 88, 8, PlatformConfig.XFAM_FIXED1);
        memory.write(pa + 128, 4, CpuidTable.CONFIGURABLE);
        for (int i = 0; i < CpuidTable.CONFIGURABLE; i++) {
            long at = pa + 132 + 24L * i;
            memory.write(at, 4, CpuidTable.configurable(i).leaf());
            memory.write(at + 4, 4, CpuidTable.configurable(i).subleaf());
            for (int r = 0; r < 4; r++) {
                memory.write(at + 8 + 4 * r, 4, config.configurable(i, r));
            }
        }
    }

    public static void shutdown(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        if (lp.reg(RCX) != ModuleVersion.HANDOFF) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        lockGlobal(lp, LockMode.EXCLUSIVE);
        try {
            if (module.busyLps > 1) {
                throw new LeafFailure(TdxStatus.SYS_BUSY);
            }
            module.sysState = SysState.SHUTDOWN;
        } finally {
            Sharex.releaseExclusive(module.globalLock);
        }
    }

    /// Deprecated: does nothing.
    public static void lpShutdown(LpState lp, int version) {
    }

    /// There is never a predecessor that left handoff data.
    public static void update(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        lockGlobal(lp, LockMode.EXCLUSIVE);
        try {
            throw new LeafFailure(module.sysState != SysState.INIT_DONE
                    || module.initializedLps < module.platform.logicalProcessors() ? TdxStatus.SYS_STATE_INCORRECT
                    : TdxStatus.SYS_INVALID_HANDOFF);
        } finally {
            Sharex.releaseExclusive(module.globalLock);
        }
    }
}
