package cloister.tdx.fuzz;

import cloister.sim.Entropy;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.ModuleState.SysState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.ModuleVersion;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.fuzz.FuzzStep.Kind;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/// Invents steps. It knows the module's state, and mostly takes the module or a TD one step further in its life; sometimes it
/// calls any function with plausible operands, or takes a good call and changes an operand. Some calls stop half-way, so that
/// others come between.
final class FuzzGenerator {
    private static final SeamcallLeaf[] LEAVES = SeamcallLeaf.values();
    private static final int LONGEST_PAUSE = 40;
    private static final int MAX_PLANS = 2;

    private final FuzzMachine machine;
    private final FuzzOperands operands;
    private final FuzzGuest guest;
    private final TdLife life;
    private final Bringup bringup;
    private final FuzzChecker checker;
    private final boolean wild;
    private final Set<Long> doomed = new HashSet<>();
    private final List<FuzzPlan> plans = new ArrayList<>();
    /// The plan that each LP's step belongs to.
    private final FuzzPlan[] planOf = new FuzzPlan[FuzzPlatform.LPS];
    private final Map<Long, long[]> bindings = new HashMap<>();
    private int pause;
    private boolean ready;

    /// @param wild whether the bring-up is fuzzed as well
    FuzzGenerator(FuzzMachine machine, FuzzChecker checker, Entropy random, boolean wild) {
        this.machine = machine;
        this.checker = checker;
        this.wild = wild;
        this.operands = new FuzzOperands(machine, checker, random);
        this.guest = new FuzzGuest(machine, this, operands);
        this.life = new TdLife(machine, checker, operands, this);
        this.bringup = new Bringup(machine, random);
    }

    boolean isDoomed(long tdrPa) {
        return doomed.contains(tdrPa);
    }

    void doom(long tdrPa, boolean on) {
        if (on) {
            doomed.add(tdrPa);
        } else {
            doomed.remove(tdrPa);
        }
    }

    /// Whether guests should leave the TD.
    boolean wantsOut(long tdrPa) {
        if (doomed.contains(tdrPa)) {
            return true;
        }
        for (var plan : plans) {
            if (plan.tdrPa == tdrPa && plan.waitsForGuests()) {
                return true;
            }
        }
        return false;
    }

    /// Whether a plan is about a page near.
    boolean isPlanned(long tdrPa, long gpa) {
        for (var plan : plans) {
            if (plan.tdrPa == tdrPa && plan.covers(gpa)) {
                return true;
            }
        }
        return false;
    }

    void plan(FuzzPlan plan) {
        plans.add(plan);
    }

    boolean mayPlan() {
        return plans.size() < MAX_PLANS;
    }

    /// The handle of a binding of a service TD and its target's UUID, or null.
    long[] binding(long serviceTdrPa) {
        return bindings.get(serviceTdrPa);
    }

    /// A call ended.
    void completed(FuzzStep step) {
        if (step.leaf() == SeamcallLeaf.SERVTD_BIND && machine.registers(step.lp).get(SeamRegs.RAX) == 0) {
            var r = machine.registers(step.lp);
            bindings.put(step.operands[2], new long[] {r.get(SeamRegs.RCX), r.get(SeamRegs.R10), r.get(SeamRegs.R11),
                r.get(SeamRegs.R12), r.get(SeamRegs.R13)});
        }
        if (step.kind == Kind.EXIT) {
            guest.completed(step);
        }
        var plan = planOf[step.lp];
        planOf[step.lp] = null;
        if (plan != null && step.kind == Kind.CALL) {
            plan.result(machine.registers(step.lp).get(SeamRegs.RAX));
        }
    }

    /// Destroys some page.
    FuzzStep corruption() {
        return new FuzzStep(0, Kind.CORRUPT, operands.oneIn(2) ? operands.anyPage() : operands.oneIn(2) ? operands.tdr() : operands.vp());
    }

    /// The next step.
    FuzzStep next() {
        var idle = new ArrayList<Integer>();
        var paused = new ArrayList<Integer>();
        for (int lp = 0; lp < machine.cpus.length; lp++) {
            (machine.doing[lp] == null ? idle : paused).add(lp);
        }
        if (paused.isEmpty()) {
            pause = 0;
            operands.blur();
        } else if (idle.isEmpty() || operands.below(8) < 1 + 2 * paused.size() || pause++ > LONGEST_PAUSE) {
            return goOn(operands.any(paused));
        }
        var step = visible(invent(operands.any(idle)));
        boolean stops = step.kind == Kind.CALL || step.kind == Kind.EXIT;
        if (stops && operands.oneIn(paused.isEmpty() ? 6 : 3)) {
            stop(step);
            if (step.kind == Kind.CALL) {
                operands.focus(step.operands[2] & SeptEntry.HPA, step.operands[1] & SeptEntry.HPA);
            } else if (step.guestLeaf() != null) {
                operands.focus(machine.lp(step.lp).tdr.pa, step.operands[FuzzStep.REGISTERS + SeamRegs.RCX] & SeptEntry.HPA);
            }
        }
        return step;
    }

