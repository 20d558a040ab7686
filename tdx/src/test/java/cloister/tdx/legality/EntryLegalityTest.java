package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LockWord;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Which check of TDH.VP.ENTER comes first, what a refused entry leaves, and the zero-step defence. [TDX-ABI "TDH.VP.ENTER"]
class EntryLegalityTest {
    private static final long RESUME_L1 = 1L << 53;
    private static final long HOST_HINT = 1L << 52;
    private static final long TSC_OF_THE_FUTURE = 1L << 60;
    private static final long MISSING = 0x3000;
    /// The page after the TDVPR, which is one of its VCPU's.
    private static final long TDVPS_PAGE = RecordedTd.TDVPR + 0x1000;
    private static final int EPT_VIOLATION = 48;
    private static final int SEAMCALL_AUG = 6;

    private interface Fault {
        /// @return what RCX is then
        long apply(RunningGuest guest, long rcx);
    }

    private record Check(String name, long rax, Fault fault) {
    }

    private static void lockPage(RunningGuest guest, long pa) {
        guest.td.machine.core.pageLock(pa).set(1);
    }

    private static long with(RunningGuest guest, long rcx, Runnable change) {
        change.run();
        return rcx;
    }

    private static Check check(String name, long rax, Fault fault) {
        return new Check(name, rax, fault);
    }

    /// The checks in the order of the specification, each with a state that fails it and no other.
    private static List<Check> checks() {
        var checks = new ArrayList<Check>();
        checks.add(check("CPUID limited", 0xc000_0901_0000_0000L,
                (g, rcx) -> with(g, rcx, () -> g.td.machine.cpus[0].msr(0x1a0, g.td.machine.cpus[0].rdmsr(0x1a0) | (1 << 22)))));
        checks.add(check("reserved bits", 0xc000_0100_0000_0001L, (g, rcx) -> rcx | (1L << 54)));
        checks.add(check("not a TDVPR", 0xc000_0300_0000_0001L, (g, rcx) -> (rcx & ~0xfffff_f000L) | TDVPS_PAGE));
        checks.add(check("TDVPR locked", 0x8000_0200_0000_0001L, (g, rcx) -> with(g, rcx, () -> lockPage(g, RecordedTd.TDVPR))));
        checks.add(check("TDR locked", 0x8000_0200_0000_0080L, (g, rcx) -> with(g, rcx, () -> lockPage(g, RecordedTd.TDR))));
        checks.add(check("fatal", 0xe000_0604_0000_0000L, (g, rcx) -> with(g, rcx, () -> g.td.tdr.flag(Tdr.FATAL, true))));
        checks.add(check("keys", 0x8000_0810_0000_0000L,
                (g, rcx) -> with(g, rcx, () -> g.td.tdr.u8(Tdr.LIFECYCLE_STATE, Tdr.TEARDOWN))));
        checks.add(check("OP_STATE locked", 0x8000_0200_0000_00acL,
                (g, rcx) -> with(g, rcx, () -> g.td.tdcs.lock(Tdcs.OP_STATE_LOCK).set(1))));
        checks.add(check("OP_STATE", 0xc000_0608_0000_0000L, (g, rcx) -> with(g, rcx, () -> g.td.tdcs.u32(Tdcs.OP_STATE, 1))));
        checks.add(check("pages", 0xc000_0610_0000_0000L, (g, rcx) -> with(g, rcx, () -> g.vcpu.u8(Tdvps.NUM_PAGES, 5))));
        checks.add(check("VCPU state", 0xc000_0700_0000_0000L,
                (g, rcx) -> with(g, rcx, () -> g.vcpu.u8(Tdvps.STATE, Tdvps.DISABLED))));
        checks.add(check("other LP", 0x8000_0701_0000_0000L, (g, rcx) -> with(g, rcx, () -> g.vcpu.u32(Tdvps.ASSOC_LPID, 1))));
        checks.add(check("hint without trap", 0xc000_0100_0000_0001L, (g, rcx) -> rcx | HOST_HINT));
        checks.add(check("no L1 to resume", 0xc000_0100_0000_0001L, (g, rcx) -> rcx | RESUME_L1));
        checks.add(check("TSC_ADJUST", 0xc000_0920_0000_003bL, (g, rcx) -> with(g, rcx, () -> g.td.machine.cpus[0].msr(0x3b, 4))));
        checks.add(check("TSC rollback", 0xc000_0706_0000_0000L,
                (g, rcx) -> with(g, rcx, () -> g.vcpu.u64(Tdvps.LAST_EXIT_TSC, TSC_OF_THE_FUTURE))));
        checks.add(check("monitor FSM", 0xc000_0921_0000_01a0L, (g, rcx) -> with(g, rcx, () -> {
            g.td.tdcs.cpuidFlag(Tdcs.MONITOR_MWAIT, true);
            g.td.machine.cpus[0].msr(0x1a0, g.td.machine.cpus[0].rdmsr(0x1a0) & ~(1L << 18));
        })));
        checks.add(check("epoch locked", 0x8000_0200_0000_00a9L, (g, rcx) -> with(g, rcx, () -> g.td.tdcs.lock(Tdcs.EPOCH_LOCK).set(1))));
        checks.add(check("Secure EPT locked", 0x8000_0200_0000_0092L, (g, rcx) -> with(g, rcx, () -> {
            suspect(g, MISSING);
            g.td.tdcs.lock(Tdcs.SECURE_EPT_LOCK).set(1);
        })));
        checks.add(check("page missing", 0x30, (g, rcx) -> with(g, rcx, () -> suspect(g, MISSING))));
        return checks;
    }

