package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// MOV to CR0 and CR4, LMSW and XSETBV of a TD, bit by bit. [TDX-BASE "CR0 Handling", "CR4 Handling", "XSETBV"]
class ControlRegisterLegalityTest {
    private static final int CR_ACCESS = 28;
    private static final int XSETBV = 55;
    private static final long WP = 1 << 16;
    private static final long CET = 1 << 23;
    private static final long IGNORED = 0x1ffa_ffc0L;
    private static final int RBX = 3;

    /// What happens when this bit of CR0 differs from 80000031H (PE, ET, NE, PG): the silicon needs NE and has no bits above 31, TDX needs
    /// PE and forbids NW and CD.
    private static final String CR0 = """
            0 gp
            1-3 native
            4 native
            5 gp
            6-15 ignored
            16 native
            17 ignored
            18 native
            19-28 ignored
            29-30 ve
            31 native
            32-63 gp
            """;
    /// The same for CR4, whose guest sees MCE as 1 and VMXE as 0. "xfam" and "attribute": native when the TD has that bit, else #GP.
    /// The silicon of the recordings has bits 25:0 only.
    private static final String CR4 = """
            0-5 native
            6 ve
            7-12 native
            13-15 ve
            16-18 native
            19 gp
            20-21 native
            22 xfam:9
            23 xfam:11:12
            24 attribute:30
            25 xfam:14
            26-63 gp
            """;

    private static String[] byBit(String rows) {
        var result = new String[64];
        for (var line : rows.lines().toList()) {
            var c = line.split(" ");
            var ends = c[0].split("-");
            for (int bit = Integer.parseInt(ends[0]); bit <= Integer.parseInt(ends[ends.length - 1]); bit++) {
                assertThat(result[bit]).isNull();
                result[bit] = c[1];
            }
        }
        assertThat(result).doesNotContainNull();
        return result;
    }

    private static String rule(String rule, RunningGuest guest) {
        var parts = rule.split(":");
        if (parts.length == 1) {
            return rule;
        }
        long value = guest.td.tdcs.u64(parts[0].equals("xfam") ? Tdcs.XFAM : Tdcs.ATTRIBUTES);
        for (int i = 1; i < parts.length; i++) {
            if (((value >>> Integer.parseInt(parts[i])) & 1) == 0) {
                return "gp";
            }
        }
        return "native";
    }

