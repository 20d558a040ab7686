package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzChecker.check;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeptState;
import cloister.tdx.core.L2SeptEntry;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.util.Set;

/// A full look at who owns which page: what each TD's structures name, against the PAMT.
final class FuzzPages {
    private static final int ENTRIES = 512;

    private final FuzzMachine machine;
    private final PhysicalMemory memory;
    private final Set<Long> tdvprs;
    /// By frame of the pool, the TD whose structures name it.
    private final long[] claimant = new long[FuzzMachine.POOL_FRAMES];
    private long children;

    FuzzPages(FuzzMachine machine, Set<Long> tdvprs) {
        this.machine = machine;
        this.memory = machine.memory;
        this.tdvprs = tdvprs;
    }

    private static int frame(long pa) {
        return (int) (pa - FuzzMachine.POOL >>> 12);
    }

    void claimTd(Tdr tdr) {
        check(memory.ownedWhollyBy(tdr.pa, FuzzMachine.GLOBAL_KEY), "TDR 0x%x is not encrypted with the global KeyID", tdr.pa);
        hidden(tdr.pa);
        children = 0;
        claimant[frame(tdr.pa)] = tdr.pa;
        switch (tdr.lifecycleState()) {
            case Tdr.KEYS_CONFIGURED, Tdr.BLOCKED -> claimAll(tdr);
            case Tdr.TEARDOWN -> countOwned(tdr);
            default -> {
            }
        }
        check(tdr.u64(Tdr.CHLDCNT) == children, "TD 0x%x counts %d pages, it has %d", tdr.pa, tdr.u64(Tdr.CHLDCNT), children);
    }

    /// The key is gone: only the PAMT tells which pages the TD still has.
    private void countOwned(Tdr tdr) {
        for (int i = 0; i < FuzzMachine.POOL_FRAMES; i++) {
            long pa = FuzzMachine.POOL + i * 4096L;
            var entry = machine.leafEntry(pa);
            if (entry.type() != PageType.NDA && entry.type() != PageType.TDR && entry.ownerPa() == tdr.pa) {
                claimant[i] = tdr.pa;
                children++;
            }
        }
    }

    private void claimAll(Tdr tdr) {
        for (int i = 0; i < tdr.numTdcx(); i++) {
            claim(tdr, PhysicalMemory.pa(tdr.tdcxHpa(i)), PageType.TDCX, 0);
        }
        for (long pa : tdvprs) {
            if (machine.pamt(pa, Pamt.SIZE_4K).ownerPa() == tdr.pa) {
                claimVcpu(tdr, pa);
            }
        }
        if (tdr.numTdcx() < Tdcs.MIN_PAGES) {
            return;
        }
        var tdcs = new Tdcs(memory, tdr);
        if (tdcs.opState() != OpState.UNINITIALIZED) {
            table(tdr, tdcs, PhysicalMemory.pa(tdcs.eptp() & SeptEntry.HPA), tdcs.rootLevel(), 0);
            for (int vm = 1; vm <= tdcs.numL2Vms(); vm++) {
                l2Table(tdr, tdcs, PhysicalMemory.pa(tdcs.septp(tdr, vm) & SeptEntry.HPA), tdcs.rootLevel(), 0, vm);
            }
        }
    }

    private void claimVcpu(Tdr tdr, long tdvprPa) {
        claim(tdr, tdvprPa, PageType.TDVPR, 0);
        var vcpu = Tdvps.rootOnly(memory, tdvprPa, tdr.keyId());
        for (int i = 1; i < vcpu.u8(Tdvps.NUM_PAGES); i++) {
            claim(tdr, PhysicalMemory.pa(vcpu.u64(Tdvps.PAGE_PA + 8 * i)), PageType.TDCX, 0);
        }
    }

    private void claim(Tdr tdr, long pa, int type, int size) {
        check(FuzzMachine.inPool(pa) && (pa & Pamt.bytes(size) - 1) == 0, "TD 0x%x has page 0x%x of size %d", tdr.pa, pa, size);
        var entry = machine.pamt(pa, size);
        check(entry.type() == type && entry.ownerPa() == tdr.pa,
                "TD 0x%x uses page 0x%x of size %d as type %d, the PAMT says type %d of TD 0x%x", tdr.pa, pa, size, type,
                entry.type(), entry.ownerPa());
        for (long at = pa; at < pa + Pamt.bytes(size); at += 4096) {
            check(claimant[frame(at)] == 0, "page 0x%x belongs to TD 0x%x and TD 0x%x, or twice to it", at, claimant[frame(at)],
                    tdr.pa);
            check(size == 0 || machine.pamt(at, Pamt.SIZE_4K).type() == PageType.NDA,
                    "page 0x%x within a 2 MiB page is not free", at);
            claimant[frame(at)] = tdr.pa;
            children++;
        }
        if (type != PageType.REG) {
            check(memory.ownedWhollyBy(pa, tdr.keyId()), "page 0x%x of TD 0x%x is not encrypted with its KeyID", pa, tdr.pa);
            hidden(pa);
        }
    }

    /// The host reads zeros.
    private void hidden(long pa) {
        for (int i = 0; i < 4096; i += 512) {
            check(memory.read(pa + i, 8) == 0, "the host reads private content at 0x%x", pa + i);
        }
    }

