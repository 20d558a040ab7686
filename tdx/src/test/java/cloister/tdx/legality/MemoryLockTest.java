package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Tdcs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Supplier;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// Every host-side memory function and every lock that it takes, held by another LP in every mode: the status and its operand, RCX
/// and RDX, what the failed attempt leaves in the lock, and that nothing else changes. [TDX-BASE "Concurrency Restrictions and
/// Enforcement"]
class MemoryLockTest {
    private static final long BUSY = 0x8000_0200_0000_0000L;
    private static final long OP_STATE = 0xac;
    private static final long SEPT_TREE = 0x92;
    private static final long TD_EPOCH = 0xa9;
    private static final long NULL_PA = ModuleState.NULL_PA;
    private static final int EXCLUSIVE = 1;
    private static final int HOST_PRIORITY = 2;
    private static final int HP_READER = 4;
    private static final int READER = 2;
    private static final long ENTRY_LOCK = 1L << 11;
    private static final long ENTRY_HOST_PRIORITY = 1L << 52;

    private static final long SMALL_GPA = 0x2000;
    private static final long LARGE_GPA = 0x20_0000;
    private static final long SMALL = 0x1_0004_0000L;
    private static final long LARGE = 0x1_0080_0000L;
    private static final long TABLE = 0x1_0004_1000L;
    private static final long PARTS = 0x1_00a0_0000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final long PAGE = PhysicalMemory.FRAME_SIZE;

    private static MemoryTd td;

    /// Shared/exclusive with and without host priority; one taken as a reader that then becomes the writer; an entry's bit.
    private enum Kind { HP, PLAIN, PROMOTED, ENTRY }

    /// @param hpa     its address
    /// @param reports whether the function reports the entry in RCX and RDX when it cannot have it
    private record Lock(String name, long hpa, Kind kind, boolean exclusive, long operand, boolean reports) {
        long word() {
            return PhysicalMemory.pa(hpa) & -8;
        }

        int shift() {
            return (int) (hpa & 7) * 8;
        }

        int heldBy(boolean exclusively) {
            return exclusively ? EXCLUSIVE : kind == Kind.PLAIN ? READER : HP_READER;
        }

        /// What a failed attempt makes of the word.
        int residue(int held) {
            boolean asReader = (kind == Kind.PROMOTED && held == EXCLUSIVE) || (kind != Kind.PROMOTED && !exclusive);
            if (kind == Kind.PLAIN) {
                return asReader ? held + READER : held;
            }
            return (asReader ? held + HP_READER : held) | HOST_PRIORITY;
        }
    }

    /// A call that succeeds when nobody holds a lock.
    ///
    /// @param fills pages that the function may fill before it fails
    private record Call(String name, Runnable prepare, SeamRegs regs, SeamRegs failed, long gpa, int level, List<Lock> locks,
            List<Long> fills) {
    }

    @BeforeAll static void build() {
        td = new MemoryTd(false);
    }

    @AfterAll static void close() {
        td.close();
    }

    // What each function locks

    private static Lock hp(String name, PamtEntry entry, boolean exclusive, long operand) {
        return new Lock(name, entry.hpa(), Kind.HP, exclusive, operand, false);
    }

    private static List<Lock> locks(long tdrOperand, boolean treeExclusive, long gpa, int level) {
        var locks = new ArrayList<>(tdrLocks(false, tdrOperand));
        locks.add(new Lock("operation state", td.tdcs().at(Tdcs.OP_STATE_LOCK), Kind.HP, false, OP_STATE, false));
        if (gpa >= 0) {
            locks.add(new Lock("tree", td.tdcs().at(Tdcs.SECURE_EPT_LOCK), Kind.PLAIN, treeExclusive, SEPT_TREE, false));
            locks.add(new Lock("entry", td.entry(0, gpa, level).entryHpa(), Kind.ENTRY, true, 1, true));
        }
        return locks;
    }

