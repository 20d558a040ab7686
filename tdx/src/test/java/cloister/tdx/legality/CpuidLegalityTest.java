package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.replay.VectorPlatform;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Every bit of every CPUID leaf of a TD: which the VMM may ask for, and what the TD sees. The rules of [CpuidRules] agree with all
/// that was recorded of it, and the module agrees with the rules on the rest. [TDX-BASE "CPUID Virtualization"]
class CpuidLegalityTest {
    private static final long RDX_INVALID = 0xC000_0100_0000_0002L;
    private static final int TSX_CTRL = 0x122;
    private static final long TSX_CTRL_EXISTS = 1 << 7;
    private static final long CPUID_CONTROL = 0xA120_0000_0000_0000L;
    private static final int CONTROLS = 128;
    private static final int X2APIC_ID = 0x1234_5678;
    private static final long XFAM_ALL = 0x6_dbe7;
    private static final long XFAM_MIN = 3;
    private static final int SEEDS = 12;
    private static final int[] LEAVES = {0x3fff_ffff, 0x4000_0000, 0x4fff_ffff, 0x5000_0000, 0x7fff_ffff, 0x8000_0000, 0x8000_0001,
        0x8000_0002, 0x8000_0003, 0x8000_0004, 0x8000_0005, 0x8000_0006, 0x8000_0007, 0x8000_0008, 0x8000_0009, 0x8000_0010,
        0xffff_ffff};

    /// What the processor has beyond what the module requires of it.
    private enum Native { RECORDED, NOTHING, EVERYTHING }

    // The rules and the recording

