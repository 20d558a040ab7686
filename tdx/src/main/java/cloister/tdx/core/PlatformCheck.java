package cloister.tdx.core;

import static cloister.tdx.core.LpState.R10;
import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.R9;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.port.Processor;
import java.util.Locale;

/// TDH.SYS.INIT's examination of the platform: MSRs, CPUID, VMX capabilities, keys, memory ranges, in the module's order.
public final class PlatformCheck {
    public static final int VMX_BASIC = 0x480;
    public static final int VMX_MISC = 0x485;
    public static final int VMX_CR0_FIXED0 = 0x486;
    public static final int VMX_CR0_FIXED1 = 0x487;
    public static final int VMX_CR4_FIXED0 = 0x488;
    public static final int VMX_CR4_FIXED1 = 0x489;
    public static final int VMX_PROCBASED_CTLS2 = 0x48b;
    public static final int VMX_EPT_VPID_CAP = 0x48c;
    public static final int VMX_TRUE_PINBASED_CTLS = 0x48d;
    public static final int VMX_TRUE_PROCBASED_CTLS = 0x48e;
    public static final int VMX_TRUE_EXIT_CTLS = 0x48f;
    public static final int VMX_TRUE_ENTRY_CTLS = 0x490;
    public static final int VMX_PROCBASED_CTLS3 = 0x492;

    static final int XCR0_USER_BITS = 0x602ff;
    static final int XSS_SUPERVISOR_BITS = 0x1fd00;
    public static final int LIMIT_CPUID_MAXVAL = 1 << 22;
    public static final long TSX_CPUID_CLEAR = 2;
    public static final long ARCH_CAP_TSX_CTRL = 1 << 7;
    private static final int MIN_LAST_BASE_LEAF = 0x1f;
    private static final int LAST_EXTENDED_LEAF = 0x8000_0008;
    private static final int MAX_CMRS = 32;
    /// IA32_ARCH_CAPABILITIES bits that must be 1, and those that must be 0.
    private static final long ARCH_CAP_REQUIRED = 0x20_fd6bL;
    private static final long ARCH_CAP_FORBIDDEN = (1 << 2) | (1 << 18);
    private static final long EPT_VPID_CAP_REQUIRED = 0x101_0633_4041L;
    /// VMX_MISC: unrestricted guest, HLT and shutdown activity, PT in VMX, any field VMWRITE.
    private static final long VMX_MISC_REQUIRED = (1 << 5) | (1 << 6) | (1 << 7) | (1 << 14) | (1 << 29);

    /// Algorithms in IA32_TME_CAPABILITY, and in IA32_TME_ACTIVATE from bit 48 on: 128 and 256 bits.
    private static final long AES_XTS = 1 | (1 << 2);
    private static final long AES_XTS_WITH_INTEGRITY = (1 << 1) | (1 << 3);

    private final LpState lp;
    private final Processor cpu;
    private final PlatformConfig config;
    private final int[] out = new int[4];

    // Topology scan
    private int l3SharingIds = -1;
    private boolean coreLevelSeen;
    private int shiftCount = -1;
    private int previousLevelType;

    public PlatformCheck(LpState lp) {
        this.lp = lp;
        this.cpu = lp.cpu;
        this.config = lp.module.config;
    }

    public void run() throws LeafFailure {
        long tsxCtrl = 0;
        boolean tsxModified = false;
        checkMsrs();
        if ((config.archCapabilities & ARCH_CAP_TSX_CTRL) != 0) {
            tsxCtrl = cpu.rdmsr(Msr.IA32_TSX_CTRL);
            if ((tsxCtrl & TSX_CPUID_CLEAR) != 0) {
                cpu.wrmsr(Msr.IA32_TSX_CTRL, tsxCtrl & ~TSX_CPUID_CLEAR);
                tsxModified = true;
            }
        }
        try {
            checkPackageAndPerformance();
            checkCpuid();
            checkVmx();
            checkKeys();
            checkCmrs();
            checkSmrr();
        } finally {
            if (tsxModified) {
                cpu.wrmsr(Msr.IA32_TSX_CTRL, tsxCtrl);
            }
        }
    }

