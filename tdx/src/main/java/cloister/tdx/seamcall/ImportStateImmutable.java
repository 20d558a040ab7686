package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.Bits256;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;

/// TDH.IMPORT.STATE.IMMUTABLE, leaf 85, as far as it goes before something is decrypted. [TDX-ABI "TDH.IMPORT.STATE.IMMUTABLE"]
///
/// Once the session has begun, whatever fails ends it for good: the TD is left in FAILED_IMPORT.
final class ImportStateImmutable implements HostLeaf {
    private static final long LIMIT_CPUID_MAXVAL = 1 << 22;
    private static final long FATAL = 1L << 61;
    private static final int MIN_TD_PAGES = 2;
    // MBMD of an immutable state: the fields before these are zero but for SIZE in bits 15:0 and MIG_VERSION in bits 31:16.
    private static final int MBMD_MB_COUNTER = 8;
    private static final int MBMD_NUM_F_MIGS = 24;
    private static final int MBMD_RESERVED = 26;
    private static final int MBMD_NUM_SYS_MD_PAGES = 28;
    private static final int MBMD_RESERVED_2 = 29;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long tdrPa = lp.reg(RCX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        if ((lp.cpu.rdmsr(Msr.IA32_MISC_ENABLE) & LIMIT_CPUID_MAXVAL) != 0) {
            throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
        }
        try (var page = lp.module.lockTdr(lp, tdrPa, LockMode.EXCLUSIVE, OperandId.RCX);
                var td = TdAccess.open(lp, lp.module.tdr(page.pa()), LockMode.NONE, SeamcallLeaf.IMPORT_STATE_IMMUTABLE)) {
            var tdcs = td.tdcs();
            if (tdcs.u16(Tdcs.NUM_MIGS) < MigrationStream.MIN_STREAMS) {
                throw new LeafFailure(TdxStatus.MIN_MIGS_NOT_CREATED);
            }
            MigrationOperands.firstStream(lp);
            try (var stream = MigrationStream.lock(lp, tdcs, MigrationStream.FIRST_FORWARD)) {
                if (!MigrationOperands.isResumption(lp)) {
                    begin(lp, tdcs, stream);
                } else if (!stream.isInitialized()) {
                    throw new LeafFailure(TdxStatus.MIGRATION_STREAM_STATE_INCORRECT);
                }
                throw MigrationSessionLeaf.notModelled(SeamcallLeaf.IMPORT_STATE_IMMUTABLE);
            }
        }
    }

    private static void begin(LpState lp, Tdcs tdcs, MigrationStream stream) throws LeafFailure {
        if (!tdcs.flag(Tdcs.MIG_DEC_KEY_SET)) {
            throw new LeafFailure(TdxStatus.MIGRATION_DECRYPTION_KEY_NOT_SET);
        }
        startSession(lp, tdcs, stream);
        try {
            int systemPages = mbmd(lp, tdcs, MigrationOperands.mbmd(lp));
            long list = MigrationOperands.pageList(lp, MIN_TD_PAGES + systemPages);
            lp.module.requireShared(lp.module.memory.read(list, Long.BYTES), PhysicalMemory.FRAME_SIZE, OperandId.PAGE);
        } catch (LeafFailure failure) {
            tdcs.opState(OpState.FAILED_IMPORT);
            throw new LeafFailure(failure.status() | FATAL);
        }
    }

    private static void startSession(LpState lp, Tdcs tdcs, MigrationStream stream) {
        Bits256.of(tdcs, Tdcs.MIG_ENC_KEY).store(tdcs, Tdcs.MIG_ENC_WORKING_KEY);
        new Bits256(lp.cpu.rdseed(), lp.cpu.rdseed(), lp.cpu.rdseed(), lp.cpu.rdseed()).store(tdcs, Tdcs.MIG_ENC_KEY);
        Bits256.of(tdcs, Tdcs.MIG_DEC_KEY).store(tdcs, Tdcs.MIG_DEC_WORKING_KEY);
        tdcs.flag(Tdcs.MIG_DEC_KEY_SET, false);
        tdcs.u16(Tdcs.MIG_WORKING_VERSION, tdcs.u16(Tdcs.MIG_VERSION));
        tdcs.u32(Tdcs.MIG_EPOCH, 0);
        tdcs.u64(Tdcs.TOTAL_MB_COUNT, 0);
        stream.initialize();
    }

    /// @return the number of pages of system metadata
    private static int mbmd(LpState lp, Tdcs tdcs, long hpa) throws LeafFailure {
        var memory = lp.module.memory;
        long sizeVersionStreamType = MigrationOperands.MBMD_BYTES | ((long) tdcs.u16(Tdcs.MIG_WORKING_VERSION) << 16);
        int systemPages = (int) memory.read(hpa + MBMD_NUM_SYS_MD_PAGES, 1);
        if (memory.read(hpa, 8) != sizeVersionStreamType || memory.read(hpa + MBMD_MB_COUNTER, 8) != 0
                || memory.read(hpa + MBMD_RESERVED, 2) != 0 || systemPages == 0
                || memory.read(hpa + MBMD_RESERVED_2, 1) != 0 || memory.read(hpa + MBMD_RESERVED_2 + 1, 2) != 0) {
            throw new LeafFailure(TdxStatus.INVALID_MBMD);
        }
        if (memory.read(hpa + MBMD_NUM_F_MIGS, 2) > tdcs.u16(Tdcs.NUM_MIGS) - 1) {
            throw new LeafFailure(TdxStatus.NUM_MIGS_HIGHER_THAN_CREATED);
        }
        return systemPages;
    }
}
