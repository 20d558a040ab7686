package cloister.tdx.legality;

import cloister.tdx.legality.CpuidRules.Leaf;
import cloister.tdx.replay.VectorPlatform;
import java.util.Arrays;

/// What CPUID of a TD must be and how TDH.MNG.INIT must take the CPUID part of TD_PARAMS, computed from [CpuidRules].
final class ExpectedCpuid {
    static final long INVALID = 0xC000_0100_0000_0045L;
    private static final long TOPOLOGY_UNRECOGNIZED = 0xC000_0904_0000_0000L;
    private static final long NO_TSX_CTRL = 0xC000_0921_0000_010AL;
    private static final Leaf BASIC = new Leaf(1, CpuidRules.ANY);
    private static final Leaf EXTENDED = new Leaf(7, 0);
    private static final Leaf SIZES = new Leaf(0x8000_0008, CpuidRules.ANY);
    /// The latest known stepping of each model, the oldest model first.
    private static final int[] MODELS = {0x806f8, 0xc06f2, 0xa06f3, 0xa06d0, 0xa06e0, 0xd06d0};
    private static final int LAST_BASIC = 0x23;
    private static final int LEVELS = 6;
    private static final int CORE = 2;
    private static final int HLE_RTM = (1 << 4) | (1 << 11);

    /// What the processor says.
    interface Platform {
        int register(int leaf, int subleaf, int register);
    }

    Platform platform;
    boolean tsxControl;
    // TD_PARAMS
    long attributes;
    long xfam;
    boolean wideGpa;
    boolean virtualMaxPa;
    int tscFrequency;
    final int[][] host = new int[MadeTd.CONFIGURABLE][4];
    // The TD as it runs
    boolean enumeratesTopology;
    boolean hasLeaf2 = true;
    int x2apicId;
    int vcpuIndex;
    long cr4;
    boolean in64BitMode;
    boolean tsxHidden;

    ExpectedCpuid(Platform platform) {
        this.platform = platform;
    }

    /// The bytes of TD_PARAMS.
    interface Parameters {
        long field(int offset, int bytes);
    }

    /// With the CPUID part and all that CPUID depends on from `params`.
    static ExpectedCpuid of(VectorPlatform platform, Parameters params) {
        var expected = new ExpectedCpuid((leaf, subleaf, register) -> {
            var value = new int[4];
            platform.cpuid(0, leaf, subleaf, value);
            return value[register];
        });
        expected.attributes = params.field(0, 8);
        expected.xfam = params.field(8, 8);
        expected.wideGpa = (params.field(32, 8) & 1) != 0;
        expected.virtualMaxPa = (params.field(32, 8) & 8) != 0;
        expected.tscFrequency = (int) params.field(40, 2);
        for (int i = 0; i < MadeTd.CONFIGURABLE; i++) {
            for (int r = 0; r < 4; r++) {
                expected.host[i][r] = (int) params.field(MadeTd.CPUID_CONFIG + 16 * i + 4 * r, 4);
            }
        }
        return expected;
    }

    private int raw(Leaf leaf, int register) {
        return platform.register(leaf.leaf(), Math.max(leaf.subleaf(), 0), register);
    }

    private boolean attribute(int bit) {
        return ((attributes >>> bit) & 1) != 0;
    }

    private boolean has(int xfamBits) {
        return (xfam & xfamBits) == xfamBits;
    }

    // The result of TDH.MNG.INIT