    private static LeafFailure badMsr(int msr) {
        return new LeafFailure(TdxStatus.INCORRECT_MSR_VALUE, msr);
    }

    private void checkMsrs() throws LeafFailure {
        config.coreCapabilities = cpu.rdmsr(Msr.IA32_CORE_CAPABILITIES);
        config.archCapabilities = cpu.rdmsr(Msr.IA32_ARCH_CAPABILITIES);
        if ((config.archCapabilities & ARCH_CAP_REQUIRED) != ARCH_CAP_REQUIRED
                || (config.archCapabilities & ARCH_CAP_FORBIDDEN) != 0) {
            throw badMsr(Msr.IA32_ARCH_CAPABILITIES);
        }
        config.xapicDisableStatus = cpu.rdmsr(Msr.IA32_XAPIC_DISABLE_STATUS);
        if (config.xapicDisableStatus != 1) {
            throw badMsr(Msr.IA32_XAPIC_DISABLE_STATUS);
        }
    }

    private void checkPackageAndPerformance() throws LeafFailure {
        config.miscPackageCtls = cpu.rdmsr(Msr.IA32_MISC_PACKAGE_CTLS);
        if ((config.miscPackageCtls & 1) == 0) {
            throw badMsr(Msr.IA32_MISC_PACKAGE_CTLS);
        }
        config.perfCapabilities = cpu.rdmsr(Msr.IA32_PERF_CAPABILITIES);
        if ((config.perfCapabilities & (3 << 12)) != 3 << 12) { // freeze while SMM, full-width writes
            throw badMsr(Msr.IA32_PERF_CAPABILITIES);
        }
        config.tscAdjust = cpu.rdmsr(Msr.IA32_TSC_ADJUST);
    }

    private void checkCpuid() throws LeafFailure {
        long miscEnable = cpu.rdmsr(Msr.IA32_MISC_ENABLE);
        if ((miscEnable & LIMIT_CPUID_MAXVAL) != 0) {
            throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
        }
        if ((miscEnable & (1 << 7)) == 0 || (miscEnable & (1 << 11)) != 0) { // performance monitoring, no BTS
            throw badMsr(Msr.IA32_MISC_ENABLE);
        }
        cpu.cpuid(0, 0, out);
        int lastBase = out[0];
        if (Integer.compareUnsigned(lastBase, MIN_LAST_BASE_LEAF) < 0) {
            throw new LeafFailure(TdxStatus.CPUID_LEAF_NOT_SUPPORTED, MIN_LAST_BASE_LEAF);
        }
        cpu.cpuid(0x8000_0000, 0, out);
        int lastExtended = out[0];
        if (Integer.compareUnsigned(lastExtended, LAST_EXTENDED_LEAF) < 0) {
            throw new LeafFailure(TdxStatus.CPUID_LEAF_NOT_SUPPORTED, LAST_EXTENDED_LEAF);
        }
        config.lastExtendedLeaf = lastExtended;
        config.xfdFaultingMask = 0;
        config.coreIdShift = 0;
        var rows = CpuidTable.rows();
        for (int i = 0; i < rows.size(); i++) {
            if (rows.get(i).valid()) {
                checkRow(i, rows.get(i), lastBase, lastExtended);
            }
        }
    }

    private void checkRow(int index, CpuidTable.Row row, int lastBase, int lastExtended) throws LeafFailure {
        int leaf = row.leaf();
        var value = new int[4];
        if (leaf >= 0 ? Integer.compareUnsigned(leaf, lastBase) <= 0 : Integer.compareUnsigned(leaf, lastExtended) <= 0) {
            cpu.cpuid(leaf, row.subleaf() == CpuidTable.ANY ? 0 : row.subleaf(), value);
        }
        for (int r = 0; r < 4; r++) {
            if ((value[r] & row.verifyMask()[r]) != row.verifyValue()[r]) {
                throw badCpuid(row, pair(row.verifyMask(), 0), pair(row.verifyMask(), 2), pair(row.verifyValue(), 0),
                        pair(row.verifyValue(), 2));
            }
        }
        special(row, value);
        config.cpuid[index] = value;
    }