    private static List<Lock> tdrLocks(boolean exclusive, long operand) {
        return List.of(hp("TDR", td.pamt(MemoryTd.TDR, 0), exclusive, operand), hp("TDR's 2 MiB", td.pamt(MemoryTd.TDR, 1), false,
                operand), hp("TDR's 1 GiB", td.pamt(MemoryTd.TDR, 2), false, operand));
    }

    private static List<Lock> with(List<Lock> locks, Lock... more) {
        var all = new ArrayList<>(locks);
        all.addAll(Arrays.asList(more));
        return all;
    }

    private static Lock page(long pa, long operand) {
        return hp("page " + Long.toHexString(pa), td.pamt(pa, 0), true, operand);
    }

    private static Lock around(long pa, long operand) {
        return hp("2 MiB around " + Long.toHexString(pa), td.pamt(pa, 1), false, operand);
    }

    /// A call whose failures return RCX = RDX = 0 unless they report the entry.
    private static Call call(String name, Runnable prepare, SeamRegs regs, long gpa, int level, List<Lock> locks) {
        return call(name, prepare, regs, gpa, level, locks, List.of());
    }

    private static Call call(String name, Runnable prepare, SeamRegs regs, long gpa, int level, List<Lock> locks, List<Long> fills) {
        var failed = new SeamRegs();
        System.arraycopy(regs.array(), 0, failed.array(), 0, regs.array().length);
        failed.set(SeamRegs.RCX, 0);
        failed.set(SeamRegs.RDX, 0);
        return new Call(name, prepare, regs, failed, gpa, level, locks, fills);
    }

    private static void become(int vm, long gpa, int level, String state, long pa) {
        td.entry(vm, gpa, level).write(SeptCase.named(state).entry(pa));
        if (SeptCase.named(state).leaf()) {
            td.own(pa, level, PageType.REG);
            td.module().fillPage(td.td.tdr.withKey(pa), 7);
        }
    }

    /// The tables of all VMs for one large range.
    private static void tables(boolean full) {
        if (full) {
            td.makeFullTable(TABLE, SeptCase.named("MAPPED").entry(0), PARTS, 0);
        } else {
            td.makeTable(TABLE, SeptCase.named("FREE").entry(0));
        }
        long aliases = 0;
        for (int vm = 1; vm <= MemoryTd.L2_VMS; vm++) {
            td.makeTable(TABLE + vm * PAGE, 0);
            td.entry(vm, LARGE_GPA, 1).write((TABLE + vm * PAGE) | 7 | (1 << 10));
            aliases |= 1L << (57 + vm);
        }
        td.entry(0, LARGE_GPA, 1).write(SeptCase.named("NL_MAPPED").entry(TABLE) | aliases);
    }

    private static List<Call> calls() {
        td.opState(OpState.INITIALIZED);
        var calls = new ArrayList<Call>();
        calls.add(call("PAGE.ADD", () -> { }, MemoryTd.regs(2, 0, SMALL_GPA, MemoryTd.TDR, FREE_PAGE, MemoryTd.SOURCE), SMALL_GPA, 0,
                with(tdrLocks(true, 2), page(FREE_PAGE, 8), around(FREE_PAGE, 8))));
        addTables(calls);
        addPages(calls);
        addSizes(calls);
        calls.add(call("SEPT.RD", () -> { }, MemoryTd.regs(25, 0, SMALL_GPA, MemoryTd.TDR), SMALL_GPA, 0,
                locks(2, false, SMALL_GPA, 0)));
        calls.add(call("RANGE.BLOCK", () -> become(0, SMALL_GPA, 0, "MAPPED", SMALL),
                MemoryTd.regs(7, 0, SMALL_GPA, MemoryTd.TDR), SMALL_GPA, 0, locks(2, true, SMALL_GPA, 0)));
        calls.add(call("RANGE.UNBLOCK", () -> become(0, SMALL_GPA, 0, "BLOCKED", SMALL),
                MemoryTd.regs(39, 0, SMALL_GPA, MemoryTd.TDR), SMALL_GPA, 0, locks(2, true, SMALL_GPA, 0)));
        var track = MemoryTd.regs(38, 0, MemoryTd.TDR);
        calls.add(new Call("TRACK", () -> { }, track, MemoryTd.regs(38, 0, MemoryTd.TDR), 0, 0, with(locks(1, false, -1, 0),
                new Lock("epoch", td.tdcs().at(Tdcs.EPOCH_LOCK), Kind.PLAIN, true, TD_EPOCH, false)), List.of()));
        return calls;
    }

