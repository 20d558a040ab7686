package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.RoundRobin;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// When tables are given up that execution made, on a clock of a thousand ticks a second.
final class NxRecoveryTest {
    private static MmuFixture fixture(boolean nxHugePages, NxRecoveryPace pace) {
        return new MmuFixture(64 * MIB, new MmuParameters(nxHugePages, true, 3, 5, 0, pace), false, new RoundRobin());
    }

    @ParameterizedTest(name = "ratio {0}, period {1}")
    @CsvSource({"60, 0, 60000", "1, 0, 3600000", "3600, 0, 1000", "3601, 0, 1000", "-1, 0, 1000", "0, 0, 0", "0, 50, 0", "60, 50, 50",
        "60, -1, 4294967295"})
    void periodFollowsTheRatioUnlessItIsSaid(int ratio, int periodMs, long expected) {
        assertThat(new NxRecoveryPace(ratio, periodMs).period()).isEqualTo(expected);
    }

    private static void execute(MmuFixture f, int pages) {
        f.slot(0, 4 * MIB, pages * 2 * MIB, f.user.map(pages * 2 * MIB));
        for (int i = 0; i < pages; i++) {
            f.vcpu.fault((4 + (2 * i)) * MIB, VcpuMmu.ERROR_FETCH);
        }
    }

    private static void play(MmuFixture f, Runnable body) {
        f.scheduler.spawn("VMM", body);
        f.scheduler.run();
    }

    private static void pass(MmuFixture f, long ticks) {
        f.scheduler.clock().advance(ticks);
        f.mmu.letOthersRun();
    }

    @Test void tablesAreGivenUpPeriodByPeriodWhileThereAreAny() {
        try (var f = fixture(true, new NxRecoveryPace(2, 100))) {
            play(f, () -> {
                pass(f, 250);
                execute(f, 3);
                assertThat(f.mmu.nxHugePages().tracked()).isEqualTo(3);
                pass(f, 49);
                assertThat(f.mmu.nxHugePages().tracked()).as("periods count from the start").isEqualTo(3);
                pass(f, 1);
                assertThat(f.mmu.nxHugePages().tracked()).isEqualTo(1);
                assertThat(f.walk(4 * MIB)[0]).isEqualTo(Spte.NONPRESENT);
                pass(f, 99);
                assertThat(f.mmu.nxHugePages().tracked()).isEqualTo(1);
                pass(f, 1);
                assertThat(f.mmu.nxHugePages().tracked()).isZero();
                assertThat(f.scheduler.clock().armed()).as("nothing to do, nothing to wait for").isEmpty();
            });
        }
    }

    @Test void nothingIsGivenUpWithoutTheWorkaroundOrARatio() {
        try (var off = fixture(false, new NxRecoveryPace(2, 100)); var never = fixture(true, new NxRecoveryPace(0, 100))) {
            execute(off, 1);
            execute(never, 1);
            assertThat(off.mmu.nxHugePages().tracked()).isZero();
            assertThat(never.mmu.nxHugePages().tracked()).isOne();
            assertThat(off.scheduler.clock().armed()).isEmpty();
            assertThat(never.scheduler.clock().armed()).isEmpty();
        }
    }

    @Test void nothingHappensAfterTheVm() {
        try (var f = fixture(true, new NxRecoveryPace(2, 100))) {
            play(f, () -> {
                execute(f, 1);
                assertThat(f.scheduler.clock().armed()).hasSize(1);
                f.vcpu.destroy();
                f.mmu.destroy();
                assertThat(f.scheduler.clock().armed()).isEmpty();
            });
            f.vcpus.clear();
        }
    }
}
