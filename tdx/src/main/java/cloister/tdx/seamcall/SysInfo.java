package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.TdmrInfo;
import cloister.tdx.core.Tdvps;

/// TDH.SYS.INFO, leaf 32: describes the module and the convertible memory. [TDX-ABI "TDH.SYS.INFO"]
final class SysInfo implements HostLeaf {
    private static final int TDSYSINFO_BYTES = 1024;
    private static final int CMR_ENTRIES = 32;
    private static final int CMR_INFO_BYTES = 16;
    private static final int VENDOR_INTEL = 0x8086;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        long pa = lp.reg(RCX);
        long bytes = lp.reg(RDX);
        long cmrPa = lp.reg(R8);
        long cmrEntries = lp.reg(R9);
        lp.clear(RDX, R9);
        if (!lp.initialized) {
            throw new LeafFailure(TdxStatus.SYS_LP_INIT_NOT_DONE);
        }
        module.requireShared(pa, TDSYSINFO_BYTES, OperandId.RCX);
        if (Long.compareUnsigned(bytes, TDSYSINFO_BYTES) < 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
        module.memory.fill(pa, TDSYSINFO_BYTES, (byte) 0); // even if a check below fails
        module.requireShared(cmrPa, CMR_ENTRIES * CMR_INFO_BYTES, OperandId.R8);
        if (Long.compareUnsigned(cmrEntries, CMR_ENTRIES) < 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R9);
        }
        // All checks passed.
        writeSysInfo(module, pa);
        writeCmrs(module, cmrPa);
        lp.reg(RDX, TDSYSINFO_BYTES);
        lp.reg(R9, CMR_ENTRIES);
    }

    private static void writeCmrs(ModuleState module, long pa) {
        var cmrs = module.platform.cmrs();
        for (int i = 0; i < CMR_ENTRIES; i++) {
            long at = pa + (long) CMR_INFO_BYTES * i;
            module.memory.write(at, 8, i < cmrs.size() ? cmrs.get(i).base() : 0);
            module.memory.write(at + 8, 8, i < cmrs.size() ? cmrs.get(i).size() : 0);
        }
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
}
