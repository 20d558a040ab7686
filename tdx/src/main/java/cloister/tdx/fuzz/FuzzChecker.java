package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeSet;

/// What must hold of the module between calls. [#quick] looks at locks, keys, reference counts and translations in use;
/// [#sweep] looks at every page.
final class FuzzChecker {
    private static final int EXCLUSIVE = 1;
    private static final int HOST_PRIORITY = 2;
    private static final int READER = 4;

    /// Pages with a TDR and with a TDVPR, as far as seen.
    final TreeSet<Long> tdrs = new TreeSet<>();
    final TreeSet<Long> tdvprs = new TreeSet<>();
    private final FuzzMachine machine;
    private final ModuleState module;
    /// By address of a PAMT entry, the shared locks that guests in progress hold.
    private final Map<Long, Integer> readers = new HashMap<>();

    FuzzChecker(FuzzMachine machine) {
        this.machine = machine;
        this.module = machine.module;
    }

    static void check(boolean holds, String format, Object... arguments) {
        if (!holds) {
            throw new FuzzFinding(String.format(format, arguments));
        }
    }

    /// After `step`, when no call is in progress.
    void quick(FuzzStep step) {
        touch(step);
        step.inner.forEach(i -> touch(i.step()));
        countReaders();
        locks(step);
        step.inner.forEach(i -> locks(i.step()));
        keys();
        for (long tdr : tdrs) {
            td(module.tdr(tdr));
        }
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            if (machine.inGuest[lp]) {
                translations(lp);
            }
        }
        int running = 0;
        for (boolean in : machine.inGuest) {
            running += in ? 1 : 0;
        }
        check(module.busyLps == running, "%d LPs count as busy, %d are", module.busyLps, running);
    }

    private void touch(FuzzStep step) {
        for (long operand : step.operands) {
            long pa = operand & SeptEntry.HPA;
            if (FuzzMachine.inPool(pa)) {
                learn(pa);
            }
        }
    }

    private void learn(long pa) {
        int type = machine.leafEntry(pa).type();
        note(tdrs, pa, type == PageType.TDR);
        note(tdvprs, pa, type == PageType.TDVPR);
    }

    private static void note(TreeSet<Long> set, long pa, boolean member) {
        if (member) {
            set.add(pa);
        } else {
            set.remove(pa);
        }
    }

    private void countReaders() {
        readers.clear();
        for (int i = 0; i < machine.cpus.length; i++) {
            var lp = machine.lp(i);
            check(machine.inGuest[i] == (lp.tdvprPage != null), "LP %d is %sin a guest but the module thinks otherwise", i,
                    machine.inGuest[i] ? "" : "not ");
            if (lp.tdvprPage != null) {
                count(lp.tdvprPage);
                count(lp.tdrPage);
            }
        }
    }

    private void count(LockedPage page) {
        readers.merge(page.entry().hpa(), 1, Integer::sum);
        if (page.middle() != null) {
            readers.merge(page.middle().hpa(), 1, Integer::sum);
        }
        if (page.upper() != null) {
            readers.merge(page.upper().hpa(), 1, Integer::sum);
        }
    }

    private void entryLock(PamtEntry entry, String what, long pa) {
        int word = entry.lock().get();
        int held = readers.getOrDefault(entry.hpa(), 0);
        check((word & EXCLUSIVE) == 0 && (word & ~HOST_PRIORITY) == held * READER,
                "the PAMT lock of %s 0x%x is 0x%x with %d holders", what, pa, word, held);
    }

    private void locks(FuzzStep step) {
        check(module.globalLock.get() == 0, "the global lock is 0x%x", module.globalLock.get());
        check(module.keys.lock.get() == 0, "the lock of the KeyID table is 0x%x", module.keys.lock.get());
        check(module.writeBack[0].lock.get() == 0, "the cache write-back lock is 0x%x", module.writeBack[0].lock.get());
        entryLock(machine.pamt(FuzzMachine.TDMR, Pamt.SIZE_1G), "1 GiB page", FuzzMachine.TDMR);
        for (int i = 0; i <= FuzzMachine.LARGE_PAGES; i++) {
            long pa = FuzzMachine.POOL + i * Pamt.bytes(Pamt.SIZE_2M);
            entryLock(machine.pamt(pa, Pamt.SIZE_2M), "2 MiB page", pa);
        }
        for (long operand : step.operands) {
            long pa = operand & SeptEntry.HPA;
            if (FuzzMachine.inPool(pa)) {
                entryLock(machine.pamt(pa, Pamt.SIZE_4K), "page", pa);
            }
        }
        tdrs.forEach(pa -> entryLock(machine.pamt(pa, Pamt.SIZE_4K), "TDR", pa));
        tdvprs.forEach(pa -> entryLock(machine.pamt(pa, Pamt.SIZE_4K), "TDVPR", pa));
    }

    private void keys() {
        var owner = new long[FuzzMachine.KEYS];
        for (long pa : tdrs) {
            var tdr = module.tdr(pa);
            int key = tdr.keyId();
            int state = tdr.lifecycleState();
            if (state == Tdr.TEARDOWN) {
                continue;
            }
            check(owner[key] == 0, "KeyID %d belongs to TDs 0x%x and 0x%x", key, owner[key], pa);
            owner[key] = pa;
            var wanted = state == Tdr.BLOCKED ? KeyOwnership.State.FLUSHED : KeyOwnership.State.ASSIGNED;
            check(module.keys.state(key) == wanted, "KeyID %d of TD 0x%x in life cycle state %d is %s", key, pa, state,
                    module.keys.state(key));
        }
        for (int key = FuzzMachine.FIRST_PRIVATE_KEY; key < FuzzMachine.KEYS; key++) {
            var state = module.keys.state(key);
            if (key == FuzzMachine.GLOBAL_KEY) {
                check(state == KeyOwnership.State.RESERVED && owner[key] == 0, "the global KeyID is %s", state);
            } else {
                check(state == KeyOwnership.State.FREE || owner[key] != 0, "KeyID %d is %s and has no TD", key, state);
            }
        }
    }

    /// Whether the control structures of a TD can be read.
    private static boolean readable(Tdr tdr) {
        return tdr.lifecycleState() == Tdr.KEYS_CONFIGURED || tdr.lifecycleState() == Tdr.BLOCKED;
    }

    private void td(Tdr tdr) {
        if (!readable(tdr) || tdr.numTdcx() < Tdcs.MIN_PAGES) {
            return;
        }
        var tdcs = new Tdcs(machine.memory, tdr);
        free(tdr, "OP_STATE", tdcs.lock(Tdcs.OP_STATE_LOCK).get() & ~HOST_PRIORITY);
        free(tdr, "Secure EPT", tdcs.lock(Tdcs.SECURE_EPT_LOCK).get());
        free(tdr, "epoch", tdcs.lock(Tdcs.EPOCH_LOCK).get());
        free(tdr, "RTMR", tdcs.lock(Tdcs.RTMR_LOCK).get() & ~HOST_PRIORITY);
        if (tdcs.opState() == OpState.UNINITIALIZED || tdr.fatal()) {
            return;
        }
        int[] running = new int[2];
        for (int i = 0; i < machine.cpus.length; i++) {
            var lp = machine.lp(i);
            if (lp.tdr != null && lp.tdr.pa == tdr.pa) {
                long epoch = lp.vcpu.u64(Tdvps.VCPU_EPOCH);
                long behind = tdcs.epoch() - epoch;
                check(behind == 0 || behind == 1, "a VCPU of TD 0x%x runs in epoch %d, the TD's is %d", tdr.pa, epoch,
                        tdcs.epoch());
                check(lp.vcpu.state() == Tdvps.ACTIVE && lp.vcpu.u32(Tdvps.ASSOC_LPID) == i,
                        "LP %d runs a VCPU of TD 0x%x in state %d, associated with LP %d", i, tdr.pa, lp.vcpu.state(),
                        lp.vcpu.u32(Tdvps.ASSOC_LPID));
                running[(int) epoch & 1]++;
            }
        }
        for (int i = 0; i < 2; i++) {
            check(tdcs.refcount(i) == running[i], "TD 0x%x counts %d VCPUs in epochs of parity %d, there are %d", tdr.pa,
                    tdcs.refcount(i), i, running[i]);
        }
    }

    private static void free(Tdr tdr, String lock, int word) {
        check(word == 0, "the %s lock of TD 0x%x is 0x%x", lock, tdr.pa, word);
    }

    /// No translation that a running guest may use leads to a page that its TD no longer has.
    private void translations(int lp) {
        var state = machine.lp(lp);
        machine.cpus[lp].translations(state.tdcs.eptp()).forEach((gpa, pages) -> {
            for (int i = 0; i < pages.length; i++) {
                var entry = machine.leafEntry(pages[i]);
                int wanted = i == pages.length - 1 ? PageType.REG : PageType.EPT;
                check(entry.type() == wanted && entry.ownerPa() == state.tdr.pa,
                        "LP %d may still use a translation of GPA 0x%x by way of page 0x%x, now of type %d and TD 0x%x", lp,
                        gpa, pages[i], entry.type(), entry.ownerPa());
            }
        });
    }

    /// Looks at every page of the pool.
    void sweep() {
        tdrs.clear();
        tdvprs.clear();
        for (int i = 0; i < FuzzMachine.POOL_FRAMES; i++) {
            learn(FuzzMachine.POOL + i * 4096L);
        }
        var pages = new FuzzPages(machine, tdvprs);
        for (long pa : tdrs) {
            pages.claimTd(module.tdr(pa));
        }
        pages.finish();
        countReaders();
        for (int i = 0; i < FuzzMachine.POOL_FRAMES; i++) {
            long pa = FuzzMachine.POOL + i * 4096L;
            entryLock(machine.pamt(pa, Pamt.SIZE_4K), "page", pa);
        }
    }
}
