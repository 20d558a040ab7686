package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmTdxCmd;
import cloister.sim.ContendedRoundRobin;
import cloister.sim.RandomWalk;
import cloister.sim.SchedulingStrategy;
import cloister.sim.SwitchPoint;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.vmm.mmu.ContendedTd;
import cloister.vmm.mmu.Gate;
import cloister.vmm.observe.Livelock;
import java.util.ArrayList;
import java.util.List;
import java.util.function.BiConsumer;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/// What the ways to meet a busy TDX module come to, and what Linux once did wrong there: the same scenes under the same schedules, with one
/// thing changed.
@Timeout(value = 60, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
final class ContentionPolicyTest {
    private static final int PAGES = 6;
    /// The lock of the TDR among those that a function takes: after two around it, or after those of the TDVPR.
    private static final int TDR = 3;
    private static final int OWNER = 4;
    private static final int SEEDS = 6;

    private static Stream<SchedulingStrategy> schedules() {
        return Stream.concat(Stream.of(new ContendedRoundRobin()),
                LongStream.rangeClosed(1, SEEDS).mapToObj(seed -> new RandomWalk(seed, 1)));
    }

    /// vCPU 0 runs into a page that is shared, again and again, while another host thread converts pages that vCPU 1 has accepted: the
    /// TDX module checks at each entry whether the page is there, with the Secure EPT locked.
    ///
    /// @return the TD, torn down
    private static ContendedTd zapBesideAZeroSteppedVcpu(SchedulingStrategy schedule, String zap, Defect... defects) {
        try (var td = new ContendedTd(MmuFuzz.START, 2, schedule, 1, defects).boot(KvmPolicy.ZAP_CONTENTION, zap)) {
            var zapped = new boolean[1];
            td.spawn("vcpu0", () -> {
                td.vm.setMemoryAttributes(ContendedTd.gpa(0), ContendedTd.PAGE, 0);
                td.prepareRead(0, 0);
                while (!zapped[0] && !td.runOnce(0)) {
                    td.scheduler().switchPoint(SwitchPoint.YIELD);
                }
            });
            td.spawn("vcpu1", () -> {
                for (int page = 1; page <= PAGES; page++) {
                    assertThat(td.accept(1, page)).isZero();
                }
                td.await(() -> td.faults(0) > 10);
                for (int page = 1; page <= PAGES; page++) {
                    td.vm.setMemoryAttributes(ContendedTd.gpa(page), ContendedTd.PAGE, 0);
                }
                zapped[0] = true;
            });
            td.run();
            assertThat(td.death()).isNull();
            td.tearDown();
            return td;
        }
    }

    private static List<ContendedTd.Call> zaps(ContendedTd td) {
        return td.calls.stream().filter(c -> c.leaf() == SeamcallLeaf.MEM_RANGE_BLOCK || c.leaf() == SeamcallLeaf.MEM_TRACK
                || c.leaf() == SeamcallLeaf.MEM_PAGE_REMOVE).toList();
    }

    @Test void kickAndExcludeNeedsOneRetryUnderEverySchedule() {
        long busy = 0;
        for (var schedule : schedules().toList()) {
            var td = zapBesideAZeroSteppedVcpu(schedule, "kick-and-exclude");
            var zaps = zaps(td);
            for (int i = 0; i < zaps.size(); i++) {
                if (zaps.get(i).isBusy()) {
                    assertThat(zaps.get(i + 1).leaf()).isEqualTo(zaps.get(i).leaf());
                    assertThat(zaps.get(i + 1).status()).isZero();
                    busy++;
                }
            }
            long all = td.calls.stream().filter(ContendedTd.Call::isBusy).count();
            assertThat(td.vm.stats().busySeamcalls().values().stream().mapToLong(n -> n).sum()).isEqualTo(all);
            assertThat(td.vm.stats().busyRetries()).as("what was busy was tried again, once each time").isEqualTo(all);
        }
        assertThat(busy).as("zaps that were busy").isPositive();
    }

    @Test void retryForeverDoesNotEndWhileAVcpuKeepsEntering() {
        assertThatThrownBy(() -> zapBesideAZeroSteppedVcpu(new ContendedRoundRobin(), "retry-forever")).isInstanceOf(Livelock.class)
                .hasMessageContaining("vcpu0, TDH.VP.ENTER").hasMessageContaining("vcpu1, TDH.MEM.RANGE.BLOCK BUSY");
    }

    @Test void retryNGivesUpAndTheTdIsDead() {
        assertThatThrownBy(() -> zapBesideAZeroSteppedVcpu(new ContendedRoundRobin(), "retry-n")).isInstanceOf(KvmException.class)
                .hasMessageContaining("TDH.MEM.RANGE.BLOCK failed: 0x8000020000000092");
    }

    // --- past fault 1

    @Test void aZapThatSpinsIsALivelockAndOneThatKicksIsNot() {
        assertThatThrownBy(() -> zapBesideAZeroSteppedVcpu(new ContendedRoundRobin(), "kick-and-exclude", Defect.TD_ZAP_SPINS_ON_BUSY))
                .isInstanceOf(Livelock.class).hasMessageContaining("TDH.MEM.RANGE.BLOCK BUSY");
        var mended = zapBesideAZeroSteppedVcpu(new ContendedRoundRobin(), "kick-and-exclude");
        assertThat(mended.busy(SeamcallLeaf.MEM_RANGE_BLOCK)).isPositive();
    }

    // --- past faults 4 and 5: a TD that is being built

    /// A host thread initialises vCPU 1, and another does something else with the TD while the first is stopped in the TDX module.
    ///
    /// @param lock in `leaf`, when it has taken so many locks there
    /// @return what went wrong
    private static List<String> besideTheInitOfAVcpu(SeamcallLeaf leaf, int lock, BiConsumer<ContendedTd, Gate> other,
            Defect... defects) {
        var gate = new Gate();
        try (var td = new ContendedTd(MmuFuzz.START, 2, gate, 1, defects)) {
            td.createVcpu();
            td.initVcpu(0);
            td.createVcpu();
            td.prepareVcpu(1);
            td.addPages(0, 4);
            var failures = new ArrayList<String>();
            var ready = new boolean[1];
            td.spawn("creator", () -> {
                td.await(() -> ready[0]);
                tried(failures, () -> td.initPreparedVcpu(1));
            });
            td.spawn("other", () -> {
                td.addPages(4, 1); // brings vCPU 0 to this thread's processor, for which another one would be asked
                gate.holdAt("creator", leaf.number(), lock);
                ready[0] = true;
                td.await(gate::isHolding);
                tried(failures, () -> other.accept(td, gate));
            });
            td.run();
            if (failures.isEmpty() && td.death() == null) {
                td.tearDown();
                assertThat(td.calls.stream().filter(ContendedTd.Call::isBusy)).isEmpty();
            } else if (td.death() != null) {
                failures.add(td.death());
            }
            return failures;
        }
    }

    private static void tried(List<String> failures, Runnable body) {
        try {
            body.run();
        } catch (KvmException e) {
            failures.add(e.getMessage());
        }
    }

    private static void expectFailure(List<String> failures, String what) {
        assertThat(failures).anySatisfy(failure -> assertThat(failure).contains(what));
    }

    /// TDH.VP.INIT has the TD for itself when a hole is punched: the zap is busy, and busy again, for no vCPU is in the way.
    @Test void theInitOfAVcpuKeepsClearOfZaps() {
        BiConsumer<ContendedTd, Gate> punch = (td, gate) -> td.file.punchHole(0, 4 * ContendedTd.PAGE);
        expectFailure(besideTheInitOfAVcpu(SeamcallLeaf.VP_INIT, OWNER, punch, Defect.TD_VP_INIT_BESIDE_ZAP),
                "TDH.MEM.RANGE.BLOCK failed: 0x80000200");
        assertThat(besideTheInitOfAVcpu(SeamcallLeaf.VP_INIT, OWNER, punch)).isEmpty();
    }

    @Test void theCreationOfAVcpuKeepsClearOfMeasurement() {
        // The creator is stopped before it tries the TD's lock; it goes on when the other one has that.
        BiConsumer<ContendedTd, Gate> add = (td, gate) -> {
            gate.holdAt("other", SeamcallLeaf.MR_EXTEND.number(), TDR);
            td.addPages(8, 1);
        };
        expectFailure(besideTheInitOfAVcpu(SeamcallLeaf.VP_CREATE, 1, add, Defect.TD_COMMANDS_SIDE_BY_SIDE),
                "TDH.VP.CREATE failed: 0x80000200");
        assertThat(besideTheInitOfAVcpu(SeamcallLeaf.VP_CREATE, 1, add)).isEmpty();
    }

    @Test void theCreationOfAVcpuKeepsClearOfTheEndOfTheBuild() {
        BiConsumer<ContendedTd, Gate> finish = (td, gate) -> td.vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        expectFailure(besideTheInitOfAVcpu(SeamcallLeaf.VP_CREATE, TDR, finish, Defect.TD_COMMANDS_SIDE_BY_SIDE),
                "EBUSY: TDH.MR.FINALIZE is busy");
        assertThat(besideTheInitOfAVcpu(SeamcallLeaf.VP_CREATE, TDR, finish)).isEmpty();
    }
}
