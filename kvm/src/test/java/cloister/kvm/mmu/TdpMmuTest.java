package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.AnonymousMemory;
import cloister.kvm.host.FrameAllocator;
import cloister.kvm.host.Lockdep;
import cloister.kvm.host.GuestMemFile;
import cloister.memory.PhysicalMemory;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

final class TdpMmuTest {
    private static final long MIB = 1L << 20;
    private final PhysicalMemory memory = new PhysicalMemory(64 * MIB, 32);
    private final FrameAllocator frames = new FrameAllocator(memory, MIB, 64 * MIB);
    private final AnonymousMemory user = new AnonymousMemory(memory, frames);
    private final Scheduler scheduler = new Scheduler(new VirtualClock(1000), new RoundRobin(), Scheduler.IdlePace.SKIP);
    private final MemoryAttributes attributes = new MemoryAttributes();
    private int flushes;

    /// Says yes or busy, and keeps a record.
    private static final class Recorder implements ExternalPageTables {
        final List<String> calls = new ArrayList<>();
        Result answer = Result.DONE;

        @Override public Result linkTable(long gfn, int level, long tablePa) {
            calls.add("link " + gfn + " at " + level);
            return answer;
        }

        @Override public Result mapLeaf(long gfn, int level, long pa) {
            calls.add("map " + gfn);
            return answer;
        }

        @Override public boolean removeLeaf(long gfn, int level, long pa) {
            calls.add("remove " + gfn);
            return true;
        }

        @Override public boolean reclaimTable(long tablePa) {
            calls.add("reclaim");
            return true;
        }
    }

    @AfterEach void release() {
        memory.close();
    }

    private TdpMmu mmu(MemSlots slots) {
        return new TdpMmu(memory, frames, user, scheduler, new Lockdep(scheduler), slots, attributes, () -> flushes++);
    }

    private void slot(MemSlots slots, UserMemoryRegion region) {
        slots.commit(region.slot(), slots.check(region));
    }

    /// The processor's walk: the leaf entry and its level, from the EPT pointer down.
    private long[] walk(long eptp, long gpa) {
        long table = eptp & Ept.ADDRESS;
        for (int level = Ept.levels(eptp);; level--) {
            long entry = memory.read(table + 8 * ((gpa >>> (12 + 9 * (level - 1))) & 511), 8);
            if ((entry & Ept.PERMISSIONS) == 0 || level == 1 || (entry & Ept.LARGE) != 0) {
                return new long[] {entry, level};
            }
            table = entry & Ept.ADDRESS;
        }
    }

