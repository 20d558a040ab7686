package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The single-step defence: when it starts, how it steps, and how it ends. [TDX-BASE "Single-Step Attack Mitigation"]
class SingleStepTest {
    private static final int FIXED_CTR0 = 0x309;
    private static final int TPR = 0x808;
    private static final int EOI = 0x80b;
    private static final int ICR = 0x830;
    private static final long UNTOUCHED = 0x7777;
    private static final long MTF = 1 << 27;
    private static final int EXCEPTION_OR_NMI = 0;
    private static final int INTERRUPT = 1;
    private static final int INIT = 3;
    private static final int SMI = 6;
    private static final int MTF_EXIT = 37;
    private static final Map<VmcsField, Long> NMI = Map.of(VmcsField.EXIT_INTERRUPTION_INFO, 0x8000_0202L);
    private static final Map<VmcsField, Long> VECTOR_ECH = Map.of(VmcsField.EXIT_INTERRUPTION_INFO, 0x8000_00ecL);

    private static boolean stepping(RunningGuest guest) {
        return (guest.vmcs.read(VmcsField.PROC_BASED_CONTROLS) & MTF) != 0;
    }

    private static void instructions(RunningGuest guest, long count) {
        guest.td.machine.cpus[0].msr(FIXED_CTR0, count);
    }