    private static void addTables(List<Call> calls) {
        calls.add(call("SEPT.ADD", () -> { }, MemoryTd.regs(3, 0, LARGE_GPA | 1, MemoryTd.TDR, FREE_PAGE), LARGE_GPA, 1,
                with(locks(2, false, LARGE_GPA, 1), page(FREE_PAGE, 8), around(FREE_PAGE, 8))));
        calls.add(call("SEPT.ADD version 1", () -> { }, MemoryTd.regs(3, 1, LARGE_GPA | 1, MemoryTd.TDR, FREE_PAGE, FREE_PAGE + PAGE,
                FREE_PAGE + 2 * PAGE, FREE_PAGE + 3 * PAGE), LARGE_GPA, 1, with(locks(2, false, LARGE_GPA, 1), page(FREE_PAGE, 8),
                page(FREE_PAGE + PAGE, 9), page(FREE_PAGE + 2 * PAGE, 10), page(FREE_PAGE + 3 * PAGE, 11))));
        var tables = new Lock[] {page(TABLE, 1), page(TABLE + PAGE, 1), page(TABLE + 2 * PAGE, 1), page(TABLE + 3 * PAGE, 1)};
        calls.add(call("SEPT.REMOVE", () -> tables(false), MemoryTd.regs(30, 0, LARGE_GPA | 1, MemoryTd.TDR), LARGE_GPA, 1,
                with(locks(2, true, LARGE_GPA, 1), tables)));
        var removal = call("SEPT.REMOVE version 1", () -> tables(false), MemoryTd.regs(30, 1, LARGE_GPA | 1, MemoryTd.TDR),
                LARGE_GPA, 1, with(locks(2, true, LARGE_GPA, 1), tables));
        for (int register = SeamRegs.R9; register <= SeamRegs.R11; register++) {
            removal.failed.set(register, NULL_PA);
        }
        calls.add(removal);
    }

    private static void addPages(List<Call> calls) {
        calls.add(call("PAGE.RELOCATE", () -> become(0, SMALL_GPA, 0, "MAPPED", SMALL),
                MemoryTd.regs(5, 0, SMALL_GPA, MemoryTd.TDR, FREE_PAGE), SMALL_GPA, 0, with(locks(2, false, SMALL_GPA, 0),
                page(SMALL, 1), page(FREE_PAGE, 8), around(FREE_PAGE, 8))));
        calls.add(call("PAGE.AUG", () -> { }, MemoryTd.regs(6, 0, SMALL_GPA, MemoryTd.TDR, FREE_PAGE), SMALL_GPA, 0,
                with(locks(2, false, SMALL_GPA, 0), page(FREE_PAGE, 8), around(FREE_PAGE, 8))));
        calls.add(call("PAGE.AUG 2 MiB", () -> { }, MemoryTd.regs(6, 0, LARGE_GPA | 1, MemoryTd.TDR, FREE_PAGE), LARGE_GPA, 1,
                with(locks(2, false, LARGE_GPA, 1), new Lock("page", td.pamt(FREE_PAGE, 1).hpa(), Kind.PROMOTED, true, 8, false))));
        calls.add(call("PAGE.REMOVE", () -> become(0, SMALL_GPA, 0, "MAPPED", SMALL), MemoryTd.regs(29, 0, SMALL_GPA, MemoryTd.TDR),
                SMALL_GPA, 0, with(locks(2, false, SMALL_GPA, 0), page(SMALL, 1))));
        calls.add(call("PAGE.REMOVE 2 MiB", () -> become(0, LARGE_GPA, 1, "PENDING", LARGE),
                MemoryTd.regs(29, 0, LARGE_GPA | 1, MemoryTd.TDR), LARGE_GPA, 1, with(locks(2, false, LARGE_GPA, 1),
                hp("page", td.pamt(LARGE, 1), true, 1))));
        for (int leaf : new int[] {12, 14}) {
            var access = call(leaf == 12 ? "RD" : "WR", () -> become(0, SMALL_GPA, 0, "MAPPED", SMALL),
                    MemoryTd.regs(leaf, 0, SMALL_GPA, MemoryTd.TDR, 5), SMALL_GPA, 0, locks(2, false, SMALL_GPA, 0));
            access.failed.set(SeamRegs.R8, 0);
            calls.add(access);
        }
    }

