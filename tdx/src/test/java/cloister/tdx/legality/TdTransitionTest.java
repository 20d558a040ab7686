package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Xbuff;
import cloister.tdx.port.ExtendedState;
import java.util.ArrayList;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// What a TD entry loads and a TD exit saves, restores and scrubs. [TDX-ABI TDH.VP.ENTER "CPU State Preservation"]
class TdTransitionTest {
    private static final int INTERRUPT = 1;
    private static final int TDCALL = 77;
    private static final long XBUFF_FIELD = 0x1220_0003_0000_0000L;
    private static final int VP_RD = 26;
    private static final int VP_WR = 43;
    private static final long VMM = 0x1110_0000L;
    private static final long GUEST = 0x2220_0000L;

    /// MSR; what the VMM finds after a TD exit: "same" as before the entry, "guest" what the guest left, or a value; the
    /// condition for that, otherwise the module leaves the MSR alone. In "a/b" b is for TDs without the condition.
    private static final String MSRS = """
            48        same
            600       same
            122       0             tsx
            e1        guest         waitpkg
            1c4       0             xfd
            1c5       0             xfd
            309       0/same        perfmon
            30a       0             perfmon
            30c       0             perfmon
            38d       guest/same    perfmon
            4c1       0             perfmon
            4c8       0             perfmon
            186       guest         perfmon
            18d       guest         perfmon
            1a6       0             perfmon
            1a7       0             perfmon
            3f1       guest         perfmon
            3f2       guest         perfmon
            3f6       guest         perfmon
            14cf      guest         lbr
            1b01      0
            c0000081  0
            c0000082  0
            c0000084  20200
            c0000102  0
            c0000103  0
            """;

    private static void set(RunningGuest guest, long base) {
        for (var line : MSRS.lines().toList()) {
            int msr = Integer.parseUnsignedInt(line.split(" +")[0], 16);
            guest.td.machine.cpus[0].msr(msr, base | (msr & 0xffff));
        }
    }

    private static void vmcall(RunningGuest guest, long mask) {
        guest.gpr()[0] = 0;
        guest.gpr()[1] = mask;
        guest.exit(TDCALL, Map.of());
        assertThat(guest.runs()).isFalse();
    }