    private FuzzStep goOn(int lp) {
        var step = new FuzzStep(lp, Kind.RUN);
        return operands.oneIn(2) || pause > LONGEST_PAUSE ? step : stop(step);
    }

    private FuzzStep stop(FuzzStep step) {
        return operands.oneIn(3) ? step.stopAt(operands.below(operands.oneIn(4) ? 600 : 40), true)
                : step.stopAt(operands.below(9), false);
    }

    private FuzzStep visible(FuzzStep step) {
        for (int i = 1; step.kind == Kind.CALL && i < FuzzStep.CALL_INTERRUPT; i++) {
            if (FuzzOperands.isOutOfSight(step.operands[i] & SeptEntry.HPA)) {
                step.operands[i] = 0;
            }
        }
        return step;
    }

    private FuzzStep invent(int lp) {
        if (machine.inGuest[lp]) {
            return guest.next(lp);
        }
        ready = machine.module.sysState == SysState.READY && (ready || Bringup.done(machine)) && machine.tdmr(FuzzPlatform.POOL) != null;
        if (!ready) {
            return !wild && machine.fresh ? new FuzzStep(0, Kind.BOOT, 1 + operands.below(2)) : bringup.next(lp);
        }
        if (operands.oneIn(30)) {
            return outside(lp);
        }
        plans.removeIf(FuzzPlan::isOver);
        if (!plans.isEmpty() && operands.oneIn(2)) {
            var plan = operands.any(plans);
            if (!Arrays.asList(planOf).contains(plan)) {
                planOf[lp] = plan;
                return new FuzzStep(lp, Kind.CALL, plan.next());
            }
        }
        int kind = operands.below(100);
        if (kind < 82) {
            return life.next(lp);
        }
        if (kind < 92) {
            return mutated(life.next(lp));
        }
        return anyLeaf(lp);
    }

    FuzzStep call(int lp, SeamcallLeaf leaf, long... given) {
        var all = new long[Kind.CALL.names.length];
        all[0] = leaf.number();
        System.arraycopy(given, 0, all, 1, given.length);
        all[FuzzStep.CALL_INTERRUPT] = operands.oneIn(30) ? 1 : 0;
        return new FuzzStep(lp, Kind.CALL, all);
    }

    /// Something that is no call: memory, time, MSRs.
    private FuzzStep outside(int lp) {
        if (operands.oneIn(400)) {
            return call(lp, SeamcallLeaf.SYS_SHUTDOWN, ModuleVersion.HANDOFF);
        }
        return switch (operands.below(15)) {
            case 14 -> operands.oneIn(30) ? new FuzzStep(lp, Kind.FAULT, operands.below(2)) // it costs a TD
                    : new FuzzStep(lp, Kind.CLOCK, operands.below(1 << 20));
            case 0, 1, 2, 3 -> life.params(lp, operands.oneIn(2));
            case 4, 5, 6 -> new FuzzStep(lp, Kind.FILL, operands.freePage(), operands.oneIn(3) ? 0 : operands.any());
            case 7, 8 -> new FuzzStep(lp, Kind.HOSTILE, operands.hostPage(), operands.oneIn(2) ? 0 : operands.any());
            case 9 -> new FuzzStep(lp, Kind.PCONFIG, operands.oneIn(2) ? 2 : 5);
            case 10 -> new FuzzStep(lp, Kind.CLOCK, operands.oneIn(12) ? -operands.below(20_000) : operands.below(1 << 30));
            case 11 -> new FuzzStep(lp, Kind.MSR, 0x3b, operands.oneIn(24) ? 1 : 0);
            case 12 -> new FuzzStep(lp, Kind.MSR, 0x1a0, (machine.cpus[lp].rdmsr(0x1a0) & ~(1 << 22)) | (operands.oneIn(24) ? 1 << 22 : 0));
            default -> sharedTable(lp);
        };
    }

    /// A page of a shared EPT: entries to other pages of the VMM, mostly.
    private FuzzStep sharedTable(int lp) {
        var o = new long[9];
        o[0] = operands.hostPage() + 64L * operands.below(2);
        for (int i = 1; i < o.length; i++) {
            o[i] = operands.oneIn(5) ? operands.any() : operands.hostPage() | (operands.oneIn(2) ? 7 : 0x37 | (operands.below(2) << 7));
        }
        return new FuzzStep(lp, Kind.WRITE, o);
    }

    /// Invents one wrong operand.
    private FuzzStep mutated(FuzzStep step) {
        if (step.kind != Kind.CALL) {
            return step;
        }
        int i = operands.below(5);
        long[] o = step.operands;
        o[i] = switch (operands.below(i == 0 ? 2 : 5)) {
            case 0 -> i == 0 ? o[i] | (1 << (16 + operands.below(operands.oneIn(8) ? 48 : 2))) : operands.anyPage();
            case 1 -> {
                int bit = operands.below(64 - 19);
                yield o[i] ^ (1L << (bit < 12 ? bit : bit + 19)); // stay within the pool
            }
            case 2 -> operands.gpaAndLevel();
            case 3 -> 0;
            default -> ModuleState.NULL_PA;
        };
        if (i == 0) {
            o[0] = allowed(o[0]);
        }
        return step;
    }

