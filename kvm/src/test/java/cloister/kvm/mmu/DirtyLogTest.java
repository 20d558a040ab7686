package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.DirtyGfnRing;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Dirty logs and rings: what was written since is reported, once, and the next write is seen.
final class DirtyLogTest {
    private static final long PAGE = 0x1000;
    private static final long BASE = 4 * MIB;
    private static final int LOG = KvmAbi.MEM_LOG_DIRTY_PAGES;
    private static final long WRITE = VcpuMmu.ERROR_WRITE;
    private MmuFixture f = new MmuFixture();
    private long user = f.user.map(4 * MIB);

    @AfterEach void release() {
        f.close();
    }

    private void use(MmuParameters parameters) {
        f.close();
        f = new MmuFixture(64 * MIB, parameters, false, new RoundRobin());
        user = f.user.map(4 * MIB);
    }

    private void slot(int flags) {
        f.slot(0, flags, BASE, 4 * MIB, user);
    }

    private long[] log() {
        return f.mmu.dirtyLog().get(0);
    }

    private FaultResult write(long gpa) {
        long present = Spte.isPresent(f.walk(gpa)[0]) ? VcpuMmu.ERROR_PRESENT : 0;
        return f.vcpu.fault(gpa, WRITE | present);
    }

    private static long[] pages(int... indexes) {
        var bitmap = new long[16];
        for (int index : indexes) {
            bitmap[index / 64] |= 1L << index;
        }
        return bitmap;
    }

    @Test void writesAreReportedOnceAndSeenAgain() {
        slot(LOG);
        f.vcpu.fault(BASE, 0);
        assertThat(f.walk(BASE)[1]).as("small pages while writes are logged").isEqualTo(1);
        write(BASE + (3 * PAGE));
        write(BASE + (70 * PAGE));
        // A read maps the page writable, as Linux does: it counts as written.
        assertThat(log()).isEqualTo(pages(0, 3, 70));
        assertThat(log()).isEqualTo(pages());
        assertThat(f.walk(BASE + (3 * PAGE))[0] & Ept.WRITE).isZero();
        assertThat(write(BASE + (3 * PAGE))).isEqualTo(FaultResult.FIXED);
        assertThat(log()).isEqualTo(pages(3));
    }

    @Test void largePagesAreSplitWhenLoggingStarts() {
        slot(0);
        write(BASE);
        assertThat(f.walk(BASE)[1]).isEqualTo(2);
        int flushes = f.flushes;
        slot(LOG);
        assertThat(f.flushes).isEqualTo(flushes + 1);
        long[] leaf = f.walk(BASE + (5 * PAGE));
        assertThat(leaf[1]).as("eagerly").isEqualTo(1);
        assertThat(leaf[0] & Ept.WRITE).isZero();
        assertThat(write(BASE + (5 * PAGE))).isEqualTo(FaultResult.FIXED);
        assertThat(log()).isEqualTo(pages(5));
        assertThat(f.mmu.pages().mapped(1)).isEqualTo(512);
        slot(0);
        leaf = f.walk(BASE + (5 * PAGE));
        assertThat(leaf[1]).as("recovered when logging ends").isEqualTo(2);
        assertThat(f.mmu.pages().mapped(1)).isZero();
        assertThat(f.mmu.pages().mapped(2)).isEqualTo(1);
        assertThat(write(BASE + (6 * PAGE))).as("its rights are those of its first page").isEqualTo(FaultResult.FIXED);
        assertThat(write(BASE + (7 * PAGE))).isEqualTo(FaultResult.SPURIOUS);
    }

    @Test void largePagesAreSplitByTheFirstWriteOtherwise() {
        use(new MmuParameters(false, false, 3, 5, 0));
        slot(0);
        write(BASE);
        slot(LOG);
        assertThat(f.walk(BASE)[1]).as("still large, not writable").isEqualTo(2);
        assertThat(f.walk(BASE)[0] & Ept.WRITE).isZero();
        assertThat(write(BASE + (7 * PAGE))).isEqualTo(FaultResult.FIXED);
        assertThat(f.walk(BASE + (7 * PAGE))[1]).isEqualTo(1);
        assertThat(f.walk(BASE + (8 * PAGE))[0] & Ept.WRITE).isZero();
        assertThat(log()).isEqualTo(pages(7));
    }

