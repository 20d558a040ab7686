package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Tdr;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.function.Supplier;

/// SEAMCALLs that belong together, such as a demotion and what undoes it. Each is made until it succeeds, among other calls.
final class FuzzPlan {
    private static final int TRIES = 14;
    private static final int PD = 1;
    private static final int PDPT = 2;
    private static final int PML4 = 3;
    private static final long NONE = ModuleState.NULL_PA;
    private static final long TWO_MIB = 0x20_0000L;
    private static final int ENTRIES = 512;

    final long tdrPa;
    /// Where in the TD it happens.
    final long gpa;
    private final Deque<Supplier<long[]>> calls = new ArrayDeque<>();
    private final FuzzOperands operands;
    private int tries;
    /// How many bits of an address tell whether it is where the plan is about.
    private int span = 21;
    /// Whether guests should leave the TD, so that TLB tracking goes on.
    private boolean waitsForGuests;

    private FuzzPlan(Tdr tdr, FuzzOperands operands, long gpa) {
        this.tdrPa = tdr.pa;
        this.gpa = gpa;
        this.operands = operands;
    }

    boolean waitsForGuests() {
        return waitsForGuests;
    }

    /// Whether a page is among those that the plan changes.
    boolean covers(long address) {
        return (gpa ^ address) >>> span == 0;
    }

    boolean isOver() {
        return calls.isEmpty() || tries > TRIES;
    }

    long[] next() {
        return calls.getFirst().get();
    }

    /// The call that [#next] gave ended.
    void result(long rax) {
        if (rax == 0 || TdxStatus.of(rax) == TdxStatus.GPA_RANGE_ALREADY_BLOCKED) {
            calls.removeFirst();
            tries = 0;
            waitsForGuests = false;
            return;
        }
        var status = TdxStatus.of(rax);
        boolean tracking = status == TdxStatus.TLB_TRACKING_NOT_DONE || status == TdxStatus.PREVIOUS_TLB_EPOCH_BUSY;
        tries += tracking || status == TdxStatus.OPERAND_BUSY || status == TdxStatus.INTERRUPTED_RESTARTABLE ? 1 : 4;
        waitsForGuests |= tracking;
        if (status == TdxStatus.TLB_TRACKING_NOT_DONE && tries % 3 == 0) {
            track();
            calls.addFirst(calls.removeLast());
        }
    }

    private void call(SeamcallLeaf leaf, long... fixed) {
        call(() -> {
            var all = new long[1 + fixed.length];
            all[0] = leaf.number();
            System.arraycopy(fixed, 0, all, 1, fixed.length);
            return all;
        });
    }

    private void call(Supplier<long[]> call) {
        calls.add(call);
    }

    private void track() {
        call(SeamcallLeaf.MEM_TRACK, tdrPa);
    }

    private void block(long gpa, int level) {
        call(SeamcallLeaf.MEM_RANGE_BLOCK, FuzzOperands.at(gpa, level), tdrPa);
    }

    private void demote(long gpa, int level, int vms) {
        call(() -> new long[] {SeamcallLeaf.MEM_PAGE_DEMOTE.number(), FuzzOperands.at(gpa, level), tdrPa | operands.below(2),
            operands.freePage(), vms > 0 ? operands.freePage() : NONE, vms > 1 ? operands.freePage() : NONE,
            vms > 2 ? operands.freePage() : NONE});
    }

    private void table(long gpa, int level) {
        call(() -> new long[] {SeamcallLeaf.MEM_SEPT_ADD.number(), FuzzOperands.at(gpa, level), tdrPa | 1, operands.freePage()});
    }

    private void promote(long gpa, int level) {
        block(gpa, level);
        track();
        call(SeamcallLeaf.MEM_PAGE_PROMOTE, FuzzOperands.at(gpa, level), tdrPa);
    }

    private void remove(long gpa, int level) {
        block(gpa, level);
        track();
        call(SeamcallLeaf.MEM_PAGE_REMOVE, FuzzOperands.at(gpa, level), tdrPa);
    }

    /// A 2 MiB page is split, and merged again.
    static FuzzPlan splitAndMerge(Tdr tdr, FuzzOperands operands, long gpa, int vms) {
        var plan = new FuzzPlan(tdr, operands, gpa);
        plan.block(gpa, PD);
        plan.track();
        plan.demote(gpa, PD, vms);
        if (operands.oneIn(3)) {
            plan.block(gpa, 0);
            plan.track();
            plan.call(SeamcallLeaf.MEM_RANGE_UNBLOCK, gpa & -4096, tdr.pa);
        }
        plan.promote(gpa, PD);
        return plan;
    }

    /// A page is moved.
    static FuzzPlan move(Tdr tdr, FuzzOperands operands, long gpa) {
        var plan = new FuzzPlan(tdr, operands, gpa);
        plan.block(gpa, 0);
        plan.track();
        plan.call(() -> new long[] {SeamcallLeaf.MEM_PAGE_RELOCATE.number(), FuzzOperands.at(gpa, 0), tdr.pa, operands.freePage()});
        return plan;
    }

    /// A page or an empty table goes.
    static FuzzPlan drop(Tdr tdr, FuzzOperands operands, long gpa, int level, boolean leaf) {
        var plan = new FuzzPlan(tdr, operands, gpa);
        if (leaf) {
            plan.remove(gpa, level);
        } else {
            plan.block(gpa, level);
            plan.track();
            plan.call(SeamcallLeaf.MEM_SEPT_REMOVE, FuzzOperands.at(gpa, level), tdr.pa);
        }
        return plan;
    }

    /// A new table is given and taken back.
    static FuzzPlan addAndDropTable(Tdr tdr, FuzzOperands operands, long gpa) {
        var plan = new FuzzPlan(tdr, operands, gpa);
        plan.table(gpa, PML4);
        plan.table(gpa, PDPT);
        plan.table(gpa, PD);
        for (int level = PD; level <= PML4; level++) {
            plan.block(gpa, level);
            plan.track();
            plan.call(SeamcallLeaf.MEM_SEPT_REMOVE, FuzzOperands.at(gpa, level), tdr.pa);
        }
        return plan;
    }

    /// All 2 MiB pages of the second TDMR become one page of 1 GiB, which is split and merged, and goes.
    static FuzzPlan giant(Tdr tdr, FuzzOperands operands, long gpa) {
        var plan = new FuzzPlan(tdr, operands, gpa);
        plan.span = 30;
        plan.table(gpa, PML4);
        plan.table(gpa, PDPT);
        for (int i = 0; i < ENTRIES; i++) {
            plan.call(SeamcallLeaf.MEM_PAGE_AUG, FuzzOperands.at(gpa + i * TWO_MIB, PD), tdr.pa, FuzzPlatform.LARGE_TDMR + i * TWO_MIB);
        }
        plan.promote(gpa, PDPT);
        if (operands.oneIn(2)) {
            plan.block(gpa, PDPT);
            plan.track();
            plan.demote(gpa, PDPT, 0);
            plan.promote(gpa, PDPT);
        }
        if (operands.oneIn(2)) {
            plan.remove(gpa, PDPT);
        }
        return plan;
    }
}
