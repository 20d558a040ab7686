package cloister.kvm.vcpu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.TestHost;
import cloister.kvm.VfioFile;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Which devices make a VM one with non-coherent DMA.
final class VfioDeviceTest {
    private final TestHost host = new TestHost(1);
    private final Vm vm = (Vm) DevKvm.open(host.environment()).createVm(VmType.DEFAULT);

    @AfterEach void release() {
        host.close();
    }

    private boolean noncoherent() {
        return vm.mmu.memoryTypes().hasNoncoherentDma();
    }

    @Test void oneDeviceThatDoesNotSnoopIsEnough() {
        var device = vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
        var coherent = new VfioFile(true);
        var first = new VfioFile(false);
        var second = new VfioFile(false);
        device.setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, coherent);
        assertThat(noncoherent()).isFalse();
        device.setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, first);
        device.setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, second);
        assertThat(noncoherent()).isTrue();
        device.setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_DEL, first);
        assertThat(noncoherent()).as("one is left").isTrue();
        second.close();
        assertThat(noncoherent()).as("the VM keeps the file").isTrue();
        device.close();
        assertThat(noncoherent()).isFalse();
        vm.createDevice(KvmAbi.DEV_TYPE_VFIO).close();
    }

    @Test void quirksGoOffAndStayOff() {
        assertThat(vm.mmu.memoryTypes().ignoresGuestPat()).isTrue();
        vm.enableCap(KvmCap.DISABLE_QUIRKS, -1);
        assertThat(vm.mmu.memoryTypes().clearsCacheDisable()).isFalse();
        assertThat(vm.mmu.memoryTypes().ignoresGuestPat())
                .isEqualTo((vm.checkExtension(KvmCap.DISABLE_QUIRKS2) & KvmAbi.QUIRK_IGNORE_GUEST_PAT) == 0);
        vm.enableCap(KvmCap.DISABLE_QUIRKS2, 0);
        assertThat(vm.mmu.memoryTypes().clearsCacheDisable()).isFalse();
    }
}