    /// MTF exits until the defence rests; how many.
    private static int stepOn(RunningGuest guest) {
        int steps = 0;
        while (stepping(guest)) {
            instructions(guest, 1);
            assertThat(guest.exit(MTF_EXIT, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 0L))).isEqualTo("rip+0");
            steps++;
            assertThat(steps).isLessThanOrEqualTo(32);
        }
        return steps;
    }

    /// Reason, interruption, qualification, instructions since the entry, what RCX lost, and whether that is suspicious.
    @ParameterizedTest
    @CsvSource({"1, 800000ec, 0, 0, 0, true", "1, 800000ec, 0, 0, 1, true", "1, 800000ec, 0, 0, 2, false", "1, 800000ec, 0, 1, 0, true",
        "1, 800000ec, 0, 1, 100, true", "1, 800000ec, 0, 2, 0, false", "1, 800000ec, 0, 0, -1, false", "0, 80000202, 0, 1, 0, true",
        "0, 80000302, 0, 1, 0, true", "0, 80000312, 0, 1, 0, false", "3, 0, 0, 1, 0, true", "6, 0, 0, 1, 0, true", "6, 0, 1, 1, 0, false",
        "6, 0, 2, 1, 0, true", "37, 0, 0, 1, 0, true", "37, 0, 0, 2, 0, false", "5, 0, 0, 1, 0, false", "9, 0, 0, 1, 0, false",
        "42, 0, 0, 1, 0, false"})
    void whatLooksLikeSingleStepping(int reason, String interruption, long qualification, long retired, long rcxDelta,
            boolean suspicious) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.gpr()[1] -= rcxDelta;
            instructions(guest, retired);
            var got = guest.exit(reason, Map.of(VmcsField.EXIT_INTERRUPTION_INFO, Long.parseLong(interruption, 16),
                    VmcsField.EXIT_QUALIFICATION, qualification));
            assertThat(got.equals("rip+0")).as(got).isEqualTo(suspicious);
            assertThat(stepping(guest)).isEqualTo(suspicious);
        }
    }

    /// With performance monitoring: distance of RIP, TSC ticks since the entry, whether that is suspicious.
    @ParameterizedTest
    @CsvSource({"0, 0, true", "32, 0, true", "33, 0, false", "-32, 0, true", "-33, 0, false", "0, 2000, true", "0, 5000, false",
        "33, 5000, false"})
    void aTdThatCountsItselfIsWatchedByAddressAndTime(long distance, long ticks, boolean suspicious) {
        try (var guest = new RunningGuest("run-perfmon-2")) {
            instructions(guest, 1000);
            guest.vmcs.write(VmcsField.GUEST_RIP, guest.vmcs.read(VmcsField.GUEST_RIP) + distance);
            guest.td.machine.clock.tsc += ticks;
            guest.exit(INTERRUPT, VECTOR_ECH);
            assertThat(guest.runs()).isEqualTo(suspicious);
            assertThat(stepping(guest)).isEqualTo(suspicious);
        }
    }

    @Test void withoutItsLocalApicTheModuleCannotDefendTheTd() {
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            cpu.msr(0x1b, cpu.rdmsr(0x1b) & ~(1L << 11));
            instructions(guest, 1);
            assertThat(guest.exit(INTERRUPT, VECTOR_ECH)).isEqualTo("exit e000000700000001 {r9=800000ec}");
            assertThat(guest.enter()).isEqualTo(0xe000_0604_0000_0000L);
        }
    }

    @Test void anInterruptIsPutBackAndDeliveredAfterwards() {
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            cpu.msr(TPR, 0x30);
            cpu.msr(EOI, UNTOUCHED);
            cpu.msr(0x802, 5);
            instructions(guest, 1);
            assertThat(guest.exit(INTERRUPT, VECTOR_ECH)).isEqualTo("rip+0");
            assertThat(cpu.rdmsr(TPR)).as("CR8 is 15").isEqualTo(0xf0);
            assertThat(cpu.rdmsr(EOI)).isZero();
            assertThat(cpu.rdmsr(ICR)).isEqualTo((5L << 32) | 0xec);
            stepOn(guest);
            assertThat(cpu.rdmsr(TPR)).isEqualTo(0x30);
            assertThat(cpu.rdmsr(FIXED_CTR0)).as("the next exit is no suspect").isEqualTo(2);
            assertThat(guest.exit(INTERRUPT, VECTOR_ECH)).isEqualTo("exit 1 {r9=800000ec}");
        }
    }

    /// What starts the defence, what ends it, and what the module sends to its own APIC then.
    @ParameterizedTest
    @CsvSource({"nmi, mtf, 400", "nmi, nmi, none", "nmi, hlt, 400", "init, mtf, 500", "init, init, none", "smi, mtf, none",
        "smi, smi, none",
        "nmi, init, 400"})
    void nmiAndInitAreRepeated(String first, String last, String command) {
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            cpu.msr(ICR, UNTOUCHED);
            cpu.msr(EOI, UNTOUCHED);
            instructions(guest, 1);
            assertThat(exit(guest, first)).isEqualTo("rip+0");
            if (last.equals("mtf")) {
                stepOn(guest);
            } else if (last.equals("hlt")) {
                exit(guest, last);
            } else {
                while (guest.runs() && stepping(guest)) {
                    instructions(guest, 1);
                    exit(guest, last);
                }
                assertThat(guest.runs()).isFalse();
            }
            assertThat(stepping(guest)).isFalse();
            assertThat(cpu.rdmsr(EOI)).isEqualTo(UNTOUCHED);
            assertThat(cpu.rdmsr(ICR)).isEqualTo(command.equals("none") ? UNTOUCHED : Long.parseLong(command, 16));
        }
    }

    private static String exit(RunningGuest guest, String what) {
        return switch (what) {
            case "nmi" -> guest.exit(EXCEPTION_OR_NMI, NMI);
            case "init" -> guest.exit(INIT, Map.of());
            case "smi" -> guest.exit(SMI, Map.of());
            default -> guest.exit(12, Map.of());
        };
    }

    @Test void theNumberOfStepsIsRandomBetween1And32() {
        Set<Integer> seen = new HashSet<>();
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int i = 0; i < 400; i++) {
                instructions(guest, 1);
                assertThat(guest.exit(INTERRUPT, VECTOR_ECH)).isEqualTo("rip+0");
                seen.add(stepOn(guest));
            }
        }
        assertThat(seen).contains(1, 32).hasSize(32);
    }

    /// Interruptibility, pending debug exceptions, DR7, RFLAGS, DEBUGCTL; the first two afterwards.
    @ParameterizedTest
    @CsvSource({"0, 0, 400, 2, 0, 2, 0", "8, 0, 400, 2, 0, a, 0", "1, 0, 400, 2, 0, 1, 0", "0, 1000, 400, 2, 0, 0, 1000",
        "0, 4000, 400, 2, 0, 0, 4000", "0, 10000, 400, 2, 0, 0, 10000", "0, 1, 400, 2, 0, 2, 1", "0, 0, 401, 2, 0, 0, 0",
        "0, 0, 402, 2, 0, 0, 0",
        "0, 0, 10401, 2, 0, 2, 0", "0, 0, 40401, 2, 0, 2, 0", "0, 0, 404, 2, 0, 2, 0", "0, 0, 440, 2, 0, 0, 0",
        "0, 0, 400, 102, 0, 2, 4000",
        "0, 0, 400, 102, 2, 2, 0"})
    void movSsBlockingKeepsEventsOutForOneInstruction(String state, String pending, String dr7, String rflags, String debugctl,
            String stateAfter, String pendingAfter) {
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            long rip = guest.vmcs.read(VmcsField.GUEST_RIP);
            cpu.debugRegister(0, rip);
            cpu.debugRegister(1, rip + 1);
            cpu.debugRegister(3, rip);
            var set = new HashMap<VmcsField, String>();
            set.put(VmcsField.GUEST_INTERRUPTIBILITY_STATE, state);
            set.put(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
            set.put(VmcsField.GUEST_DR7, dr7);
            set.put(VmcsField.GUEST_RFLAGS, rflags);
            set.put(VmcsField.GUEST_DEBUGCTL, debugctl);
            set.forEach((field, value) -> guest.vmcs.write(field, Long.parseLong(value, 16)));
            instructions(guest, 1);
            assertThat(guest.exit(INTERRUPT, VECTOR_ECH)).isEqualTo("rip+0");
            assertThat(Long.toHexString(guest.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE))).isEqualTo(stateAfter);
            assertThat(Long.toHexString(guest.vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS))).isEqualTo(pendingAfter);
        }
    }

    /// An exit of another kind ends the stepping at once and is handled.
    @ParameterizedTest
    @ValueSource(ints = {12, 48, 9, 2})
    void anyOtherExitEndsIt(int reason) {
        try (var guest = new RunningGuest("run-basic-2")) {
            instructions(guest, 1);
            guest.exit(INTERRUPT, VECTOR_ECH);
            assertThat(guest.exit(reason, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, 0x9000L))).isEqualTo(switch (reason) {
                case 12 -> "ve";
                case 48 -> "exit 30 {r8=9000}";
                case 9 -> "exit 9";
                default -> "exit 4000000100000002";
            });
            assertThat(stepping(guest)).isFalse();
            assertThat(guest.td.machine.cpus[0].rdmsr(TPR)).isZero();
        }
    }
}