    @Test void theRulesAgreeWithEveryRecordedRequest() throws IOException {
        var differences = new ArrayList<String>();
        int bits = 0;
        try (var made = new MadeTd()) {
            for (var sweep : Recorded.steps("b", "params-cpuid-", "init_sweep")) {
                int entry = sweep.get("entry").getAsInt();
                int register = sweep.get("reg").getAsInt();
                for (var result : sweep.getAsJsonObject("results").entrySet()) {
                    for (var bit : result.getValue().getAsJsonArray()) {
                        made.reset();
                        long[] expected = {RDX_INVALID, 0};
                        if (entry < MadeTd.CONFIGURABLE) {
                            made.cpuid(entry, register, 1 << bit.getAsInt());
                            expected = expected(made, Native.RECORDED).init();
                        }
                        var text = "0x" + Long.toHexString(expected[0]) + (expected[0] != 0 ? ",0x" + Long.toHexString(expected[1]) : "");
                        if (!text.equals(result.getKey())) {
                            differences.add(entry + "." + register + "." + bit + ": " + result.getKey() + " was recorded, not " + text);
                        }
                        bits++;
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
        assertThat(bits).isGreaterThan(1600);
    }

    @Test void theRulesAgreeWithEveryRecordedCpuid() throws IOException {
        var differences = new ArrayList<String>();
        int values = 0;
        for (var scenario : Recorded.scenarios("f", "cpuid-")) {
            var steps = Recorded.withIncludes(scenario);
            if (steps.stream().anyMatch(s -> Recorded.is(s, "tdcall"))) {
                continue; // #VE on the guest's request, which is not a matter of the tables
            }
            try (var made = new MadeTd()) {
                steps.stream().filter(s -> Recorded.is(s, "host_write")).forEach(s -> {
                    byte[] data = Recorded.bytes(s);
                    made.td.machine.memory.write(Recorded.number(s, "pa"), data, 0, data.length);
                });
                var expected = expected(made, Native.RECORDED);
                expected.hasLeaf2 = false;
                for (var step : steps) {
                    if (Recorded.is(step, "guest_state")) {
                        state(step.getAsJsonObject("set"), expected);
                    } else if (Recorded.is(step, "cpuid")) {
                        values++;
                        compareRecorded(scenario, step, expected, differences);
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
        assertThat(values).isGreaterThan(1000);
    }

    private static void state(JsonObject set, ExpectedCpuid expected) {
        expected.cr4 = set.has("cr4") ? Recorded.number(set, "cr4") : expected.cr4;
        expected.in64BitMode = set.has("cs_ar") ? ((Recorded.number(set, "cs_ar") >>> 13) & 1) != 0 : expected.in64BitMode;
    }

    private static void compareRecorded(String scenario, JsonObject step, ExpectedCpuid expected, List<String> differences) {
        int leaf = (int) Recorded.number(step, "leaf");
        int subleaf = (int) Recorded.number(step, "sub");
        var wanted = expected.seen(leaf, subleaf);
        var text = wanted == null ? "\"ve\"" : Arrays.stream(wanted).mapToObj(v -> "\"0x" + Integer.toHexString(v) + "\"").toList()
                .toString().replace(" ", "");
        var recorded = step.get("res").toString().replace("vec8", "ve"); // a #DF when the information of the #VE before was not read
        if (!text.equals(recorded)) {
            differences.add(String.format("%s: CPUID(%x,%x) %s was recorded, not %s", scenario, leaf, subleaf, recorded, text));
        }
    }

    // The module and the rules

    /// The oracle of the TD whose TD_PARAMS are in memory.
    private static ExpectedCpuid expected(MadeTd made, Native natively) {
        var expected = ExpectedCpuid.of(made.td.platform, made::param);
        expected.platform = (leaf, subleaf, register) -> platform(made, natively, leaf, subleaf, register);
        expected.tsxControl = (made.td.machine.core.module.config.archCapabilities & TSX_CTRL_EXISTS) != 0;
        return expected;
    }

    private static int platform(MadeTd made, Native natively, int leaf, int subleaf, int register) {
        if (leaf == 1 && register == 0) {
            return made.td.machine.core.module.config.platformFms;
        }
        boolean size = register == 0 && (leaf == 0x8000_0000 || leaf == 0x8000_0008);
        boolean live = leaf == 0xd && subleaf < 2 && register == 1;
        if (natively != Native.RECORDED && !size && !live) {
            return natively == Native.EVERYTHING ? -1 : 0;
        }
        var value = new int[4];
        made.td.platform.cpuid(0, leaf, subleaf, value);
        return value[register];
    }

    /// Gives the module another processor, after the checks of TDH.SYS.INIT that would refuse it.
    private static MadeTd on(Native natively) {
        var made = new MadeTd();
        var config = made.td.machine.core.module.config;
        if (natively != Native.RECORDED) {
            int all = natively == Native.EVERYTHING ? -1 : 0;
            for (int i = 0; i < config.cpuid.length; i++) {
                var row = CpuidTable.rows().get(i);
                for (int r = 0; r < 4; r++) {
                    config.cpuid[i][r] = (all & ~row.fixed0()[r]) | row.fixed1()[r];
                }
            }
            config.xfdFaultingMask = all & ~3;
            config.archCapabilities |= all & TSX_CTRL_EXISTS;
            topology(made);
        }
        config.xcr0Supported = -1;
        config.xssSupported = -1;
        config.attributesFixed0 |= Tdcs.LASS;
        return made;
    }

    /// Two threads in each of four cores.
    private static void topology(MadeTd made) {
        int[][] levels = {{1, 2, 0x100}, {3, 8, 0x201}};
        for (int level = 0; level < levels.length; level++) {
            for (int r = 0; r < 3; r++) {
                made.cpuid(12 + level, r, levels[level][r]);
            }
        }
    }

    @ParameterizedTest @EnumSource void everyBitMayBeRequestedOrNot(Native natively) {
        var differences = new ArrayList<String>();
        try (var made = on(natively)) {
            for (int entry = 0; entry < MadeTd.CONFIGURABLE; entry++) {
                for (int r = 0; r < 4; r++) {
                    for (int bit = 0; bit < 32; bit++) {
                        int before = made.cpuid(entry, r);
                        made.cpuid(entry, r, before ^ (1 << bit));
                        long[] expected = expected(made, natively).init();
                        var regs = made.init();
                        if (regs.get(0) != expected[0] || regs.get(1) != expected[1]) {
                            differences.add(String.format("bit %d of register %d of %s: %x, RCX %x", bit, r,
                                    CpuidRules.configured().get(entry), regs.get(0), regs.get(1)));
                        }
                        made.cpuid(entry, r, before);
                        made.td.tdcs.u32(Tdcs.OP_STATE, 0);
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// Each feature that XFAM or ATTRIBUTES give, alone and with all others.
    @ParameterizedTest @EnumSource void everyBitOfEveryLeafIsWhatXfamAndAttributesMakeIt(Native natively) {
        long[] xfams = {XFAM_MIN, XFAM_ALL, 7, 0xe7, 0x103, 0x203, 0x1803, 0x4003, 0x8003, 0x6_0003};
        for (long xfam : xfams) {
            requireSeen(natively, "XFAM " + Long.toHexString(xfam), made -> {
                made.xfam(xfam);
                requestAll(made);
            });
        }
        for (int attribute : new int[] {0, 16, 27, 28, 29, 30, 63}) {
            requireSeen(natively, "ATTRIBUTES bit " + attribute, made -> {
                made.attributes(1L << attribute);
                requestAll(made);
            });
        }
        requireSeen(natively, "nothing requested", made -> made.xfam(XFAM_ALL));
        requireSeen(natively, "a narrower address", made -> {
            made.param(32, 8, 8);
            made.cpuid(9, 0, 46);
        });
        requireSeen(natively, "the narrowest of all", made -> made.param(32, 8, 8));
    }

    @ParameterizedTest @EnumSource void whateverIsRequestedIsSeenAsTheRulesSay(Native natively) {
        for (int seed = 0; seed < SEEDS; seed++) {
            var random = new Random(seed);
            requireSeen(natively, "seed " + seed, made -> {
                made.xfam(XFAM_MIN | (random.nextInt(2) * 4) | (random.nextInt(2) * 0x100) | (random.nextInt(2) * 0x1800)
                        | (random.nextInt(2) * 0x6_0000));
                made.attributes((random.nextInt(2) * (1L << 63)) | (random.nextInt(2) * (1L << 30)));
                forConfigurable((entry, r, bit) -> {
                    if (entry != 0 || r != 0) {
                        made.cpuid(entry, r, made.cpuid(entry, r) | (random.nextInt(2) << bit));
                    }
                });
                made.cpuid(5, 1, made.cpuid(5, 1) & ~((1 << 4) | (1 << 11))); // are to be requested together
            });
        }
    }

    private interface Each {
        void bit(int entry, int register, int bit);
    }

    private static void forConfigurable(Each each) {
        for (int entry = 0; entry < 12; entry++) { // the last six, the topology, must make sense
            for (int r = 0; r < 4; r++) {
                for (int bit = 0; bit < 32; bit++) {
                    if (CpuidRules.of(CpuidRules.configured().get(entry))[r][bit].configurable()) {
                        each.bit(entry, r, bit);
                    }
                }
            }
        }
    }

    /// Requests all that may be requested, but for the processor's model.
    private static void requestAll(MadeTd made) {
        forConfigurable((entry, r, bit) -> {
            if (entry != 0 || r != 0) {
                made.cpuid(entry, r, made.cpuid(entry, r) | (1 << bit));
            }
        });
    }

    /// Runs a TD and compares what it sees, first as it starts and then with everything that is dynamic changed.
    private static void requireSeen(Native natively, String about, Consumer<MadeTd> parameters) {
        try (var made = on(natively)) {
            parameters.accept(made);
            var expected = expected(made, natively);
            assertThat(made.init().get(0)).as(about).isEqualTo(expected.init()[0]).isZero();
            made.enter(X2APIC_ID);
            expected.in64BitMode = true;
            expected.hasLeaf2 = false;
            expected.x2apicId = X2APIC_ID;
            expected.cr4 = made.guest(VmcsField.GUEST_CR4);
            assertThat(differences(made, expected)).as(about).isEmpty();
            made.td.tdcs.u64(Tdcs.TD_CTLS, made.td.tdcs.u64(Tdcs.TD_CTLS) | Tdcs.ENUM_TOPOLOGY | Tdcs.VIRT_CPUID2);
            made.guest(VmcsField.GUEST_CR4, expected.cr4 | (1 << 18) | (1 << 22));
            made.guest(VmcsField.GUEST_CS_ACCESS_RIGHTS, 0xc09b);
            made.td.machine.cpus[0].msr(TSX_CTRL, 2);
            expected.enumeratesTopology = true;
            expected.hasLeaf2 = true;
            expected.cr4 |= (1 << 18) | (1 << 22);
            expected.in64BitMode = false;
            expected.tsxHidden = true;
            assertThat(differences(made, expected)).as(about + ", later").isEmpty();
        }
    }

    @Test void theGuestMayAskForAVeInsteadByPrivilegeLevel() {
        try (var made = running()) {
            for (int asked = 0; asked < 4; asked++) {
                assertThat(made.td.tdcall(5, asked, 0, 0)).isTrue();
                assertThat(made.td.guest(0)).isZero();
                for (int cpl = 0; cpl < 4; cpl++) {
                    made.guest(VmcsField.GUEST_SS_ACCESS_RIGHTS, 0xc093 | (cpl << 5));
                    boolean wanted = ((asked >>> (cpl == 0 ? 0 : 1)) & 1) != 0;
                    for (var leaf : seenLeaves()) {
                        assertThat(made.guestCpuid(leaf.leaf(), Math.max(leaf.subleaf(), 0)) == null)
                                .as("CPUID(%s) at CPL %d, asked %d", leaf, cpl, asked).isEqualTo(wanted);
                    }
                    made.guest(VmcsField.GUEST_SS_ACCESS_RIGHTS, 0xc093);
                }
            }
        }
    }

    /// CPUID_CONTROL has one element for each leaf, the configurable leaves first.
    @Test void theGuestMayAskForAVeInsteadByLeaf() {
        var controlled = new ArrayList<CpuidRules.Leaf>();
        try (var made = running()) {
            for (int index = 0; index < CONTROLS; index++) {
                made.td.machine.cpus[0].registers()[9] = 0xff;
                assertThat(made.td.tdcall(10, 0, CPUID_CONTROL | index, 1)).isTrue();
                assertThat(made.td.guest(0)).isZero();
                for (var leaf : seenLeaves()) {
                    if (made.guestCpuid(leaf.leaf(), Math.max(leaf.subleaf(), 0)) == null) {
                        controlled.add(leaf);
                    }
                    made.guest(VmcsField.GUEST_SS_ACCESS_RIGHTS, 0xc0f3);
                    assertThat(made.guestCpuid(leaf.leaf(), Math.max(leaf.subleaf(), 0))).as("CPUID(%s) of an application", leaf)
                            .isNotNull();
                    made.guest(VmcsField.GUEST_SS_ACCESS_RIGHTS, 0xc093);
                }
                made.td.machine.cpus[0].registers()[9] = 0xff;
                made.td.tdcall(10, 0, CPUID_CONTROL | index, 0);
            }
        }
        assertThat(controlled).containsExactlyInAnyOrderElementsOf(seenLeaves());
        assertThat(controlled).startsWith(CpuidRules.configured().subList(0, 10).toArray(new CpuidRules.Leaf[0]));
    }

    @Test void theSizeOfTheExtendedStateIsTheProcessorsNow() {
        try (var made = running()) {
            made.td.machine.cpuidFlip = new VectorPlatform.CpuidFlip(0xd, 0, 1, 0x1000);
            assertThat(made.guestCpuid(0xd, 0)[1] ^ 0x1000).isEqualTo(made.guestCpuid(0xd, 1)[1]);
            int now = made.guestCpuid(0xd, 1)[1];
            made.td.machine.cpuidFlip = new VectorPlatform.CpuidFlip(0xd, 1, 1, 0x2000);
            assertThat(made.guestCpuid(0xd, 1)[1]).isEqualTo(now ^ 0x2000);
        }
    }

    @Test void tsxIsRequestedWholeAndWithItsControl() {
        try (var made = on(Native.EVERYTHING)) {
            made.td.machine.core.module.config.archCapabilities &= ~TSX_CTRL_EXISTS;
            for (int tsx : new int[] {1 << 4, 1 << 11, (1 << 4) | (1 << 11)}) {
                made.cpuid(5, 1, tsx);
                var regs = made.init();
                assertThat(new long[] {regs.get(0), regs.get(1)}).isEqualTo(expected(made, Native.EVERYTHING).init());
                assertThat(regs.get(0)).isNotZero();
            }
        }
    }

    /// What a TD may pretend to run on, on processors of several models.
    @ParameterizedTest @ValueSource(ints = {0x806f8, 0x806f4, 0xc06f1, 0xc06f2, 0xa06f3, 0xa06d0, 0xa06e0, 0xd06d0})
    void theProcessorsModelIsCheckedInEveryBit(int own) {
        try (var made = new MadeTd()) {
            made.td.machine.core.module.config.platformFms = own;
            for (long attributes : new long[] {0, Tdcs.MIGRATABLE}) {
                made.attributes(attributes);
                for (int model : new int[] {0x806f0, 0xc06f0, 0xa06f0, 0xa06d0, 0xa06e0, 0xd06d0}) {
                    for (int stepping = 0; stepping < 16; stepping++) {
                        requireInit(made, model | stepping);
                    }
                }
                for (int bit = 0; bit < 32; bit++) {
                    requireInit(made, own ^ (1 << bit));
                }
            }
        }
    }

    private static void requireInit(MadeTd made, int model) {
        made.cpuid(0, 0, model);
        var regs = made.init();
        assertThat(new long[] {regs.get(0), regs.get(1)}).as("%x", model).isEqualTo(expected(made, Native.RECORDED).init());
        made.td.tdcs.u32(Tdcs.OP_STATE, 0);
    }

    /// All beginnings of CPUID(1FH), with types from none to one that does not exist, and with one number wrong.
    @Test void theTopologyIsTakenOnlyIfItMakesSense() {
        try (var made = new MadeTd()) {
            int good = 0;
            for (int types = 0; types < 7 * 7 * 7 * 7; types++) {
                for (int wrong = -1; wrong < (types < 7 * 7 * 7 ? 3 : 0); wrong++) {
                    for (int level = 0, rest = types; level < 4; level++, rest /= 7) {
                        int type = rest % 7;
                        made.cpuid(12 + level, 0, type == 0 ? 0 : level + 1);
                        made.cpuid(12 + level, 1, type == 0 ? 0 : 2 << level);
                        made.cpuid(12 + level, 2, type == 0 ? 0 : (type << 8) | (level == wrong ? level + 1 : level));
                    }
                    long status = made.init().get(0);
                    var expected = expected(made, Native.RECORDED);
                    assertThat(status).as("types %s, wrong %d", Integer.toString(types, 7), wrong).isEqualTo(expected.init()[0]);
                    good += status == 0 ? 1 : 0;
                    made.td.tdcs.u32(Tdcs.OP_STATE, 0);
                }
            }
            assertThat(good).isGreaterThan(30);
        }
    }

    @Test void theOlderTopologyLeafFollowsTheNewer() {
        int[][] threads = {{1, 2, 0x100}, {4, 16, 0x201}, {6, 64, 0x502}};
        int[][] noThreads = {{3, 8, 0x200}, {5, 32, 0x301}, {6, 64, 0x402}, {7, 128, 0x503}};
        for (var levels : List.of(threads, noThreads)) {
            requireSeen(Native.RECORDED, levels.length + " levels", made -> {
                for (int level = 0; level < levels.length; level++) {
                    for (int r = 0; r < 3; r++) {
                        made.cpuid(12 + level, r, levels[level][r]);
                    }
                }
            });
        }
    }

    private static MadeTd running() {
        var made = on(Native.RECORDED);
        assertThat(made.init().get(0)).isZero();
        made.enter(X2APIC_ID);
        made.td.tdcs.u64(Tdcs.TD_CTLS, made.td.tdcs.u64(Tdcs.TD_CTLS) | Tdcs.ENUM_TOPOLOGY | Tdcs.VIRT_CPUID2);
        return made;
    }

    private static List<CpuidRules.Leaf> seenLeaves() {
        return List.copyOf(CpuidRules.leaves());
    }

    private static List<String> differences(MadeTd made, ExpectedCpuid expected) {
        var differences = new ArrayList<String>();
        for (int leaf = 0; leaf < 0x28; leaf++) {
            for (int subleaf = 0; subleaf < 0x20; subleaf++) {
                compare(made, expected, leaf, subleaf, differences);
            }
            compare(made, expected, leaf, -1, differences);
        }
        for (int leaf : LEAVES) {
            for (int subleaf = 0; subleaf < 5; subleaf++) {
                compare(made, expected, leaf, subleaf, differences);
            }
        }
        return differences;
    }

    private static void compare(MadeTd made, ExpectedCpuid expected, int leaf, int subleaf, List<String> differences) {
        var wanted = expected.seen(leaf, subleaf);
        var got = made.guestCpuid(leaf, subleaf);
        if (!Arrays.equals(wanted, got)) {
            differences.add(String.format("CPUID(%x,%x) is %s, not %s", leaf, subleaf, hex(got), hex(wanted)));
        }
    }

    private static String hex(int[] value) {
        return value == null ? "#VE" : Arrays.stream(value).mapToObj(Integer::toHexString).toList().toString();
    }
}