    @Test void manualProtectReadsWithoutClearing() {
        f.mmu.dirtyLog().enableManualProtect(DirtyLog.MANUAL_PROTECT);
        slot(LOG);
        write(BASE + PAGE);
        write(BASE + (2 * PAGE));
        assertThat(log()).isEqualTo(pages(1, 2));
        assertThat(log()).isEqualTo(pages(1, 2));
        f.mmu.dirtyLog().clear(0, 0, 64, new long[] {1L << 1});
        assertThat(log()).isEqualTo(pages(2));
        assertThat(f.walk(BASE + PAGE)[0] & Ept.WRITE).isZero();
        assertThat(f.walk(BASE + (2 * PAGE))[0] & Ept.WRITE).isNotZero();
    }

    @Test void initiallySetLogProtectsOnClearOnly() {
        f.mmu.dirtyLog().enableManualProtect(DirtyLog.MANUAL_PROTECT | DirtyLog.INITIALLY_SET);
        slot(0);
        write(BASE);
        slot(LOG);
        assertThat(f.walk(BASE)[1]).as("nothing happens at once").isEqualTo(2);
        assertThat(log()).containsOnly(-1L);
        f.mmu.dirtyLog().clear(0, 64, 64, new long[] {1});
        assertThat(f.walk(BASE + (64 * PAGE))[1]).isEqualTo(1);
        assertThat(f.walk(BASE + (64 * PAGE))[0] & Ept.WRITE).isZero();
        assertThat(f.walk(BASE + (65 * PAGE))[0] & Ept.WRITE).isNotZero();
        assertThat(log()[1]).isEqualTo(-2L);
        assertThat(write(BASE + (64 * PAGE))).isEqualTo(FaultResult.FIXED);
        assertThat(log()[1]).isEqualTo(-1L);
    }

    @Test void processorsDirtyLogTakesDirtyFlagsInsteadOfWriteAccess() {
        use(new MmuParameters(false, true, 3, 5, 512));
        slot(LOG);
        write(BASE + PAGE);
        assertThat(log()).isEqualTo(pages(1));
        long entry = f.walk(BASE + PAGE)[0];
        assertThat(entry & Ept.WRITE).isNotZero();
        assertThat(entry & Ept.DIRTY).isZero();
        // The processor sets the flag and logs the page, which KVM reads out.
        f.mmu.dirtyLog().mark(f.vcpu, f.mmu.slots().find((BASE + PAGE) >>> 12), (BASE + PAGE) >>> 12);
        assertThat(log()).isEqualTo(pages(1));
        f.vcpu.mode(false, true, true);
        f.vcpu.reload();
        write(BASE + (2 * PAGE));
        log();
        assertThat(f.walk(BASE + (2 * PAGE))[0] & Ept.WRITE).as("of a nested guest, only write protection").isZero();
    }

    @Test void oddLengthHasNoBitsBeyondTheSlot() {
        f.mmu.dirtyLog().enableManualProtect(DirtyLog.MANUAL_PROTECT | DirtyLog.INITIALLY_SET);
        f.slot(0, LOG, BASE, 70 * PAGE, user);
        assertThat(log()).containsExactly(-1L, 0x3f);
        f.mmu.dirtyLog().clear(0, 64, 6, new long[] {-1});
        assertThat(log()).containsExactly(-1L, 0);
    }