    private static void suspect(RunningGuest guest, long gpa) {
        guest.vcpu.u64(Tdvps.LAST_EPF_GPA_LIST, gpa);
        guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX, 1);
    }

    private static void leave(RunningGuest guest) {
        guest.runAWhile();
        assertThat(guest.exit(1, Map.of())).isEqualTo("exit 1");
    }

    @Test void anEarlierCheckHidesEveryLaterOne() {
        var checks = checks();
        var differences = new ArrayList<String>();
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int i = 0; i < checks.size(); i++) {
                for (int j = i; j < checks.size(); j++) {
                    guest.powerOn();
                    leave(guest);
                    long rcx = checks.get(j).fault.apply(guest, RecordedTd.TDVPR);
                    rcx = checks.get(i).fault.apply(guest, rcx);
                    long rax = guest.enter(rcx);
                    if (rax != checks.get(i).rax || guest.runs()) {
                        differences.add(checks.get(i).name + " and " + checks.get(j).name + ": " + Long.toHexString(rax));
                    }
                }
            }
        }
        assertThat(differences).isEmpty();
    }

    /// Locks and counts are as before; registers other than RAX too, unless it looks like a TD exit.
    @Test void aRefusedEntryLeavesNothing() {
        for (var check : checks()) {
            try (var guest = new RunningGuest("run-basic-2")) {
                leave(guest);
                long rcx = check.fault.apply(guest, RecordedTd.TDVPR);
                var core = guest.td.machine.core;
                var tdcs = guest.td.tdcs;
                var locks = List.of(core.pageLock(RecordedTd.TDVPR), core.pageLock(RecordedTd.TDR), tdcs.lock(Tdcs.OP_STATE_LOCK),
                        tdcs.lock(Tdcs.EPOCH_LOCK), tdcs.lock(Tdcs.SECURE_EPT_LOCK));
                var before = locks.stream().map(LockWord::get).toList();
                long references = guest.td.tdcs.refcount(0) + guest.td.tdcs.refcount(1);
                var regs = new SeamRegs();
                for (int i = 0; i < 16; i++) {
                    regs.set(i, i == 0 ? 0 : i == 1 ? rcx : 0x100 + i);
                }
                guest.td.machine.seamcall(0, regs);
                for (int i = 0; i < locks.size(); i++) {
                    // Who fails to share a lock stays counted, or leaves the host-priority bit, until the owner's release wipes the word.
                    if (before.get(i) != 1) {
                        assertThat(locks.get(i).get()).as("lock %d after %s", i, check.name).isEqualTo(before.get(i));
                    }
                }
                assertThat(guest.td.tdcs.refcount(0) + guest.td.tdcs.refcount(1)).as(check.name).isEqualTo(references);
                for (int i = 1; i < 16; i++) {
                    if (check.rax == 0x30) {
                        assertThat(regs.get(i)).as("%s: register %d", check.name, i)
                                .isEqualTo(i == 1 ? 2 : i == 8 ? MISSING : i == 4 ? 0x104 : 0);
                    } else {
                        assertThat(regs.get(i)).as("%s: register %d", check.name, i).isEqualTo(i == 1 ? rcx : 0x100 + i);
                    }
                }
            }
        }
    }

    /// CONFIG_FLAGS.NO_RBP_MOD keeps the VMM's RBP.
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void refusedOrNotRbpMayStay(boolean keep) {
        try (var guest = new RunningGuest("run-basic-2")) {
            if (keep) {
                guest.td.tdcs.u64(Tdcs.CONFIG_FLAGS, guest.td.tdcs.u64(Tdcs.CONFIG_FLAGS) | 4);
            }
            guest.runAWhile();
            guest.host()[5] = 0x55;
            assertThat(guest.exit(1, Map.of())).isEqualTo(keep ? "exit 1 {rbp=55}" : "exit 1");
            suspect(guest, MISSING);
            var regs = new SeamRegs();
            regs.set(1, RecordedTd.TDVPR);
            regs.set(5, 0x66);
            guest.td.machine.seamcall(0, regs);
            assertThat(regs.get(0)).isEqualTo(0x30);
            assertThat(regs.get(5)).isEqualTo(keep ? 0x66 : 0);
        }
    }

    @Test void anEntryRefusedByTheZeroStepDefenceResetsTheExtendedState() {
        try (var guest = new RunningGuest("run-maxfam-2")) {
            leave(guest);
            suspect(guest, MISSING + 0x123);
            var cpu = guest.td.machine.cpus[0];
            cpu.xmm(3, 7, 8);
            cpu.msr(0xda0, 0);
            long xcr0 = cpu.xcr0();
            guest.vcpu.u8(Tdvps.LAST_TD_EXIT, Tdvps.TDVMCALL);
            assertThat(guest.enter()).isEqualTo(0x30);
            assertThat(guest.host()[8]).isEqualTo(MISSING);
            assertThat(cpu.xmmLow(3) | cpu.xmmHigh(3)).isZero();
            assertThat(cpu.rdmsr(0xda0)).isEqualTo(guest.td.tdcs.u64(Tdcs.XFAM) & 0x1_fd00);
            assertThat(cpu.xcr0()).isEqualTo(xcr0);
            assertThat(guest.vcpu.u8(Tdvps.LAST_TD_EXIT)).isEqualTo(Tdvps.ASYNC_FAULT);
            assertThat(guest.vcpu.state()).isEqualTo(Tdvps.READY);
        }
    }

    private static Map<VmcsField, Long> fault(long gpa) {
        return Map.of(VmcsField.GUEST_PHYSICAL_ADDRESS, gpa, VmcsField.EXIT_QUALIFICATION, 0x82L);
    }

    private static void fault(RunningGuest guest, long gpa) {
        assertThat(guest.exit(EPT_VIOLATION, fault(gpa))).startsWith("exit 30");
    }

    @Test void sixFaultsAreForgivenThenThePagesAreListed() {
        try (var guest = new RunningGuest("run-basic-2")) {
            for (int i = 0; i < 6; i++) {
                fault(guest, MISSING + i);
                assertThat(guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING)).isEqualTo(i + 1);
                assertThat(guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX)).isZero();
                assertThat(guest.enter()).isZero();
            }
            fault(guest, MISSING + 8);
            assertThat(guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING)).isEqualTo(6);
            assertThat(guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX)).isEqualTo(1);
            assertThat(guest.vcpu.u64(Tdvps.LAST_EPF_GPA_LIST)).isEqualTo(MISSING + 8);
            for (int i = 0; i < 3; i++) {
                assertThat(guest.enter()).isEqualTo(0x30);
                assertThat(guest.host()[8]).isEqualTo(MISSING);
            }
            augment(guest, MISSING, 0x1_0002_0000L);
            assertThat(guest.enter()).as("a page that is only pending").isEqualTo(0x30);
            guest.td.entry(MISSING, 0).write(guest.td.entry(0x2000, 0).read());
            assertThat(guest.enter()).isZero();
            assertThat(guest.runs()).isTrue();
        }
    }

    private static void augment(RunningGuest guest, long gpa, long page) {
        var regs = new SeamRegs();
        regs.set(0, SEAMCALL_AUG);
        regs.set(1, gpa);
        regs.set(2, RecordedTd.TDR);
        regs.set(8, page);
        guest.td.machine.seamcall(1, regs);
        assertThat(regs.get(0)).isZero();
    }

    @Test void theListTakesEachOf32Addresses() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING, 6);
            for (int i = 0; i < 40; i++) {
                for (int again = 0; again < 2; again++) {
                    fault(guest, 0x10_0000 + i * 0x1000);
                    assertThat(guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX)).isEqualTo(Math.min(i + 1, 32));
                    var listed = guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX);
                    guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX, 0); // lets the guest in
                    assertThat(guest.enter()).isZero();
                    guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX, listed);
                }
            }
            for (int i = 0; i < 32; i++) {
                assertThat(guest.vcpu.u64(Tdvps.LAST_EPF_GPA_LIST + 8 * i)).isEqualTo(0x10_0000 + i * 0x1000);
            }
        }
    }

    @Test void progressForgetsAll() {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING, 6);
            suspect(guest, MISSING);
            guest.vmcs.write(VmcsField.GUEST_RIP, guest.vmcs.read(VmcsField.GUEST_RIP) - 1);
            fault(guest, MISSING);
            assertThat(guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING)).isEqualTo(1);
            assertThat(guest.vcpu.u8(Tdvps.LAST_EPF_GPA_LIST_IDX)).isZero();
        }
    }

    @Test void sharedPagesAndPendingPagesWithVeAreNotCounted() {
        try (var guest = new RunningGuest("run-basic-2")) {
            assertThat(guest.exit(EPT_VIOLATION, fault((1L << 47) | MISSING))).startsWith("exit 30");
            assertThat(guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING)).isZero();
            guest.enter();
            augment(guest, MISSING, 0x1_0002_0000L);
            assertThat(guest.exit(EPT_VIOLATION, fault(MISSING))).isEqualTo("ve");
            assertThat(guest.vcpu.u8(Tdvps.POSSIBLY_EPF_STEPPING)).isZero();
        }
    }

    /// What is not as it must be for a notification, and whether the guest gets #VE all the same.
    @ParameterizedTest
    @CsvSource({"'', true", "notify, false", "reason, false", "shared, false", "nmi, false", "iret, false", "vectoring, false", "ve, false",
        "listEmpty, false"})
    void theTdIsNotifiedIfItAskedForThat(String wrong, boolean notified) {
        try (var guest = new RunningGuest("run-basic-2")) {
            guest.td.tdcs.u64(Tdcs.NOTIFY_ENABLES, wrong.equals("notify") ? 2 : 1);
            var information = new HashMap<>(fault(wrong.equals("shared") ? (1L << 47) | 0x1000 : 0x1008));
            if (wrong.equals("reason")) {
                guest.runAWhile();
                information.remove(VmcsField.EXIT_QUALIFICATION);
            }
            guest.exit(wrong.equals("reason") ? 1 : EPT_VIOLATION, information);
            if (!wrong.equals("listEmpty")) {
                suspect(guest, 0x2000); // which is mapped
            }
            switch (wrong) {
                case "nmi" -> guest.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, 8);
                case "iret" -> guest.vmcs.write(VmcsField.EXIT_QUALIFICATION, 0x1082);
                case "vectoring" -> guest.vmcs.write(VmcsField.IDT_VECTORING_INFO, 1L << 31);
                case "ve" -> guest.vcpu.u32(Tdvps.VE_VALID, -1);
                default -> {
                }
            }
            assertThat(guest.enter()).isZero();
            assertThat(guest.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO)).isEqualTo(notified ? 0x8000_0314L : 0);
            if (notified) {
                assertThat(guest.vcpu.u32(Tdvps.VE_EXIT_REASON)).isEqualTo(EPT_VIOLATION);
                assertThat(guest.vcpu.u64(Tdvps.VE_GPA)).isEqualTo(0x1008);
                assertThat(guest.vcpu.u64(Tdvps.VE_QUALIFICATION)).isEqualTo(0x82);
                assertThat(guest.vcpu.u64(Tdvps.VE_GLA)).isZero();
            }
            assertThat(guest.td.tdcs.lock(Tdcs.SECURE_EPT_LOCK).get()).isZero();
        }
    }
}
