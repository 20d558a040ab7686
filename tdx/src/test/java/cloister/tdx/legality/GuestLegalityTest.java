package cloister.tdx.legality;

import static cloister.tdx.legality.TdPair.BUILT;
import static cloister.tdx.legality.TdPair.R10;
import static cloister.tdx.legality.TdPair.R8;
import static cloister.tdx.legality.TdPair.RAX;
import static cloister.tdx.legality.TdPair.RCX;
import static cloister.tdx.legality.TdPair.RDX;
import static cloister.tdx.legality.TdPair.RUNNING;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/// What TDCALL checks before any leaf runs, and which states of a TD matter to guest-side functions: only those of the other TD that a
/// service TD acts on. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"], [TDX-BASE "Host Priority"]
class GuestLegalityTest {
    private static final Set<Integer> LEAVES = Set.of(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 18, 20, 22, 23, 24, 25, 26, 27);
    private static final int VMCALL = 0;
    private static final int INFO = 1;
    private static final int EXTEND = 2;
    private static final int CPUIDVE_SET = 5;
    private static final int VM_RD = 7;
    private static final int SERVTD_RD = 18;
    private static final int SERVTD_WR = 20;
    private static final long TD_UUID = 0x8010_0003_0000_0020L;
    private static final long MIG_DEC_KEY = 0x9810_0003_0000_0010L;
    private static final int RTMR_LOCK = 0x3f0;
    private static final int HP_LOCK_TIMEOUT = 0xe8;
    private static final int INTERRUPTION_GP = 0x8000_0b0d;

    private static final long RAX_INVALID = 0xC000_0100_0000_0000L;
    private static final long OPERAND_BUSY_RTMR = 0x8000_0200_0000_00a8L;
    private static final long HOST_PRIORITY_TIMEOUT = 0x9000_0205_0000_0000L;
    private static final long NON_ACCESSIBLE_BY_TDCALL = 0x6000_0005_0000_004dL;
    private static final long CROSS_TD_TRAP = 0x9000_0009_0000_0000L;
    private static final long FATAL = 0xE000_0604_0000_0000L;
    private static final long KEYS_NOT_CONFIGURED = 0x8000_0810_0000_0000L;
    private static final long NO_TDCS = 0xC000_0606_0000_0000L;
    private static final long STATE_INCORRECT = 0xC000_0608_0000_0000L;

    private static long[] registers(TdPair tds) {
        return Arrays.copyOfRange(tds.td.machine.cpus[0].registers(), 1, 16);
    }

    private static void fill(TdPair tds) {
        for (int i = 0; i < 16; i++) {
            tds.td.machine.cpus[0].registers()[i] = 0x1111_0000L * (i + 1);
        }
    }

    private static void requireRaxInvalid(TdPair tds, long rax) {
        fill(tds);
        long[] before = registers(tds);
        long rip = tds.rip();
        assertThat(tds.guest(rax)).isTrue();
        assertThat(tds.guestRegister(RAX)).as("RAX 0x%x", rax).isEqualTo(RAX_INVALID);
        assertThat(tds.rip()).isEqualTo(rip + 4);
        assertThat(registers(tds)).as("RAX 0x%x", rax).isEqualTo(before);
    }

    @Test void leavesThatDoNotExistAreRefused() {
        try (var tds = new TdPair()) {
            IntStream.concat(IntStream.range(0, 130), IntStream.of(255, 256, 0x7fff, 0xffff)).filter(leaf -> !LEAVES.contains(leaf))
                    .forEach(leaf -> requireRaxInvalid(tds, leaf));
        }
    }

    @Test void onlyReadingTheTdHasASecondVersion() {
        try (var tds = new TdPair()) {
            for (int version = 1; version < 256; version++) {
                for (int leaf : LEAVES) {
                    if (leaf != VM_RD) {
                        requireRaxInvalid(tds, leaf | (version << 16));
                    }
                }
                fill(tds);
                assertThat(tds.guest(VM_RD | (version << 16), 0, -1)).isTrue();
                assertThat(tds.guestRegister(RAX)).isEqualTo(version == 1 ? 0x0000_0C0B_0000_0000L : RAX_INVALID);
                assertThat(tds.guestRegister(R8)).as("cleared in any version").isZero();
                assertThat(tds.guestRegister(RDX)).isEqualTo(version == 1 ? TD_UUID : -1);
            }
        }
    }

    @Test void reservedBitsOfRaxAreRefused() {
        try (var tds = new TdPair()) {
            for (int bit = 24; bit < 64; bit++) {
                for (int leaf : LEAVES) {
                    requireRaxInvalid(tds, leaf | (1L << bit));
                }
            }
        }
    }

