package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.GIB;
import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import org.junit.jupiter.api.Test;

/// What keeps pages small, and what makes them large again.
final class HugePagesTest {
    private static final MmuParameters NX = new MmuParameters(true, true, 3, 5, 0);

    private static MmuFixture fixture(MmuParameters parameters, boolean privateMemory) {
        return new MmuFixture(64 * MIB, parameters, privateMemory, new RoundRobin());
    }

    @Test void executedPagesAreSmallAndOthersNotExecutable() {
        try (var f = fixture(NX, false)) {
            f.slot(0, 4 * MIB, 4 * MIB, f.user.map(4 * MIB));
            f.vcpu.fault(4 * MIB, VcpuMmu.ERROR_WRITE);
            assertThat(f.walk(4 * MIB)[1]).isEqualTo(2);
            assertThat(f.walk(4 * MIB)[0] & Ept.EXECUTE).isZero();
            // The split alone makes the small pages executable.
            assertThat(f.vcpu.fault((4 * MIB) + 0x5000, VcpuMmu.ERROR_FETCH | VcpuMmu.ERROR_PRESENT)).isEqualTo(FaultResult.SPURIOUS);
            long[] leaf = f.walk((4 * MIB) + 0x5000);
            assertThat(leaf[1]).isEqualTo(1);
            assertThat(leaf[0] & Ept.EXECUTE).isNotZero();
            assertThat(leaf[0] & Ept.WRITE).isNotZero();
            // Data next to code stays small while the code is there.
            f.vcpu.fault((4 * MIB) + 0x6000, VcpuMmu.ERROR_WRITE);
            assertThat(f.walk((4 * MIB) + 0x6000)[1]).isEqualTo(1);
            f.vcpu.fault(6 * MIB, VcpuMmu.ERROR_FETCH);
            assertThat(f.mmu.nxHugePages().tracked()).isEqualTo(2);
            f.mmu.recoverNxHugePages(2);
            assertThat(f.mmu.nxHugePages().tracked()).as("the older one is given up").isEqualTo(1);
            assertThat(f.walk(4 * MIB)[0]).isEqualTo(Spte.NONPRESENT);
            f.vcpu.fault(4 * MIB, VcpuMmu.ERROR_WRITE);
            assertThat(f.walk(4 * MIB)[1]).isEqualTo(2);
            assertThat(f.walk(6 * MIB)[1]).isEqualTo(1);
        }
    }

    @Test void turningTheWorkaroundOffDropsAllTables() {
        try (var f = fixture(NX, false)) {
            f.slot(0, 4 * MIB, 2 * MIB, f.user.map(2 * MIB));
            f.vcpu.fault(4 * MIB, VcpuMmu.ERROR_WRITE);
            f.mmu.nxHugePages(false);
            f.vcpu.reload();
            f.vcpu.fault(4 * MIB, VcpuMmu.ERROR_FETCH);
            assertThat(f.walk(4 * MIB)[1]).isEqualTo(2);
            assertThat(f.walk(4 * MIB)[0] & Ept.EXECUTE).isNotZero();
        }
    }

    @Test void pagesOfTwoAttributesStaySmall() {
        try (var f = fixture(MmuParameters.DEFAULT, true)) {
            f.mmu.mirror(new RecordingTables(), 1L << 47);
            f.slot(0, 4 * MIB, 4 * MIB, f.user.map(4 * MIB));
            f.newVcpu();
            f.mmu.setAttributes(5 * MIB, 0x1000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            f.vcpus.getFirst().fault((1L << 47) | (4 * MIB), 0);
            f.vcpus.getFirst().fault((1L << 47) | (6 * MIB), 0);
            assertThat(f.walk((1L << 47) | (4 * MIB))[1]).isEqualTo(1);
            assertThat(f.walk((1L << 47) | (6 * MIB))[1]).isEqualTo(2);
            f.mmu.setAttributes(7 * MIB, 0x1000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            assertThat(f.walk((1L << 47) | (6 * MIB))[0]).as("the whole large page goes").isEqualTo(Spte.NONPRESENT);
            f.mmu.setAttributes(5 * MIB, 0x1000, 0);
            assertThat(f.mmu.maxMappingLevel(null, f.mmu.slots().find((4 * MIB) >>> 12), (4 * MIB) >>> 12, false, 3)).isEqualTo(2);
        }
    }

    @Test void shadowedTablesKeepLargePagesAway() {
        try (var f = fixture(MmuParameters.DEFAULT, false)) {
            f.slot(0, 4 * MIB, 4 * MIB, f.user.map(4 * MIB));
            var slot = f.mmu.slots().find((5 * MIB) >>> 12);
            slot.disallowLargePages((5 * MIB) >>> 12, 1);
            f.vcpu.fault(4 * MIB, 0);
            f.vcpu.fault(6 * MIB, 0);
            assertThat(f.walk(4 * MIB)[1]).isEqualTo(1);
            assertThat(f.walk(6 * MIB)[1]).isEqualTo(2);
            slot.disallowLargePages((5 * MIB) >>> 12, -1);
            assertThat(slot.allowsLargePage((4 * MIB) >>> 12, 2)).isTrue();
        }
    }

    @Test void gigabytePageIsSplitInTwoSteps() {
        try (var f = new MmuFixture(3 * GIB, MmuParameters.DEFAULT, false, new RoundRobin())) {
            long user = f.user.mapHuge(GIB);
            f.slot(0, 4 * GIB, GIB, user);
            f.vcpu.fault(4 * GIB, VcpuMmu.ERROR_WRITE);
            f.slot(0, KvmAbi.MEM_LOG_DIRTY_PAGES, 4 * GIB, GIB, user);
            assertThat(f.mmu.pages().mapped(1)).isEqualTo(GIB >>> 12);
            assertThat(f.mmu.pages().mapped(2) + f.mmu.pages().mapped(3)).isZero();
            long pa = f.walk((4 * GIB) + 0x12345000L)[0] & Ept.ADDRESS;
            assertThat(pa & (GIB - 1)).isEqualTo(0x12345000L);
            f.slot(0, 0, 4 * GIB, GIB, user);
            assertThat(f.mmu.pages().mapped(3)).isEqualTo(1);
        }
    }
}