    private static void addSizes(List<Call> calls) {
        var filled = List.of(FREE_PAGE, FREE_PAGE + PAGE, FREE_PAGE + 2 * PAGE, FREE_PAGE + 3 * PAGE);
        calls.add(call("PAGE.DEMOTE", () -> become(0, LARGE_GPA, 1, "MAPPED", LARGE), MemoryTd.regs(15, 0, LARGE_GPA | 1, MemoryTd.TDR,
                FREE_PAGE, FREE_PAGE + PAGE, FREE_PAGE + 2 * PAGE, FREE_PAGE + 3 * PAGE), LARGE_GPA, 1,
                with(locks(2, false, LARGE_GPA, 1), page(FREE_PAGE, 8), page(FREE_PAGE + PAGE, 9), page(FREE_PAGE + 2 * PAGE, 10),
                page(FREE_PAGE + 3 * PAGE, 11), hp("the large page", td.pamt(LARGE, 1), true, 1)), filled));
        for (int version = 0; version < 2; version++) {
            var locks = with(locks(2, false, LARGE_GPA, 1), page(TABLE, 1), page(TABLE + PAGE, 1), page(TABLE + 2 * PAGE, 1),
                    page(TABLE + 3 * PAGE, 1), hp("the large page", td.pamt(PARTS, 1), true, 1));
            for (int child : new int[] {0, 1, 300, 511}) {
                locks.add(new Lock("child " + child, td.td.tdr.withKey(TABLE) + 8 * child, Kind.ENTRY, true, 1, true));
            }
            var promotion = call("PAGE.PROMOTE version " + version, () -> tables(true),
                    MemoryTd.regs(23, version, LARGE_GPA | 1, MemoryTd.TDR), LARGE_GPA, 1, locks);
            for (int register = SeamRegs.R9; version > 0 && register <= SeamRegs.R11; register++) {
                promotion.failed.set(register, NULL_PA);
            }
            calls.add(promotion);
        }
    }

    // What must happen

    @Test void aLockThatAnotherProcessorHoldsStopsTheFunctionAndNothingElseChanges() {
        forEveryLock((call, lock, differences) -> {
            if (lock.kind == Kind.ENTRY) {
                requireBusy(call, lock, 0, differences);
                return;
            }
            requireBusy(call, lock, lock.heldBy(true), differences);
            if (lock.exclusive) {
                requireBusy(call, lock, lock.heldBy(false), differences);
            }
        });
    }

    @Test void readersShareAndHostPriorityIsServedOnce() {
        forEveryLock((call, lock, differences) -> {
            if (lock.kind == Kind.ENTRY) {
                requireSuccess(call, lock, ENTRY_HOST_PRIORITY, 0, differences);
                return;
            }
            if (!lock.exclusive) {
                requireSuccess(call, lock, lock.heldBy(false), lock.heldBy(false), differences);
            }
            if (lock.kind != Kind.PLAIN) {
                requireSuccess(call, lock, HOST_PRIORITY, 0, differences);
            }
        });
    }

    @FunctionalInterface
    private interface Check {
        void of(Call call, Lock lock, List<String> differences);
    }

    private static void forEveryLock(Check check) {
        var differences = new ArrayList<String>();
        int count = 0;
        for (var call : calls()) {
            for (var lock : call.locks) {
                check.of(call, lock, differences);
                count++;
            }
        }
        assertThat(differences).isEmpty();
        assertThat(count).isGreaterThan(100);
    }