    /// RAX and RCX, if everything else in TD_PARAMS is right.
    long[] init() {
        var configured = CpuidRules.configured();
        for (int i : new int[] {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 11}) { // as the module looks at them
            var leaf = configured.get(i);
            for (int r = 0; r < 4; r++) {
                for (int bit = 0; bit < 32; bit++) {
                    if (((host[i][r] >>> bit) & 1) != 0 && !CpuidRules.of(leaf)[r][bit].configurable()) {
                        return new long[] {INVALID, leaf.operand()};
                    }
                }
            }
            if (leaf.equals(BASIC) && !isKnownProcessor(value(BASIC)[0])) {
                return new long[] {INVALID, leaf.operand()};
            }
            if (leaf.equals(EXTENDED)) {
                int tsx = value(EXTENDED)[1] & HLE_RTM;
                if (tsx != 0 && tsx != HLE_RTM) {
                    return new long[] {INVALID, leaf.operand()};
                }
                if (tsx != 0 && !tsxControl) {
                    return new long[] {NO_TSX_CTRL, 0};
                }
            }
            if (leaf.equals(SIZES) && virtualMaxPa && host[i][0] != 0) {
                int width = host[i][0] & 0xff;
                if (width < 45 || width > (wideGpa ? 52 : 48) || width > (raw(SIZES, 0) & 0xff)) {
                    return new long[] {INVALID, 0};
                }
            }
        }
        return topology() == null ? new long[] {TOPOLOGY_UNRECOGNIZED, 0} : new long[] {0, 0};
    }

    /// A TD sees its own processor; one that may migrate also an earlier stepping of it and any known stepping of an older model.
    private boolean isKnownProcessor(int seen) {
        int own = raw(BASIC, 0);
        if (seen == own || !attribute(29)) {
            return seen == own;
        }
        boolean older = true;
        for (int latest : MODELS) {
            boolean ownModel = latest >>> 4 == own >>> 4;
            if (older && latest >>> 4 == seen >>> 4) {
                return (seen & 0xf) <= Math.min(latest & 0xf, ownModel ? own & 0xf : 0xf);
            }
            older &= !ownModel;
        }
        return false;
    }

    // What the TD sees

    /// EAX, EBX, ECX, EDX of CPUID; null for a #VE.
    int[] seen(int leaf, int subleaf) {
        boolean hypervisor = leaf >>> 28 == 4;
        boolean beyond = leaf < 0 ? Integer.compareUnsigned(leaf, raw(new Leaf(0x8000_0000, 0), 0)) > 0 : leaf > LAST_BASIC;
        int number = beyond && !hypervisor ? LAST_BASIC : leaf;
        var key = new Leaf(number, CpuidRules.of(new Leaf(number, CpuidRules.ANY)) != null ? CpuidRules.ANY : subleaf);
        boolean hidden = switch (number) {
            case 2 -> !hasLeaf2;
            case 0xb, 0x1f -> !enumeratesTopology;
            default -> false;
        };
        return hidden || CpuidRules.of(key) == null ? null : value(key);
    }

    private int[] value(Leaf leaf) {
        var rules = CpuidRules.of(leaf);
        var value = new int[4];
        int config = CpuidRules.configured().indexOf(leaf);
        for (int r = 0; r < 4; r++) {
            for (int bit = 0; bit < 32; bit++) {
                var rule = rules[r][bit];
                int own = (raw(leaf, r) >>> bit) & 1;
                int asked = config < 0 ? 0 : (host[config][r] >>> bit) & 1;
                int one = switch (rule.kind()) {
                    case "1" -> 1;
                    case "native" -> own;
                    case "host" -> asked;
                    case "allow" -> own & asked;
                    case "pks" -> attribute(30) ? 1 : 0;
                    case "lass" -> attribute(27) ? 1 : 0;
                    default -> 0;
                };
                value[r] |= has(rule.xfam()) ? one << bit : 0;
            }
        }
        if (!isPresent(leaf)) {
            return new int[4];
        }
        computed(leaf, value);
        return value;
    }

    private boolean isPresent(Leaf leaf) {
        if (leaf.leaf() == 0xd && leaf.subleaf() > 1) {
            return has(1 << leaf.subleaf());
        }
        return switch (CpuidRules.needs(leaf.leaf())) {
            case "" -> true;
            case "monitor" -> ((value(BASIC)[2] >>> 3) & 1) != 0;
            case "perfmon" -> attribute(63);
            case "perfmon-leaf" -> attribute(63) && ((value(new Leaf(7, 1))[0] >>> 8) & 1) != 0;
            case "fixed-model" -> !attribute(29);
            case "pt" -> has(1 << 8);
            case "lbr" -> has(1 << 15);
            case "amx" -> has(3 << 17);
            default -> throw new IllegalStateException(leaf.toString());
        };
    }

