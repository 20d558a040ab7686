package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.MsrTable;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;

/// TDH.MNG.INIT: checks TD_PARAMS and fills TDCS, field by field in the module's order. Fields before a bad one stay
/// written; the TD stays uninitialised. [TDX-BASE "TD Configuration"]
public final class TdInit {
    private static final int HP_LOCK_TIMEOUT_USEC = 1_000_000;
    private static final int TSC_UNIT = 25_000_000;
    private static final int TSC_MIN = 4;
    private static final int TSC_MAX = 400;
    private static final int EPT_WB = 6;
    private static final long PML5_EPT_CAP = 1 << 7;
    private static final int MIN_PA_FOR_PML5 = 49;
    private static final int XSAVE_EXTENDED_REGION = 576;
    private static final long ARCH_CAP_SSB_NO = 1 << 4;
    private static final long ARCH_CAP_TSX_CTRL = 1 << 7;
    private static final long ARCH_CAP_RRSBA = 1 << 19;
    private static final long ARCH_CAP_BHI_NO = 1 << 20;
    private static final long ARCH_CAP_XAPIC_DISABLE_STATUS = 1 << 21;
    private static final long ARCH_CAP_PBRSB_NO = 1 << 24;
    private static final long ARCH_CAP_CONFIGURABLE = ARCH_CAP_SSB_NO | ARCH_CAP_RRSBA | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO;
    /// Bits that a TD never sees: MCU, package and energy controls, 16-18, 22, 23, and 25 up.
    private static final long ARCH_CAP_HIDDEN = (7 << 9) | (7 << 16) | (3 << 22) | (-1L << 25);
    private static final int BITMAP_PART = 1024;

    private final LpState lp;
    private final Tdr tdr;
    private final Tdcs tdcs;
    private final TdParams params;
    private final PlatformConfig config;

    public TdInit(LpState lp, Tdr tdr, Tdcs tdcs, TdParams params) {
        this.lp = lp;
        this.tdr = tdr;
        this.tdcs = tdcs;
        this.params = params;
        this.config = lp.module.config;
    }

    private static LeafFailure invalid(int operand) {
        return new LeafFailure(TdxStatus.OPERAND_INVALID, operand);
    }

    public void run() throws LeafFailure {
        tdcs.u32(Tdcs.NUM_VCPUS, 0);
        tdcs.u32(Tdcs.NUM_ASSOC_VCPUS, 0);
        tdcs.u64(Tdcs.TD_EPOCH, 1);
        tdcs.u32(Tdcs.REFCOUNT, 0);
        tdcs.u64(Tdcs.HP_LOCK_TIMEOUT, HP_LOCK_TIMEOUT_USEC * config.tscHz / 1_000_000);
        configure();
        new TdCpuid(lp, tdcs, params).run();
        archCapabilities();
        if (tdcs.hasAttribute(Tdcs.MIGRATABLE) && tdcs.numL2Vms() > 0) {
            throw invalid(OperandId.RDX);
        }
        msrBitmaps();
        VirtualVmx.init(config, tdcs);
        lp.module.measurement(tdr.pa, new Measurement());
        for (int i = 0; i < 4 * 6; i++) {
            tdcs.u64(Tdcs.RTMR + 8 * i, 0);
        }
        tdcs.opState(OpState.INITIALIZED);
    }

    private void configure() throws LeafFailure {
        long attributes = params.attributes();
        if (!attributesAllowed(attributes, config)) {
            throw invalid(OperandId.ATTRIBUTES);
        }
        tdcs.u64(Tdcs.ATTRIBUTES, attributes);
        long veDisable = (attributes & Tdcs.SEPT_VE_DISABLE) != 0 ? Tdcs.PENDING_VE_DISABLE : 0;
        tdcs.u64(Tdcs.TD_CTLS, (tdcs.u64(Tdcs.TD_CTLS) & ~Tdcs.PENDING_VE_DISABLE) | veDisable);
        long xfam = params.xfam();
        if (!xfamAllowed(xfam, config)) {
            throw invalid(OperandId.XFAM);
        }
        tdcs.u64(Tdcs.XFAM, xfam);
        extendedStateLayout(xfam);
        int maxVcpus = params.maxVcpus();
        if (maxVcpus == 0 || maxVcpus > Tdcs.MAX_VCPUS_PER_TD) {
            throw invalid(OperandId.MAX_VCPUS);
        }
        tdcs.u32(Tdcs.MAX_VCPUS, maxVcpus);
        int numL2Vms = params.numL2Vms();
        if (numL2Vms > Tdcs.MAX_L2_VMS) {
            throw invalid(OperandId.NUM_L2_VMS);
        }
        if (tdr.numTdcx() < Tdcs.MIN_PAGES + numL2Vms) {
            throw new LeafFailure(TdxStatus.TDCS_NOT_ALLOCATED);
        }
        tdcs.u16(Tdcs.NUM_L2_VMS, numL2Vms);
        if (!params.isZero(20, 4)) {
            throw invalid(OperandId.RDX);
        }
        long flags = params.configFlags();
        if ((flags & ~config.configFlagsFixed0) != 0) {
            throw invalid(OperandId.EXEC_CONTROLS);
        }
        eptp(params.eptpControls(), (flags & 1) != 0);
        tdcs.u64(Tdcs.CONFIG_FLAGS, flags);
        tdcs.flag(Tdcs.GPAW, (flags & 1) != 0);
        tsc();
        if (!params.isZero(42, 38)) {
            throw invalid(OperandId.RDX);
        }
        tdcs.bytes(Tdcs.MRCONFIGID, params.measurement(0));
        tdcs.bytes(Tdcs.MROWNER, params.measurement(1));
        tdcs.bytes(Tdcs.MROWNERCONFIG, params.measurement(2));
        if (params.msrConfigControls() >>> 1 != 0 || !params.isZero(232, 24)) {
            throw invalid(OperandId.RDX);
        }
    }

