package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.LongConsumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Values that a TD writes to the MSRs that the module writes for it, each bit and each pair of bits, and what it reads from those
/// that the module reads for it. [TDX-BASE "MSR Handling"]
class MsrWriteLegalityTest {
    private static final int DEBUGCTL = 0x1d9;
    private static final int XSS = 0xda0;
    private static final int EFER = 0xc000_0080;
    private static final int RDMSR = 31;
    private static final int WRMSR = 32;
    private static final Path RECORDED = Path.of("..", "vectors", "1.5.06", "f");
    /// Supervisor components that the recordings' processor has: PT, PASID or not, CET, UINTR, LBR, HWP.
    private static final int XSS_OF_PLATFORM = 0x1_d900;

    /// What a write does: gp, ve, or ok.
    ///
    /// @param now the MSR before it
    private static String rule(int msr, long value, long now, long xfam, Set<String> has) {
        return switch (msr) {
            case DEBUGCTL -> {
                if ((value & ((7 << 3) | (-1L << 16))) != 0) {
                    yield "gp"; // reserved
                }
                if ((value & (1 << 6)) != 0 && (value & (1 << 7)) == 0) {
                    yield "ve"; // branch trace messages go to the bus
                }
                boolean freezeWhileSmm = (value & (1 << 14)) != 0 && !has.contains("perfmon");
                boolean rtmDebug = (value & (1 << 15)) != 0 && !has.contains("tsx");
                yield freezeWhileSmm || rtmDebug ? "gp" : "ok";
            }
            case EFER -> ((value ^ now) & ~(1L | (1 << 10))) != 0 ? "ve" : "ok"; // SCE may change, LMA does not count
            case XSS -> (value & ~(xfam & XSS_OF_PLATFORM)) != 0 ? "gp" : "ok";
            default -> throw new IllegalArgumentException();
        };
    }

    /// The value afterwards when the write is carried out, as the guest reads it.
    private static long result(int msr, long value, long now) {
        return switch (msr) {
            case DEBUGCTL -> value & ~(1L << 13); // uncore PMI is the VMM's
            case EFER -> (value & ~(1L << 10)) | (now & (1 << 10));
            default -> value;
        };
    }

    private static long stored(RunningGuest guest, int msr) {
        return switch (msr) {
            case DEBUGCTL -> guest.vmcs.read(VmcsField.GUEST_DEBUGCTL);
            case EFER -> guest.vmcs.read(VmcsField.GUEST_EFER);
            default -> guest.td.machine.cpus[0].rdmsr(msr);
        };
    }