    @Test void outside64BitModeTdcallIsAGeneralProtectionFault() {
        try (var tds = new TdPair()) {
            var vmcs = tds.td.machine.core.vmcs(tds.td.machine.cpus[0]);
            for (int mode = 0; mode < 3; mode++) {
                vmcs.write(VmcsField.GUEST_EFER, (mode & 1) != 0 ? 0xd01 : 0x901);
                vmcs.write(VmcsField.GUEST_CS_ACCESS_RIGHTS, (mode & 2) != 0 ? 0xa09b : 0xc09b);
                fill(tds);
                long[] before = registers(tds);
                long rip = tds.rip();
                assertThat(tds.guest(VMCALL)).isTrue();
                assertThat((int) vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isEqualTo(INTERRUPTION_GP);
                assertThat(vmcs.read(VmcsField.ENTRY_EXCEPTION_ERROR_CODE)).isZero();
                assertThat(tds.rip()).isEqualTo(rip);
                assertThat(tds.guestRegister(RAX)).isEqualTo(VMCALL);
                assertThat(registers(tds)).isEqualTo(before);
            }
        }
    }

    @Test void theGuestOfADeadTdLeavesForGood() {
        for (int leaf : LEAVES) {
            try (var tds = new TdPair()) {
                tds.td.tdr.u8(Tdr.FATAL, 1);
                assertThat(tds.guest(leaf)).isFalse();
                assertThat(tds.exit(RAX)).as("leaf %d", leaf).isEqualTo(NON_ACCESSIBLE_BY_TDCALL | (1L << 61));
                assertThat(tds.status(0, TdPair.RUNNING_VP)).isEqualTo(FATAL);
            }
        }
    }

    @Test void aTdExitShowsTheQualificationButForTheNumberOfTheVm() {
        try (var tds = new TdPair()) {
            var vmcs = tds.td.machine.core.vmcs(tds.td.machine.cpus[0]);
            vmcs.write(VmcsField.EXIT_REASON, 14); // INVLPG, which the host of a debug TD intercepts
            vmcs.write(VmcsField.EXIT_QUALIFICATION, 0xffff_8003_1234_5000L);
            assertThat(tds.td.machine.vmExit(0)).isFalse();
            assertThat(new long[] {tds.exit(RAX), tds.exit(RCX)}).containsExactly(14, 0xffff_8000_1234_5000L);
        }
    }

    /// Leaves with operands that bring them to an end: number, RCX, RDX, R8, status.
    private static final long[][] CALLS = {
        {1, 0, 0, 0, 0},
        {2, 0x1000, 0, 0, 0},
        {3, 0, 0, 0, 0xC000_0704_0000_0000L},
        {4, 0x1000, 0x2000, 0, 0},
        {5, 4, 0, 0, 0xC000_0100_0000_0001L},
        {6, 0x1000, 0, 0, 0x0000_0B0A_0000_0000L},
        {7, 0, TD_UUID, 0, 0},
        {8, 0, TD_UUID, 0, 0xC000_0C01_0000_0000L},
        {9, 1, 0, 0, 0xC000_0100_0000_0001L},
        {10, 1, 0, 0, 0xC000_0100_0000_0001L},
        {11, 0, -1, 0, 0x0000_0C0B_0000_0000L},
        {12, 0, 0x1008, 0, 0xC000_0100_0000_0002L},
        {22, 0x2000, 0, 0, 0xC000_1001_0000_0000L},
        {23, 0x1000, 0, 0, 0},
        {24, 0x1000, 1L << 63, 0, 0xC000_0100_0000_0002L},
        {25, 0, 1, 0, 0xC000_0100_0000_0002L},
        {26, 1, 0, 0, 0xC000_0100_0000_0001L},
        {27, 0, 0, 0, 0xC000_0100_0000_0001L},
    };

    @Test void theOperationStateOfTheOwnTdDoesNotMatter() {
        try (var tds = new TdPair()) {
            for (long[] c : CALLS) {
                for (int state = 0; state < 11; state++) {
                    tds.td.tdcs.u32(Tdcs.OP_STATE, state);
                    assertThat(tds.guest(c[0], c[1], c[2], c[3])).isTrue();
                    assertThat(tds.guestRegister(RAX)).as("leaf %d in OP_STATE %d", c[0], state).isEqualTo(c[4]);
                }
            }
        }
    }

    @Test void theStateOfTheTargetMattersToServiceTds() {
        var states = List.of("U", "I", "R", "LE", "PE", "XE", "MI", "SI", "XI", "LI", "FI");
        var differences = new ArrayList<String>();
        try (var tds = new TdPair().create()) {
            var bound = tds.call(48, BUILT, RUNNING);
            assertThat(bound.get(RAX)).isZero();
            var tdr = tds.builtTdr();
            var tdcs = tds.builtTdcs();
            for (int leaf : new int[] {SERVTD_RD, SERVTD_WR}) {
                var illegal = leaf == SERVTD_RD ? List.of() : List.of("PE", "XE");
                for (int i = 0; i < 2 * 4 * 2 * 11; i++) {
                    boolean fatal = i % 2 == 1;
                    int life = i / 2 % 4;
                    int pages = 6 - i / 8 % 2;
                    int state = i / 16;
                    tdr.u8(Tdr.FATAL, fatal ? 1 : 0);
                    tdr.u32(Tdr.LIFECYCLE_STATE, life);
                    tdr.u32(Tdr.NUM_TDCX, pages);
                    tdcs.u32(Tdcs.OP_STATE, state);
                    for (int word = 0; word < 4; word++) {
                        tds.td.machine.cpus[0].registers()[R10 + word] = bound.get(R10 + word);
                    }
                    long expected = fatal ? FATAL : life != 1 ? KEYS_NOT_CONFIGURED : pages < 6 ? NO_TDCS
                            : illegal.contains(states.get(state)) ? STATE_INCORRECT : 0;
                    boolean on = tds.guest(leaf, bound.get(RCX), MIG_DEC_KEY, 1, -1);
                    long got = on ? tds.guestRegister(RAX) : tds.exit(RDX);
                    if (got != expected || on != (expected == 0) || (!on && tds.exit(RAX) != CROSS_TD_TRAP)) {
                        differences.add(String.format("leaf %d, life cycle %d, fatal %b, %d pages, %s: 0x%x", leaf, life, fatal, pages,
                                states.get(state), got));
                    }
                    if (!on) {
                        tds.enter();
                    }
                    assertThat(new int[] {tdcs.u16(0xc), tdcs.u16(0xd32), tds.td.machine.core.pageLock(BUILT).get()}).as("locks")
                            .containsOnly(0);
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    @Test void aGuestThatWaitsTooLongForTheHostLeaves() {
        try (var tds = new TdPair()) {
            long timeout = tds.td.tdcs.u64(HP_LOCK_TIMEOUT);
            tds.td.tdcs.u16(RTMR_LOCK, 2);
            requireBusy(tds);
            tds.td.machine.clock.tsc += timeout;
            assertThat(tds.guest(INFO)).isTrue(); // Whatever else comes between starts the time anew.
            requireBusy(tds);
            tds.td.machine.clock.tsc += timeout / 2;
            requireBusy(tds);
            tds.td.machine.clock.tsc += timeout / 2;
            long rip = tds.rip();
            assertThat(tds.guest(EXTEND, 0x1000, 0)).isFalse();
            assertThat(new long[] {tds.exit(RAX), tds.exit(RCX), tds.exit(RDX), tds.exit(R8)})
                    .containsExactly(HOST_PRIORITY_TIMEOUT, 0, 0, 0);
            tds.enter();
            assertThat(tds.guestRegister(RAX)).isEqualTo(OPERAND_BUSY_RTMR);
            assertThat(tds.rip()).as("behind TDCALL").isEqualTo(rip + 4);
            requireBusy(tds);
            tds.td.tdcs.u16(RTMR_LOCK, 0);
            assertThat(tds.guest(EXTEND, 0x1000, 0)).isTrue();
            assertThat(tds.guestRegister(RAX)).isZero();
        }
    }

    private static void requireBusy(TdPair tds) {
        assertThat(tds.guest(EXTEND, 0x1000, 0)).isTrue();
        assertThat(tds.guestRegister(RAX)).isEqualTo(OPERAND_BUSY_RTMR);
    }

    @Test void vmcallPassesWhatItsMaskSelects() {
        try (var tds = new TdPair()) {
            for (int bit = 0; bit < 64; bit++) {
                boolean allowed = bit > 1 && bit != 4 && bit < 32;
                fill(tds);
                boolean on = tds.guest(VMCALL, 1L << bit);
                assertThat(on).as("bit %d", bit).isEqualTo(!allowed);
                if (on) {
                    assertThat(tds.guestRegister(RAX)).isEqualTo(RAX_INVALID | 1);
                    continue;
                }
                assertThat(tds.exit(RAX)).isEqualTo(77);
                assertThat(tds.exit(RCX)).isEqualTo(1L << bit);
                for (int i = 2; i < 16; i++) {
                    if (i != 4) {
                        assertThat(tds.exit(i)).as("register %d", i).isEqualTo(i == bit ? 0x1111_0000L * (i + 1) : 0);
                    }
                }
                tds.enter();
            }
        }
    }

    @Test void cpuidveSetTakesTwoBits() {
        try (var tds = new TdPair()) {
            for (int bit = 0; bit < 64; bit++) {
                assertThat(tds.guest(CPUIDVE_SET, 1L << bit)).isTrue();
                assertThat(tds.guestRegister(RAX)).isEqualTo(bit < 2 ? 0 : RAX_INVALID | 1);
                var vcpu = tds.td.machine.core.lp(tds.td.machine.cpus[0]).vcpu;
                assertThat(vcpu.u8(0x1d8)).as("supervisor").isEqualTo(bit == 0 ? 1 : 0);
                assertThat(vcpu.u8(0x1d9)).as("user").isEqualTo(bit >= 1 ? 1 : 0);
            }
        }
    }
}
