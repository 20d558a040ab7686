package cloister.kvm.vcpu;

import cloister.kvm.KvmDevice;
import cloister.kvm.KvmException;
import cloister.kvm.VfioFile;
import cloister.kvm.host.Mutex;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.util.ArrayList;
import java.util.List;

/// Tells a VM which physical devices it has. As long as one of them does not snoop the caches, memory types are another matter. [LINUX
/// virt/kvm/vfio.c]
final class VfioDevice implements KvmDevice {
    private final Vm vm;
    private final Mutex lock;
    private final List<VfioFile> files = new ArrayList<>();
    private boolean noncoherent;
    private boolean closed;

    VfioDevice(Vm vm) {
        this.vm = vm;
        var lockdep = vm.host.lockdep();
        this.lock = new Mutex(lockdep, lockdep.sleeping("kvm_vfio->lock"), "");
    }

    @Override public void setAttr(int group, long attribute, VfioFile file) {
        hasAttr(group, attribute);
        Vm.require(file != null && file.isOpen(), Errno.EBADF, "no VFIO file, or a closed one");
        try (var held = lock.lock()) {
            boolean known = files.contains(file);
            if (attribute == KvmAbi.DEV_VFIO_FILE_ADD) {
                Vm.require(!known, Errno.EEXIST, "the VFIO file was added before");
                files.add(file);
            } else {
                Vm.require(known, Errno.ENOENT, "the VFIO file was not added");
                files.remove(file);
            }
            updateCoherency();
        }
    }

    @Override public void hasAttr(int group, long attribute) {
        vm.requireAlive();
        if (group != KvmAbi.DEV_VFIO_FILE || (attribute != KvmAbi.DEV_VFIO_FILE_ADD && attribute != KvmAbi.DEV_VFIO_FILE_DEL)) {
            throw new KvmException(Errno.ENXIO, "no attribute " + attribute + " in group " + group);
        }
    }

    /// One that is not coherent counts as much as many. [LINUX kvm_vfio_update_coherency]
    private void updateCoherency() {
        boolean now = files.stream().anyMatch(file -> !file.enforcesCoherency());
        if (now != noncoherent) {
            noncoherent = now;
            vm.mmu.memoryTypes().noncoherentDma(now);
        }
    }

    @Override public void close() {
        if (!closed) {
            closed = true;
            files.clear();
            updateCoherency();
            vm.released(this);
        }
    }
}
