package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.RoundRobin;
import cloister.spec.vmx.Ept;
import org.junit.jupiter.api.Test;

/// Ageing of pages, by accessed flags and without them.
final class TrackingTest {
    @Test void accessedFlagsAreTakenAndFoundAgain() {
        try (var f = new MmuFixture()) {
            long user = f.user.map(0x4000);
            f.slot(0, 0, 0x4000, user);
            f.vcpu.fault(0x1000, 0);
            assertThat(f.user.clearAccessed(user, user + 0x4000)).isTrue();
            assertThat(f.walk(0x1000)[0] & (Ept.ACCESSED | Ept.READ)).isEqualTo(Ept.READ);
            assertThat(f.user.clearAccessed(user, user + 0x4000)).isFalse();
            f.memory.write(entryPa(f, 0x1000), 8, f.walk(0x1000)[0] | Ept.ACCESSED);
            assertThat(f.user.clearAccessed(user + 0x2000, user + 0x4000)).as("another page").isFalse();
            assertThat(f.user.clearAccessed(user + 0x1000, user + 0x2000)).isTrue();
        }
    }

    private static long entryPa(MmuFixture f, long gpa) {
        long table = f.vcpu.rootPa();
        for (int level = 4; level > 1; level--) {
            table = f.memory.read(table + (8 * PageTables.index(gpa >>> 12, level)), 8) & Ept.ADDRESS;
        }
        return table + (8 * PageTables.index(gpa >>> 12, 1));
    }

    @Test void withoutFlagsPagesBecomeInaccessibleAndComeBackWithoutTheLock() {
        try (var f = new MmuFixture(64 * MIB, MmuParameters.DEFAULT, false, new RoundRobin(), false)) {
            long user = f.user.map(0x4000);
            f.slot(0, 0, 0x4000, user);
            f.vcpu.fault(0x1000, VcpuMmu.ERROR_WRITE);
            long before = f.walk(0x1000)[0];
            assertThat(before & (Ept.ACCESSED | Ept.DIRTY)).isZero();
            assertThat(f.vcpu.eptp() & Ept.EPTP_ACCESSED_DIRTY).isZero();
            assertThat(f.user.clearAccessed(user, user + 0x4000)).isTrue();
            assertThat(f.walk(0x1000)[0] & Ept.PERMISSIONS).isZero();
            assertThat(f.user.clearAccessed(user, user + 0x4000)).isFalse();
            f.mmu.lockShared(); // the fault does not need it
            assertThat(f.mmu.tdp().fastFault(f.vcpu, f.mmu.tdp().tables.at(f.vcpu.rootPa()), fault(f, 0x1000, 0))).isEqualTo(
                    FaultResult.FIXED);
            f.mmu.unlockShared();
            assertThat(f.walk(0x1000)[0] & Ept.PERMISSIONS).as("reading gives W not back").isEqualTo(Ept.READ | Ept.EXECUTE);
            assertThat(f.vcpu.fault(0x1000, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRESENT)).isEqualTo(FaultResult.FIXED);
            assertThat(f.walk(0x1000)[0]).isEqualTo(before);
        }
    }

    private static PageFault fault(MmuFixture f, long gpa, long error) {
        var fault = new PageFault();
        fault.start(error, false, false);
        fault.gfn = gpa >>> 12;
        fault.slot = f.mmu.slots().find(fault.gfn);
        return fault;
    }

    @Test void populatedPagesAreNotAccessedYet() {
        try (var f = new MmuFixture()) {
            long user = f.user.map(0x4000);
            f.slot(0, 0, 0x4000, user);
            assertThat(f.vcpu.mapPage(0x1000, 0)).isEqualTo(1);
            assertThat(f.walk(0x1000)[0] & (Ept.ACCESSED | Ept.PERMISSIONS)).isEqualTo(Ept.PERMISSIONS);
            assertThat(f.user.clearAccessed(user, user + 0x4000)).isFalse();
        }
        try (var f = new MmuFixture(64 * MIB, MmuParameters.DEFAULT, false, new RoundRobin(), false)) {
            f.slot(0, 0, 0x4000, f.user.map(0x4000));
            f.vcpu.mapPage(0x1000, 0);
            assertThat(f.walk(0x1000)[0] & Ept.PERMISSIONS).isZero();
            assertThat(f.vcpu.fault(0x1000, 0)).isEqualTo(FaultResult.FIXED);
        }
    }
}
