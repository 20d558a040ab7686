package cloister.vmm.mmu;

import cloister.kvm.DirtyGfnRing;
import java.util.BitSet;

/// What the VMM has taken out of the dirty rings of a VM's vCPUs.
final class DirtyRings {
    private MmuRig rig;
    private final MmuModel model;
    private final int[] next;
    /// Pages of each slot that were taken since the step began.
    private final BitSet[] taken = new BitSet[MmuModel.SLOTS];

    DirtyRings(MmuModel model) {
        this.model = model;
        this.next = new int[model.cpus];
        for (int i = 0; i < taken.length; i++) {
            taken[i] = new BitSet();
        }
    }

    void of(MmuRig newRig) {
        rig = newRig;
    }

    void stepBegins() {
        for (var pages : taken) {
            pages.clear();
        }
    }

    /// Whether a page of a slot was taken since the step began.
    boolean wasTaken(int id, int page) {
        return taken[id].get(page);
    }

    /// Takes all entries and has them reset. What they tell of is not due any more.
    ///
    /// @return whether some were not reset because of a signal
    /// @throws cloister.kvm.KvmException EINVAL without rings
    boolean harvest() {
        for (int i = 0; i < next.length && model.is(MmuModel.RINGS); i++) {
            var ring = rig.lanes.get(i).vcpu.dirtyRing();
            int at = next[i] & (ring.size() - 1);
            while (ring.flags(at) == DirtyGfnRing.FLAG_DIRTY) {
                int id = idOf(ring.slot(at));
                if (id >= 0) {
                    taken[id].set((int) ring.offset(at));
                    model.dirty[id].clear((int) ring.offset(at));
                }
                ring.harvested(at);
                next[i]++;
                at = next[i] & (ring.size() - 1);
            }
        }
        rig.vm.resetDirtyRings();
        for (int i = 0; i < next.length && model.is(MmuModel.RINGS); i++) {
            var ring = rig.lanes.get(i).vcpu.dirtyRing();
            if ((ring.flags((next[i] - 1) & (ring.size() - 1)) & DirtyGfnRing.FLAG_RESET) != 0) {
                return true;
            }
        }
        return false;
    }

    /// Adds the pages of each slot that rings have and the VMM has not reset.
    void collect(BitSet[] pages) {
        for (int i = 0; i < next.length; i++) {
            var ring = rig.lanes.get(i).vcpu.dirtyRing();
            for (int at = 0; at < ring.size(); at++) {
                int id = ring.flags(at) == 0 ? -1 : idOf(ring.slot(at));
                if (id >= 0) {
                    pages[id].set((int) ring.offset(at));
                }
            }
        }
    }

    private static int idOf(int slotNumber) {
        for (int id = 0; id < MmuModel.SMM_SLOT; id++) {
            if (MmuRig.slotNumber(id) == slotNumber) {
                return id;
            }
        }
        return -1;
    }
}
