package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What each VM exit reason does in production and debug TDs, with and without performance monitoring. [TDX-BASE "TD VM Exits"]
class ExitLegalityTest {
    private static final int LAST_REASON = 81;
    private static final long RF = 1 << 16;
    private static final long QUALIFICATION = 0x1_2345_6789L;
    private static final long GPA = 0x1234;
    private static final long GLA = 0x7000_0123L;
    private static final long INTERRUPTION = 0x8000_0020L;
    private static final long INFO = 0x55aa;

    /// Reason and what it does; "unknown" is what reasons do that have no row. In "a/b" a is for production, b for debug TDs; "p?a:b" is a
    /// with performance monitoring and b without. "exit" is a TD exit with status 0, "vcpu", "td" and "dead" with
    /// TDX_NON_RECOVERABLE_VCPU, _TD and _TD_NON_ACCESSIBLE; i, q and g say that R9, RCX and R8 have the interruption information,
    /// the qualification and the guest-physical address. [TDX-ABI "TDH.VP.ENTER", "TD VM Exit Reasons"]
    private static final String ROWS = """
            0 halt/exit,q,i
            1 exit,q,i
            2 vcpu,q
            3 exit,q
            6 dead,q,i
            8 rip+4
            9 exit,q
            11 ud
            12 ve,q
            13 ve,q
            15 p?halt:gp(0)/p?exit,q:gp(0)
            17 ud
            18 ve,q
            19 ud
            20 ud
            21 ud
            22 ud
            23 ud
            24 ud
            25 ud
            26 ud
            27 ud
            28 unknown
            30 ve,q
            36 ud
            39 ud
            42 exit,q,i
            48 exit,e,g
            49 halt
            50 ud
            53 ud
            54 ve,q
            55 gp(0)
            56 ve,q
            59 ud
            60 ud
            62 halt/exit,q
            65 ve,q
            70 ud
            72 gp(0)
            73 ud
            74 exit,q
            75 td,q
            76 ud
            unknown td,q/exit,q
            """;
    /// Emulated: what they do depends on registers. They have tests of their own.
    private static final List<Integer> EMULATED = List.of(10, 31, 32, 77);

    /// The rows have these with another qualification, interruption or address than the recordings: NMI, SMI, MOV to CR0, an EPT
    /// misconfiguration of a shared address, notify window.
    private static final List<Integer> OTHERWISE_RECORDED = List.of(0, 6, 28, 49, 75);
    /// Interrupts, INIT and MTF so soon after the entry look like single-stepping to a TD that counts by itself.
    private static final List<Integer> STEPS = List.of(1, 3, 37);

    private static Map<String, String> rows() {
        var rows = new HashMap<String, String>();
        for (var line : ROWS.lines().toList()) {
            var c = line.split(" ");
            assertThat(rows.put(c[0], c[1])).as("second row of %s", c[0]).isNull();
        }
        return rows;
    }

    /// The words of [RunningGuest#exit] for what a row says.
    private static String outcome(String row, int reason, boolean debug, boolean perfmon) {
        return outcome(row, reason, debug, perfmon, INTERRUPTION, QUALIFICATION, GPA);
    }

    private static String outcome(String row, int reason, boolean debug, boolean perfmon, long interruption, long qualification, long gpa) {
        var sides = row.split("/");
        var side = debug && sides.length > 1 ? sides[1] : sides[0];
        if (side.startsWith("p?")) {
            var choice = side.substring(2).split(":");
            side = perfmon ? choice[0] : choice[1];
        }
        var words = List.of(side.split(","));
        var status = switch (words.getFirst()) {
            case "exit" -> 0L;
            case "vcpu" -> 0x4000_0001_0000_0000L;
            case "td" -> 0x6000_0002_0000_0000L;
            case "dead" -> 0x6000_0005_0000_0000L;
            default -> -1L;
        };
        if (status == -1) {
            return words.getFirst();
        }
        var registers = new ArrayList<String>();
        show(registers, words.contains("g"), "r8", gpa & -4096L);
        show(registers, words.contains("i"), "r9", interruption);
        show(registers, words.contains("q"), "rcx", qualification & 0xffff_ffffL);
        // Bits 12:7 of an EPT violation's qualification are the TD's secret.
        show(registers, words.contains("e"), "rcx", qualification & 0xffff_ffffL & ~0x1f80L);
        return "exit " + Long.toHexString(status | reason) + (registers.isEmpty() ? "" : " {" + String.join(", ", registers) + "}");
    }