    private static SeamRegs run(Call call, Supplier<String> hold) {
        td.record();
        td.opState(OpState.INITIALIZED);
        call.prepare.run();
        hold.get();
        td.mark();
        var regs = new SeamRegs();
        System.arraycopy(call.regs.array(), 0, regs.array(), 0, regs.array().length);
        return td.call(regs);
    }

    private static String hold(Lock lock, long held) {
        if (lock.kind == Kind.ENTRY) {
            td.memory().write(lock.hpa, 8, td.memory().read(lock.hpa, 8) | held);
        } else {
            td.memory().write(lock.hpa, 2, held);
        }
        return "";
    }

    private static void requireBusy(Call call, Lock lock, int held, List<String> differences) {
        var wanted = new SeamRegs();
        System.arraycopy(call.failed.array(), 0, wanted.array(), 0, wanted.array().length);
        wanted.set(SeamRegs.RAX, BUSY | lock.operand);
        var changes = new TreeMap<Long, Long>();
        var regs = run(call, () -> {
            hold(lock, lock.kind == Kind.ENTRY ? ENTRY_LOCK : held);
            long word = td.memory().readPlain(PlainAccess.SILICON, lock.word(), 8);
            long after = lock.kind == Kind.ENTRY ? word | ENTRY_HOST_PRIORITY
                    : (word & ~(0xffffL << lock.shift())) | ((long) lock.residue(held) << lock.shift());
            if (after != word) {
                changes.put(lock.word(), after);
            }
            if (lock.reports) {
                report(call, wanted);
            }
            return "";
        });
        var name = call.name + ", " + lock.name + " held " + held;
        if (!Arrays.equals(regs.array(), wanted.array())) {
            differences.add(name + ": " + hex(regs) + ", not " + hex(wanted));
        }
        var changed = withoutFills(call, td.changes());
        if (!changed.equals(changes)) {
            differences.add(name + " changes " + hex(changed) + ", not " + hex(changes));
        }
        td.takeBack();
    }

    /// RCX and RDX: the entry that the call is about.
    private static void report(Call call, SeamRegs regs) {
        long entry = td.entry(0, call.gpa, call.level).read();
        for (var state : SeptCase.ALL) {
            long pa = entry & 0x000f_ffff_ffff_f000L;
            long aliases = 7L << 58;
            if ((entry & ~ENTRY_LOCK & ~aliases) == state.entry(state.inUse() ? pa : 0)) {
                regs.set(SeamRegs.RCX, state.reported(pa));
                regs.set(SeamRegs.RDX, call.level | ((long) state.number() << 8));
            }
        }
    }

    private static Map<Long, Long> withoutFills(Call call, Map<Long, Long> changes) {
        changes.keySet().removeIf(pa -> call.fills.contains(pa & -PAGE));
        return changes;
    }

    private static void requireSuccess(Call call, Lock lock, long held, long after, List<String> differences) {
        var wanted = run(call, () -> "");
        td.takeBack();
        var regs = run(call, () -> hold(lock, held));
        var name = call.name + ", " + lock.name + " is " + Long.toHexString(held);
        if (wanted.get(SeamRegs.RAX) != 0 || !Arrays.equals(regs.array(), wanted.array())) {
            differences.add(name + ": " + hex(regs) + ", not " + hex(wanted));
        }
        long word = td.memory().readPlain(PlainAccess.SILICON, PhysicalMemory.pa(lock.hpa), 8);
        long left = lock.kind == Kind.ENTRY ? word & (ENTRY_LOCK | ENTRY_HOST_PRIORITY) : word & 0xffff;
        boolean gone = lock.name.startsWith("child"); // with the table
        if (left != after && !gone) {
            differences.add(name + ": leaves " + Long.toHexString(left));
        }
        td.takeBack();
    }

    private static String hex(SeamRegs regs) {
        return Arrays.stream(regs.array()).mapToObj(Long::toHexString).toList().toString();
    }

    private static String hex(Map<Long, Long> words) {
        var text = new StringBuilder();
        words.forEach((pa, value) -> text.append(String.format("%x=%x ", pa, value)));
        return text.toString();
    }
}