    @ParameterizedTest
    @CsvSource({"basic, async", "basic, vmcall", "maxfam, async", "maxfam, vmcall", "perfmon, async", "perfmon, vmcall", "debugpm, async",
        "cpuidfull, async"})
    void msrsAfterATdExit(String setup, String how) {
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-" + setup + "-2")) {
            var has = MsrLegalityTest.features(guest.td);
            var cpu = guest.td.machine.cpus[0];
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            set(guest, VMM);
            assertThat(guest.enter()).isZero();
            set(guest, GUEST);
            guest.td.machine.clock.tsc += 1 << 20;
            if (how.equals("async")) {
                guest.exit(INTERRUPT, Map.of());
            } else {
                vmcall(guest, 0x400);
            }
            for (var line : MSRS.lines().toList()) {
                var c = line.split(" +");
                int msr = Integer.parseUnsignedInt(c[0], 16);
                var sides = c[1].split("/");
                boolean holds = c.length == 2 || has.contains(c[2]);
                var rule = holds ? sides[0] : sides.length > 1 ? sides[1] : "guest";
                long wanted = switch (rule) {
                    case "same" -> VMM | (msr & 0xffff);
                    case "guest" -> GUEST | (msr & 0xffff);
                    default -> Long.parseLong(rule, 16);
                };
                if (cpu.rdmsr(msr) != wanted) {
                    differences.add(String.format("%s: %x, not %x", line, cpu.rdmsr(msr), wanted));
                }
            }
            assertThat(cpu.rdmsr(0xda0)).isEqualTo(guest.td.tdcs.u64(Tdcs.XFAM) & 0x1_fd00);
        }
        assertThat(differences).isEmpty();
    }

    @ParameterizedTest
    @ValueSource(strings = {"basic", "maxfam", "perfmon"})
    void registersAfterATdExit(String setup) {
        try (var guest = new RunningGuest("run-" + setup + "-2")) {
            var cpu = guest.td.machine.cpus[0];
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            cpu.xcr0(3);
            cpu.seamVmcs().write(VmcsField.GUEST_DEBUGCTL, 0xffff);
            cpu.seamVmcs().write(VmcsField.GUEST_DR7, 0x4ff);
            for (var field : new VmcsField[] {VmcsField.GUEST_PERF_GLOBAL_CTRL, VmcsField.GUEST_RTIT_CTL, VmcsField.GUEST_LBR_CTL}) {
                cpu.seamVmcs().write(field, 0x77);
            }
            assertThat(guest.enter()).isZero();
            assertThat(guest.vmcs.read(VmcsField.GUEST_DEBUGCTL)).as("the VMM's ENABLE_UNCORE_PMI").isEqualTo(1 << 13);
            cpu.cr2(1);
            for (int i = 0; i < 4; i++) {
                cpu.debugRegister(i, 0x1000 + i);
            }
            cpu.debugRegister(6, 0xffff_4ff1L);
            cpu.xcr0(7);
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            assertThat(cpu.cr2()).isZero();
            for (int i = 0; i < 4; i++) {
                assertThat(cpu.debugRegister(i)).isZero();
            }
            assertThat(cpu.debugRegister(6)).isEqualTo(0xffff_0ff0L);
            assertThat(cpu.xcr0()).isEqualTo(3);
            var seam = cpu.seamVmcs();
            assertThat(seam.read(VmcsField.GUEST_DEBUGCTL)).as("BTF and the freeze bits").isEqualTo(0x5002);
            assertThat(seam.read(VmcsField.GUEST_DR7)).isEqualTo(0x400);
            long xfam = guest.td.tdcs.u64(Tdcs.XFAM);
            assertThat(seam.read(VmcsField.GUEST_PERF_GLOBAL_CTRL)).isEqualTo(setup.equals("perfmon") ? 0 : 0x77);
            assertThat(seam.read(VmcsField.GUEST_RTIT_CTL)).isEqualTo(((xfam >> 8) & 1) != 0 ? 0 : 0x77);
            assertThat(seam.read(VmcsField.GUEST_LBR_CTL)).isEqualTo(((xfam >> 15) & 1) != 0 ? 0 : 0x77);
            // And the guest finds all as it left it.
            assertThat(guest.enter()).isZero();
            assertThat(cpu.cr2()).isEqualTo(1);
            assertThat(cpu.debugRegister(2)).isEqualTo(0x1002);
            assertThat(cpu.debugRegister(6)).isEqualTo(0xffff_4ff1L);
            assertThat(cpu.xcr0()).isEqualTo(7);
        }
    }

    private static long call(RunningGuest guest, int leaf, long field, long value, long mask) {
        var regs = new SeamRegs();
        regs.set(0, leaf);
        regs.set(1, RecordedTd.TDVPR);
        regs.set(2, field);
        regs.set(8, value);
        regs.set(9, mask);
        guest.td.machine.seamcall(0, regs);
        assertThat(regs.get(0)).isZero();
        return regs.get(8);
    }

    @Test void aDebuggerSeesAndChangesRegistersInXbuff() {
        try (var guest = new RunningGuest("run-debug-2")) {
            var cpu = guest.td.machine.cpus[0];
            for (int i = 0; i < 16; i++) {
                cpu.xmm(i, 0x100 + i, 0x200 + i);
            }
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            for (int i = 0; i < 16; i++) {
                assertThat(cpu.xmmLow(i) | cpu.xmmHigh(i)).isZero();
                assertThat(call(guest, VP_RD, XBUFF_FIELD + 20 + 2 * i, 0, 0)).isEqualTo(0x100 + i);
                assertThat(call(guest, VP_RD, XBUFF_FIELD + 21 + 2 * i, 0, 0)).isEqualTo(0x200 + i);
            }
            long xfam = guest.td.tdcs.u64(Tdcs.XFAM);
            assertThat(call(guest, VP_RD, XBUFF_FIELD + 64, 0, 0)).isEqualTo(xfam);
            assertThat(call(guest, VP_RD, XBUFF_FIELD + 65, 0, 0)).isEqualTo((1L << 63) | xfam);
            assertThat(call(guest, VP_WR, XBUFF_FIELD + 20 + 2 * 5, 0x5555, -1)).isEqualTo(0x105);
            assertThat(guest.enter()).isZero();
            for (int i = 0; i < 16; i++) {
                assertThat(cpu.xmmLow(i)).isEqualTo(i == 5 ? 0x5555 : 0x100 + i);
                assertThat(cpu.xmmHigh(i)).isEqualTo(0x200 + i);
            }
        }
    }

    @Test void vmcallPassesTheSelectedXmmRegistersBothWays() {
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            for (int bit = 0; bit < 16; bit++) {
                for (int i = 0; i < 16; i++) {
                    cpu.xmm(i, 0x100 + i, 0x200 + i);
                }
                vmcall(guest, 1L << (16 + bit));
                for (int i = 0; i < 16; i++) {
                    assertThat(cpu.xmmLow(i)).isEqualTo(i == bit ? 0x100 + i : 0);
                    assertThat(cpu.xmmHigh(i)).isEqualTo(i == bit ? 0x200 + i : 0);
                    cpu.xmm(i, 0x300 + i, 0x400 + i);
                }
                assertThat(guest.enter()).isZero();
                for (int i = 0; i < 16; i++) {
                    assertThat(cpu.xmmLow(i)).isEqualTo(i == bit ? 0x300 + i : 0x100 + i);
                    assertThat(cpu.xmmHigh(i)).isEqualTo(i == bit ? 0x400 + i : 0x200 + i);
                }
            }
        }
    }

    @Test void sseIsInUseOnceTheVmmHasSetAnXmmRegister() {
        try (var guest = new RunningGuest("run-basic-2")) {
            vmcall(guest, 0x400);
            var xbuff = new Xbuff(guest.vcpu);
            xbuff.word(ExtendedState.XSTATE_BV, 0);
            guest.enter();
            assertThat(xbuff.word(ExtendedState.XSTATE_BV)).isZero();
            vmcall(guest, 1 << 20);
            xbuff.word(ExtendedState.XSTATE_BV, 0);
            guest.enter();
            assertThat(xbuff.word(ExtendedState.XSTATE_BV)).isEqualTo(2);
        }
    }

    /// Offset in XBUFF, bits to change, and whether XRSTORS still takes it.
    @ParameterizedTest
    @CsvSource({"512, 1, true", "512, 100, false", "512, 8000000000000000, true", "520, 8000000000000000, false", "520, 8, false",
        "520, 100000, false", "528, 1, false", "568, 8000000000000000, false", "544, 10, false", "0, ffff, true", "576, 1, true"})
    void aCorruptHeaderEndsTheTd(int offset, String bits, boolean accepted) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            var xbuff = new Xbuff(guest.vcpu);
            xbuff.word(offset, xbuff.word(offset) ^ Long.parseUnsignedLong(bits, 16));
            long rax = guest.enter();
            assertThat(guest.runs()).isEqualTo(accepted);
            if (!accepted) {
                failed(guest, rax, 33, 4);
            }
        }
    }

    private static void failed(RunningGuest guest, long rax, int reason, long extended) {
        assertThat(rax).isEqualTo(0x6000_0005_0000_0000L | reason);
        for (int i = 1; i < 16; i++) {
            assertThat(guest.host()[i]).isEqualTo(i == 2 ? extended : 0);
        }
        assertThat(guest.td.tdr.flag(Tdr.FATAL)).isTrue();
        assertThat(guest.td.machine.core.pageLock(RecordedTd.TDVPR).get()).isZero();
        assertThat(guest.td.machine.core.pageLock(RecordedTd.TDR).get()).isZero();
        assertThat(guest.enter()).isEqualTo(0xe000_0604_0000_0000L);
    }

    @ParameterizedTest
    @ValueSource(strings = {"600", "38d", "122", "1b01", "c0000081", "c0000082", "c0000084", "c0000102", "c0000103", "da0", "48", "309",
        "390"})
    void anMsrThatCannotBeLoadedEndsTheTd(String number) {
        int msr = Integer.parseUnsignedInt(number, 16);
        try (var guest = new RunningGuest("run-basic-2")) {
            var cpu = guest.td.machine.cpus[0];
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            if (msr == 0x122 && (cpu.rdmsr(0x10a) & (1 << 7)) == 0) {
                return; // the recordings' processor has no IA32_TSX_CTRL
            }
            cpu.msr(0x309, 5);
            cpu.msr(0x38e, 1L << 32);
            cpu.msr(0x48, 0x99);
            cpu.refuse(msr);
            long rax = guest.enter();
            cpu.refuse(0);
            assertThat(cpu.rdmsr(0x48)).isEqualTo(0x99);
            failed(guest, rax, 34, 3 | ((long) msr << 32));
        }
    }

    @Test void theTdIsLeftWithItsLocksWhileItRuns() {
        try (var guest = new RunningGuest("run-basic-2")) {
            int tdr = guest.td.machine.core.pageLock(RecordedTd.TDR).get();
            assertThat(tdr).isNotZero();
            assertThat(guest.td.machine.core.pageLock(RecordedTd.TDVPR).get()).isNotZero();
            assertThat(guest.vcpu.state()).isEqualTo(Tdvps.ACTIVE);
            long epoch = guest.vcpu.u64(Tdvps.VCPU_EPOCH);
            assertThat(guest.td.tdcs.refcount(epoch)).isEqualTo(1);
            guest.runAWhile();
            guest.exit(INTERRUPT, Map.of());
            assertThat(guest.td.tdcs.refcount(epoch)).isZero();
            assertThat(guest.td.machine.core.pageLock(RecordedTd.TDR).get()).isZero();
            assertThat(guest.td.machine.core.pageLock(RecordedTd.TDVPR).get()).isZero();
        }
    }
}
