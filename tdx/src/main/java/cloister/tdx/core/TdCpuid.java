package cloister.tdx.core;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import java.util.Arrays;
import java.util.Locale;

/// Computes the CPUID values that a TD sees, from native values, TD_PARAMS, ATTRIBUTES and XFAM. [TDX-BASE "CPUID
/// Virtualization"]
final class TdCpuid {
    private static final int EAX = 0;
    private static final int EBX = 1;
    private static final int ECX = 2;
    private static final int EDX = 3;
    private static final int HLE = 1 << 4;
    private static final int RTM = 1 << 11;
    private static final int KEY_LOCKER = 1 << 23;
    private static final int PKS = 1 << 31;
    static final int MIN_VIRT_MAXPA = 45;
    /// CPUID(1).EAX of the newest stepping of the processors that a migratable TD may pretend to run on, newest model first.
    private static final int[] KNOWN_MODELS = {0xd06d0, 0xa06e0, 0xa06d0, 0xa06f3, 0xc06f2, 0x806f8};

    private final LpState lp;
    private final Tdcs tdcs;
    private final TdParams params;
    private final PlatformConfig config;

    TdCpuid(LpState lp, Tdcs tdcs, TdParams params) {
        this.lp = lp;
        this.tdcs = tdcs;
        this.params = params;
        this.config = lp.module.config;
    }

