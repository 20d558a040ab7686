package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.GIB;
import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.UserMemoryRegion;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Roots and faults of the TDP MMU, looked at as a processor does.
final class TdpMmuTest {
    private MmuFixture f = new MmuFixture();

    @AfterEach void release() {
        f.close();
    }

    private void use(MmuFixture other) {
        f.close();
        f = other;
    }

    private RecordingTables td() {
        use(new MmuFixture(64 * MIB, MmuParameters.DEFAULT, true, new RoundRobin()));
        var external = new RecordingTables();
        f.mmu.mirror(external, 1L << 47);
        var file = f.mmu.createGuestMemfd(0x10000, 0);
        f.mmu.setMemoryRegion(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, 0x10000, f.user.map(0x10000), file, 0));
        f.newVcpu();
        return external;
    }

    private FaultResult privateFault(long gpa) {
        return f.vcpus.getFirst().fault(gpa, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRIVATE);
    }

    private FaultResult sharedFault(long gpa, long error) {
        return f.vcpus.getFirst().fault((1L << 47) | gpa, error);
    }

    private void attributes(long firstGfn, long pages, boolean isPrivate) {
        f.mmu.setAttributes(firstGfn << 12, pages << 12, isPrivate ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
    }

    @Test void alignedMemoryIsMappedByLargePages() {
        long address = f.user.map(8 * MIB);
        f.slot(0, 4 * MIB, 8 * MIB, address);
        assertThat(f.vcpu.fault((6 * MIB) + 0x3456, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        long[] leaf = f.walk((6 * MIB) + 0x3456);
        assertThat(leaf[1]).isEqualTo(2);
        assertThat(leaf[0] & Ept.PERMISSIONS).isEqualTo(Ept.PERMISSIONS);
        assertThat(Ept.memoryType(leaf[0])).isEqualTo(Ept.TYPE_WB);
        f.user.write(address + (2 * MIB) + 0x3456, 8, 0x1122334455667788L);
        long pa = (leaf[0] & Ept.ADDRESS & (-2 * MIB)) + 0x3456;
        assertThat(f.memory.read(pa, 8)).isEqualTo(0x1122334455667788L);
    }

    @Test void gigabytePagesComeFromGigabyteMappings() {
        use(new MmuFixture(3 * GIB, MmuParameters.DEFAULT, false, new RoundRobin()));
        f.slot(0, 4 * GIB, GIB, f.user.mapHuge(GIB));
        assertThat(f.vcpu.fault((4 * GIB) + 0x1234567, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.walk((4 * GIB) + 0x3ff_ffffL)[1]).isEqualTo(3);
        assertThat(f.mmu.pages().mapped(3)).isEqualTo(1);
    }

    @Test void congruenceOfAddressesDecidesThePageSize() {
        f.slot(0, (4 * MIB) + 0x1000, 4 * MIB, f.user.map(8 * MIB));
        assertThat(f.vcpu.fault(6 * MIB, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.walk(6 * MIB)[1]).isEqualTo(1);
    }

    @Test void secondFaultIsSpurious() {
        f.slot(0, 0, 0x2000, f.user.map(0x2000));
        assertThat(f.vcpu.fault(0x1000, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.vcpu.fault(0x1000, 0)).isEqualTo(FaultResult.SPURIOUS);
        assertThat(f.vcpu.fault(0x1000, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRESENT)).isEqualTo(FaultResult.SPURIOUS);
    }

    @Test void readOnlySlotSendsWritesToTheVmm() {
        f.slot(0, KvmAbi.MEM_READONLY, 0, 0x2000, f.user.map(0x2000));
        assertThat(f.vcpu.fault(0, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.walk(0)[0] & Ept.WRITE).isZero();
        assertThat(f.vcpu.fault(0, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRESENT)).isEqualTo(FaultResult.EMULATE);
    }

    @Test void mmioEntryIsAMisconfigurationAndAgesWithTheSlots() {
        long gpa = 0xfec0_0000L;
        assertThat(f.vcpu.fault(gpa, 0)).isEqualTo(FaultResult.EMULATE);
        assertThat(f.walk(gpa)[0] & Ept.PERMISSIONS).isEqualTo(Ept.WRITE | Ept.EXECUTE);
        assertThat(f.vcpu.misconfiguration(gpa)).isEqualTo(FaultResult.EMULATE);
        f.slot(0, gpa, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.misconfiguration(gpa)).as("memory is there now").isEqualTo(FaultResult.FIXED);
        assertThat(f.walk(gpa)[0] & Ept.PERMISSIONS).isEqualTo(Ept.PERMISSIONS);
    }

    @Test void generationThatStartsAnewDropsMmioEntries() {
        long gpa = 0xfec0_0000L;
        long address = f.user.map(0x1000);
        f.vcpu.fault(gpa, 0);
        long entry = f.walk(gpa)[0];
        int updates = 0;
        while (f.reloads == 0 && updates <= 1 << 18) {
            f.slot(0, 0, (updates++ & 1) == 0 ? 0x1000 : 0, address);
            if (updates == 2) {
                f.reloads = 0; // the first deletion drops everything by the quirk; the slot without quirk does not
                f.mmu.slotZapAllQuirk(false);
                f.vcpu.reload();
                f.vcpu.fault(gpa, 0);
                entry = f.walk(gpa)[0];
            }
        }
        assertThat(updates).isBetween(1 << 15, 1 << 18);
        f.vcpu.reload();
        assertThat(f.walk(gpa)[0]).isEqualTo(Spte.NONPRESENT).isNotEqualTo(entry);
    }

    @Test void zapUnmapsAndFlushesOnlyWhenSomethingWasMapped() {
        long address = f.user.map(0x4000);
        f.slot(0, 0, 0x4000, address);
        f.user.discard(address, 0x4000);
        assertThat(f.flushes).isZero();
        f.vcpu.fault(0x1000, 0);
        f.user.discard(address + 0x2000, 0x2000);
        assertThat(f.flushes).isZero();
        f.user.discard(address + 0x1000, 0x1000);
        assertThat(f.flushes).isEqualTo(1);
        assertThat(f.walk(0x1000)[0]).isEqualTo(Spte.NONPRESENT);
    }

    @Test void everyFrameComesBack() {
        f.vcpu.unload();
        long before = f.frames.allocatedFrames() - f.mmu.tdp().tables.pages();
        long address = f.user.map(4 * MIB);
        f.slot(0, 0, 4 * MIB, address);
        f.vcpu.reload();
        for (long gpa = 0; gpa < 4 * MIB; gpa += MIB) {
            f.vcpu.fault(gpa, VcpuMmu.ERROR_WRITE);
        }
        f.vcpu.fault(0xfee0_0000L, 0);
        f.vcpu.destroy();
        f.mmu.destroy();
        f.user.unmap(address);
        assertThat(f.frames.allocatedFrames()).isEqualTo(before);
    }

    // --- roots

    @Test void vcpusWithOneRoleShareARoot() {
        var other = f.newVcpu();
        assertThat(other.rootPa()).isEqualTo(f.vcpu.rootPa());
        other.mode(true, false, true);
        other.reload();
        assertThat(other.rootPa()).isNotEqualTo(f.vcpu.rootPa());
        other.mode(false, true, true);
        other.reload();
        assertThat(other.role().guestMode()).isTrue();
        assertThat(f.mmu.tdp().rootCount()).as("normal, SMM, nested").isEqualTo(3);
    }

    @Test void systemManagementModeSeesItsOwnSlots() {
        f.slot(0, 0, 0x1000, f.user.map(0x1000));
        f.slot(1 << 16, 0xa0000, 0x1000, f.user.map(0x1000));
        assertThat(f.vcpu.fault(0xa0000, 0)).isEqualTo(FaultResult.EMULATE);
        f.vcpu.mode(true, false, true);
        f.vcpu.reload();
        assertThat(f.vcpu.fault(0xa0000, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.vcpu.fault(0, 0)).isEqualTo(FaultResult.EMULATE);
    }

    @Test void wideGuestsGetFiveLevelsAndNothingAliases() {
        long high = 1L << 48;
        long low = f.user.map(0x10000);
        long up = f.user.map(0x10000);
        f.slot(0, 0, 0x10000, low);
        f.slot(1, high, 0x10000, up);
        assertThat(f.vcpu.fault(high + 0x5000, 0)).as("4 levels do not reach it").isEqualTo(FaultResult.FAULT);
        assertThat(f.walk(0x5000)[0]).as("nothing is mapped in its place").isEqualTo(Spte.NONPRESENT);
        f.vcpu.guestAddressBits(52);
        f.vcpu.reload();
        assertThat(f.vcpu.takeRootChange()).isTrue();
        assertThat(f.vcpu.fault(0x5000, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.vcpu.fault(high + 0x5000, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.walk(high + 0x5000)[0] & Ept.ADDRESS).isNotEqualTo(f.walk(0x5000)[0] & Ept.ADDRESS);
        assertThat(Ept.levels(f.vcpu.eptp())).isEqualTo(5);
    }

    @Test void deletedSlotDropsTheRootsAndVcpusLoadNewOnes() {
        f.slot(0, 0, 0x4000, f.user.map(0x4000));
        f.slot(1, MIB, 0x4000, f.user.map(0x4000));
        f.vcpu.fault(0, 0);
        f.vcpu.fault(MIB, 0);
        f.vcpu.takeRootChange();
        f.slot(1, MIB, 0, 0);
        assertThat(f.reloads).isEqualTo(1);
        assertThat(f.vcpu.fault(0, 0)).as("the loaded root is invalid").isEqualTo(FaultResult.RETRY);
        assertThat(f.walk(0)[0]).isEqualTo(Spte.NONPRESENT);
        f.vcpu.reload();
        assertThat(f.vcpu.takeRootChange()).isTrue();
        assertThat(f.vcpu.fault(0, 0)).isEqualTo(FaultResult.FIXED);
        assertThat(f.vcpu.fault(MIB, 0)).isEqualTo(FaultResult.EMULATE);
        assertThat(f.mmu.tdp().rootCount()).as("the invalid root is gone").isEqualTo(1);
    }

    @Test void withoutTheQuirkOnlyTheSlotIsUnmapped() {
        f.mmu.slotZapAllQuirk(false);
        f.slot(0, 0, 0x4000, f.user.map(0x4000));
        f.slot(1, MIB, 0x4000, f.user.map(0x4000));
        f.vcpu.fault(0, 0);
        f.vcpu.fault(MIB, 0);
        f.slot(1, MIB, 0, 0);
        assertThat(f.reloads).isZero();
        assertThat(f.walk(0)[0] & Ept.READ).isNotZero();
        assertThat(f.walk(MIB)[0]).isEqualTo(Spte.NONPRESENT);
    }

    // --- mirror

    @Test void privateFaultsBuildTheExternalTablesFromTheTop() {
        var external = td();
        attributes(0, 16, true);
        assertThat(privateFault(0x3000)).isEqualTo(FaultResult.FIXED);
        assertThat(external.calls).containsExactly("link 0 at 4", "link 0 at 3", "link 0 at 2", "map 3");
        assertThat(f.vcpus.getFirst().isPrivateMapped(0x3000)).isTrue();
        external.calls.clear();
        privateFault(0x4000);
        attributes(0, 16, false);
        assertThat(external.calls).containsExactly("map 4", "remove 3", "remove 4");
        external.calls.clear();
        f.vcpus.getFirst().destroy();
        f.mmu.destroy();
        assertThat(external.calls).as("tables stay until the end").containsExactly("reclaim", "reclaim", "reclaim");
    }

    @Test void busyExternalTablesMeanRetryAndLeaveNoTrace() {
        var external = td();
        attributes(0, 16, true);
        privateFault(0x3000);
        external.answer = ExternalPageTables.Result.BUSY;
        assertThat(privateFault(0x5000)).isEqualTo(FaultResult.RETRY);
        assertThat(f.vcpus.getFirst().isPrivateMapped(0x5000)).isFalse();
        external.answer = ExternalPageTables.Result.DONE;
        assertThat(privateFault(0x5000)).isEqualTo(FaultResult.FIXED);
        external.answer = ExternalPageTables.Result.FAILED;
        assertThat(privateFault(0x6000)).isEqualTo(FaultResult.BUGGED);
        assertThat(f.bugged).isTrue();
    }

    @Test void pageThatIsNotGivenBackIsNeverUsedAgain() {
        var external = td();
        attributes(0, 16, true);
        privateFault(0x3000);
        external.gives = false;
        attributes(3, 1, false);
        assertThat(f.bugged).isTrue();
        assertThat(f.mmu.lostPages()).isEqualTo(1);
        assertThat(f.frames.quarantinedFrames()).isEqualTo(1);
    }

    @Test void accessMustFitTheAttribute() {
        td();
        attributes(0, 8, true);
        assertThat(sharedFault(0x3000, 0)).isEqualTo(FaultResult.MEMORY_FAULT);
        assertThat(privateFault(0x9000)).isEqualTo(FaultResult.MEMORY_FAULT);
        assertThat(sharedFault(0x9000, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        long[] leaf = f.walk((1L << 47) | 0x9000);
        assertThat(leaf[0] & Ept.PERMISSIONS).as("shared tables are indexed with the SHARED bit").isEqualTo(Ept.PERMISSIONS);
        assertThat(leaf[0] & Ept.IGNORE_PAT).as("a TD's PAT counts").isZero();
    }

    @Test void mmioOfATdLetsVirtualizationExceptionsThrough() {
        td();
        assertThat(sharedFault(0xfec0_0000L, 0)).isEqualTo(FaultResult.EMULATE);
        long entry = f.walk((1L << 47) | 0xfec0_0000L)[0];
        assertThat(entry & (Ept.PERMISSIONS | Ept.SUPPRESS_VE)).isZero();
        assertThat(f.masks.mmioGpa(entry)).isEqualTo(0xfec0_0000L);
    }

    @Test void nonCoherentDmaChangesTypesAndNeverZapsAMirror() {
        f.slot(0, 0, 0x4000, f.user.map(0x4000));
        f.vcpu.fault(0, 0);
        assertThat(f.walk(0)[0] & Ept.IGNORE_PAT).isNotZero();
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(f.walk(0)[0]).isEqualTo(Spte.NONPRESENT);
        f.vcpu.fault(0, 0);
        assertThat(f.walk(0)[0] & Ept.IGNORE_PAT).isZero();
        var external = td();
        attributes(0, 16, true);
        privateFault(0x3000);
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(external.calls).doesNotContain("remove 3");
    }

    @Test void deviceMemoryIsUncached() {
        f.slot(0, MIB, 0x2000, f.user.mapDevice(1L << 40, 0x2000));
        assertThat(f.vcpu.fault(MIB + 0x1000, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        long entry = f.walk(MIB + 0x1000)[0];
        assertThat(Ept.memoryType(entry)).isEqualTo(Ept.TYPE_UC);
        assertThat(entry & Ept.IGNORE_PAT).isZero();
        assertThat(entry & Ept.ADDRESS).isEqualTo((1L << 40) + 0x1000);
    }
}
