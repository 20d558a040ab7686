package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

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
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/// A full look at who owns which page: what each TD's structures name, against the PAMT.
final class FuzzPages {
    private static final int ENTRIES = 512;
    private static final long UNIT = 0x20_0000L;

    private final FuzzMachine machine;
    private final PhysicalMemory memory;
    private final Set<Long> tdvprs;
    /// 2 MiB units of the second TDMR that were split into small pages at some time.
    private final Set<Long> splitUnits;
    /// By frame of the pool, the TD whose structures name it.
    private final long[] claimant = new long[FuzzPlatform.POOL_FRAMES];
    /// The same by 2 MiB of the second TDMR, and by frame where a unit is split.
    private final long[] largeClaimant = new long[ENTRIES];
    private final Map<Long, Long> splitClaimant = new HashMap<>();
    private long children;

    FuzzPages(FuzzMachine machine, Set<Long> tdvprs, Set<Long> splitUnits) {
        this.machine = machine;
        this.memory = machine.memory;
        this.tdvprs = tdvprs;
        this.splitUnits = splitUnits;
    }

    private static int frame(long pa) {
        return (int) ((pa - FuzzPlatform.POOL) >>> 12);
    }

    private static int unit(long pa) {
        return (int) ((pa - FuzzPlatform.LARGE_TDMR) / UNIT);
    }

