package cloister.kvm.vcpu;

import cloister.kvm.host.Lockdep;
import cloister.kvm.host.Mutex;
import java.util.ArrayList;
import java.util.List;

/// The VMs of the host, from creation until they are closed, under kvm_lock. [LINUX vm_list]
public final class VmList {
    private final Mutex lock;
    private final List<Vm> vms = new ArrayList<>();

    public VmList(Lockdep lockdep) {
        lock = new Mutex(lockdep, lockdep.sleeping("kvm_lock"), "");
    }

    public void add(Vm vm) {
        vm.enlisted(this);
        try (var held = lock.lock()) {
            vms.add(vm);
        }
    }

    void remove(Vm vm) {
        try (var held = lock.lock()) {
            vms.remove(vm);
        }
    }

    /// Those that exist now.
    public List<Vm> all() {
        try (var held = lock.lock()) {
            return List.copyOf(vms);
        }
    }

    /// Those that exist now, for a processor that goes offline: it may not wait for the lock, and nobody changes the list meanwhile.
    public List<Vm> atOffline() {
        return List.copyOf(vms);
    }
}
