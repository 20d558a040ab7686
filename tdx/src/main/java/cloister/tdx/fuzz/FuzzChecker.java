package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.KeyOwnership;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;

/// What must hold of the module. [#always] also while calls are in progress; [#quick], when none is, looks at locks, keys,
/// reference counts and translations in use; [#sweep] looks at every page.
final class FuzzChecker {
    private static final int EXCLUSIVE = 1;
    private static final int HOST_PRIORITY = 2;
    private static final int READER = 4;

    /// Pages with a TDR and with a TDVPR, as far as seen.
    final TreeSet<Long> tdrs = new TreeSet<>();
    final TreeSet<Long> tdvprs = new TreeSet<>();
    final FuzzLedger ledger;
    private final FuzzMachine machine;
    /// Pages that steps named since the last quiet moment.
    private final TreeSet<Long> touched = new TreeSet<>();
    private final TreeSet<Long> splitUnits = new TreeSet<>();
    /// By address of a PAMT entry, the shared locks that guests in progress hold.
    private final Map<Long, Integer> readers = new HashMap<>();

    FuzzChecker(FuzzMachine machine) {
        this.machine = machine;
        this.ledger = new FuzzLedger(machine);
    }

    private void forget() {
        tdrs.clear();
        tdvprs.clear();
        touched.clear();
        splitUnits.clear();
        ledger.clear();
    }

    /// A SEAMCALL ended.
    void completed(FuzzStep step) {
        if (step.kind == FuzzStep.Kind.CALL) {
            ledger.completed(step);
            if (step.leaf() == SeamcallLeaf.SYS_CONFIG) {
                configuration();
            } else if (step.leaf() == SeamcallLeaf.MEM_PAGE_DEMOTE && machine.registers(step.lp).get(SeamRegs.RAX) == 0) {
                noteSplit(machine.module.tdr(step.operands[2] & SeptEntry.HPA), step.operands[1] & SeptEntry.HPA);
            }
        }
    }

    /// The 2 MiB of the second TDMR that had small pages at some time.
    Set<Long> splitUnits() {
        return splitUnits;
    }

    /// Remembers which 2 MiB of the second TDMR have small pages now.
    private void noteSplit(Tdr tdr, long gpa) {
        long eptp = new Tdcs(machine.memory, tdr).eptp();
        for (long at = gpa; at < gpa + Pamt.bytes(Pamt.SIZE_2M); at += 4096) { // some may have moved away already
            var slot = new Sept(machine.memory, tdr.keyId()).walk(eptp, at, 0);
            if (slot.level() == 0 && FuzzPlatform.inLarge(SeptEntry.pa(slot.value()))) {
                splitUnits.add(SeptEntry.pa(slot.value()) & -Pamt.bytes(Pamt.SIZE_2M));
            }
        }
    }

    /// A step begins.
    void begin(FuzzStep step) {
        if (step.kind == FuzzStep.Kind.RESTART || step.kind == FuzzStep.Kind.BOOT) {
            forget();
        }
        if (step.kind == FuzzStep.Kind.CALL) {
            for (long operand : step.operands) {
                long pa = operand & SeptEntry.HPA;
                if (FuzzPlatform.inPool(pa) && machine.tdmr(pa) != null) {
                    touched.add(pa);
                    learn(pa);
                }
            }
        }
    }

    private void learn(long pa) {
        int type = machine.leafEntry(pa).type();
        member(tdrs, pa, type == PageType.TDR);
        member(tdvprs, pa, type == PageType.TDVPR);
    }

    private static void member(TreeSet<Long> set, long pa, boolean member) {
        if (member) {
            set.add(pa);
        } else {
            set.remove(pa);
        }
    }