    private void computed(Leaf leaf, int[] value) {
        switch (leaf.leaf()) {
            case 1 -> {
                value[0] = value[0] == 0 ? raw(leaf, 0) : value[0];
                value[1] |= (enumeratesTopology ? x2apicId : vcpuIndex) << 24;
                value[2] |= ((cr4 >>> 18) & 1) != 0 ? 1 << 27 : 0;
            }
            case 7 -> {
                if (leaf.subleaf() == 0) {
                    value[1] &= tsxHidden ? ~HLE_RTM : -1;
                    value[2] |= ((cr4 >>> 22) & 1) != 0 ? 1 << 4 : 0;
                }
            }
            case 0xb -> System.arraycopy(topology()[leaf.subleaf()], 0, value, 0, 4);
            case 0x1f -> System.arraycopy(topology()[3 + leaf.subleaf()], 0, value, 0, 4);
            case 0xd -> extendedState(leaf, value);
            case 0x15 -> value[1] = tscFrequency;
            case 0x8000_0001 -> value[3] |= in64BitMode ? 1 << 11 : 0;
            case 0x8000_0008 -> {
                int native_ = raw(leaf, 0) & 0xff;
                int asked = value[0] & 0xff;
                int width = !virtualMaxPa ? native_ : asked != 0 ? asked : Math.min(native_, wideGpa ? 52 : 48);
                value[0] = width | ((((value(EXTENDED)[2] >>> 16) & 1) != 0 ? 57 : 48) << 8);
            }
            default -> {
            }
        }
        if (leaf.leaf() == 0xb || leaf.leaf() == 0x1f) {
            value[3] = x2apicId;
        }
    }

    private void extendedState(Leaf leaf, int[] value) {
        if (leaf.subleaf() == 0) {
            value[1] = raw(leaf, 1);
            value[2] = raw(leaf, 1); // these tests' processor says the same size whatever XCR0 is
        } else if (leaf.subleaf() == 1) {
            boolean faulting = false;
            for (int component = 2; component <= 18; component++) {
                faulting |= has(1 << component) && ((platform.register(0xd, component, 2) >>> 2) & 1) != 0;
            }
            value[0] |= faulting ? raw(leaf, 0) & (1 << 4) : 0;
            value[1] = raw(leaf, 1);
        }
    }

    /// Sub-leaves 0 to 2 of leaf BH, then 0 to 5 of leaf 1FH, or null when the latter are malformed.
    private int[][] topology() {
        var result = new int[3 + LEVELS][4];
        boolean unset = Arrays.equals(given(0), new int[4]);
        int last = 0;
        int before = 0;
        boolean core = false;
        for (int n = 0; n < LEVELS; n++) {
            int[] level = given(n);
            if (unset) {
                if (!Arrays.equals(level, new int[4])) {
                    return null;
                }
                for (int r = 0; r < 3; r++) {
                    level[r] = raw(new Leaf(0x1f, n), r) & (r == 0 ? 0x1f : 0xffff);
                }
            }
            result[3 + n] = level;
            int type = (level[2] >>> 8) & 0xff;
            boolean numbered = (level[2] & 0xff) == n && type > before && type < LEVELS && (type != 1 || n == 0);
            if ((type != 0 && !numbered) || (type == 0 && !core)) {
                return null;
            }
            last = type != 0 ? n : last;
            core |= type == CORE;
            before = type;
        }
        boolean threads = ((result[3][2] >>> 8) & 0xff) == 1;
        int coreLevel = threads ? 1 : 0;
        if (threads) {
            result[0] = result[3].clone();
        }
        result[coreLevel] = result[3 + last].clone();
        result[coreLevel][2] = coreLevel | (CORE << 8);
        return result;
    }

    private int[] given(int level) {
        return host[CpuidRules.configured().indexOf(new Leaf(0x1f, level))].clone();
    }
}