    public static long pair(int[] registers, int from) {
        return (registers[from] & 0xffff_ffffL) | ((long) registers[from + 1] << 32);
    }

    private LeafFailure badCpuid(CpuidTable.Row row, long maskLow, long maskHigh, long valueLow, long valueHigh) {
        lp.reg(RCX, row.leafSubleaf());
        lp.reg(RDX, maskLow);
        lp.reg(R8, maskHigh);
        lp.reg(R9, valueLow);
        lp.reg(R10, valueHigh);
        return new LeafFailure(TdxStatus.INCORRECT_CPUID_VALUE);
    }

    private void special(CpuidTable.Row row, int[] value) throws LeafFailure {
        switch (row.leaf()) {
            case 1 -> {
                config.platformFms = lowestStepping();
                value[0] = config.platformFms;
            }
            case 4 -> {
                if (row.subleaf() == 3) {
                    l3SharingIds = (value[0] >>> 14) & 0xfff;
                }
            }
            case 7 -> extendedFeatures(row.subleaf(), value);
            case 0xa -> performanceMonitoring(row, value);
            case 0xd -> extendedState(row.subleaf(), value);
            case 0x15 -> tsc(value);
            case 0x1a -> config.coreType = value[0] >>> 24;
            case 0x1c -> lbr(value);
            case 0x1f -> topology(row.subleaf(), value);
            case 0x8000_0008 -> addressSizes(row, value);
            default -> {
            }
        }
    }

    private int lowestStepping() {
        var sockets = lp.module.platform.socketFms();
        int lowest = sockets.get(0);
        for (int fms : sockets) {
            if ((fms & 0xf) < (lowest & 0xf)) {
                lowest = (lowest & ~0xf) | (fms & 0xf);
            }
        }
        return lowest;
    }

    private void extendedFeatures(int subleaf, int[] value) {
        switch (subleaf) {
            case 0 -> {
                config.hle = ((value[1] >> 4) & 1) != 0;
                config.rtm = ((value[1] >> 11) & 1) != 0;
                config.waitpkg = ((value[2] >> 5) & 1) != 0;
                config.la57 = ((value[2] >> 16) & 1) != 0;
            }
            case 1 -> {
                config.lass = ((value[0] >> 6) & 1) != 0;
                config.lam = ((value[0] >> 26) & 1) != 0;
            }
            default -> config.ddpd = ((value[3] >> 3) & 1) != 0;
        }
    }

    private void performanceMonitoring(CpuidTable.Row row, int[] value) throws LeafFailure {
        if ((value[0] & 0xff) < 5) {
            throw badCpuid(row, 0xf, 0, 5, 0);
        }
        config.fixedCounters = value[3] & 0x1f;
        if (config.fixedCounters > 7) {
            throw badCpuid(row, 0, 0x1fL << 32, 0, 7L << 32);
        }
        config.fixedCounterBitmap = ((1 << config.fixedCounters) - 1) | value[2];
    }

    private void extendedState(int subleaf, int[] value) {
        switch (subleaf) {
            case 0 -> config.xcr0Supported = value[0] & XCR0_USER_BITS;
            case 1 -> {
                config.xfd = ((value[0] >> 4) & 1) != 0;
                config.xssSupported = value[2] & XSS_SUPERVISOR_BITS;
            }
            default -> {
                config.xsaveSize[subleaf] = value[0];
                config.xsaveAlign[subleaf] = ((value[2] >> 1) & 1) != 0;
                if (config.xfd && ((value[2] >> 2) & 1) != 0) {
                    config.xfdFaultingMask |= 1 << subleaf;
                }
                int wrongMask = (value[2] & 1) != 0 ? config.xcr0Supported : config.xssSupported;
                if (((wrongMask >> subleaf) & 1) != 0) {
                    throw new ModuleHalt("extended state component " + subleaf + " is both user and supervisor");
                }
            }
        }
    }

