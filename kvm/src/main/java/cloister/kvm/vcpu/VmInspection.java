package cloister.kvm.vcpu;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmInspection;
import cloister.kvm.host.GuestMemFile;
import java.util.ArrayList;
import java.util.List;

/// What can be seen of one VM from within KVM.
record VmInspection(Vm vm) implements KvmInspection {
    @Override public List<Root> roots() {
        var found = new ArrayList<Root>();
        vm.mmu.inspectRoots(found);
        for (var vcpu : vm.vcpus) {
            vcpu.mmu.inspectRoots(found);
        }
        return found;
    }

    @Override public long frameAt(long userAddress) {
        return vm.host.userMemory().frameAt(userAddress);
    }

    @Override public long frameOf(GuestMemfd file, long page) {
        return ((GuestMemFile) file).frameOf(page);
    }

    @Override public boolean isLogged(int slot, long page) {
        return vm.mmu.dirtyLog().has(slot, page);
    }

    @Override public boolean isFree(long framePa) {
        return vm.host.frames().isFree(framePa);
    }

    @Override public long framesInUse() {
        return vm.host.frames().allocatedFrames();
    }

    @Override public void onFree(FreeObserver observer) {
        vm.host.frames().onFree(observer);
    }
}