    private static String write(RunningGuest guest, int msr, long value) {
        long[] r = guest.gpr();
        r[0] = 0x1234_5678_0000_0000L | (value & 0xffff_ffffL); // the upper halves do not count
        r[1] = 0x1234_5678_0000_0000L | (msr & 0xffff_ffffL);
        r[2] = 0x1234_5678_0000_0000L | (value >>> 32);
        var got = guest.exit(WRMSR, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 2L));
        guest.take();
        return switch (got) {
            case "gp(0)" -> "gp";
            case "rip+2" -> "ok";
            default -> got;
        };
    }

    private static String read(RunningGuest guest, int msr) {
        long[] r = guest.gpr();
        r[0] = -1;
        r[1] = 0x1234_5678_0000_0000L | (msr & 0xffff_ffffL);
        r[2] = -1;
        var got = guest.exit(RDMSR, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 2L));
        guest.take();
        return got.equals("rip+2") ? Long.toHexString(r[0] | (r[2] << 32)) : got;
    }

    private static void eachValue(LongConsumer use) {
        for (int a = 0; a < 64; a++) {
            for (int b = a; b < 64; b++) {
                use.accept((1L << a) | (1L << b));
            }
        }
        use.accept(0);
        use.accept(-1L);
        use.accept(0xffc7);
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic", "minxfam", "maxfam", "perfmon", "debug", "debugpm", "cpuidfull", "kvm"})
    void everyPairOfBits(String setup) {
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup + "-2")) {
            var has = MsrLegalityTest.features(guest.td);
            long xfam = guest.td.tdcs.u64(Tdcs.XFAM);
            for (int msr : new int[] {DEBUGCTL, XSS, EFER}) {
                long start = stored(guest, msr);
                eachValue(bits -> {
                    for (long value : new long[] {bits, start ^ bits}) {
                        long now = stored(guest, msr);
                        var wanted = rule(msr, value, now, xfam, has);
                        var got = write(guest, msr, value);
                        long after = stored(guest, msr);
                        if (!got.equals(wanted) || after != (wanted.equals("ok") ? result(msr, value, now) : now)) {
                            differences.add(String.format("%x = %x: %s, not %s; now %x", msr, value, got, wanted, after));
                        }
                    }
                });
                if (msr == XSS && guest.vcpu.u64(Tdvps.XSS) != stored(guest, msr)) {
                    differences.add("IA32_XSS in TDVPS");
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// The rules above are what the recordings show.
    @Test void rulesAgreeWithTheRecordings() throws IOException {
        int compared = 0;
        for (var msr : List.of("1d9", "da0", "c0000080")) {
            for (var setup : List.of("basic", "maxfam", "debugpm", "perfmon")) {
                var file = RECORDED.resolve("wrmsr-" + setup + "-" + msr + ".jsonl");
                if (!Files.exists(file)) {
                    continue;
                }
                long xfam = 0xe7; // of basic, perfmon and debugpm
                Set<String> has;
                try (var guest = new RunningGuest("run-" + setup + "-2")) {
                    xfam = guest.td.tdcs.u64(Tdcs.XFAM);
                    has = MsrLegalityTest.features(guest.td);
                }
                long now = msr.equals("c0000080") ? 0xd01 : 0;
                for (var line : Files.readAllLines(file)) {
                    JsonObject step = JsonParser.parseString(line).getAsJsonObject();
                    if (!step.has("op") || !step.get("op").getAsString().equals("wrmsr")) {
                        continue;
                    }
                    long value = Long.parseUnsignedLong(step.get("value").getAsString().substring(2), 16);
                    int number = Integer.parseUnsignedInt(msr, 16);
                    var wanted = step.get("res").getAsString();
                    assertThat(rule(number, value, now, xfam, has)).as("%s: %x = %x", setup, number, value).isEqualTo(wanted);
                    now = wanted.equals("ok") ? result(number, value, now) : now;
                    var readBack = step.get("readback").getAsString();
                    assertThat(readBack).isIn("0x" + Long.toHexString(now), "pass");
                    compared++;
                }
            }
        }
        assertThat(compared).isGreaterThan(300);
    }

    /// MSR, setup, value that the guest reads; "native" values come from the platform file.
    @ParameterizedTest
    @CsvSource({"bd, basic, 1", "10a, basic, 20f16b", "10a, maxfam, 20f16b", "1a0, basic, 851009", "1a0, maxfam, 851009", "345, basic, 0",
        "345, perfmon, 7f05", "345, debugpm, 7f05", "480, basic, 1c0000000000000", "485, basic, 600440e0", "486, basic, 20",
        "487, basic, 8005003f", "491, basic, 0"})
    void valuesRead(String msr, String setup, String wanted) {
        try (var guest = new RunningGuest("run-" + setup + "-2")) {
            assertThat(read(guest, Integer.parseUnsignedInt(msr, 16))).isEqualTo(wanted);
        }
    }

    /// A single-stepping guest that turns branch stepping on loses the pending step, and one that turns it off gets one.
    @ParameterizedTest
    @CsvSource({"0, 2, 100, 4000, 0", "2, 0, 100, 0, 4000", "0, 2, 0, 4000, 0", "2, 0, 0, 0, 0", "2, 2, 100, 4000, 0", "0, 0, 100, 0, 4000",
        "0, 1, 100, 0, 4000"})
    void branchTrapFlag(String before, String written, String rflags, String pending, String after) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_DEBUGCTL, Long.parseLong(before, 16));
            guest.vmcs.write(VmcsField.GUEST_RFLAGS, 2 | Long.parseLong(rflags, 16));
            guest.vmcs.write(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS, Long.parseLong(pending, 16));
            assertThat(write(guest, DEBUGCTL, Long.parseLong(written, 16))).isEqualTo("ok");
            assertThat(guest.vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS)).isEqualTo(Long.parseLong(after, 16));
        }
    }

    @Test void uncorePmiIsTheVmms() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_DEBUGCTL, 1 << 13);
            assertThat(read(guest, DEBUGCTL)).isEqualTo("0");
            assertThat(write(guest, DEBUGCTL, 1)).isEqualTo("ok");
            assertThat(guest.vmcs.read(VmcsField.GUEST_DEBUGCTL)).isEqualTo((1 << 13) | 1);
            guest.vmcs.write(VmcsField.GUEST_DEBUGCTL, 0);
            assertThat(write(guest, DEBUGCTL, 1 << 13)).isEqualTo("ok");
            assertThat(guest.vmcs.read(VmcsField.GUEST_DEBUGCTL)).isZero();
        }
    }

    /// An exit for an MSR that the bitmaps leave to the guest means that they are broken.
    @ParameterizedTest
    @CsvSource({"10, basic, true, halt", "48, basic, true, halt", "c0000081, basic, false, halt", "1a0, perfmon, true, halt",
        "c1, perfmon, false, halt", "c1, basic, false, gp", "329, perfmon, true, gp"})
    void exitsThatTheBitmapsDoNotCause(String msr, String setup, boolean reads, String wanted) {
        try (var guest = new RunningGuest("run-" + setup + "-2")) {
            int number = Integer.parseUnsignedInt(msr, 16);
            assertThat(reads ? read(guest, number).replace("(0)", "") : write(guest, number, 0)).isEqualTo(wanted);
        }
    }
}