    private void tsc(int[] value) throws LeafFailure {
        if (value[1] == 0) {
            throw new LeafFailure(TdxStatus.CPUID_LEAF_NOT_SUPPORTED, 0x15);
        }
        config.crystalHz = value[2] & 0xffff_ffffL;
        if (value[0] == 0) {
            throw new ModuleHalt("CPUID(15H).EAX is 0");
        }
        config.tscHz = Long.divideUnsigned(config.crystalHz * (value[1] & 0xffff_ffffL), value[0] & 0xffff_ffffL);
        if (Long.compareUnsigned(config.tscHz, 0x2540c) < 0) {
            throw new ModuleHalt("native TSC frequency " + config.tscHz);
        }
    }

    private void lbr(int[] value) {
        int depths = value[0] & 0xff;
        if (depths == 0) {
            throw new ModuleHalt("no LBR depth");
        }
        config.maxLbrDepth = 8 * (32 - Integer.numberOfLeadingZeros(depths));
    }

    private void topology(int subleaf, int[] value) throws LeafFailure {
        int levelType = (value[2] >>> 8) & 0xff;
        if (levelType != 0) {
            if (levelType <= previousLevelType || levelType >= 6) {
                throw new LeafFailure(TdxStatus.CPUID_LEAF_1F_FORMAT_UNRECOGNIZED);
            }
            shiftCount = value[0] & 0x1f;
            if (levelType == 1) {
                config.coreIdShift = shiftCount;
            } else if (levelType == 2) {
                coreLevelSeen = true;
            }
        } else {
            if (subleaf == 0 || !coreLevelSeen) {
                throw new LeafFailure(TdxStatus.CPUID_LEAF_NOT_SUPPORTED, 0);
            }
            if (previousLevelType != 0) {
                config.packageIdShift = shiftCount;
                if ((shiftCount - config.coreIdShift) >>> 5 != 0) {
                    throw new ModuleHalt("fewer x2APIC ID bits up to the package than up to the core");
                }
                if (l3SharingIds >>> (shiftCount - 1) != 1) {
                    throw new LeafFailure(TdxStatus.INVALID_WBINVD_SCOPE);
                }
            }
        }
        previousLevelType = levelType;
    }

    private void addressSizes(CpuidTable.Row row, int[] value) throws LeafFailure {
        config.maxPa = value[0] & 0xff;
        if (config.maxPa > ModuleState.MAX_PA) {
            throw new ModuleHalt("physical addresses of " + config.maxPa + " bits");
        }
        int linear = config.la57 ? 57 : 48;
        if (((value[0] >>> 8) & 0xff) != linear) {
            throw badCpuid(row, 0xff00, 0, linear << 8, 0);
        }
    }

    // VMX

    private interface Store {
        void value(int control);
    }

    private static boolean allowed(long msr, int init, int variable, int unknown, Store store) {
        int mustBe1 = (int) msr;
        int mayBe1 = (int) (msr >>> 32);
        if ((mustBe1 & ~mayBe1) != 0) {
            throw new ModuleHalt(String.format(Locale.ROOT, "VMX capability 0x%x contradicts itself", msr));
        }
        if ((mustBe1 & ~(init | unknown)) != 0 || (~mayBe1 & init) != 0 || ((mustBe1 | ~mayBe1) & variable) != 0) {
            return false;
        }
        store.value(init | mustBe1);
        return true;
    }

    private void require(boolean ok, int msr) throws LeafFailure {
        if (!ok) {
            throw badMsr(msr);
        }
    }