    private long entry(Tdr tdr, long tablePa, int index) {
        return memory.read(PhysicalMemory.hpa(tablePa, tdr.keyId()) + 8L * index, 8);
    }

    private void table(Tdr tdr, Tdcs tdcs, long tablePa, int level, long gpa) {
        for (int i = 0; i < ENTRIES; i++) {
            long entry = entry(tdr, tablePa, i) & ~SeptEntry.HOST_PRIORITY;
            if (entry == SeptEntry.INIT) {
                continue;
            }
            long at = gpa | (long) i << 12 + 9 * level;
            var state = SeptState.of(entry);
            check(state != null, "Secure EPT entry 0x%x of GPA 0x%x, level %d, has no state", entry, at, level);
            check((entry & SeptEntry.LOCK) == 0, "the Secure EPT entry of GPA 0x%x, level %d, is locked", at, level);
            check((entry & SeptEntry.SUPPRESS_VE) != 0, "a Secure EPT entry of GPA 0x%x is convertible", at);
            if (state == SeptState.FREE || state == SeptState.REMOVED) {
                check(state != SeptState.FREE, "free Secure EPT entry 0x%x of GPA 0x%x, level %d", entry, at, level);
            } else if (SeptEntry.isLeaf(entry)) {
                leaf(tdr, tdcs, entry, state, level, at);
            } else {
                check(level > 0, "a table below the last level at GPA 0x%x", at);
                claim(tdr, SeptEntry.pa(entry), PageType.EPT, 0);
                blockedEpoch(tdcs, state, machine.pamt(SeptEntry.pa(entry), Pamt.SIZE_4K), at);
                check(SeptEntry.isPresent(entry) == !state.anyBlocked(), "entry 0x%x of GPA 0x%x is %s", entry, at, state);
                table(tdr, tdcs, SeptEntry.pa(entry), level - 1, at);
            }
        }
    }

    private void leaf(Tdr tdr, Tdcs tdcs, long entry, SeptState state, int level, long gpa) {
        check(level <= Pamt.SIZE_1G, "a leaf at level %d", level);
        long pa = SeptEntry.leafPa(entry, 0, level);
        claim(tdr, pa, PageType.REG, level);
        blockedEpoch(tdcs, state, machine.pamt(pa, level), gpa);
        check(SeptEntry.isPresent(entry) == state.guestAccessibleLeaf(), "entry 0x%x of GPA 0x%x is %s", entry, gpa, state);
        if (state == SeptState.MAPPED || state == SeptState.BLOCKED) {
            for (long at = pa; at < pa + Pamt.bytes(level); at += 4096) {
                check(memory.ownedWhollyBy(at, tdr.keyId()), "page 0x%x of TD 0x%x is not encrypted with its KeyID", at, tdr.pa);
                check(memory.read(at, 8) == 0, "the host reads private content at 0x%x", at);
            }
        }
    }

    private static void blockedEpoch(Tdcs tdcs, SeptState state, PamtEntry page, long gpa) {
        if (state.anyBlocked()) {
            check(Long.compareUnsigned(page.bepoch(), tdcs.epoch()) <= 0, "GPA 0x%x was blocked in epoch %d, the TD is in %d", gpa,
                    page.bepoch(), tdcs.epoch());
        }
    }

    private void l2Table(Tdr tdr, Tdcs tdcs, long tablePa, int level, long gpa, int vm) {
        for (int i = 0; i < ENTRIES; i++) {
            long entry = entry(tdr, tablePa, i);
            if (L2SeptEntry.isFree(entry)) {
                continue;
            }
            long at = gpa | (long) i << 12 + 9 * level;
            var l1 = new Sept(memory, tdr.keyId()).walk(tdcs.eptp(), at, level);
            boolean below = l1.level() > level && !SeptEntry.isLeaf(l1.value()) && !SeptEntry.isFree(l1.value());
            if (SeptEntry.isLeaf(entry)) {
                check(below || l1.level() == level && SeptEntry.isAliased(l1.value(), vm)
                        && SeptEntry.leafPa(l1.value(), 0, level) == SeptEntry.leafPa(entry, 0, level),
                        "L2 VM %d maps GPA 0x%x at level %d with entry 0x%x, L1 has 0x%x", vm, at, level, entry, l1.value());
            } else {
                check(level > 0, "an L2 table below the last level at GPA 0x%x", at);
                claim(tdr, SeptEntry.pa(entry), PageType.EPT, 0);
                l2Table(tdr, tdcs, SeptEntry.pa(entry), level - 1, at, vm);
            }
        }
    }

    /// Every page in use has a TD that names it.
    void finish() {
        for (int i = 0; i < FuzzMachine.POOL_FRAMES; i++) {
            long pa = FuzzMachine.POOL + i * 4096L;
            var entry = machine.leafEntry(pa);
            check(entry.type() == PageType.NDA || claimant[i] != 0 && (entry.type() == PageType.TDR
                    || entry.ownerPa() == claimant[i]), "page 0x%x has type %d and owner 0x%x, but nothing refers to it", pa,
                    entry.type(), entry.ownerPa());
            check(entry.type() != PageType.NDA || claimant[i] == 0, "page 0x%x is free and used by TD 0x%x", pa, claimant[i]);
        }
    }
}