    private static boolean attributesAllowed(long attributes, PlatformConfig config) {
        if ((attributes & ~config.attributesFixed0) != 0) {
            return false;
        }
        boolean perfmon = (attributes & Tdcs.PERFMON) != 0;
        if ((attributes & Tdcs.MIGRATABLE) != 0 && ((attributes & Tdcs.DEBUG) != 0 || perfmon)) {
            return false;
        }
        return !perfmon || (attributes & Tdcs.ICSSD) == 0;
    }

    private static boolean xfamAllowed(long xfam, PlatformConfig config) {
        boolean avx = ((xfam >>> 2) & 1) != 0;
        long avx512 = (xfam >>> 5) & 7;
        long cet = (xfam >>> 11) & 3;
        long amx = (xfam >>> 17) & 3;
        return (xfam & ~config.xfamFixed0()) == 0 && (xfam & PlatformConfig.XFAM_FIXED1) == PlatformConfig.XFAM_FIXED1
                && (avx512 == 0 || (avx512 == 7 && avx)) && (cet == 0 || cet == 3) && (amx == 0 || amx == 3);
    }

    private void extendedStateLayout(long xfam) {
        int offset = XSAVE_EXTENDED_REGION;
        for (int i = 2; i <= 18; i++) {
            if (((xfam >>> i) & 1) != 0) {
                offset = config.xsaveAlign[i] ? (offset + 63) & ~63 : offset;
                tdcs.u32(Tdcs.XBUFF_OFFSETS + 4 * i, offset);
                offset += config.xsaveSize[i];
            }
        }
        tdcs.u32(Tdcs.XBUFF_SIZE, offset);
    }

    private void eptp(long eptp, boolean gpaw) throws LeafFailure {
        int level = (int) (eptp >>> 3) & 7;
        int maxLevel = (config.vmxEptVpidCap & PML5_EPT_CAP) != 0 ? 4 : 3;
        if ((eptp & 7) != EPT_WB || level < 3 || level > maxLevel || eptp >>> 6 != 0
                || (level == 4 && config.maxPa < MIN_PA_FOR_PML5) || (gpaw && level < 4)) {
            throw invalid(OperandId.EPTP_CONTROLS);
        }
        tdcs.flag(Tdcs.GPAW, gpaw);
        tdcs.u64(Tdcs.EPTP, eptp | PhysicalMemory.pa(tdr.tdcxHpa(Tdcs.SEPT_ROOT_PAGE)));
    }

    private void tsc() throws LeafFailure {
        int frequency = params.tscFrequency();
        if (frequency < TSC_MIN || frequency > TSC_MAX) {
            throw invalid(OperandId.TSC_FREQUENCY);
        }
        tdcs.u16(Tdcs.TSC_FREQUENCY, frequency);
        if (lp.cpu.rdmsr(Msr.IA32_TSC_ADJUST) != config.tscAdjust) {
            throw new LeafFailure(TdxStatus.INCONSISTENT_MSR, Msr.IA32_TSC_ADJUST);
        }
        long tsc = lp.cpu.tsc();
        long multiplier = Ticks.scaled((long) frequency * TSC_UNIT, 48, config.tscHz);
        tdcs.u64(Tdcs.TSC_MULTIPLIER, multiplier);
        tdcs.u64(Tdcs.TSC_OFFSET, -Ticks.product48(tsc, multiplier));
    }

    private void archCapabilities() throws LeafFailure {
        long configured = params.archCapabilities();
        if (((params.msrConfigControls() & 1) == 0 && configured != 0) || (configured & ~ARCH_CAP_CONFIGURABLE) != 0) {
            throw invalid(OperandId.IA32_ARCH_CAPABILITIES_CONFIG);
        }
        long value = config.archCapabilities & ~ARCH_CAP_HIDDEN;
        long allowed = ARCH_CAP_SSB_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO;
        value &= ~allowed | configured;
        value |= (configured & ARCH_CAP_RRSBA) | ARCH_CAP_XAPIC_DISABLE_STATUS;
        if (!tdcs.cpuidFlag(Tdcs.TSX)) {
            value &= ~ARCH_CAP_TSX_CTRL;
        }
        tdcs.u64(Tdcs.VIRT_ARCH_CAPABILITIES, value);
    }

    /// Clears the bits of native accesses in the MSR bitmaps, which TDH.MNG.ADDCX set to ones.
    private void msrBitmaps() {
        for (var row : MsrTable.rows()) {
            boolean read = MsrAccess.isNative(config, tdcs, row.readBit(), row.first());
            boolean write = MsrAccess.isNative(config, tdcs, row.writeBit(), row.first());
            for (int msr = row.first(); (read || write) && msr <= row.last(); msr++) {
                int low = msr & 0x1fff;
                int at = Tdcs.MSR_BITMAPS + ((msr & ~0x1fff) != 0 ? BITMAP_PART : 0) + low / 8;
                int mask = ~(1 << (low % 8));
                if (read) {
                    tdcs.u8(at, tdcs.u8(at) & mask);
                }
                if (write) {
                    tdcs.u8(at + 2 * BITMAP_PART, tdcs.u8(at + 2 * BITMAP_PART) & mask);
                }
            }
        }
    }
}