    private static void show(List<String> registers, boolean told, String name, long value) {
        if (told && value != 0) {
            registers.add(name + "=" + Long.toHexString(value));
        }
    }

    private static Map<VmcsField, Long> information() {
        return Map.of(VmcsField.EXIT_QUALIFICATION, QUALIFICATION, VmcsField.GUEST_PHYSICAL_ADDRESS, GPA,
                VmcsField.GUEST_LINEAR_ADDRESS, GLA, VmcsField.EXIT_INTERRUPTION_INFO, INTERRUPTION, VmcsField.EXIT_INSTRUCTION_INFO, INFO);
    }

    @ParameterizedTest
    @CsvSource({"basic-2, false, false", "kvm-2, false, false", "debug-2, true, false", "perfmon-2, false, true", "debugpm-2, true, true"})
    void everyReasonDoesWhatItMust(String setup, boolean debug, boolean perfmon) {
        var rows = rows();
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup)) {
            for (int reason = 0; reason <= LAST_REASON; reason++) {
                if (EMULATED.contains(reason)) {
                    continue;
                }
                guest.powerOn();
                guest.gpr()[1] = 1; // XSETBV of a register that does not exist
                guest.runAWhile();
                long rflags = guest.vmcs.read(VmcsField.GUEST_RFLAGS);
                var row = rows.getOrDefault(Integer.toString(reason), rows.get("unknown"));
                var wanted = outcome(row.equals("unknown") ? rows.get("unknown") : row.equals("ve,q") ? "ve" : row, reason, debug, perfmon);
                var got = guest.exit(reason, information());
                if (!got.equals(wanted)) {
                    differences.add(reason + ": " + got + ", not " + wanted);
                    continue;
                }
                long rf = guest.vmcs.read(VmcsField.GUEST_RFLAGS) ^ rflags;
                if (!wanted.equals("halt") && guest.runs() && rf != (wanted.startsWith("rip") ? 0 : RF)) {
                    differences.add(reason + ": RFLAGS changes by " + Long.toHexString(rf));
                }
                if (wanted.equals("ve") && !isVeInfo(guest, reason)) {
                    differences.add(reason + ": VE_INFO");
                }
                checkState(guest, reason, wanted, differences);
            }
        }
        assertThat(differences).isEmpty();
    }

    /// The rows are what the recordings show.
    @ParameterizedTest
    @CsvSource({"basic, false, false", "kvm, false, false", "debug, true, false", "perfmon, false, true"})
    void rowsAgreeWithTheRecordings(String setup, boolean debug, boolean perfmon) throws IOException {
        var rows = rows();
        int compared = 0;
        try (var files = Files.list(Path.of("..", "vectors", "1.5.06", "f"))) {
            for (var file : files.filter(f -> f.getFileName().toString().startsWith("vmexit-reasons-" + setup)).sorted().toList()) {
                for (var line : Files.readAllLines(file)) {
                    JsonObject step = JsonParser.parseString(line).getAsJsonObject();
                    if (!step.has("op") || !step.get("op").getAsString().equals("td_exit")) {
                        continue;
                    }
                    int reason = step.get("reason").getAsInt();
                    if (EMULATED.contains(reason) || OTHERWISE_RECORDED.contains(reason) || (perfmon && STEPS.contains(reason))) {
                        continue;
                    }
                    var row = rows.getOrDefault(Integer.toString(reason), rows.get("unknown"));
                    assertThat(recorded(step)).as("%s: %s", file, step).isEqualTo(outcome(row, reason, debug, perfmon,
                            number(step, "intr"), number(step, "qual"), number(step, "gpa")));
                    compared++;
                }
            }
        }
        assertThat(compared).isGreaterThan(50);
    }

    private static long number(JsonObject step, String name) {
        return step.has(name) ? Long.decode(step.get(name).getAsString()) : 0;
    }

    /// The words of [RunningGuest#exit] for a recorded result.
    private static String recorded(JsonObject step) {
        if (step.has("out")) {
            var shown = new TreeMap<String, String>();
            for (var e : step.getAsJsonObject("out").entrySet()) {
                shown.put(e.getKey(), Long.toHexString(Long.parseUnsignedLong(e.getValue().getAsString().substring(2), 16)));
            }
            var rax = shown.remove("rax");
            return "exit " + rax + (shown.isEmpty() ? "" : " " + shown);
        }
        var guest = step.getAsJsonObject("guest");
        if (!guest.has("event")) {
            return "rip+" + number(guest, "rip_adv");
        }
        return switch (guest.getAsJsonObject("event").get("vec").getAsInt()) {
            case 6 -> "ud";
            case 13 -> "gp(0)";
            case 20 -> "ve";
            default -> step.toString();
        };
    }

    private static boolean isVeInfo(RunningGuest guest, int reason) {
        var v = guest.vcpu;
        return v.u32(Tdvps.VE_VALID) == -1 && v.u32(Tdvps.VE_EXIT_REASON) == reason && v.u64(Tdvps.VE_QUALIFICATION) == QUALIFICATION
                && v.u64(Tdvps.VE_GPA) == 0 && v.u64(Tdvps.VE_GLA) == 0 && v.u32(Tdvps.VE_INSTRUCTION_LENGTH) == 4
                && v.u32(Tdvps.VE_INSTRUCTION_INFO) == INFO && v.u16(Tdvps.VE_EPTP_INDEX) == 0;
    }

    /// The states of VCPU and TD after a TD exit, and whether they may be entered again.
    private static void checkState(RunningGuest guest, int reason, String wanted, List<String> differences) {
        if (!wanted.startsWith("exit ")) {
            return;
        }
        int state = guest.vcpu.state();
        boolean fatal = guest.td.tdr.flag(Tdr.FATAL);
        long status = Long.parseUnsignedLong(wanted.split(" ")[1], 16) >>> 32;
        boolean dead = status >>> 28 == 6;
        boolean disabled = status >>> 28 == 4;
        int expected = dead ? Tdvps.ACTIVE : disabled ? Tdvps.DISABLED : Tdvps.READY;
        if (state != expected || fatal != dead) {
            differences.add(String.format("%d: VCPU state %d, TD fatal %b", reason, state, fatal));
        }
        boolean entered = guest.enter() == 0 && guest.runs();
        if (entered == (dead || disabled)) {
            differences.add(reason + ": the next entry");
        }
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic-2", "debug-2"})
    void busLockShowsWithTheExitOrRightAfterIt(String setup) {
        var rows = rows();
        boolean debug = setup.startsWith("debug");
        try (var guest = new RunningGuest("run-" + setup)) {
            for (int reason = 1; reason <= LAST_REASON; reason++) {
                if (EMULATED.contains(reason)) {
                    continue;
                }
                guest.powerOn();
                guest.gpr()[1] = 1;
                guest.runAWhile();
                var row = rows.getOrDefault(Integer.toString(reason), "unknown");
                row = row.equals("unknown") ? rows.get("unknown") : row;
                var plain = outcome(row, reason, debug, false);
                var wanted = plain.equals("halt") ? "halt"
                        : plain.startsWith("exit ") ? outcome(row, reason | (1 << 26), debug, false) : "exit 400004a";
                assertThat(guest.exit(reason | (1 << 26), information())).as("reason %d", reason).isEqualTo(wanted);
            }
        }
    }

    @Test void exitReasonBitsThatNoTdCausesStopTheModuleOnlyInProduction() {
        try (var production = new RunningGuest("run-basic-2"); var debug = new RunningGuest("run-debug-2")) {
            for (int bit = 16; bit < 31; bit++) {
                boolean known = bit == 26 || bit == 27; // a bus lock, an enclave
                var wanted = "exit " + Long.toHexString((1L << bit) | 1) + " {r9=80000020}";
                production.powerOn();
                debug.powerOn();
                production.runAWhile();
                debug.runAWhile();
                assertThat(production.exit((1L << bit) | 1, Map.of(VmcsField.EXIT_INTERRUPTION_INFO, INTERRUPTION)))
                        .as("bit %d", bit).isEqualTo(known ? wanted : "halt");
                assertThat(debug.exit((1L << bit) | 1, Map.of(VmcsField.EXIT_INTERRUPTION_INFO, INTERRUPTION)))
                        .as("bit %d", bit).isEqualTo(wanted);
            }
        }
    }

    /// Vector, type, production, debug.
    @ParameterizedTest
    @CsvSource({"2, 2, exit 0, exit 0", "18, 3, exit 6000000500000000, exit 6000000500000000", "18, 2, exit 0, exit 0",
        "1, 3, halt, exit 0",
        "3, 6, halt, exit 0", "6, 3, halt, exit 0", "14, 3, halt, exit 0", "20, 3, halt, exit 0", "2, 3, halt, exit 0"})
    void exceptions(int vector, int type, String production, String debug) {
        long info = (1L << 31) | (type << 8) | vector;
        for (var setup : List.of("basic-2", "debug-2")) {
            try (var guest = new RunningGuest("run-" + setup)) {
                guest.runAWhile();
                var wanted = setup.startsWith("debug") ? debug : production;
                assertThat(guest.exit(0, Map.of(VmcsField.EXIT_INTERRUPTION_INFO, info, VmcsField.EXIT_QUALIFICATION, 0x77L)))
                        .isEqualTo(wanted.equals("halt") ? wanted : wanted + " {r9=" + Long.toHexString(info) + ", rcx=77}");
            }
        }
    }

    @ParameterizedTest
    @CsvSource({"0, exit 6 {r9=80000020}", "1, 'exit 6000000500000006 {r9=80000020, rcx=1}'", "2, 'exit 6 {r9=80000020, rcx=2}'"})
    void machineCheckSmiEndsTheTd(long qualification, String wanted) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.runAWhile();
            assertThat(guest.exit(6, Map.of(VmcsField.EXIT_QUALIFICATION, qualification,
                    VmcsField.EXIT_INTERRUPTION_INFO, INTERRUPTION))).isEqualTo(wanted);
        }
    }

    @ParameterizedTest
    @CsvSource({"0, exit 4b, 0", "1, 'exit 600000020000004b {rcx=1}', 0", "1000, 'exit 4b {rcx=1000}', 8",
        "1001, 'exit 600000020000004b {rcx=1001}', 8"})
    void notifyWindow(String qualification, String wanted, long blocking) {
        try (var guest = new RunningGuest("run-basic-2")) {
            assertThat(guest.exit(75, Map.of(VmcsField.EXIT_QUALIFICATION, Long.parseLong(qualification, 16)))).isEqualTo(wanted);
            assertThat(guest.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE)).isEqualTo(blocking);
        }
    }

    /// Reason with bit 31, production, debug.
    @ParameterizedTest
    @CsvSource({"33, exit 6000000280000021, exit 80000021", "34, halt, halt", "41, exit 6000000580000029, exit 6000000580000029",
        "2, halt, halt", "48, halt, halt"})
    void failedEntries(long reason, String production, String debug) {
        for (var setup : List.of("basic-2", "debug-2")) {
            try (var guest = new RunningGuest("run-" + setup)) {
                guest.vcpu.flag(Tdvps.VM_LAUNCHED, false);
                assertThat(guest.exit(reason | (1L << 31), Map.of())).isEqualTo(setup.startsWith("debug") ? debug : production);
                assertThat(guest.vcpu.flag(Tdvps.VM_LAUNCHED)).isFalse();
            }
        }
    }

    @Test void anyExitOfAFatalTdLeavesItWithoutTouchingIt() {
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int reason = 0; reason <= LAST_REASON; reason++) {
                guest.powerOn();
                guest.td.tdr.flag(Tdr.FATAL, true);
                guest.vcpu.u64(Tdvps.CR2, 0x5555);
                long references = guest.td.tdcs.refcount(guest.vcpu.u64(Tdvps.VCPU_EPOCH));
                assertThat(guest.exit(reason, information())).isEqualTo("exit " + Long.toHexString(0x6000_0005_0000_0000L | reason)
                        + " {r9=80000020, rcx=23456789}");
                assertThat(guest.vcpu.u64(Tdvps.CR2)).isEqualTo(0x5555);
                assertThat(guest.vcpu.state()).isEqualTo(Tdvps.ACTIVE);
                assertThat(guest.td.tdcs.refcount(guest.vcpu.u64(Tdvps.VCPU_EPOCH))).isEqualTo(references);
            }
        }
    }

    /// Setup's TD, GPA, qualification, PENDING_VE_DISABLE, outcome. Pages 1000H and 2000H are mapped, 5000H is pending after [#augment].
    @ParameterizedTest
    @CsvSource(delimiter = ';', value = {
        "basic; 5008;         81; false; ve",
        "basic; 5008;         81; true;  exit 30 {r8=5000, rcx=1, rdx=6}",
        "basic; 6fff;       1fc3; false; exit 30 {r8=6000, rcx=43}",
        "basic; 1000;         81; false; exit 30 {r8=1000, rcx=1}",
        "basic; 800000005008; 81; false; exit 30 {r8=800000005000, rcx=1}",
        "basic; 1000000005008; 81; false; pf(9)",
        "basic; 1000000005008; 83; false; pf(11)",
        "basic; 1000000005008; 84; false; pf(25)",
        "basic; 1000000005008; 2083; false; pf(75)",
        "basic; 1000000005008; 1; false; ve",
        "basic; 8000000005008; 81; false; pf(9)"})
    void eptViolations(String td, String gpa, String qualification, boolean noVe, String wanted) {
        try (var guest = new RunningGuest("run-" + td + "-2")) {
            augment(guest, 0x5000);
            if (noVe) {
                guest.td.tdcs.u64(Tdcs.TD_CTLS, guest.td.tdcs.u64(Tdcs.TD_CTLS) | 1);
            }
            long address = Long.parseLong(gpa, 16);
            assertThat(guest.exit(48, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, address, VmcsField.GUEST_LINEAR_ADDRESS, GLA,
                    VmcsField.EXIT_QUALIFICATION, Long.parseLong(qualification, 16)))).isEqualTo(wanted);
            if (wanted.equals("ve")) {
                assertThat(guest.vcpu.u64(Tdvps.VE_GPA)).isEqualTo(address);
                assertThat(guest.vcpu.u64(Tdvps.VE_GLA)).isEqualTo(GLA);
            } else if (wanted.startsWith("pf")) {
                assertThat(guest.td.machine.cpus[0].cr2()).isEqualTo(GLA);
            }
        }
    }

    @Test void aMisconfigurationOfTheSharedEptIsTheVmms() {
        try (var guest = new RunningGuest("run-basic-2")) {
            assertThat(guest.exit(49, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, (1L << 47) | 0x5123,
                    VmcsField.EXIT_QUALIFICATION, QUALIFICATION))).isEqualTo("exit 31 {r8=800000005000}");
        }
    }

    private static void augment(RunningGuest guest, long gpa) {
        var regs = new SeamRegs();
        regs.set(0, 6);
        regs.set(1, gpa);
        regs.set(2, RecordedTd.TDR);
        regs.set(8, 0x1_0002_0000L);
        guest.td.machine.seamcall(1, regs);
        assertThat(regs.get(0)).isZero();
    }
}