    /// Leaves that end everything are rare.
    private long allowed(long rax) {
        var leaf = SeamcallLeaf.of((int) rax & 0xffff);
        boolean rare = leaf != null && (leaf == SeamcallLeaf.SYS_SHUTDOWN
                || leaf.number() >= SeamcallLeaf.EXPORT_ABORT.number());
        return rare && !operands.oneIn(400) ? SeamcallLeaf.PHYMEM_PAGE_RDMD.number() : rax;
    }

    private FuzzStep anyLeaf(int lp) {
        var leaf = LEAVES[operands.below(LEAVES.length)];
        long tdr = operands.tdr();
        long vp = operands.vp();
        var step = switch (leaf) {
            case MNG_RD -> call(lp, leaf, tdr, operands.field(1));
            case VP_RD -> call(lp, leaf, vp, operands.field(2));
            case MNG_WR -> {
                var row = operands.writable(1, isDebug(tdr), false);
                yield call(lp, leaf, tdr, operands.element(row), operands.value(), mask(row.hostWrite(), row.debugWrite()));
            }
            case VP_WR -> {
                var row = operands.writable(2, operands.oneIn(2), false);
                yield call(lp, leaf, vp, operands.element(row), operands.value(), mask(row.hostWrite(), row.debugWrite()));
            }
            case VP_ENTER, VP_FLUSH, VP_INIT -> call(lp, leaf, vp, operands.any(), operands.below(8));
            case VP_ADDCX -> call(lp, leaf, operands.freePage(), vp);
            case MEM_RD, MEM_WR -> call(lp, leaf, operands.gpa() + 8L * operands.below(512), tdr, operands.any());
            case MEM_PAGE_AUG, MEM_PAGE_ADD, MEM_SEPT_ADD, MEM_PAGE_RELOCATE, MEM_PAGE_DEMOTE -> call(lp, leaf, operands.gpaAndLevel(),
                    tdr, operands.oneIn(4) ? operands.freeLarge() : operands.freePage(), operands.oneIn(2) ? operands.hostPage()
                            : operands.freePage(), -1L, -1L);
            case MEM_RANGE_BLOCK, MEM_RANGE_UNBLOCK, MEM_SEPT_RD, MEM_PAGE_REMOVE, MEM_SEPT_REMOVE, MEM_PAGE_PROMOTE, MR_EXTEND ->
                call(lp, leaf, operands.gpaAndLevel(), tdr | (leaf == SeamcallLeaf.MEM_SEPT_RD ? operands.below(2) : 0));
            case PHYMEM_CACHE_WB -> call(lp, leaf, operands.below(2));
            case MNG_CREATE -> call(lp, leaf, operands.anyPage(), operands.below(70));
            case MNG_ADDCX, VP_CREATE -> call(lp, leaf, operands.anyPage(), tdr);
            case MNG_INIT -> call(lp, leaf, tdr, operands.hostPage());
            case PHYMEM_PAGE_RECLAIM, PHYMEM_PAGE_RDMD, PHYMEM_PAGE_WBINVD -> call(lp, leaf, operands.anyPage());
            case SYS_INFO -> call(lp, leaf, operands.hostPage(), 1024, operands.hostPage(), 32);
            case SYS_RD -> call(lp, leaf, 0, operands.field(0));
            case SYS_RDALL -> call(lp, leaf, 0, operands.hostPage(), operands.oneIn(2) ? -1L : operands.field(0));
            case SYS_SHUTDOWN -> call(lp, leaf, operands.below(3));
            case SYS_CONFIG -> call(lp, leaf, operands.hostPage(), 1, 33);
            case SERVTD_BIND -> call(lp, leaf, tdr, operands.tdr(), operands.below(8) / 7, operands.below(8) / 7, operands.value());
            case SERVTD_PREBIND -> call(lp, leaf, tdr, operands.hostPage(), 0, operands.below(8) / 7, operands.oneIn(2) ? 0
                    : operands.value());
            default -> call(lp, leaf, tdr);
        };
        step.operands[0] = allowed(step.operands[0] | (operands.oneIn(4) ? 1 << 16 : 0));
        return step;
    }

    private long mask(long host, long debug) {
        return operands.oneIn(3) ? -1L : operands.oneIn(2) ? debug : host;
    }

    private boolean isDebug(long tdrPa) {
        if (!checker.tdrs.contains(tdrPa)) {
            return false;
        }
        Tdr tdr = machine.module.tdr(tdrPa);
        return tdr.lifecycleState() == Tdr.KEYS_CONFIGURED && tdr.numTdcx() >= Tdcs.MIN_PAGES && new Tdcs(machine.memory, tdr).debug();
    }
}