    @Test void alignedMemoryIsMappedByLargePages() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        long address = user.map(8 * MIB);
        slot(slots, UserMemoryRegion.of(0, 4 * MIB, 8 * MIB, address));
        assertThat(mmu.fault(6 * MIB + 0x3456, TdpMmu.ACCESS_WRITE, false)).isEqualTo(FaultResult.FIXED);
        long[] leaf = walk(mmu.eptp(), 6 * MIB + 0x3456);
        assertThat(leaf[1]).isEqualTo(2);
        assertThat(leaf[0] & Ept.PERMISSIONS).isEqualTo(Ept.PERMISSIONS);
        assertThat(Ept.memoryType(leaf[0])).isEqualTo(Ept.TYPE_WB);
        user.write(address + 2 * MIB + 0x3456, 8, 0x1122334455667788L);
        long pa = (leaf[0] & Ept.ADDRESS & (-2 * MIB)) + 0x3456;
        assertThat(memory.read(pa, 8)).isEqualTo(0x1122334455667788L);
    }

    @Test void congruenceOfAddressesDecidesThePageSize() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        slot(slots, UserMemoryRegion.of(0, 4 * MIB + 0x1000, 4 * MIB, user.map(8 * MIB)));
        assertThat(mmu.fault(6 * MIB, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.FIXED);
        assertThat(walk(mmu.eptp(), 6 * MIB)[1]).isEqualTo(1);
    }

    @Test void secondFaultIsSpurious() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        slot(slots, UserMemoryRegion.of(0, 0, 0x2000, user.map(0x2000)));
        assertThat(mmu.fault(0x1000, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.FIXED);
        assertThat(mmu.fault(0x1000, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.SPURIOUS);
    }

    @Test void readOnlySlotSendsWritesToTheVmm() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        slot(slots, new UserMemoryRegion(0, KvmAbi.MEM_READONLY, 0, 0x2000, user.map(0x2000), null, 0));
        assertThat(mmu.fault(0, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.FIXED);
        assertThat(walk(mmu.eptp(), 0)[0] & Ept.WRITE).isZero();
        assertThat(mmu.fault(0, TdpMmu.ACCESS_WRITE, false)).isEqualTo(FaultResult.EMULATE);
    }

    @Test void mmioEntryIsAMisconfigurationAndAgesWithTheSlots() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        long gpa = 0xfec0_0000L;
        assertThat(mmu.fault(gpa, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.EMULATE);
        assertThat(walk(mmu.eptp(), gpa)[0] & Ept.PERMISSIONS).isEqualTo(Ept.WRITE | Ept.EXECUTE);
        assertThat(mmu.isCachedMmio(gpa)).isTrue();
        slot(slots, UserMemoryRegion.of(0, 0, 0x1000, user.map(0x1000)));
        assertThat(mmu.isCachedMmio(gpa)).isFalse();
    }

    @Test void zapUnmapsAndFlushesOnlyWhenSomethingWasMapped() {
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        slot(slots, UserMemoryRegion.of(0, 0, 0x4000, user.map(0x4000)));
        mmu.zapDirect(0, 4);
        assertThat(flushes).isZero();
        mmu.fault(0x1000, TdpMmu.ACCESS_READ, false);
        mmu.zapDirect(2, 4);
        assertThat(flushes).isZero();
        mmu.zapDirect(1, 2);
        assertThat(flushes).isEqualTo(1);
        assertThat(walk(mmu.eptp(), 0x1000)[0]).isEqualTo(Spte.NONPRESENT);
    }

    @Test void everyFrameComesBack() {
        long before = frames.allocatedFrames();
        var slots = new MemSlots(user, false);
        var mmu = mmu(slots);
        mmu.createDirectRoot(4);
        long address = user.map(4 * MIB);
        slot(slots, UserMemoryRegion.of(0, 0, 4 * MIB, address));
        for (long gpa = 0; gpa < 4 * MIB; gpa += MIB) {
            mmu.fault(gpa, TdpMmu.ACCESS_WRITE, false);
        }
        mmu.fault(0xfee0_0000L, TdpMmu.ACCESS_READ, false);
        mmu.destroy();
        user.unmap(address);
        assertThat(frames.allocatedFrames()).isEqualTo(before);
    }

    @Test void privateFaultsBuildTheExternalTablesFromTheTop() {
        var slots = new MemSlots(user, true);
        var mmu = mmu(slots);
        var external = new Recorder();
        mmu.createTdRoots(4, 1L << 47, external);
        privateSlot(slots, mmu);
        attributes.set(0, 16, true);
        assertThat(mmu.fault(0x3000, TdpMmu.ACCESS_WRITE, true)).isEqualTo(FaultResult.FIXED);
        assertThat(external.calls).containsExactly("link 0 at 4", "link 0 at 3", "link 0 at 2", "map 3");
        assertThat(mmu.isPrivateMapped(0x3000)).isTrue();
        external.calls.clear();
        mmu.fault(0x4000, TdpMmu.ACCESS_WRITE, true);
        mmu.zapMirror(0, 16, gfn -> { });
        assertThat(external.calls).containsExactly("map 4", "remove 3", "remove 4");
        external.calls.clear();
        mmu.destroy();
        assertThat(external.calls).as("tables stay until the end").containsExactly("reclaim", "reclaim", "reclaim");
    }

    @Test void busyExternalTablesMeanRetryAndLeaveNoTrace() {
        var slots = new MemSlots(user, true);
        var mmu = mmu(slots);
        var external = new Recorder();
        mmu.createTdRoots(4, 1L << 47, external);
        privateSlot(slots, mmu);
        attributes.set(0, 16, true);
        mmu.fault(0x3000, TdpMmu.ACCESS_WRITE, true);
        external.answer = ExternalPageTables.Result.BUSY;
        assertThat(mmu.fault(0x5000, TdpMmu.ACCESS_WRITE, true)).isEqualTo(FaultResult.RETRY);
        assertThat(mmu.isPrivateMapped(0x5000)).isFalse();
        external.answer = ExternalPageTables.Result.DONE;
        assertThat(mmu.fault(0x5000, TdpMmu.ACCESS_WRITE, true)).isEqualTo(FaultResult.FIXED);
        external.answer = ExternalPageTables.Result.FAILED;
        assertThat(mmu.fault(0x6000, TdpMmu.ACCESS_WRITE, true)).isEqualTo(FaultResult.BUGGED);
    }

    @Test void accessMustFitTheAttribute() {
        var slots = new MemSlots(user, true);
        var mmu = mmu(slots);
        mmu.createTdRoots(4, 1L << 47, new Recorder());
        privateSlot(slots, mmu);
        attributes.set(0, 8, true);
        assertThat(mmu.fault(0x3000, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.MEMORY_FAULT);
        assertThat(mmu.fault(0x9000, TdpMmu.ACCESS_WRITE, true)).isEqualTo(FaultResult.MEMORY_FAULT);
        assertThat(mmu.fault(0x9000, TdpMmu.ACCESS_WRITE, false)).isEqualTo(FaultResult.FIXED);
        long[] leaf = walk(mmu.eptp(), (1L << 47) | 0x9000);
        assertThat(leaf[0] & Ept.PERMISSIONS).as("shared tables are indexed with the SHARED bit")
                .isEqualTo(Ept.PERMISSIONS);
        assertThat(leaf[0] & Ept.IGNORE_PAT).as("a TD's PAT counts").isZero();
    }

    @Test void mmioOfATdLetsVirtualizationExceptionsThrough() {
        var slots = new MemSlots(user, true);
        var mmu = mmu(slots);
        mmu.createTdRoots(4, 1L << 47, new Recorder());
        assertThat(mmu.fault(0xfec0_0000L, TdpMmu.ACCESS_READ, false)).isEqualTo(FaultResult.EMULATE);
        assertThat(walk(mmu.eptp(), (1L << 47) | 0xfec0_0000L)[0]).isZero();
    }

    private void privateSlot(MemSlots slots, TdpMmu mmu) {
        var file = new GuestMemFile(frames, 0x10000, (f, first, end) -> mmu.zapMirror(first, end, gfn -> { }));
        slot(slots, new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, 0x10000, user.map(0x10000), file, 0));
    }
}
