package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.UserMemoryRegion;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Populating a page before anybody accesses it, in every mode of a vCPU.
final class VcpuMmuTest {
    private final MmuFixture f = new MmuFixture();

    @AfterEach void release() {
        f.close();
    }

    private static int error(Errno errno) {
        return -errno.number();
    }

    @Test void levelOfTheMappingIsTheAnswer() {
        f.slot(0, 4 * MIB, 4 * MIB, f.user.map(4 * MIB));
        assertThat(f.vcpu.mapPage((4 * MIB) + 0x5000, 0)).isEqualTo(2);
        assertThat(f.vcpu.mapPage((4 * MIB) + 0x6000, 0)).as("mapped already").isEqualTo(2);
        f.slot(1, MIB, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.mapPage(MIB, 0)).isEqualTo(1);
    }

    @Test void whereNoMemoryIsThereIsNothingToPopulate() {
        assertThat(f.vcpu.mapPage(MIB, 0)).isEqualTo(error(Errno.ENOENT));
        f.slot(0, 0, 0x1000, 0x1000);
        assertThat(f.vcpu.mapPage(0, 0)).as("the VMM has nothing mapped").isEqualTo(error(Errno.EFAULT));
        f.slot(1, KvmAbi.MEM_READONLY, MIB, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.mapPage(MIB, 0)).as("reading is enough").isEqualTo(1);
    }

    @Test void signalAndDeathComeFirst() {
        f.slot(0, 0, 0x1000, f.user.map(0x1000));
        f.signal = true;
        assertThat(f.vcpu.mapPage(0, 0)).isEqualTo(error(Errno.EINTR));
        f.signal = false;
        f.bugged = true;
        assertThat(f.vcpu.mapPage(0, 0)).isEqualTo(error(Errno.EIO));
    }

    @Test void tablesThatAreNotByGuestPhysicalAddressCannotBePopulated() {
        f.slot(0, 0, 0x1000, f.user.map(0x1000));
        f.vcpu.mode(false, true, false);
        f.vcpu.reload();
        assertThat(f.vcpu.mapPage(0, 0)).isEqualTo(error(Errno.EOPNOTSUPP));
    }

    @Test void eachModePopulatesItsOwnRoot() {
        long user = f.user.map(0x1000);
        f.slot(0, 0, 0x1000, user);
        f.slot(1 << 16, 0, 0x1000, user);
        long[] roots = new long[6];
        int n = 0;
        for (int bits : new int[] {48, 52}) {
            for (int mode = 0; mode < 3; mode++) {
                var vcpu = f.newVcpu();
                vcpu.guestAddressBits(bits);
                vcpu.mode(mode == 1, mode == 2, true);
                vcpu.reload();
                assertThat(f.walk(vcpu.eptp(), 0)[0]).as("empty before").isEqualTo(Spte.NONPRESENT);
                assertThat(vcpu.mapPage(0, 0)).isEqualTo(1);
                assertThat(Spte.isPresent(f.walk(vcpu.eptp(), 0)[0])).isTrue();
                roots[n++] = vcpu.rootPa();
            }
        }
        assertThat(roots).doesNotHaveDuplicates();
    }

    @Test void exhaustedMemoryIsAnErrorAndLeavesNothingBehind() {
        f.slot(0, 0, 0x2000, f.user.map(0x2000));
        f.vcpu.mapPage(0, 0);
        while (f.frames.allocateBlock() >= 0) {
            // until none is left
        }
        try {
            while (true) {
                f.frames.allocate();
            }
        } catch (RuntimeException none) {
            // as intended
        }
        long allocated = f.frames.allocatedFrames();
        assertThat(f.vcpu.mapPage(0x1000, 0)).isEqualTo(error(Errno.ENOMEM));
        f.slot(1, 1L << 30, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.mapPage(1L << 30, 0)).isEqualTo(error(Errno.ENOMEM));
        assertThat(f.vcpu.fault(1L << 30, 0)).isEqualTo(FaultResult.NO_MEMORY);
        assertThat(f.frames.allocatedFrames()).isEqualTo(allocated);
    }

    @Test void initialPagesOfATdAreAddedOnce() {
        try (var td = new MmuFixture(64 * MIB, MmuParameters.DEFAULT, true, new RoundRobin())) {
            var external = new RecordingTables();
            td.mmu.mirror(external, 1L << 47);
            var file = td.mmu.createGuestMemfd(0x4000, 0);
            td.mmu.setMemoryRegion(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, 0x4000, td.user.map(0x4000), file, 0));
            var vcpu = td.newVcpu();
            td.mmu.setAttributes(0, 0x4000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            assertThat(vcpu.mapPrivate(0x1000, file.fault(1))).isZero();
            assertThat(vcpu.mapPrivate(0x1000, file.fault(1))).as("twice").isEqualTo(error(Errno.EIO));
            assertThat(vcpu.mapPage(0x2000, VcpuMmu.ERROR_PRIVATE)).isEqualTo(1);
            assertThat(vcpu.mapPage((1L << 47) | 0x3000, 0)).as("private, and asked for as shared").isEqualTo(error(Errno.EFAULT));
            external.answer = ExternalPageTables.Result.FAILED;
            assertThat(vcpu.mapPage(0x3000, VcpuMmu.ERROR_PRIVATE)).isEqualTo(error(Errno.EIO));
        }
    }

    @Test void mmioIsRememberedUntilTheSlotsChange() {
        long gpa = 0xfec0_0000L;
        f.vcpu.fault(gpa, 0);
        assertThat(f.vcpu.misconfiguration(gpa)).isEqualTo(FaultResult.EMULATE);
        f.vcpu.unload();
        f.vcpu.reload();
        assertThat(f.vcpu.misconfiguration(gpa + 0x1000)).as("nothing there: the processor tries again").isEqualTo(FaultResult.RETRY);
        f.slot(0, 0, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.misconfiguration(gpa)).as("an old entry is made new").isEqualTo(FaultResult.EMULATE);
        assertThat(Spte.generation(f.walk(gpa)[0])).isEqualTo(f.mmu.slots().generation(0));
    }
}
