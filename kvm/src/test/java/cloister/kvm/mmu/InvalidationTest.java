package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.UserMemoryRegion;
import cloister.sim.RandomWalk;
import cloister.spec.vmx.Ept;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// What the VMM does to its memory reaches every VM that maps it, whatever faults at the same time.
final class InvalidationTest {
    private static final long PAGE = 0x1000;

    private static MmuFixture fixture(long seed) {
        return new MmuFixture(64 * MIB, MmuParameters.DEFAULT, false, new RandomWalk(seed, 3));
    }

    /// No entry maps a frame that the VMM has given back: frames that are free are filled with a mark, and a mapped page never has it.
    private static void check(MmuFixture f, VcpuMmu vcpu, long gpa, long address) {
        long entry = f.walk(vcpu.eptp(), gpa)[0];
        if (Spte.isPresent(entry)) {
            long pa = f.user.pin(address, false) & Ept.ADDRESS;
            assertThat(entry & Ept.ADDRESS).isEqualTo(pa);
        }
    }

    @ParameterizedTest @ValueSource(ints = {0, 100, 200, 300})
    void faultThatRacesWithAnInvalidationIsTriedAgain(int firstSeed) {
        int retries = 0;
        for (int seed = firstSeed; seed < firstSeed + 100; seed++) {
            try (var f = fixture(seed)) {
                long user = f.user.map(8 * PAGE);
                f.slot(0, PAGE, 7 * PAGE, user + PAGE);
                int[] tries = {0};
                f.scheduler.spawn("vcpu", () -> {
                    for (int round = 0; round < 6; round++) {
                        long gpa = PAGE + ((round % 3) * PAGE);
                        while (f.vcpu.fault(gpa, VcpuMmu.ERROR_WRITE) == FaultResult.RETRY) {
                            tries[0]++;
                            f.mmu.letOthersRun();
                        }
                    }
                });
                f.scheduler.spawn("vmm", () -> {
                    for (int round = 0; round < 4; round++) {
                        f.user.discard(user + PAGE + ((round % 3) * PAGE), PAGE);
                        f.user.write(user, 8, round); // takes the frame that has just become free
                    }
                });
                f.scheduler.run();
                for (int page = 0; page < 3; page++) {
                    check(f, f.vcpu, PAGE + (page * PAGE), user + PAGE + (page * PAGE));
                }
                retries += tries[0];
            }
        }
        assertThat(retries).as("the race was met").isPositive();
    }

    /// Was a fault: a second VM on the same memory could map it again in the middle of an invalidation.
    @Test void secondVmOnTheSameMemoryIsUnmappedToo() {
        for (int seed = 0; seed < 100; seed++) {
            try (var f = fixture(seed)) {
                long user = f.user.map(4 * PAGE);
                var second = new Mmu(f.module, f, "second", false);
                var other = new VcpuMmu(second, f);
                other.reload();
                f.slot(0, 0, 4 * PAGE, user);
                second.setMemoryRegion(UserMemoryRegion.of(0, MIB, 4 * PAGE, user));
                f.scheduler.spawn("first", () -> fault(f.vcpu, f, PAGE));
                f.scheduler.spawn("second", () -> fault(other, f, MIB + PAGE));
                f.scheduler.spawn("vmm", () -> f.user.discard(user, 4 * PAGE));
                f.scheduler.run();
                check(f, f.vcpu, PAGE, user + PAGE);
                check(f, other, MIB + PAGE, user + PAGE);
            }
        }
    }

    private static void fault(VcpuMmu vcpu, MmuFixture f, long gpa) {
        while (vcpu.fault(gpa, VcpuMmu.ERROR_WRITE) == FaultResult.RETRY) {
            f.mmu.letOthersRun();
        }
    }

    @Test void slotsChangeBetweenInvalidationsOnly() {
        for (int seed = 0; seed < 100; seed++) {
            try (var f = fixture(seed)) {
                long user = f.user.map(4 * PAGE);
                f.slot(0, 0, 4 * PAGE, user);
                f.mmu.slotZapAllQuirk(false);
                f.scheduler.spawn("vcpu", () -> {
                    for (int i = 0; i < 4; i++) {
                        f.vcpu.fault(i * PAGE, VcpuMmu.ERROR_WRITE);
                    }
                });
                f.scheduler.spawn("vmm", () -> f.user.discard(user, 2 * PAGE));
                f.scheduler.spawn("slots", () -> {
                    f.slot(0, 0, 0, 0);
                    f.slot(0, 0, 4 * PAGE, user);
                    f.slot(0, 0, 0, 0);
                });
                f.scheduler.run();
                long sequence = f.mmu.invalidationSequence();
                assertThat(f.mmu.mustRetry(sequence, 0)).as("begin and end met the same slots").isFalse();
            }
        }
    }

    @Test void writeProtectedMappingIsNeverWritable() {
        try (var f = new MmuFixture()) {
            long user = f.user.map(4 * PAGE);
            f.slot(0, 0, 4 * PAGE, user);
            f.vcpu.fault(0, VcpuMmu.ERROR_WRITE);
            f.user.protect(user, false);
            assertThat(f.walk(0)[0]).isEqualTo(Spte.NONPRESENT);
            assertThat(f.vcpu.fault(0, 0)).isEqualTo(FaultResult.FIXED);
            assertThat(f.walk(0)[0] & Ept.WRITE).isZero();
            assertThat(f.vcpu.fault(0, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRESENT)).isEqualTo(FaultResult.FAULT);
            f.user.protect(user, true);
            assertThat(f.vcpu.fault(0, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        }
    }

    @Test void rootsThatFaultsUseAreZappedByOthersInBetween() {
        for (int seed = 0; seed < 100; seed++) {
            try (var f = fixture(seed)) {
                long user = f.user.map(8 * PAGE);
                f.slot(0, 0, 4 * PAGE, user);
                f.slot(1, MIB, 4 * PAGE, user + (4 * PAGE));
                f.scheduler.spawn("vcpu", () -> {
                    for (int i = 0; i < 8; i++) {
                        f.vcpu.reload();
                        f.vcpu.fault((i % 4) * PAGE, VcpuMmu.ERROR_WRITE);
                    }
                });
                f.scheduler.spawn("slots", () -> {
                    for (int i = 0; i < 3; i++) {
                        f.slot(1, MIB, 0, 0);
                        f.slot(1, MIB, 4 * PAGE, user + (4 * PAGE));
                    }
                });
                f.scheduler.run();
                f.vcpu.destroy();
                f.mmu.destroy();
                assertThat(f.mmu.tdp().tables.pages()).as("no page of tables is left").isZero();
                assertThat(f.mmu.pages().mapped(1)).isZero();
            }
        }
    }
}