    private LeafFailure invalid(CpuidTable.Row row) {
        lp.reg(LpState.RCX, row.leafSubleaf());
        return new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.CPUID_CONFIG);
    }

    void run() throws LeafFailure {
        var rows = CpuidTable.rows();
        for (int i = 0; i < rows.size(); i++) {
            var row = rows.get(i);
            int[] value = config.cpuid[i].clone();
            if (row.valid() && row.config() != CpuidTable.NOT_CONFIGURABLE) {
                configure(row, value);
            }
            special(row, value);
            store(i, value);
            tdcs.flag(Tdcs.CPUID_VALID + i, row.valid() && !row.faulting());
        }
        new VirtualTopology(tdcs, config).run();
        tdcs.flag(Tdcs.TOPOLOGY_ENUM_CONFIGURED, true);
        if (!params.isZero(544, 480)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RDX);
        }
    }

    private void store(int index, int[] value) {
        for (int r = 0; r < 4; r++) {
            tdcs.u32(Tdcs.CPUID_VALUES + 16 * index + 4 * r, value[r]);
        }
    }

    private void configure(CpuidTable.Row row, int[] value) throws LeafFailure {
        for (int r = 0; r < 4; r++) {
            int asked = params.cpuid(row.config(), r);
            int direct = row.configDirect()[r];
            int allow = row.allowDirect()[r];
            if ((asked & ~(direct | allow)) != 0) {
                throw invalid(row);
            }
            int v = (value[r] & ~row.fixed0()[r]) | row.fixed1()[r];
            v = (v & ~direct) | (asked & direct);
            value[r] = v & (asked | ~allow);
        }
    }

    private static void clear(int[] value, boolean condition) {
        if (condition) {
            Arrays.fill(value, 0);
        }
    }

    private void applyXfam(CpuidTable.Row row, int[] value) {
        for (var mask : CpuidTable.xfamMasks(row.leaf(), row.subleaf())) {
            if (!tdcs.xfam(mask.bit())) {
                for (int r = 0; r < 4; r++) {
                    value[r] &= ~mask.clear()[r];
                }
            }
        }
    }

    private void special(CpuidTable.Row row, int[] value) throws LeafFailure {
        switch (row.leaf()) {
            case 1 -> versionInformation(row, value);
            case 5 -> clear(value, !tdcs.cpuidFlag(Tdcs.MONITOR_MWAIT));
            case 7 -> extendedFeatures(row, value);
            case 0xa -> clear(value, !tdcs.hasAttribute(Tdcs.PERFMON));
            case 0xd -> extendedState(row, value);
            case 0x14 -> clear(value, !tdcs.xfam(8));
            case 0x15 -> value[EBX] = tdcs.u16(Tdcs.TSC_FREQUENCY);
            case 0x19 -> clear(value, true);
            case 0x1a -> clear(value, tdcs.hasAttribute(Tdcs.MIGRATABLE));
            case 0x1c -> clear(value, !tdcs.xfam(15));
            case 0x1d -> clear(value, !tdcs.xfam(17) || !tdcs.xfam(18));
            case 0x23 -> clear(value, !tdcs.hasAttribute(Tdcs.PERFMON) || !tdcs.cpuidFlag(Tdcs.PERFMON_EXT_LEAF));
            case 0x8000_0008 -> addressSizes(value);
            default -> {
            }
        }
    }

    private void versionInformation(CpuidTable.Row row, int[] value) throws LeafFailure {
        if (value[EAX] == 0) {
            value[EAX] = config.platformFms;
        }
        if (tdcs.hasAttribute(Tdcs.MIGRATABLE) ? !isKnownModel(value[EAX]) : value[EAX] != config.platformFms) {
            throw invalid(row);
        }
        applyXfam(row, value);
        tdcs.cpuidFlag(Tdcs.MONITOR_MWAIT, ((value[ECX] >> 3) & 1) != 0);
        tdcs.cpuidFlag(Tdcs.DCA, ((value[ECX] >> 18) & 1) != 0);
        tdcs.cpuidFlag(Tdcs.TSC_DEADLINE, ((value[ECX] >> 24) & 1) != 0);
    }

    private boolean isKnownModel(int fms) {
        if (sameModel(fms, config.platformFms) && (fms & 0xf) > (config.platformFms & 0xf)) {
            return false;
        }
        boolean reachedPlatform = false;
        for (int known : KNOWN_MODELS) {
            reachedPlatform |= sameModel(known, config.platformFms);
            if (reachedPlatform && sameModel(known, fms)) {
                return (fms & 0xf) <= (known & 0xf);
            }
        }
        if (!reachedPlatform) {
            throw new ModuleHalt(String.format(Locale.ROOT, "unknown processor 0x%x", config.platformFms));
        }
        return false;
    }

    /// The models that a migratable TD may show here, the platform's own first.
    static int[] allowedModels(PlatformConfig config) {
        for (int i = 0; i < KNOWN_MODELS.length; i++) {
            if (sameModel(KNOWN_MODELS[i], config.platformFms)) {
                var models = Arrays.copyOfRange(KNOWN_MODELS, i, KNOWN_MODELS.length);
                models[0] = config.platformFms;
                return models;
            }
        }
        return new int[0];
    }

    private static boolean sameModel(int a, int b) {
        return ((a ^ b) & ~0xf) == 0;
    }

    private void extendedFeatures(CpuidTable.Row row, int[] value) throws LeafFailure {
        switch (row.subleaf()) {
            case 0 -> {
                applyXfam(row, value);
                boolean hle = (value[EBX] & HLE) != 0;
                if (hle != ((value[EBX] & RTM) != 0)) {
                    throw invalid(row);
                }
                if (hle && (config.archCapabilities & PlatformCheck.ARCH_CAP_TSX_CTRL) == 0) {
                    throw new LeafFailure(TdxStatus.INCORRECT_MSR_VALUE, Msr.IA32_ARCH_CAPABILITIES);
                }
                tdcs.cpuidFlag(Tdcs.TSX, hle);
                value[ECX] = (value[ECX] & ~(PKS | KEY_LOCKER)) | (tdcs.hasAttribute(Tdcs.PKS) ? PKS : 0);
                tdcs.cpuidFlag(Tdcs.WAITPKG, ((value[ECX] >> 5) & 1) != 0);
                tdcs.cpuidFlag(Tdcs.TME, ((value[ECX] >> 13) & 1) != 0);
                tdcs.cpuidFlag(Tdcs.LA57, ((value[ECX] >> 16) & 1) != 0);
                tdcs.cpuidFlag(Tdcs.PCONFIG, ((value[EDX] >> 18) & 1) != 0);
            }
            case 1 -> {
                applyXfam(row, value);
                tdcs.cpuidFlag(Tdcs.PERFMON_EXT_LEAF, ((value[EAX] >> 8) & 1) != 0);
                value[EAX] = (value[EAX] & ~(1 << 6)) | (tdcs.hasAttribute(Tdcs.LASS) ? 1 << 6 : 0);
            }
            default -> tdcs.cpuidFlag(Tdcs.DDPD, ((value[EDX] >> 3) & 1) != 0);
        }
    }

    private void extendedState(CpuidTable.Row row, int[] value) {
        int subleaf = row.subleaf();
        switch (subleaf) {
            case 0 -> {
                applyXfam(row, value);
                value[ECX] = xsaveAreaSize();
            }
            case 1 -> {
                applyXfam(row, value);
                if ((config.xfdFaultingMask & tdcs.xfam()) == 0) {
                    value[EAX] &= ~(1 << 4);
                }
                tdcs.cpuidFlag(Tdcs.XFD, ((value[EAX] >> 4) & 1) != 0);
            }
            default -> clear(value, !tdcs.xfam(subleaf));
        }
    }

    /// CPUID(0DH).EBX with the TD's user components in XCR0.
    private int xsaveAreaSize() {
        var out = new int[4];
        long xcr0 = lp.cpu.xcr0();
        lp.cpu.xcr0(tdcs.xfam() & PlatformCheck.XCR0_USER_BITS);
        lp.cpu.cpuid(0xd, 0, out);
        lp.cpu.xcr0(xcr0);
        return out[EBX];
    }

    private void addressSizes(int[] value) throws LeafFailure {
        int linear = tdcs.cpuidFlag(Tdcs.LA57) ? 57 : 48;
        int physical = value[EAX] & 0xff;
        int gpaWidth = tdcs.gpaw() ? 52 : 48;
        if ((params.configFlags() & Tdcs.MAXPA_VIRT) == 0) {
            physical = config.maxPa;
        } else if (physical == 0) {
            physical = Math.min(config.maxPa, gpaWidth);
        } else if (physical > gpaWidth || physical > config.maxPa || physical < MIN_VIRT_MAXPA) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.CPUID_CONFIG);
        }
        tdcs.u8(Tdcs.VIRT_MAXPA, physical);
        value[EAX] = (value[EAX] & ~0xffff) | (linear << 8) | physical;
    }
}