    /// MOV of `value` to CR`n` through RBX.
    private static String move(RunningGuest guest, int n, long value) {
        long mask = guest.vmcs.read(n == 0 ? VmcsField.CR0_GUEST_HOST_MASK : VmcsField.CR4_GUEST_HOST_MASK);
        long shadow = guest.vmcs.read(n == 0 ? VmcsField.CR0_READ_SHADOW : VmcsField.CR4_READ_SHADOW);
        if (((value ^ shadow) & mask) == 0) {
            return "native";
        }
        guest.gpr()[RBX] = value;
        var got = guest.exit(CR_ACCESS, Map.of(VmcsField.EXIT_QUALIFICATION, n | ((long) RBX << 8), VmcsField.EXIT_INSTRUCTION_LENGTH, 3L));
        guest.take();
        return got.equals("gp(0)") ? "gp" : got;
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic-2", "minxfam-2", "maxfam-2", "perfmon-2", "debug-2", "cpuidfull-2"})
    void everyBitOfCr0(String setup) {
        var rows = byBit(CR0);
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup)) {
            for (int bit = 0; bit < 64; bit++) {
                long old = guest.vmcs.read(VmcsField.GUEST_CR0);
                var wanted = rows[bit].equals("ignored") ? "rip+3" : rows[bit];
                var got = move(guest, 0, 0x8000_0031L ^ (1L << bit));
                long now = guest.vmcs.read(VmcsField.GUEST_CR0);
                if (!got.equals(wanted) || now != old) {
                    differences.add(bit + ": " + got + ", not " + wanted + ", CR0 " + Long.toHexString(now));
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// Value, CR4.CET, outcome, CR0 afterwards. Checks in the order in which the module makes them.
    @ParameterizedTest
    @CsvSource({"80050031, false, native, 80000031", "80050071, false, rip+3, 80050031", "60050031, false, ve, 80000031",
        "00000030, false, ve, 80000031", "60000030, false, ve, 80000031", "80000030, false, gp, 80000031",
        "c0000031, true, gp, 80000031", "c0010031, true, ve, 80000031", "80010071, true, rip+3, 80010031",
        "80000071, true, gp, 80000031", "1c0000031, false, gp, 80000031", "c0000011, false, gp, 80000031", "0, false, gp, 80000031"})
    void cr0Combinations(String value, boolean cet, String wanted, String after) {
        try (var guest = new RunningGuest("run-maxfam-2")) {
            guest.vmcs.write(VmcsField.GUEST_CR4, (guest.vmcs.read(VmcsField.GUEST_CR4) & ~CET) | (cet ? CET : 0));
            guest.vmcs.write(VmcsField.GUEST_CR0, 0x8000_0031L);
            assertThat(move(guest, 0, Long.parseLong(value, 16))).isEqualTo(wanted);
            assertThat(guest.vmcs.read(VmcsField.GUEST_CR0)).isEqualTo(Long.parseLong(after, 16));
        }
    }

    @Test void ignoredBitsOfCr0KeepWhatTheyHave() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_CR0, 0x8000_0031L | (IGNORED & 0x1234_5680L));
            assertThat(move(guest, 0, 0x8005_0033L | IGNORED)).isEqualTo("rip+3");
            assertThat(guest.vmcs.read(VmcsField.GUEST_CR0)).isEqualTo((0x8005_0033L & ~IGNORED) | (IGNORED & 0x1234_5680L));
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic-2", "minxfam-2", "maxfam-2", "perfmon-2", "debug-2", "debugpm-2", "cpuidfull-2"})
    void everyBitOfCr4(String setup) {
        var rows = byBit(CR4);
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup)) {
            guest.vmcs.write(VmcsField.GUEST_CR0, guest.vmcs.read(VmcsField.GUEST_CR0) | WP);
            for (int bit = 0; bit < 64; bit++) {
                long old = guest.vmcs.read(VmcsField.GUEST_CR4);
                var wanted = rule(rows[bit], guest);
                var got = move(guest, 4, (1 << 6) ^ (1L << bit));
                if (!got.equals(wanted) || guest.vmcs.read(VmcsField.GUEST_CR4) != old) {
                    differences.add(bit + ": " + got + ", not " + wanted);
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// Without CR0.WP, CR4.CET is a #GP even when the write would raise #VE.
    @ParameterizedTest
    @CsvSource({"true, ve", "false, gp"})
    void cr4CetNeedsWriteProtection(boolean wp, String wanted) {
        try (var guest = new RunningGuest("run-maxfam-2")) {
            guest.vmcs.write(VmcsField.GUEST_CR0, (guest.vmcs.read(VmcsField.GUEST_CR0) & ~WP) | (wp ? WP : 0));
            assertThat(move(guest, 4, CET)).isEqualTo(wanted); // without MCE
        }
    }

    /// The lists are what the recordings show: the worst that happens to any of the bits that differ.
    @ParameterizedTest
    @ValueSource(strings = {"mov-cr0-basic", "mov-cr0-cpuidfull", "mov-cr0-minxfam", "mov-cr0-perfmon", "mov-cr4-debug", "mov-cr4-maxfam",
        "mov-cr4-minxfam", "mov-cr4-perfmon"})
    void listsAgreeWithTheRecordings(String name) throws IOException {
        boolean cr0 = name.startsWith("mov-cr0");
        var rows = byBit(cr0 ? CR0 : CR4);
        int compared = 0;
        try (var guest = new RunningGuest("run-" + name.substring(8) + "-2")) {
            for (var line : Files.readAllLines(Path.of("..", "vectors", "1.5.06", "f", name + ".jsonl"))) {
                JsonObject step = JsonParser.parseString(line).getAsJsonObject();
                if (step.has("res") && step.has("cr")) {
                    long value = Long.parseUnsignedLong(step.get("value").getAsString().substring(2), 16);
                    assertThat(worst(rows, value, cr0, guest)).as(line).isEqualTo(step.get("res").getAsString());
                    compared++;
                }
            }
        }
        assertThat(compared).isGreaterThan(60);
    }

    private static String worst(String[] rows, long value, boolean cr0, RunningGuest guest) {
        var seen = new HashSet<String>();
        long usual = cr0 ? 0x8000_0031L : 1 << 6;
        for (int bit = 0; bit < 64; bit++) {
            if ((((value ^ usual) >>> bit) & 1) != 0) {
                seen.add(rule(rows[bit], guest));
            }
        }
        if (cr0 && (value & 1) == 0) { // without paging, leaving protected mode is TDX's business only
            seen.add((value & (1L << 31)) != 0 ? "gp" : "ve");
            if ((value & (1L << 31)) == 0 && (value & (1 << 5)) != 0 && value >>> 32 == 0) {
                seen.remove("gp");
            }
        }
        boolean exits = seen.contains("gp") || seen.contains("ve") || seen.contains("ignored");
        if (!cr0 && exits && (value & CET) != 0) {
            return "gp"; // the recordings have CR0.WP = 0
        }
        return seen.contains("gp") ? "gp" : seen.contains("ve") ? "ve" : exits ? "ok" : "native";
    }

    /// Qualification and what comes of it in a production and a debug TD.
    @ParameterizedTest
    @CsvSource({"3, exit 600000020000001c {rcx=3}, exit 1c {rcx=3}", "13, exit 600000020000001c {rcx=13}, exit 1c {rcx=13}",
        "8, exit 600000020000001c {rcx=8}, exit 1c {rcx=8}", "18, exit 600000020000001c {rcx=18}, exit 1c {rcx=18}",
        "10, exit 600000020000001c {rcx=10}, exit 1c {rcx=10}", "20, exit 600000020000001c {rcx=20}, exit 1c {rcx=20}"})
    void accessesThatOnlyADebuggerMakesExit(String qualification, String production, String debug) {
        for (var setup : new String[] {"basic-2", "debug-2"}) {
            try (var guest = new RunningGuest("run-" + setup)) {
                assertThat(guest.exit(CR_ACCESS, Map.of(VmcsField.EXIT_QUALIFICATION, Long.parseLong(qualification, 16))))
                        .isEqualTo(setup.startsWith("basic") ? production : debug);
            }
        }
    }

    @Test void movFromEachRegisterTakesThatRegister() {
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int gpr = 0; gpr < 16; gpr++) {
                for (int r = 0; r < 16; r++) {
                    guest.gpr()[r] = 0x1_0000_0000L; // #GP
                }
                guest.vmcs.write(VmcsField.GUEST_RSP, gpr == 4 ? 0x8000_0071L : 0x1_0000_0000L);
                if (gpr != 4) {
                    guest.gpr()[gpr] = 0x8000_0071L;
                }
                assertThat(guest.exit(CR_ACCESS, Map.of(VmcsField.EXIT_QUALIFICATION, (long) gpr << 8))).as("register %d", gpr)
                        .isEqualTo("rip+4");
            }
        }
    }

    @Test void lmswWritesItsThreeBits() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_CR0, 0x8000_0031L);
            assertThat(guest.exit(CR_ACCESS, Map.of(VmcsField.EXIT_QUALIFICATION, 0xffff_0030L))).isEqualTo("rip+4");
            assertThat(guest.vmcs.read(VmcsField.GUEST_CR0)).isEqualTo(0x8000_003fL);
            assertThat(guest.exit(CR_ACCESS, Map.of(VmcsField.EXIT_QUALIFICATION, 0x30L))).isEqualTo("rip+4");
            assertThat(guest.vmcs.read(VmcsField.GUEST_CR0)).isEqualTo(0x8000_0031L);
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic-2", "minxfam-2", "maxfam-2", "perfmon-2", "debug-2", "cpuidfull-2"})
    void everyPairOfBitsOfXcr0(String setup) {
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup)) {
            long xfam = guest.td.tdcs.u64(Tdcs.XFAM);
            for (int a = 0; a < 64; a++) {
                for (int b = a; b < 64; b++) {
                    xsetbv(guest, (1L << a) | (1L << b), xfam, differences);
                    xsetbv(guest, 1 | (1L << a) | (1L << b), xfam, differences);
                    xsetbv(guest, xfam & ~((1L << a) | (1L << b)), xfam, differences);
                }
            }
            for (long value = 0; value < 0x100; value++) {
                xsetbv(guest, value, xfam, differences);
                xsetbv(guest, value | 0x6_0000, xfam, differences);
            }
        }
        assertThat(differences).isEmpty();
    }

    private static void xsetbv(RunningGuest guest, long value, long xfam, ArrayList<String> differences) {
        boolean legal = (value & ~(xfam & 0x6_02e7L)) == 0 && (value & 1) == 1 // x87 cannot be off
                && ((value & 4) == 0 || (value & 2) != 0) // AVX is more of SSE
                && ((value & 0xe0) == 0 || (value & 0xe4) == 0xe4) // AVX-512 comes as a whole, on top of AVX
                && ((value & 0x6_0000) == 0 || (value & 0x6_0000) == 0x6_0000); // so does AMX
        long old = guest.td.machine.cpus[0].xcr0();
        long[] r = guest.gpr();
        r[0] = 0xabcd_0000_0000_0000L | (value & 0xffff_ffffL);
        r[1] = 0xffff_ffff_0000_0000L; // the upper half of RCX does not count
        r[2] = 0xabcd_0000_0000_0000L | (value >>> 32);
        var got = guest.exit(XSETBV, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 3L));
        guest.take();
        long now = guest.td.machine.cpus[0].xcr0();
        if (!got.equals(legal ? "rip+3" : "gp(0)") || now != (legal ? value : old)) {
            differences.add(Long.toHexString(value) + ": " + got + ", XCR0 " + Long.toHexString(now));
        }
    }

    @Test void onlyRegisterZeroExists() {
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int bit = 0; bit < 32; bit++) {
                guest.gpr()[0] = 1;
                guest.gpr()[1] = 1L << bit;
                guest.gpr()[2] = 0;
                assertThat(guest.exit(XSETBV, Map.of())).isEqualTo("gp(0)");
                guest.take();
            }
        }
    }
}
