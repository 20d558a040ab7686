package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.x86.Msr;
import cloister.tdx.core.Tdcs;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

/// Every field of TD_PARAMS at its boundaries: status, operand and RCX of TDH.MNG.INIT, and which comes first when two are wrong.
/// The rules of [ExpectedInit] agree with all recorded calls. [TDX-ABI "TD_PARAMS"]
class TdParamsLegalityTest {
    private static final int ATTRIBUTES = 0;
    private static final int XFAM = 8;
    private static final int MAX_VCPUS = 16;
    private static final int NUM_L2_VMS = 18;
    private static final int MSR_CONFIG_CTLS = 19;
    private static final int EPTP_CONTROLS = 24;
    private static final int CONFIG_FLAGS = 32;
    private static final int TSC_FREQUENCY = 40;
    private static final int ARCH_CAPABILITIES = 224;
    private static final long FIVE_LEVELS = 1 << 7;
    private static final long NATIVE_XFAM = 0x6_1fe7;

    /// The parameters in the memory of a made TD.
    private record Made(MadeTd made) implements ExpectedInit.Input {
        @Override public long field(int offset, int bytes) {
            return made.param(offset, bytes);
        }

        @Override public int tdcsPages() {
            return made.td.tdr.numTdcx();
        }

        @Override public long supportedXfam() {
            return NATIVE_XFAM;
        }

        @Override public boolean hasLass() {
            return false;
        }

        @Override public boolean hasFiveLevelEpt() {
            return (made.td.machine.core.module.config.vmxEptVpidCap & FIVE_LEVELS) != 0;
        }

        @Override public boolean tscWasAdjusted() {
            return made.td.machine.cpus[0].rdmsr(Msr.IA32_TSC_ADJUST) != 0;
        }

        @Override public ExpectedCpuid cpuid() {
            return ExpectedCpuid.of(made.td.platform, this::field);
        }
    }

    /// The parameters that a recorded scenario wrote.
    private static final class Written implements ExpectedInit.Input {
        private final byte[] params = new byte[MadeTd.PARAMS_BYTES];
        private final RecordedTd platform;
        private final boolean fiveLevels;
        private int pages;

        Written(RecordedTd platform, boolean fiveLevels) {
            this.platform = platform;
            this.fiveLevels = fiveLevels;
        }

        @Override public long field(int offset, int bytes) {
            long value = 0;
            for (int i = 0; i < bytes; i++) {
                value |= (params[offset + i] & 0xffL) << (8 * i);
            }
            return value;
        }

        void write(JsonObject step) {
            long at = Recorded.number(step, "pa") - MadeTd.PARAMS;
            byte[] data = Recorded.bytes(step);
            if (at >= 0 && at + data.length <= params.length) {
                System.arraycopy(data, 0, params, (int) at, data.length);
            }
        }

        @Override public int tdcsPages() {
            return pages;
        }

        @Override public long supportedXfam() {
            return NATIVE_XFAM;
        }

        @Override public boolean hasLass() {
            return false;
        }

        @Override public boolean hasFiveLevelEpt() {
            return fiveLevels;
        }

        @Override public boolean tscWasAdjusted() {
            return false;
        }

        @Override public ExpectedCpuid cpuid() {
            return ExpectedCpuid.of(platform.platform, this::field);
        }
    }

