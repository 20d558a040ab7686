package cloister.vmm.mmu;

import cloister.spec.kvm.Errno;
import cloister.vmm.mmu.MmuModel.Place;
import cloister.vmm.mmu.MmuModel.Slot;
import cloister.vmm.mmu.MmuModel.Way;

/// What each kind of step does to the model.
final class MmuChanges {
    private MmuChanges() {
    }

    /// @return the error number that Linux gives, or null
    static Errno apply(MmuModel model, MmuStep step) {
        int[] o = step.operands();
        return switch (step.kind()) {
            case MACHINE, ACCESS -> throw new IllegalArgumentException(step + " changes nothing");
            case CREATE -> model.create(o[0], new Slot(o[1], o[2], o[3], model.user,
                    o[4] == 1 || model.type == MmuModel.TD ? model.file : null, o[5]));
            case MOVE, FLAGS -> {
                var wanted = wanted(model, step);
                yield wanted == null ? Errno.EINVAL : model.create(o[0], wanted);
            }
            case DELETE -> model.delete(o[0]);
            case ATTRIBUTES -> model.attributes(o[0], o[1], o[2] == 1);
            case PUNCH -> {
                model.punch(o[0], o[1]);
                yield null;
            }
            case DISCARD -> {
                model.discard(o[0], o[1]);
                yield null;
            }
            case PROTECT -> {
                model.user.writable = o[0] == 1;
                yield null;
            }
            case REMAP -> {
                model.remap();
                yield null;
            }
            case HOST_WRITE -> model.user.writable ? null : Errno.EFAULT;
            case GET_LOG, CLEAR_LOG -> model.is(MmuModel.RINGS) ? Errno.ENXIO
                    : model.slots[o[0]] == null || !model.slots[o[0]].logs() ? Errno.ENOENT : null;
            case PREFAULT -> model.is(MmuModel.SHADOW) ? Errno.EOPNOTSUPP : prefault(model, o[1], o[2]);
            case MAP_GPA -> {
                if (model.hasAttributes()) {
                    model.attributes(o[1], o[2], o[3] == 1);
                }
                yield null;
            }
            case HARVEST -> model.is(MmuModel.RINGS) ? null : Errno.EINVAL;
            case POLICY -> Errno.EBUSY;
            case PROCESSOR -> processor(model, o[0], o[1] == 1);
            case NEIGHBOUR -> neighbour(model, o[0] == 1);
            case ALLOCATE, HOST_READ, DMA, MTRR, CACHE_DISABLE, GUEST_MTRR, GUEST_CACHE_DISABLE, TIME, AGE, SIGNAL, TAMPER -> null;
        };
    }

    /// What MOVE and FLAGS ask for: a slot that differs in one thing, with the anonymous memory of today. Null when there is no slot.
    static Slot wanted(MmuModel model, MmuStep step) {
        int[] o = step.operands();
        var old = model.slots[o[0]];
        if (old == null) {
            return null;
        }
        return step.kind() == MmuStep.Kind.MOVE ? new Slot(o[1], old.pages(), old.backing(), model.user, old.file(), old.flags())
                : new Slot(old.first(), old.pages(), old.backing(), model.user, old.file(), o[1]);
    }

    private static Errno processor(MmuModel model, int index, boolean on) {
        if (!on && model.online.get(index) && model.online.cardinality() == 1) {
            return Errno.EBUSY;
        }
        model.online.set(index, on);
        return null;
    }

    private static Errno neighbour(MmuModel model, boolean on) {
        if (!model.is(MmuModel.WITH_NEIGHBOUR)) {
            return null;
        }
        if (on ? model.neighbours != null && model.neighbours != model.user : model.neighbours == null) {
            return Errno.EINVAL;
        }
        model.neighbours = on ? model.user : null;
        return null;
    }

    private static Errno prefault(MmuModel model, int first, int pages) {
        if (populated(model, first, pages) > 0) {
            return null;
        }
        return model.place(first).way() == Way.MMIO ? Errno.ENOENT : Errno.EFAULT;
    }

    /// How many of the pages from `first` on can be populated.
    static int populated(MmuModel model, int first, int pages) {
        int done = 0;
        while (done < pages && first + done < MmuModel.PAGES && model.place(first + done).way() == Way.MEMORY) {
            done++;
        }
        return done;
    }

    /// Whether the step takes away what is at `place` of a page, or may for a moment.
    static boolean destroys(MmuModel model, MmuStep step, Place place, int page) {
        int[] o = step.operands();
        int index = place.index();
        return switch (step.kind()) {
            case DISCARD -> place.memory() == model.user && index >= o[0] && index < o[0] + o[1];
            case PUNCH -> place.memory() == model.file && index >= o[0] && index < o[0] + o[1];
            case ATTRIBUTES -> page >= o[0] && page < o[0] + o[1];
            case MAP_GPA -> page >= o[1] && page < o[1] + o[2];
            case NEIGHBOUR -> place.slot() == MmuModel.NEIGHBOURS_SLOT;
            case CREATE, DELETE, MOVE -> place.slot() == o[0];
            case REMAP -> true;
            case MACHINE, ACCESS, FLAGS, ALLOCATE, PROTECT, HOST_WRITE, HOST_READ, GET_LOG, CLEAR_LOG, PREFAULT, DMA, MTRR,
                 CACHE_DISABLE, HARVEST, GUEST_MTRR, GUEST_CACHE_DISABLE, POLICY, TIME, AGE, PROCESSOR, SIGNAL, TAMPER -> false;
        };
    }
}