    @Test void requestsFailLikeLinux() {
        slot(LOG);
        var log = f.mmu.dirtyLog();
        assertThatThrownBy(() -> log.get(1)).hasMessageContaining("ENOENT");
        assertThatThrownBy(() -> log.get(2 << 16)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.get(32764)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.clear(0, 1, 64, new long[1])).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.clear(0, 0, 63, new long[1])).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.clear(0, 1024, 64, new long[1])).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.clear(0, 2048, 0, new long[1])).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.clear(0, 0, 128, new long[1])).hasMessageContaining("EFAULT");
        log.clear(0, 1024, 0, new long[0]);
        assertThatThrownBy(() -> log.enableManualProtect(2)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.enableManualProtect(5)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.enableRings(0, false)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.enableRings(6144, false)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.enableRings(2048, false)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.enableRings(2 << 20, false)).hasMessageContaining("E2BIG");
        assertThatThrownBy(() -> log.enableRings(4096, true)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.resetRings(List.of(), () -> false)).hasMessageContaining("EINVAL");
        log.enableRings(4096, false);
        assertThatThrownBy(() -> log.enableRings(4096, false)).hasMessageContaining("EINVAL");
        assertThatThrownBy(() -> log.get(0)).hasMessageContaining("ENXIO");
    }

    @Test void ringFillsIsHarvestedAndReset() {
        f.mmu.dirtyLog().enableRings(4096, false);
        var vcpu = new VcpuMmu(f.mmu, f);
        vcpu.reload();
        slot(LOG);
        var ring = vcpu.dirtyRing();
        assertThat(ring.size()).isEqualTo(256);
        int pages = 0;
        while (!ring.isSoftFull()) {
            vcpu.fault(BASE + (pages++ * PAGE), WRITE);
        }
        assertThat(pages).as("64 entries stay free").isEqualTo(192);
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> false)).as("nothing harvested yet").isZero();
        for (int i = 0; i < 100; i++) {
            assertThat(ring.flags(i)).isEqualTo(DirtyGfnRing.FLAG_DIRTY);
            assertThat(ring.slot(i)).isZero();
            assertThat(ring.offset(i)).isEqualTo(i);
            ring.harvested(i);
        }
        int flushes = f.flushes;
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> false)).isEqualTo(100);
        assertThat(f.flushes).isEqualTo(flushes + 1);
        assertThat(ring.isSoftFull()).isFalse();
        assertThat(f.walk(vcpu.eptp(), BASE + (99 * PAGE))[0] & Ept.WRITE).isZero();
        assertThat(f.walk(vcpu.eptp(), BASE + (100 * PAGE))[0] & Ept.WRITE).isNotZero();
        vcpu.fault(BASE + (99 * PAGE), WRITE | VcpuMmu.ERROR_PRESENT);
        assertThat(ring.offset(192)).isEqualTo(99);
    }

    /// Was a fault: populated pages count as written, and more than the ring has entries for were an internal error.
    @Test void populatingMoreThanTheRingHoldsMapsTheRestReadOnly() {
        f.mmu.dirtyLog().enableRings(4096, false);
        var vcpu = new VcpuMmu(f.mmu, f);
        vcpu.reload();
        slot(LOG);
        for (int i = 0; i < 400; i++) {
            assertThat(vcpu.mapPage(BASE + (i * PAGE), 0)).isEqualTo(1);
        }
        assertThat(vcpu.dirtyRing().isSoftFull()).isTrue();
        assertThat(f.walk(vcpu.eptp(), BASE + (191 * PAGE))[0] & Ept.WRITE).isNotZero();
        assertThat(f.walk(vcpu.eptp(), BASE + (192 * PAGE))[0] & Ept.PERMISSIONS).isEqualTo(Ept.READ | Ept.EXECUTE);
    }

    @Test void aSignalEndsTheResetBetweenTwoEntriesAndLosesNoWrite() {
        f.mmu.dirtyLog().enableRings(4096, false);
        var vcpu = new VcpuMmu(f.mmu, f);
        vcpu.reload();
        slot(LOG);
        var ring = vcpu.dirtyRing();
        for (int i = 0; i < 20; i++) {
            vcpu.fault(BASE + (i * PAGE), WRITE);
            ring.harvested(i);
        }
        int[] asked = {0};
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> asked[0]++ >= 7)).isEqualTo(7);
        assertThat(f.walk(vcpu.eptp(), BASE + (6 * PAGE))[0] & Ept.WRITE).as("taken back, so watched again").isZero();
        assertThat(f.walk(vcpu.eptp(), BASE + (7 * PAGE))[0] & Ept.WRITE).isNotZero();
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> true)).isZero();
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> false)).as("the rest").isEqualTo(13);
    }

    @Test void ringEntriesThatNameNothingAreTakenBackAllTheSame() {
        f.mmu.dirtyLog().enableRings(4096, false);
        var vcpu = new VcpuMmu(f.mmu, f);
        vcpu.reload();
        slot(LOG);
        for (int i = 0; i < 3; i++) {
            vcpu.fault(BASE + ((900 - i) * PAGE), WRITE);
            vcpu.dirtyRing().harvested(i);
        }
        f.slot(0, 0, BASE, 0, user);
        f.slot(0, LOG, BASE, 2 * PAGE, user);
        assertThat(f.mmu.dirtyLog().resetRings(List.of(vcpu), () -> false)).isEqualTo(3);
    }
}
