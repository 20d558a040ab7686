package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdvps;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Events that the module injects: repeated ones, NMIs for the VMM, #VE and what it becomes, and what a debugger intercepts. [TDX-BASE
/// "Exceptions and Interrupts"]
class EventInjectionTest {
    private static final int TDCALL = 77;
    private static final int HLT = 12;
    private static final int NMI_WINDOW_EXIT = 8;
    private static final int EPT_VIOLATION = 48;
    private static final long NMI_WINDOW = 1 << 22;
    private static final long BLOCKING_NMI = 8;
    private static final long RESERVED_GPA = 1L << 50;

    private static boolean window(RunningGuest guest) {
        return (guest.vmcs.read(VmcsField.PROC_BASED_CONTROLS) & NMI_WINDOW) != 0;
    }

    private static String nmiWindow(RunningGuest guest) {
        return guest.exit(NMI_WINDOW_EXIT, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 0L));
    }

    private static void delivered(RunningGuest guest) {
        guest.vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
    }

    @Test void aSecondVeBeforeTheFirstIsReadIsADoubleFault() {
        try (var guest = new RunningGuest("run-basic-2")) {
            assertThat(guest.exit(HLT, Map.of(VmcsField.EXIT_QUALIFICATION, 1L))).isEqualTo("ve");
            delivered(guest);
            assertThat(guest.exit(HLT, Map.of(VmcsField.EXIT_QUALIFICATION, 2L))).isEqualTo("df(0)");
            assertThat(guest.vcpu.u64(Tdvps.VE_QUALIFICATION)).isEqualTo(1);
            delivered(guest);
            guest.gpr()[0] = 3;
            assertThat(guest.exit(TDCALL, Map.of())).isEqualTo("rip+4");
            assertThat(guest.exit(HLT, Map.of())).isEqualTo("ve");
        }
    }

    @Test void anNmiWaitsForTheWindowAndForTheVeToBeRead() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vcpu.flag(Tdvps.PEND_NMI, true);
            assertThat(guest.exit(HLT, Map.of())).isEqualTo("ve");
            assertThat(window(guest)).isFalse();
            delivered(guest);
            assertThat(nmiWindow(guest)).as("not while #VE is unread").isEqualTo("rip+0");
            assertThat(guest.vcpu.pendNmi()).isTrue();
            guest.gpr()[0] = 3; // TDG.VP.VEINFO.GET
            assertThat(guest.exit(TDCALL, Map.of())).isEqualTo("rip+4");
            assertThat(window(guest)).isTrue();
            assertThat(nmiWindow(guest)).isEqualTo("nmi");
            assertThat(guest.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isEqualTo(0x8000_0202L);
            assertThat(window(guest)).isFalse();
            assertThat(guest.vcpu.pendNmi()).isFalse();
            delivered(guest);
            assertThat(nmiWindow(guest)).isEqualTo("rip+0");
            assertThat(window(guest)).isFalse();
        }
    }

    @ParameterizedTest
    @CsvSource({"true, false, true", "true, true, false", "false, false, false"})
    void anEntryOpensTheWindow(boolean pending, boolean veUnread, boolean open) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.runAWhile();
            guest.exit(1, Map.of());
            guest.vcpu.flag(Tdvps.PEND_NMI, pending);
            guest.vcpu.u32(Tdvps.VE_VALID, veUnread ? -1 : 0);
            guest.enter();
            assertThat(window(guest)).isEqualTo(open);
            assertThat(guest.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isZero();
        }
    }

    /// IDT-vectoring information; the entry's interruption information and whether an error code comes with it.
    @ParameterizedTest
    @CsvSource({"80000020, 80000020, false", "80000b0e, 80000b0e, true", "80000202, 80000202, false", "80001b0d, 80000b0d, true",
        "fffff480, 80000480, false", "80000603, 80000603, false"})
    void eventsThatAnExitInterruptedAreInjectedAgain(String vectoring, String entry, boolean error) {
        for (int reason : new int[] {9, 48, 49}) {
            try (var guest = new RunningGuest("run-basic-2")) {
                guest.vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, 0x99);
                guest.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, BLOCKING_NMI);
                var information = new HashMap<VmcsField, Long>();
                information.put(VmcsField.IDT_VECTORING_INFO, Long.parseLong(vectoring, 16));
                information.put(VmcsField.IDT_VECTORING_ERROR_CODE, 0x55L);
                information.put(VmcsField.EXIT_INSTRUCTION_LENGTH, 2L);
                information.put(VmcsField.GUEST_PHYSICAL_ADDRESS, (1L << 47) | 0x9000);
                assertThat(guest.exit(reason, information)).startsWith("exit " + Integer.toHexString(reason));
                assertThat(guest.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isEqualTo(Long.parseLong(entry, 16));
                assertThat(guest.vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE)).isEqualTo(error ? 0x55 : 0x99);
                assertThat(guest.vmcs.read(VmcsField.ENTRY_INSTRUCTION_LENGTH)).isEqualTo(2);
                boolean nmi = ((Long.parseLong(vectoring, 16) >> 8) & 7) == 2;
                assertThat(guest.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE)).isEqualTo(nmi ? 0 : BLOCKING_NMI);
                assertThat(guest.enter()).isZero();
                assertThat(guest.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isEqualTo(Long.parseLong(entry, 16));
            }
        }
    }

    /// Other exits do not interrupt a delivery, unless a debugger makes them exit.
    @Test void otherExitsDuringDelivery() {
        var delivery = Map.of(VmcsField.IDT_VECTORING_INFO, 0x8000_0020L, VmcsField.EXIT_QUALIFICATION, 7L);
        try (var production = new RunningGuest("run-basic-2"); var debug = new RunningGuest("run-debug-2")) {
            for (int reason = 0; reason < 80; reason++) {
                if (reason == 9 || reason == 48 || reason == 49) {
                    continue;
                }
                production.powerOn();
                production.runAWhile();
                assertThat(production.exit(reason, delivery)).as("reason %d", reason).isEqualTo("halt");
                debug.runAWhile();
                assertThat(debug.exit(reason, delivery)).isEqualTo("exit " + Integer.toHexString(reason) + " {rcx=7}");
                assertThat(debug.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isZero();
                assertThat(debug.enter()).isZero();
            }
        }
    }

    /// The event being delivered when the guest touched an address that it cannot have.
    @ParameterizedTest
    @CsvSource({"0, pf(9)", "80000020, pf(9)", "80000b0d, pf(9)", "80000b0e, df(0)", "80000314, df(0)", "80000b08, exit 4000000100000002",
        "8000040e, pf(9)", "80000408, pf(9)"})
    void aPageFaultDuringAnException(String vectoring, String wanted) {
        try (var guest = new RunningGuest("run-basic-2")) {
            assertThat(guest.exit(EPT_VIOLATION, Map.of(VmcsField.IDT_VECTORING_INFO, Long.parseLong(vectoring, 16),
                    VmcsField.GUEST_PHYSICAL_ADDRESS, RESERVED_GPA, VmcsField.GUEST_LINEAR_ADDRESS, 0x7000L,
                    VmcsField.EXIT_QUALIFICATION, 0x81L))).isEqualTo(wanted);
            if (guest.runs()) {
                assertThat(guest.td.machine.cpus[0].cr2()).isEqualTo(0x7000);
                assertThat(guest.vmcs.read(VmcsField.GUEST_RFLAGS) & (1 << 16)).isNotZero();
            } else {
                assertThat(guest.vcpu.u64(Tdvps.CR2)).isEqualTo(0x7000);
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3})
    void pageFaultsOfUserCodeSayso(int cpl) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_SS_ACCESS_RIGHTS, 0xc093 | (cpl << 5));
            assertThat(guest.exit(EPT_VIOLATION, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, RESERVED_GPA,
                    VmcsField.EXIT_QUALIFICATION, 0x81L))).isEqualTo(cpl == 3 ? "pf(13)" : "pf(9)");
        }
    }

    @ParameterizedTest
    @ValueSource(longs = {0x81, 0x1081})
    void nmisBlockedAgainAfterAnIretThatFaulted(long qualification) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.exit(EPT_VIOLATION, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, RESERVED_GPA,
                    VmcsField.EXIT_QUALIFICATION, qualification));
            long blocking = qualification == 0x1081 ? BLOCKING_NMI : 0;
            assertThat(guest.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE)).isEqualTo(blocking);
        }
    }

    /// Exit reason, exception bitmap, page-fault mask, match and error code of the exit; what a debugger gets.
    @ParameterizedTest
    @CsvSource({"12, 100000, 0, 0, 0, exit 0 {r9=80000314}", "12, 0, 0, 0, 0, ve", "12, 40, 0, 0, 0, ve",
        "11, 40, 0, 0, 0, exit 0 {r9=80000306}",
        "55, 2000, 0, 0, 0, exit 0 {r9=80000b0d}", "48, 4000, 0, 0, 0, exit 0 {r9=80000b0e}", "48, 4000, 0, 1, 0, pf(9)",
        "48, 4000, 1, 1, 1, exit 0 {r9=80000b0e}", "48, 4000, 1, 1, 2, pf(9)"})
    void aDebuggerInterceptsWhatIsInjected(int reason, String bitmap, long mask, long match, long code, String wanted) {
        for (var setup : new String[] {"basic", "debug"}) {
            try (var guest = new RunningGuest("run-" + setup + "-2")) {
                guest.vmcs.write(VmcsField.EXCEPTION_BITMAP, Long.parseLong(bitmap, 16));
                guest.vmcs.write(VmcsField.PAGE_FAULT_ERROR_CODE_MASK, mask);
                guest.vmcs.write(VmcsField.PAGE_FAULT_ERROR_CODE_MATCH, match);
                guest.gpr()[1] = 1;
                var got = guest.exit(reason, Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, RESERVED_GPA, VmcsField.EXIT_QUALIFICATION, 0x81L,
                        VmcsField.EXIT_INTERRUPTION_ERROR_CODE, code));
                if (setup.equals("debug")) {
                    assertThat(got).isEqualTo(wanted);
                } else {
                    assertThat(got).isEqualTo(switch (reason) {
                        case 11 -> "ud";
                        case 12 -> "ve";
                        case 48 -> "pf(9)";
                        default -> "gp(0)";
                    });
                }
            }
        }
    }

    @Test void aDebuggerDoesNotInterceptNmisByTheExceptionBitmap() {
        try (var guest = new RunningGuest("run-debug-2")) {
            guest.vmcs.write(VmcsField.EXCEPTION_BITMAP, 1 << 2);
            guest.vcpu.flag(Tdvps.PEND_NMI, true);
            assertThat(nmiWindow(guest)).isEqualTo("nmi");
        }
    }

    @Test void tdcallNeeds64BitMode() {
        try (var guest = new RunningGuest("run-basic-2")) {
            for (long[] mode : new long[][] {{0xd01, 0xc09b}, {0x901, 0xa09b}, {0x901, 0xc09b}}) {
                guest.vmcs.write(VmcsField.GUEST_EFER, mode[0]);
                guest.vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, mode[1]);
                guest.gpr()[0] = 1;
                assertThat(guest.exit(TDCALL, Map.of())).isEqualTo("gp(0)");
                assertThat(guest.gpr()[0]).isEqualTo(1);
                delivered(guest);
            }
        }
    }

    /// After an emulated instruction: STI and MOV SS blocking end, a single-stepping guest gets its step, the instruction is counted.
    @ParameterizedTest
    @CsvSource({"0, 2, 0, 0, 0", "1, 2, 0, 0, 0", "2, 2, 0, 0, 0", "b, 2, 0, 8, 0", "0, 102, 0, 0, 4000", "0, 102, 2, 0, 0"})
    void emulationEndsLikeAnInstruction(String state, String rflags, long debugctl, String stateAfter, String pending) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, Long.parseLong(state, 16));
            guest.vmcs.write(VmcsField.GUEST_RFLAGS, Long.parseLong(rflags, 16));
            guest.vmcs.write(VmcsField.GUEST_DEBUGCTL, debugctl);
            guest.td.machine.cpus[0].msr(0x309, 10);
            guest.gpr()[0] = 0;
            guest.gpr()[1] = 0;
            assertThat(guest.exit(10, Map.of(VmcsField.EXIT_INSTRUCTION_LENGTH, 2L))).isEqualTo("rip+2");
            assertThat(Long.toHexString(guest.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE))).isEqualTo(stateAfter);
            assertThat(Long.toHexString(guest.vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS))).isEqualTo(pending);
            assertThat(guest.td.machine.cpus[0].rdmsr(0x309)).isEqualTo(11);
        }
    }
}
