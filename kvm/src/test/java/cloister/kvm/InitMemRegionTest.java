package cloister.kvm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.KvmTdxCmd.MemRegion;
import cloister.kvm.dev.DevKvm;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// KVM_TDX_INIT_MEM_REGION: it stops where it must and says how far it came. [LINUX tdx_vcpu_init_mem_region, kvm_gmem_populate]
final class InitMemRegionTest {
    private static final long PAGE = 0x1000;
    private static final long SHARED = 1L << 47;
    private static final int PAGES = 64;
    private static final List<CpuidEntry> CPUID = List.of(CpuidEntry.leaf(0x8000_0008, 48 << 16, 0, 0, 0));
    private static final byte[] ZEROS = new byte[48];
    private static final long BUSY = TdxStatus.OPERAND_BUSY.code() | 146;

    private final ScriptedModule module = new ScriptedModule();
    private final TestHost host = new TestHost(2);
    private Kvm kvm;
    private KvmVm vm;
    private KvmVcpu vcpu;
    private long user;

    @BeforeEach void aTdWithOneVcpu() {
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        kvm = DevKvm.open(host.environment());
        vm = kvm.createVm(VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(ScriptedModule.SEPT_VE_DISABLE, 3, ZEROS, ZEROS, ZEROS, CPUID)));
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        user = memory(0, PAGES);
        module.calls.clear();
    }

    /// @return the VMM's addresses
    private long memory(int slot, int pages) {
        long address = kvm.userMemory().map(pages * PAGE);
        long gpa = slot * (1L << 30);
        vm.setUserMemoryRegion2(new UserMemoryRegion(slot, KvmAbi.MEM_GUEST_MEMFD, gpa, pages * PAGE, address,
                vm.createGuestMemfd(pages * PAGE, 0), 0));
        vm.setMemoryAttributes(gpa, pages * PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        return address;
    }

    @AfterEach void release() {
        host.close();
    }

    private Errno add(MemRegion region) {
        var failed = catchThrowableOfType(KvmException.class, () -> vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0, region)));
        return failed == null ? null : failed.errno();
    }

    private static void isLeft(MemRegion region, long sourceAddr, long gpa, long nrPages) {
        assertThat(region.sourceAddr).isEqualTo(sourceAddr);
        assertThat(region.gpa).isEqualTo(gpa);
        assertThat(region.nrPages).isEqualTo(nrPages);
    }

    @Test void busyModuleIsAskedUntilItIsNot() {
        for (int i = 0; i < 20; i++) {
            module.failOnce(SeamcallLeaf.MEM_PAGE_ADD, BUSY);
            module.failOnce(SeamcallLeaf.MEM_SEPT_ADD, BUSY);
        }
        var region = new MemRegion(user, 0, 4);
        host.scheduler().spawn("builder", () -> assertThat(add(region)).isNull());
        host.scheduler().run();
        isLeft(region, user + 4 * PAGE, 4 * PAGE, 0);
        assertThat(Collections.frequency(module.calls, "MEM_PAGE_ADD")).isEqualTo(24);
        assertThat(vm.stats().pagesAdded()).isEqualTo(4);
    }

    @Test void signalEndsTheLoopAndWhatWasDoneIsDone() {
        module.failOnce(SeamcallLeaf.MEM_PAGE_ADD, 0);
        for (int i = 0; i < 10_000; i++) {
            module.failOnce(SeamcallLeaf.MEM_PAGE_ADD, BUSY);
        }
        var region = new MemRegion(user, 0, 4);
        host.scheduler().spawn("builder", () -> assertThat(add(region)).isEqualTo(Errno.EINTR));
        host.scheduler().spawn("signal", () -> {
            while (Collections.frequency(module.calls, "MEM_PAGE_ADD") < 3) {
                host.scheduler().switchPoint(SwitchPoint.YIELD);
            }
            vcpu.kick();
        });
        host.scheduler().run();
        isLeft(region, user + PAGE, PAGE, 3);
        assertThat(vm.stats().pagesAdded()).isEqualTo(1);
    }

    @Test void stopsWhereTheSourceTheSlotOrTheAttributeEnds() {
        long hole = kvm.userMemory().map(2 * PAGE);
        var source = new MemRegion(hole, 0, 4);
        assertThat(add(source)).as("nothing mapped at the source").isEqualTo(Errno.EFAULT);
        isLeft(source, hole + 2 * PAGE, 2 * PAGE, 2);
        vm.setMemoryAttributes(5 * PAGE, PAGE, 0);
        var attribute = new MemRegion(user, 4 * PAGE, 4);
        assertThat(add(attribute)).isEqualTo(Errno.EINVAL);
        isLeft(attribute, user + PAGE, 5 * PAGE, 3);
        var both = new MemRegion(hole + 2 * PAGE, 5 * PAGE, 1);
        assertThat(add(both)).as("the source is looked up first").isEqualTo(Errno.EFAULT);
        var slot = new MemRegion(user, (PAGES - 1) * PAGE, 2);
        assertThat(add(slot)).isEqualTo(Errno.EINVAL);
        isLeft(slot, user + PAGE, PAGES * PAGE, 1);
        assertThat(add(new MemRegion(0, 8 * PAGE, 1))).as("no source").isEqualTo(Errno.EOPNOTSUPP);
        assertThat(add(new MemRegion(user, 0, 1))).as("a page twice").isEqualTo(Errno.EIO);
    }

    @Test void argumentsThatCannotBe() {
        for (var bad : List.of(new MemRegion(user + 1, 0, 1), new MemRegion(user, 1, 1), new MemRegion(user, 0, 0),
                new MemRegion(user, SHARED, 1), new MemRegion(user, SHARED - PAGE, 2), new MemRegion(user, 0, -1L >>> 11))) {
            assertThat(add(bad)).isEqualTo(Errno.EINVAL);
        }
        assertThat(module.calls).isEmpty();
    }

    @Test void exhaustedPlatformKeepsWhatWasAdded() {
        int pages = (int) (TestHost.MEMORY / PAGE);
        long source = memory(1, pages);
        var region = new MemRegion(source, 1L << 30, pages);
        assertThat(add(region)).isEqualTo(Errno.ENOMEM);
        long done = pages - region.nrPages;
        assertThat(done).isPositive().isLessThan(pages).isEqualTo(vm.stats().pagesAdded());
        isLeft(region, source + done * PAGE, (1L << 30) + done * PAGE, pages - done);
        kvm.userMemory().discard(source, (done / 2) * PAGE);
        var rest = new MemRegion(region.sourceAddr, region.gpa, 1);
        assertThat(add(rest)).as("with frames again it goes on").isNull();
        isLeft(rest, region.sourceAddr + PAGE, region.gpa + PAGE, 0);
    }
}