    private void checkVmx() throws LeafFailure {
        config.vmxBasic = cpu.rdmsr(VMX_BASIC);
        require(((config.vmxBasic >>> 32) & 0x1fff) <= 4096 && ((config.vmxBasic >>> 54) & 3) == 3, VMX_BASIC);
        var td = config.td;
        config.vmxTruePinbased = cpu.rdmsr(VMX_TRUE_PINBASED_CTLS);
        require(allowed(config.vmxTruePinbased, VmcsInit.PINBASED, VmcsInit.PINBASED_VARIABLE, VmcsInit.PINBASED_UNKNOWN,
                v -> td.pinbased = v), VMX_TRUE_PINBASED_CTLS);
        config.vmxTrueProcbased = cpu.rdmsr(VMX_TRUE_PROCBASED_CTLS);
        require(allowed(config.vmxTrueProcbased, VmcsInit.PROCBASED, VmcsInit.PROCBASED_VARIABLE,
                VmcsInit.PROCBASED_UNKNOWN, v -> td.procbased = v), VMX_TRUE_PROCBASED_CTLS);
        config.vmxProcbased2 = cpu.rdmsr(VMX_PROCBASED_CTLS2);
        require(allowed(config.vmxProcbased2, procbased2(VmcsInit.PROCBASED2), VmcsInit.PROCBASED2_VARIABLE, 0,
                v -> td.procbased2 = v), VMX_PROCBASED_CTLS2);
        config.vmxProcbased3 = cpu.rdmsr(VMX_PROCBASED_CTLS3);
        boolean virtualSpecCtrl = (config.vmxProcbased3 & VmcsInit.PROC3_VIRT_SPEC_CTRL) != 0;
        require(!config.ddpd || virtualSpecCtrl, VMX_PROCBASED_CTLS3);
        require((~config.vmxProcbased3 & VmcsInit.PROCBASED3_VARIABLE & ~VmcsInit.PROC3_VIRT_SPEC_CTRL) == 0,
                VMX_PROCBASED_CTLS3);
        config.vmxTrueExit = cpu.rdmsr(VMX_TRUE_EXIT_CTLS);
        require(allowed(config.vmxTrueExit, VmcsInit.EXIT, VmcsInit.EXIT_VARIABLE, VmcsInit.EXIT_UNKNOWN,
                v -> td.exit = v), VMX_TRUE_EXIT_CTLS);
        config.vmxTrueEntry = cpu.rdmsr(VMX_TRUE_ENTRY_CTLS);
        require(allowed(config.vmxTrueEntry, VmcsInit.ENTRY, VmcsInit.ENTRY_VARIABLE, VmcsInit.ENTRY_UNKNOWN,
                v -> td.entry = v), VMX_TRUE_ENTRY_CTLS);
        config.vmxMisc = cpu.rdmsr(VMX_MISC);
        require((config.vmxMisc & VMX_MISC_REQUIRED) == VMX_MISC_REQUIRED && ((config.vmxMisc >>> 16) & 0x1ff) >= 4, VMX_MISC);
        config.vmxEptVpidCap = cpu.rdmsr(VMX_EPT_VPID_CAP);
        require((config.vmxEptVpidCap & EPT_VPID_CAP_REQUIRED) == EPT_VPID_CAP_REQUIRED, VMX_EPT_VPID_CAP);
        checkControlRegisters();
        checkL2Vmx();
    }

    private int procbased2(int init) {
        int result = config.waitpkg ? init | VmcsInit.PROC2_USER_WAIT_PAUSE : init & ~VmcsInit.PROC2_USER_WAIT_PAUSE;
        boolean enclv = ((config.vmxProcbased2 >>> 32) & VmcsInit.PROC2_ENCLV_EXITING) != 0;
        return enclv ? result : result & ~VmcsInit.PROC2_ENCLV_EXITING;
    }

