package cloister.tdx.replay;

import cloister.tdx.core.LockWord;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import java.util.List;
import java.util.Set;

/// Locks that another LP holds because it is in the middle of a call. [VECTORS "Locks"]
final class LockSteps {
    private static final Set<String> KEYS = Set.of("op", "lock", "mode", "gpa");
    private static final List<String> LOCKS = List.of("tdr", "tdvpr", "op_state", "sept_tree", "td_epoch", "sept_entry");
    private static final List<String> MODES = List.of("exclusive", "shared");
    private static final int EXCLUSIVE = 1;
    private static final int HOST_PRIORITY = 2;
    private static final int READER = 2;
    private static final int READER_HP = 4;

    private LockSteps() {
    }

    static void hold(VectorMachine machine, Step step) {
        machine.held.add(name(step));
        change(machine, step, true);
    }

    static void release(VectorMachine machine, Step step) {
        if (!machine.held.remove(name(step))) {
            throw new Step.Malformed("the lock " + name(step) + " is not held");
        }
        change(machine, step, false);
    }

    private static String name(Step step) {
        step.allow(KEYS);
        return step.oneOf("lock", LOCKS) + (step.has("gpa") ? " of " + VectorWords.hex(step.required("gpa")) : "") + " "
                + step.oneOf("mode", MODES);
    }

    private static void change(VectorMachine machine, Step step, boolean hold) {
        boolean exclusive = step.text("mode").equals("exclusive");
        switch (step.text("lock")) {
            case "tdr" -> hostPriority(machine.core.pageLock(machine.tdr()), exclusive, hold);
            case "tdvpr" -> hostPriority(machine.core.pageLock(machine.tdvpr()), exclusive, hold);
            case "op_state" -> hostPriority(machine.tdcs().lock(Tdcs.OP_STATE_LOCK), exclusive, hold);
            case "sept_tree" -> plain(machine.tdcs().lock(Tdcs.SECURE_EPT_LOCK), exclusive, hold);
            case "td_epoch" -> plain(machine.tdcs().lock(Tdcs.EPOCH_LOCK), exclusive, hold);
            default -> entry(machine, step.required("gpa"), exclusive, hold);
        }
    }

    private static void entry(VectorMachine machine, long gpa, boolean exclusive, boolean hold) {
        if (!exclusive) {
            throw new Step.Malformed("the lock of a Secure EPT entry has no \"mode\": \"shared\"");
        }
        var slot = machine.entry(gpa, true);
        slot.write(hold ? slot.read() | SeptEntry.LOCK : slot.read() & ~SeptEntry.LOCK);
    }

    /// As the module's own release does: that of an exclusive lock wipes readers that had failed.
    private static void plain(LockWord word, boolean exclusive, boolean hold) {
        if (exclusive) {
            word.set(hold ? EXCLUSIVE : 0);
        } else {
            word.set(word.get() + (hold ? READER : -READER));
        }
    }

    private static void hostPriority(LockWord word, boolean exclusive, boolean hold) {
        if (exclusive) {
            word.set(hold ? EXCLUSIVE : word.get() & HOST_PRIORITY);
        } else {
            word.set(word.get() + (hold ? READER_HP : -READER_HP));
        }
    }
}