    @Test void theRulesAgreeWithEveryRecordedCall() throws IOException {
        var differences = new ArrayList<String>();
        int calls = 0;
        try (var made = new MadeTd()) {
            for (var scenario : Recorded.scenarios("b", "params-")) {
                var input = new Written(made.td, scenario.contains("pml5"));
                for (var step : Recorded.withIncludes(scenario)) {
                    switch (step.get("op").getAsString()) {
                        case "reset" -> input.pages = 0;
                        case "host_write" -> input.write(step);
                        case "seamcall" -> {
                            int leaf = step.get("leaf").getAsInt();
                            input.pages = leaf == 9 ? 0 : leaf == 1 ? input.pages + 1 : input.pages;
                            if (leaf == 21) {
                                calls++;
                                compareRecorded(scenario, step, ExpectedInit.result(input), differences);
                            }
                        }
                        default -> {
                        }
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
        assertThat(calls).isGreaterThan(300);
    }

    private static void compareRecorded(String scenario, JsonObject step, long[] expected, List<String> differences) {
        var out = step.getAsJsonObject("out");
        long rax = Recorded.number(out, "rax");
        if (rax != expected[0] || Recorded.number(out, "rcx") != expected[1]) {
            differences.add(String.format("%s: %s was recorded, not %x", scenario, out, expected[0]));
        }
    }

    // Each field

    /// Calls TDH.MNG.INIT with each value in a field of otherwise valid parameters.
    private static void requireEach(int offset, int bytes, LongStream values, Consumer<MadeTd> others) {
        try (var made = new MadeTd()) {
            others.accept(made);
            values.forEach(value -> {
                made.param(offset, bytes, value);
                requireInit(made, String.format("offset %d, value %x", offset, value));
            });
        }
    }

    private static void requireInit(MadeTd made, String about) {
        long[] expected = ExpectedInit.result(new Made(made));
        var regs = made.init();
        assertThat(new long[] {regs.get(0), regs.get(1)}).as(about).isEqualTo(expected);
        made.td.tdcs.u32(Tdcs.OP_STATE, 0);
    }

    private static LongStream bits() {
        return IntStream.range(0, 64).mapToLong(bit -> 1L << bit);
    }

    private static LongStream pairs(long with) {
        return bits().flatMap(a -> bits().map(b -> a | b | with));
    }

    @Test void attributes() {
        requireEach(ATTRIBUTES, 8, pairs(0), made -> { });
        requireEach(ATTRIBUTES, 8, bits().map(bit -> ~bit), made -> { });
    }

    @Test void xfam() {
        requireEach(XFAM, 8, LongStream.concat(LongStream.of(0, 1, 2, 3), pairs(3)), made -> { });
        requireEach(XFAM, 8, IntStream.range(0, 1 << 8).mapToLong(x -> 3 | ((x & 1) << 2) | ((x & 14) << 4) | ((x & 0x30) << 7)
                | ((long) (x & 0xc0) << 11)), made -> { });
        requireEach(XFAM, 8, bits().map(bit -> NATIVE_XFAM & ~bit), made -> { });
    }

    @Test void maxVcpus() {
        requireEach(MAX_VCPUS, 2, LongStream.of(0, 1, 2, 255, 256, 575, 576, 577, 0x3ff, 0x400, 0x7fff, 0x8000, 0xffff), made -> { });
    }

    @Test void numL2Vms() {
        for (int pages = 6; pages <= 9; pages++) {
            int tdcsPages = pages;
            requireEach(NUM_L2_VMS, 1, LongStream.range(0, 256), made -> made.addTdcsPages(tdcsPages));
            requireEach(NUM_L2_VMS, 1, LongStream.range(0, 5), made -> {
                made.addTdcsPages(tdcsPages);
                made.attributes(Tdcs.MIGRATABLE);
            });
        }
    }

    @Test void msrConfigControlsAndArchCapabilities() {
        requireEach(MSR_CONFIG_CTLS, 1, LongStream.range(0, 256), made -> { });
        for (int control = 0; control < 2; control++) {
            int on = control;
            requireEach(ARCH_CAPABILITIES, 8, LongStream.concat(LongStream.of(0), bits().flatMap(a -> LongStream.of(a, a | (1 << 4),
                    a | (1 << 19), a | (1 << 20), a | (1 << 24)))), made -> made.param(MSR_CONFIG_CTLS, 1, on));
        }
    }

    @Test void configFlags() {
        requireEach(CONFIG_FLAGS, 8, LongStream.concat(LongStream.range(0, 32), bits()), made -> { });
    }

    @Test void eptpControls() {
        for (long cap : new long[] {0, FIVE_LEVELS}) {
            for (int flags = 0; flags < 2; flags++) {
                int wide = flags;
                requireEach(EPTP_CONTROLS, 8, LongStream.concat(LongStream.range(0, 128), bits().flatMap(b -> LongStream.of(0x1e | b,
                        0x26 | b))), made -> {
                            var config = made.td.machine.core.module.config;
                            config.vmxEptVpidCap = (config.vmxEptVpidCap & ~FIVE_LEVELS) | cap;
                            made.param(CONFIG_FLAGS, 8, wide);
                        });
            }
        }
    }

    @Test void tscFrequency() {
        requireEach(TSC_FREQUENCY, 2, LongStream.of(0, 1, 3, 4, 5, 40, 100, 399, 400, 401, 0x7fff, 0x8000, 0xffff), made -> { });
    }

    @Test void reservedBytes() {
        try (var made = new MadeTd()) {
            for (int[] range : new int[][] {{20, 4}, {42, 38}, {232, 24}, {544, 480}}) {
                for (int offset = range[0]; offset < range[0] + range[1]; offset++) {
                    for (int bit = 0; bit < 8; bit++) {
                        made.param(offset, 1, 1 << bit);
                        requireInit(made, "bit " + bit + " of byte " + offset);
                    }
                    made.param(offset, 1, 0);
                }
            }
            requireInit(made, "nothing reserved");
        }
    }

    // Two of them

    /// A change that makes one thing wrong.
    private record Wrong(String name, Consumer<MadeTd> change) {
    }

    private static List<Wrong> wrongs() {
        return List.of(new Wrong("ATTRIBUTES", m -> m.attributes(2)),
                new Wrong("XFAM", m -> m.xfam(1)),
                new Wrong("MAX_VCPUS", m -> m.param(MAX_VCPUS, 2, 0)),
                new Wrong("NUM_L2_VMS", m -> m.param(NUM_L2_VMS, 1, 4)),
                new Wrong("TDCS pages", m -> m.param(NUM_L2_VMS, 1, 1)),
                new Wrong("bytes 20-23", m -> m.param(23, 1, 0x80)),
                new Wrong("CONFIG_FLAGS", m -> m.param(CONFIG_FLAGS, 8, 1L << 63)),
                new Wrong("EPTP_CONTROLS", m -> m.param(EPTP_CONTROLS, 8, 0x5e)),
                new Wrong("GPAW", m -> m.param(CONFIG_FLAGS, 1, 1)),
                new Wrong("TSC_FREQUENCY", m -> m.param(TSC_FREQUENCY, 2, 3)),
                new Wrong("IA32_TSC_ADJUST", m -> m.td.machine.cpus[0].msr(Msr.IA32_TSC_ADJUST, 1)),
                new Wrong("bytes 42-79", m -> m.param(79, 1, 1)),
                new Wrong("MSR_CONFIG_CTLS", m -> m.param(MSR_CONFIG_CTLS, 1, 2)),
                new Wrong("bytes 232-255", m -> m.param(255, 1, 1)),
                new Wrong("CPUID model", m -> m.cpuid(0, 0, 0x806f1)),
                new Wrong("CPUID(4)", m -> m.cpuid(1, 0, 1 << 10)),
                new Wrong("CPUID(7)", m -> m.cpuid(5, 0, 1)),
                new Wrong("MAXPA", m -> {
                    m.param(CONFIG_FLAGS, 8, m.param(CONFIG_FLAGS, 8) | 8);
                    m.cpuid(9, 0, 44);
                }),
                new Wrong("CPUID(7,2)", m -> m.cpuid(10, 3, 1)),
                new Wrong("CPUID(23)", m -> m.cpuid(11, 1, 1)),
                new Wrong("CPUID(1F)", m -> m.cpuid(17, 3, 1)),
                new Wrong("topology", m -> m.cpuid(12, 2, 0x600)),
                new Wrong("bytes 544-1023", m -> m.param(1023, 1, 1)),
                new Wrong("IA32_ARCH_CAPABILITIES_CONFIG", m -> m.param(ARCH_CAPABILITIES, 8, 1 << 4)));
    }

    @Test void theFirstCheckThatFailsIsReported() {
        try (var made = new MadeTd()) {
            for (var first : wrongs()) {
                for (var second : wrongs()) {
                    made.reset();
                    made.td.machine.cpus[0].msr(Msr.IA32_TSC_ADJUST, 0);
                    first.change.accept(made);
                    second.change.accept(made);
                    assertThat(ExpectedInit.result(new Made(made))[0]).as("%s and %s", first.name, second.name).isNotZero();
                    requireInit(made, first.name + " and " + second.name);
                }
            }
        }
    }

    // What is accepted

    @Test void whatIsAcceptedIsWhatTheTdHas() {
        try (var made = new MadeTd()) {
            made.addTdcsPages(8);
            made.attributes((1L << 63) | (1 << 30) | (1 << 28));
            made.xfam(0x6_1be7);
            made.param(MAX_VCPUS, 2, 576);
            made.param(NUM_L2_VMS, 1, 2);
            made.param(MSR_CONFIG_CTLS, 1, 1);
            made.param(ARCH_CAPABILITIES, 8, (1 << 4) | (1 << 19) | (1 << 20) | (1 << 24));
            made.param(CONFIG_FLAGS, 8, 6);
            made.param(TSC_FREQUENCY, 2, 400);
            for (int at = 80; at < 224; at += 8) {
                made.param(at, 8, 0x0101_0101_0101_0101L * at);
            }
            requireAccepted(made);
            long rootPage = made.td.tdr.tdcxHpa(3) & ((1L << 46) - 1);
            assertThat(read(made, 0x1110_0003_0000_0000L)).as("ATTRIBUTES").isEqualTo(made.param(ATTRIBUTES, 8));
            assertThat(read(made, 0x1110_0003_0000_0001L)).as("XFAM").isEqualTo(0x6_1be7);
            assertThat(read(made, 0x1110_0002_0000_0002L)).as("MAX_VCPUS").isEqualTo(576);
            assertThat(read(made, 0x9110_0003_0000_0004L)).as("EPTP").isEqualTo(rootPage | 0x1e);
            assertThat(read(made, 0x9010_0001_0000_0005L)).as("NUM_L2_VMS").isEqualTo(2);
            assertThat(made.td.tdcs.u64(Tdcs.TD_CTLS)).as("PENDING_VE_DISABLE of ATTRIBUTES").isEqualTo(1);
            assertThat(made.td.tdcs.u64(Tdcs.CONFIG_FLAGS)).isEqualTo(6);
            for (int at = 0; at < 144; at += 8) {
                assertThat(made.td.tdcs.u64(Tdcs.MRCONFIGID + at)).as("measurement %d", at).isEqualTo(made.param(80 + at, 8));
            }
            long own = made.td.machine.core.module.config.archCapabilities;
            assertThat(made.td.tdcs.u64(Tdcs.VIRT_ARCH_CAPABILITIES)).isEqualTo(ExpectedInit.archCapabilities(new Made(made), own, false));
        }
    }

    @Test void everyArchCapabilityIsNativeForcedOrAllowed() {
        try (var made = new MadeTd()) {
            made.param(MSR_CONFIG_CTLS, 1, 1);
            for (int asked = 0; asked < 16; asked++) {
                made.param(ARCH_CAPABILITIES, 8, ((asked & 1) << 4) | ((asked & 6) << 18) | ((asked & 8) << 21));
                for (long own : new long[] {0, -1}) {
                    made.td.machine.core.module.config.archCapabilities = own;
                    requireAccepted(made);
                    assertThat(made.td.tdcs.u64(Tdcs.VIRT_ARCH_CAPABILITIES))
                            .isEqualTo(ExpectedInit.archCapabilities(new Made(made), own, false));
                    made.td.tdcs.u32(Tdcs.OP_STATE, 0);
                }
            }
        }
    }

    /// The components of the extended state follow one another in the order of XFAM, those that want it at multiples of 64.
    @Test void theExtendedStateIsLaidOutByXfam() {
        try (var made = new MadeTd()) {
            for (long xfam : new long[] {3, 7, 0xe7, 0x1e7, 0x3e7, 0x1803, 0x6_0003, 0x6_1be7}) {
                made.reset();
                made.xfam(xfam);
                IntStream.range(2, 19).forEach(i -> made.td.tdcs.u32(Tdcs.XBUFF_OFFSETS + 4 * i, 0));
                requireAccepted(made);
                int end = 576;
                for (int component = 2; component <= 18; component++) {
                    if (((xfam >>> component) & 1) != 0) {
                        var size = new int[4];
                        made.td.platform.cpuid(0, 0xd, component, size);
                        end = (size[2] & 2) != 0 ? (end + 63) / 64 * 64 : end;
                        assertThat(made.td.tdcs.u32(Tdcs.XBUFF_OFFSETS + 4 * component)).as("component %d of %x", component, xfam)
                                .isEqualTo(end);
                        end += size[0];
                    }
                }
                assertThat(made.td.tdcs.u32(Tdcs.XBUFF_SIZE)).as("size with %x", xfam).isEqualTo(end);
            }
        }
    }

    private static void requireAccepted(MadeTd made) {
        assertThat(ExpectedInit.result(new Made(made))[0]).as("the rules").isZero();
        assertThat(made.init().get(0)).as("the module").isZero();
    }

    private static long read(MadeTd made, long field) {
        var regs = made.td.seamcall(11, RecordedTd.TDR, field, 0, 0);
        assertThat(regs.get(0)).isZero();
        return regs.get(8);
    }
}