    private void checkControlRegisters() throws LeafFailure {
        config.vmxCr0Fixed0 = cpu.rdmsr(VMX_CR0_FIXED0);
        require((config.vmxCr0Fixed0 & ~0x8000_0001L & ~VmcsInit.CR0) == 0, VMX_CR0_FIXED0);
        config.vmxCr0Fixed1 = cpu.rdmsr(VMX_CR0_FIXED1);
        require((~config.vmxCr0Fixed1 & VmcsInit.CR0) == 0, VMX_CR0_FIXED1);
        config.vmxCr4Fixed0 = cpu.rdmsr(VMX_CR4_FIXED0);
        require((config.vmxCr4Fixed0 & ~VmcsInit.CR4) == 0, VMX_CR4_FIXED0);
        config.vmxCr4Fixed1 = cpu.rdmsr(VMX_CR4_FIXED1);
        require((~config.vmxCr4Fixed1 & VmcsInit.CR4) == 0, VMX_CR4_FIXED1);
    }

    private void checkL2Vmx() throws LeafFailure {
        var l2 = config.l2;
        require(allowed(config.vmxTruePinbased, VmcsInit.PINBASED, VmcsInit.L2_PINBASED_VARIABLE, VmcsInit.PINBASED_UNKNOWN,
                v -> l2.pinbased = v), VMX_TRUE_PINBASED_CTLS);
        require(allowed(config.vmxTrueProcbased, VmcsInit.PROCBASED, VmcsInit.L2_PROCBASED_VARIABLE,
                VmcsInit.PROCBASED_UNKNOWN, v -> l2.procbased = v), VMX_TRUE_PROCBASED_CTLS);
        require(allowed(config.vmxProcbased2, procbased2(VmcsInit.L2_PROCBASED2), VmcsInit.L2_PROCBASED2_VARIABLE, 0,
                v -> l2.procbased2 = v), VMX_PROCBASED_CTLS2);
        require((~config.vmxProcbased3 & VmcsInit.L2_PROCBASED3_VARIABLE & ~VmcsInit.PROC3_VIRT_SPEC_CTRL) == 0,
                VMX_PROCBASED_CTLS3);
        require(allowed(config.vmxTrueExit, VmcsInit.EXIT, VmcsInit.EXIT_VARIABLE, VmcsInit.EXIT_UNKNOWN,
                v -> l2.exit = v), VMX_TRUE_EXIT_CTLS);
        require(allowed(config.vmxTrueEntry, VmcsInit.ENTRY, VmcsInit.ENTRY_VARIABLE, VmcsInit.ENTRY_UNKNOWN,
                v -> l2.entry = v), VMX_TRUE_ENTRY_CTLS);
        long fixed0 = config.vmxCr0Fixed0 & ~0x8000_0001L;
        require((fixed0 & ~VmcsInit.CR0) == 0 && (~config.vmxCr0Fixed1 & VmcsInit.CR0) == 0
                && ((fixed0 | ~config.vmxCr0Fixed1) & VmcsInit.L2_CR0_VARIABLE) == 0, VMX_CR0_FIXED0);
    }

    // Keys and memory

    private void checkKeys() throws LeafFailure {
        config.tmeCapability = cpu.rdmsr(Msr.IA32_TME_CAPABILITY);
        config.tmeActivate = cpu.rdmsr(Msr.IA32_TME_ACTIVATE);
        long algorithms = lp.module.platform.withoutIntegrity() ? AES_XTS : AES_XTS_WITH_INTEGRITY;
        require((config.tmeActivate & 1) != 0, Msr.IA32_TME_ACTIVATE); // locked
        require((config.tmeCapability & algorithms) != 0, Msr.IA32_TME_CAPABILITY);
        require(((config.tmeActivate >>> 48) & algorithms) != 0, Msr.IA32_TME_ACTIVATE);
        int keyIdBits = (int) (config.tmeActivate >>> 32) & 0xf;
        config.keyIdShift = config.maxPa - keyIdBits;
        config.keyIdMask = (1L << config.maxPa) - (1L << config.keyIdShift);
        config.keyIdPartitioning = cpu.rdmsr(Msr.IA32_MKTME_KEYID_PARTITIONING);
        int shared = (int) config.keyIdPartitioning;
        config.privateKeyIdMin = shared + 1;
        config.privateKeyIdMax = shared + (int) (config.keyIdPartitioning >>> 32);
        if (Integer.compareUnsigned(config.privateKeyIdMax, KeyOwnership.MAX_KEY_IDS) >= 0) {
            throw new LeafFailure(TdxStatus.NUM_ACTIVATED_HKIDS_NOT_SUPPORTED, KeyOwnership.MAX_KEY_IDS);
        }
        config.cacheSubBlocks = cpu.rdmsr(Msr.IA32_WBINVDP);
        require(cpu.rdmsr(Msr.IA32_WBNOINVDP) == config.cacheSubBlocks, Msr.IA32_WBNOINVDP);
    }