    /// At any time, even with calls in progress.
    void always() {
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            if (machine.inGuest[lp]) {
                translations(lp);
            }
        }
    }

    /// When no call is in progress.
    void quick() {
        touched.forEach(this::learn);
        countReaders();
        locks();
        touched.clear();
        if (machine.module.sysState == SysState.READY) {
            keys();
            for (long tdr : tdrs) {
                td(machine.module.tdr(tdr));
            }
        }
        always();
        int running = 0;
        for (boolean in : machine.inGuest) {
            running += in ? 1 : 0;
        }
        check(machine.module.busyLps == running, "%d LPs count as busy, %d are", machine.module.busyLps, running);
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

    private void locks() {
        var module = machine.module;
        free("global", module.globalLock.get());
        free("KeyID table", module.keys.lock.get());
        for (int i = 0; i < machine.platform.packages(); i++) {
            free("cache write-back", module.writeBack[i].lock.get());
        }
        for (var tdmr : module.tdmrs) {
            free("TDMR", tdmr.lock.get());
            if (machine.tdmr(tdmr.info.base()) == tdmr) {
                entryLock(machine.pamt(tdmr.info.base(), Pamt.SIZE_1G), "1 GiB page", tdmr.info.base());
            }
        }
        if (machine.tdmr(FuzzPlatform.POOL) != null) {
            for (long pa = FuzzPlatform.POOL; FuzzPlatform.inPool(pa); pa += Pamt.bytes(Pamt.SIZE_2M)) {
                entryLock(machine.pamt(pa, Pamt.SIZE_2M), "2 MiB page", pa);
            }
            touched.forEach(pa -> entryLock(machine.pamt(pa, Pamt.SIZE_4K), "page", pa));
            tdrs.forEach(pa -> entryLock(machine.pamt(pa, Pamt.SIZE_4K), "TDR", pa));
            tdvprs.forEach(pa -> entryLock(machine.pamt(pa, Pamt.SIZE_4K), "TDVPR", pa));
        }
    }

    private static void free(String lock, int word) {
        check(word == 0, "the %s lock is 0x%x", lock, word);
    }

    private void keys() {
        var module = machine.module;
        var owner = new long[FuzzPlatform.KEYS];
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
            int unwritten = module.keys.writeBackPackages(key);
            check((unwritten & ~module.packageConfigBitmap) == 0 && (unwritten == 0 || state == Tdr.BLOCKED),
                    "KeyID %d of TD 0x%x in life cycle state %d waits for packages 0x%x", key, pa, state, unwritten);
        }
        for (int key = FuzzPlatform.FIRST_PRIVATE_KEY; key < FuzzPlatform.KEYS; key++) {
            var state = module.keys.state(key);
            if (key == module.globalKeyId) {
                check(state == KeyOwnership.State.RESERVED && owner[key] == 0, "the global KeyID is %s", state);
            } else {
                check(state == KeyOwnership.State.FREE || state == KeyOwnership.State.RESERVED || owner[key] != 0,
                        "KeyID %d is %s and has no TD", key, state);
                check(state != KeyOwnership.State.FREE || owner[key] == 0, "KeyID %d is free and belongs to TD 0x%x", key, owner[key]);
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
        tdLock(tdr, "OP_STATE", tdcs.lock(Tdcs.OP_STATE_LOCK).get() & ~HOST_PRIORITY);
        tdLock(tdr, "Secure EPT", tdcs.lock(Tdcs.SECURE_EPT_LOCK).get());
        tdLock(tdr, "epoch", tdcs.lock(Tdcs.EPOCH_LOCK).get());
        tdLock(tdr, "RTMR", tdcs.lock(Tdcs.RTMR_LOCK).get() & ~HOST_PRIORITY);
        tdLock(tdr, "service TD", tdcs.lock(Tdcs.SERVTD_BINDINGS_LOCK).get() & ~HOST_PRIORITY);
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

    private static void tdLock(Tdr tdr, String lock, int word) {
        check(word == 0, "the %s lock of TD 0x%x is 0x%x", lock, tdr.pa, word);
    }

    /// No translation that a running guest may use leads to a page that its TD no longer has.
    private void translations(int lp) {
        var state = machine.lp(lp);
        if (state.tdr == null || state.tdcs == null) {
            return; // on its way in or out
        }
        for (int vm = 0; vm <= state.tdcs.numL2Vms(); vm++) {
            machine.cpus[lp].translations(state.tdcs.septp(state.tdr, vm)).forEach((gpa, pages) -> {
                for (int i = 0; i < pages.length; i++) {
                    var entry = machine.leafEntry(pages[i]);
                    int wanted = i == pages.length - 1 ? PageType.REG : PageType.EPT;
                    check(entry.type() == wanted && entry.ownerPa() == state.tdr.pa,
                            "LP %d may still use a translation of GPA 0x%x by way of page 0x%x, now of type %d and TD 0x%x", lp,
                            gpa, pages[i], entry.type(), entry.ownerPa());
                }
            });
        }
    }

    /// Looks at every page of the pool, when no call is in progress.
    FuzzPages sweep() {
        var pages = new FuzzPages(machine, tdvprs, splitUnits);
        if (machine.module.sysState != SysState.READY || machine.tdmr(FuzzPlatform.POOL) == null) {
            return pages;
        }
        tdrs.clear();
        tdvprs.clear();
        for (int i = 0; i < FuzzPlatform.POOL_FRAMES; i++) {
            learn(FuzzPlatform.POOL + i * 4096L);
        }
        for (long pa : tdrs) {
            pages.claimTd(machine.module.tdr(pa));
            counts(machine.module.tdr(pa));
        }
        pages.finish();
        countReaders();
        for (int i = 0; i < FuzzPlatform.POOL_FRAMES; i++) {
            long pa = FuzzPlatform.POOL + i * 4096L;
            entryLock(machine.pamt(pa, Pamt.SIZE_4K), "page", pa);
        }
        return pages;
    }

    /// The numbers that the TD keeps of its VCPUs, counted again, and what TDH.MNG.INIT and MR.FINALIZE fixed.
    private void counts(Tdr tdr) {
        if (!readable(tdr) || tdr.numTdcx() < Tdcs.MIN_PAGES) {
            return;
        }
        var tdcs = new Tdcs(machine.memory, tdr);
        if (tdcs.opState() == OpState.UNINITIALIZED) {
            return;
        }
        int initialized = 0;
        int associated = 0;
        var indexes = new TreeSet<Integer>();
        for (long pa : tdvprs) {
            if (machine.pamt(pa, Pamt.SIZE_4K).ownerPa() != tdr.pa) {
                continue;
            }
            var vcpu = Tdvps.rootOnly(machine.memory, pa, tdr.keyId());
            if (vcpu.state() != Tdvps.UNINITIALIZED) {
                initialized++;
                check(indexes.add(vcpu.index()) && vcpu.index() < tdcs.u32(Tdcs.NUM_VCPUS), "VCPU 0x%x of TD 0x%x has index %d", pa,
                        tdr.pa, vcpu.index());
            }
            associated += vcpu.u32(Tdvps.ASSOC_LPID) != Tdvps.NO_LP ? 1 : 0;
            check(vcpu.state() != Tdvps.ACTIVE || tdr.fatal() || runs(pa), "VCPU 0x%x of TD 0x%x is active and runs nowhere", pa, tdr.pa);
        }
        check(tdcs.u32(Tdcs.NUM_VCPUS) == initialized + ledger.lostVcpus(tdr.pa), "TD 0x%x counts %d VCPUs, it has %d and lost %d",
                tdr.pa, tdcs.u32(Tdcs.NUM_VCPUS), initialized, ledger.lostVcpus(tdr.pa));
        check(tdcs.u32(Tdcs.NUM_ASSOC_VCPUS) == associated, "TD 0x%x counts %d associated VCPUs, it has %d", tdr.pa,
                tdcs.u32(Tdcs.NUM_ASSOC_VCPUS), associated);
        check(tdcs.u32(Tdcs.NUM_VCPUS) <= tdcs.u32(Tdcs.MAX_VCPUS), "TD 0x%x has more VCPUs than allowed", tdr.pa);
        ledger.mrtd(tdr.pa, tdcs);
        TdRules.check(machine.module.config, tdr, tdcs);
    }

    private boolean runs(long tdvprPa) {
        for (int i = 0; i < machine.cpus.length; i++) {
            if (machine.inGuest[i] && machine.lp(i).vcpu.tdvprPa == tdvprPa) {
                return true;
            }
        }
        return false;
    }

    /// A module that was configured, whatever was asked: the memory given to it can be given.
    void configuration() {
        ModuleState module = machine.module;
        if (module.sysState == SysState.CONFIG_DONE || module.sysState == SysState.READY) {
            Bringup.checkTdmrs(machine.platform, module.tdmrs);
        }
    }
}