    void claimTd(Tdr tdr) {
        check(memory.ownedWhollyBy(tdr.pa, machine.module.globalKeyId), "TDR 0x%x is not encrypted with the global KeyID", tdr.pa);
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

    private static boolean belongs(PamtEntry entry, Tdr tdr) {
        return entry.type() > PageType.RSVD && entry.type() != PageType.TDR && entry.ownerPa() == tdr.pa;
    }

    /// The key is gone: only the PAMT tells which pages the TD still has.
    private void countOwned(Tdr tdr) {
        for (int i = 0; i < FuzzPlatform.POOL_FRAMES; i++) {
            if (belongs(machine.leafEntry(FuzzPlatform.POOL + i * 4096L), tdr)) {
                claimant[i] = tdr.pa;
                children++;
            }
        }
        if (machine.tdmr(FuzzPlatform.LARGE_TDMR) == null) {
            return;
        }
        boolean giant = belongs(machine.pamt(FuzzPlatform.LARGE_TDMR, Pamt.SIZE_1G), tdr);
        for (int i = 0; i < ENTRIES; i++) {
            long pa = FuzzPlatform.LARGE_TDMR + i * UNIT;
            if (giant || belongs(machine.pamt(pa, Pamt.SIZE_2M), tdr)) {
                largeClaimant[i] = tdr.pa;
                children += ENTRIES;
            } else if (splitUnits.contains(pa)) {
                for (long at = pa; at < pa + UNIT; at += 4096) {
                    if (belongs(machine.pamt(at, Pamt.SIZE_4K), tdr)) {
                        splitClaimant.put(at, tdr.pa);
                        children++;
                    }
                }
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
        var streams = new Tdcs(memory, tdr);
        for (int i = 0; i < streams.u16(Tdcs.NUM_MIGS); i++) {
            claim(tdr, streams.u64(Tdcs.MIGSC_LINKS + 8 * i) & 0xf_ffff_ffff_f000L, PageType.TDCX, 0);
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
        boolean large = FuzzPlatform.inLarge(pa);
        check((large || FuzzPlatform.inPool(pa)) && (pa & (Pamt.bytes(size) - 1)) == 0, "TD 0x%x has page 0x%x of size %d", tdr.pa, pa,
                size);
        var entry = machine.pamt(pa, size);
        check(entry.type() == type && entry.ownerPa() == tdr.pa,
                "TD 0x%x uses page 0x%x of size %d as type %d, the PAMT says type %d of TD 0x%x", tdr.pa, pa, size, type,
                entry.type(), entry.ownerPa());
        children += 1L << (9 * size);
        if (large) {
            claimLarge(tdr, pa, size);
            return;
        }
        for (long at = pa; at < pa + Pamt.bytes(size); at += 4096) {
            check(claimant[frame(at)] == 0, "page 0x%x belongs to TD 0x%x and TD 0x%x, or twice to it", at, claimant[frame(at)],
                    tdr.pa);
            check(size == 0 || machine.pamt(at, Pamt.SIZE_4K).type() == PageType.NDA,
                    "page 0x%x within a 2 MiB page is not free", at);
            claimant[frame(at)] = tdr.pa;
        }
        if (type != PageType.REG) {
            check(memory.ownedWhollyBy(pa, tdr.keyId()), "page 0x%x of TD 0x%x is not encrypted with its KeyID", pa, tdr.pa);
            hidden(pa);
        }
    }

    private void claimLarge(Tdr tdr, long pa, int size) {
        if (size == Pamt.SIZE_4K) {
            splitUnits.add(pa & -UNIT);
            check(splitClaimant.put(pa, tdr.pa) == null && largeClaimant[unit(pa)] == 0, "page 0x%x belongs to two TDs", pa);
            return;
        }
        for (long at = pa; at < pa + Pamt.bytes(size); at += UNIT) {
            check(largeClaimant[unit(at)] == 0, "page 0x%x belongs to TD 0x%x and TD 0x%x, or twice to it", at,
                    largeClaimant[unit(at)], tdr.pa);
            check(size == Pamt.SIZE_2M || machine.pamt(at, Pamt.SIZE_2M).type() == PageType.NDA,
                    "page 0x%x within a 1 GiB page is not free", at);
            largeClaimant[unit(at)] = tdr.pa;
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
            long at = gpa | ((long) i << (12 + 9 * level));
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
        check(level < 3, "a leaf of GPA 0x%x at level %d", gpa, level);
        long pa = SeptEntry.leafPa(entry, 0, level);
        claim(tdr, pa, PageType.REG, level);
        blockedEpoch(tdcs, state, machine.pamt(pa, level), gpa);
        boolean accessible = state.guestAccessibleLeaf();
        check(SeptEntry.isPresent(entry) == accessible, "entry 0x%x of GPA 0x%x is %s", entry, gpa, state);
        boolean counts = level == 1 && state.guestAcceptable();
        check(counts || level == 0 || SeptEntry.acceptCounter(entry) == 0, "entry 0x%x of GPA 0x%x, level %d", entry, gpa, level);
        if (state == SeptState.MAPPED || state == SeptState.BLOCKED) {
            for (long at = pa; at < pa + Pamt.bytes(level); at += 4096) {
                check(memory.ownedWhollyBy(at, tdr.keyId()), "page 0x%x of TD 0x%x is not encrypted with its KeyID", at, tdr.pa);
                check(memory.read(at, 8) == 0, "the host reads private content at 0x%x", at);
            }
        }
        for (int vm = 1; vm <= 3; vm++) {
            if (SeptEntry.isAliased(entry, vm)) {
                check(vm <= tdcs.numL2Vms(), "GPA 0x%x is mapped in L2 VM %d of %d", gpa, vm, tdcs.numL2Vms());
                var l2 = new Sept(memory, tdr.keyId()).walkL2GuestSide(tdcs.septp(tdr, vm), gpa, level);
                check(l2.level() == level && SeptEntry.isLeaf(l2.value()), "GPA 0x%x counts as mapped in L2 VM %d, where it has 0x%x",
                        gpa, vm, l2.value());
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
            long at = gpa | ((long) i << (12 + 9 * level));
            var l1 = new Sept(memory, tdr.keyId()).walk(tdcs.eptp(), at, level);
            boolean below = l1.level() > level && !SeptEntry.isLeaf(l1.value()) && !SeptEntry.isFree(l1.value());
            if (SeptEntry.isLeaf(entry)) {
                check(below || (l1.level() == level && SeptEntry.isAliased(l1.value(), vm)
                        && SeptEntry.leafPa(l1.value(), 0, level) == SeptEntry.leafPa(entry, 0, level)),
                        "L2 VM %d maps GPA 0x%x at level %d with entry 0x%x, L1 has 0x%x", vm, at, level, entry, l1.value());
                check(!SeptEntry.isPresent(entry) || below || SeptEntry.isPresent(l1.value()),
                        "L2 VM %d can access GPA 0x%x, which L1 cannot: entry 0x%x, L1 0x%x", vm, at, entry, l1.value());
            } else {
                check(level > 0, "an L2 table below the last level at GPA 0x%x", at);
                claim(tdr, SeptEntry.pa(entry), PageType.EPT, 0);
                l2Table(tdr, tdcs, SeptEntry.pa(entry), level - 1, at, vm);
            }
        }
    }

    /// Every page in use has a TD that names it.
    void finish() {
        for (int i = 0; i < FuzzPlatform.POOL_FRAMES; i++) {
            long pa = FuzzPlatform.POOL + i * 4096L;
            owner(pa, machine.leafEntry(pa), claimant[i]);
        }
        if (machine.tdmr(FuzzPlatform.LARGE_TDMR) == null) {
            return;
        }
        var giant = machine.pamt(FuzzPlatform.LARGE_TDMR, Pamt.SIZE_1G);
        for (int i = 0; i < ENTRIES; i++) {
            long pa = FuzzPlatform.LARGE_TDMR + i * UNIT;
            owner(pa, giant.type() == PageType.REG ? giant : machine.pamt(pa, Pamt.SIZE_2M), largeClaimant[i]);
            for (long at = pa; splitUnits.contains(pa) && at < pa + UNIT; at += 4096) {
                owner(at, machine.pamt(at, Pamt.SIZE_4K), splitClaimant.getOrDefault(at, 0L));
            }
        }
    }

    private static void owner(long pa, PamtEntry entry, long claimant) {
        int type = entry.type();
        boolean free = type == PageType.NDA || type == PageType.RSVD;
        check(free || (claimant != 0 && (type == PageType.TDR || entry.ownerPa() == claimant)),
                "page 0x%x has type %d and owner 0x%x, but nothing refers to it", pa, type, entry.ownerPa());
        check(!free || claimant == 0, "page 0x%x is free and used by TD 0x%x", pa, claimant);
    }

    /// How many pages the TDs have, to see that a test does not look at nothing.
    int claimed() {
        return (int) Arrays.stream(claimant).filter(pa -> pa != 0).count();
    }
}