    private void checkCmrs() throws LeafFailure {
        long previousStart = 0;
        long previousEnd = 0;
        for (var cmr : lp.module.platform.cmrs()) {
            if (cmr.size() == 0) {
                continue;
            }
            long start = cmr.base();
            long end = start + cmr.size() - 1;
            if (ModuleState.wraps(start, cmr.size()) || ((start | end) & config.keyIdMask) != 0
                    || Long.compareUnsigned(end, 1L << ModuleState.MAX_PA) > 0 || ((start | cmr.size()) & 0xfff) != 0
                    || (previousEnd > 0 && (previousStart > start || previousEnd > start))) {
                throw new LeafFailure(TdxStatus.CMR_LIST_INVALID);
            }
            previousStart = start;
            previousEnd = end;
        }
    }

    private void checkSmrr() throws LeafFailure {
        config.mtrrcap = cpu.rdmsr(Msr.IA32_MTRRCAP);
        if ((config.mtrrcap & (1 << 11)) == 0) {
            throw new LeafFailure(TdxStatus.SMRR_NOT_SUPPORTED);
        }
        if ((config.mtrrcap & (1 << 14)) == 0) {
            throw new LeafFailure(TdxStatus.SMRR_LOCK_NOT_SUPPORTED);
        }
        int ranges = hasSmrr2(lp.module) ? 2 : 1;
        for (int i = 0; i < ranges; i++) {
            config.smrrMask[i] = cpu.rdmsr(i == 0 ? Msr.IA32_SMRR_MASK : Msr.IA32_SMRR2_MASK);
            config.smrrBase[i] = cpu.rdmsr(i == 0 ? Msr.IA32_SMRR_BASE : Msr.IA32_SMRR2_BASE);
        }
        for (int i = 0; i < ranges; i++) {
            if ((config.smrrMask[i] & (1 << 10)) == 0) {
                throw new LeafFailure(TdxStatus.SMRR_NOT_LOCKED, i);
            }
        }
        for (int i = 0; i < ranges; i++) {
            if ((config.smrrMask[i] & (1 << 11)) != 0) {
                checkSmrrRange(i);
            }
        }
    }

    static boolean hasSmrr2(ModuleState module) {
        return !module.platform.smrr2NotSupported() && (module.config.mtrrcap & (1 << 13)) != 0;
    }

    private void checkSmrrRange(int index) throws LeafFailure {
        long mask = config.smrrMask[index] & 0xffff_f000L;
        long base = config.smrrBase[index] & 0xffff_f000L;
        long size = Long.lowestOneBit(mask);
        if (mask == 0 || mask != (0x1_0000_0000L - size) || (base & (size - 1)) != 0) {
            throw new LeafFailure(TdxStatus.INVALID_SMRR_CONFIGURATION, index);
        }
        var cmrs = lp.module.platform.cmrs();
        for (int i = 0; i < Math.min(cmrs.size(), MAX_CMRS); i++) {
            var cmr = cmrs.get(i);
            if (cmr.size() != 0 && ModuleState.overlaps(base, size, cmr.base(), cmr.size())) {
                throw new LeafFailure(TdxStatus.SMRR_OVERLAPS_CMR, index | (i << 8));
            }
        }
    }
}
