package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.spec.tdx.FieldTable;
import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.fuzz.FuzzStep.Kind;
import java.util.ArrayDeque;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/// Invents the VMM's steps. It knows the module's state, and mostly takes a TD one step further in its life; sometimes it
/// calls any function with plausible operands, or takes a good call and changes an operand.
final class FuzzGenerator {
    private static final int MAX_TDS = 4;
    private static final int MAX_VCPUS = 4;
    private static final long[] GPA_BASES = {0, 0, 0x20_0000, 0x40_0000, 0x4000_0000L, 1L << 39};
    private static final long EPT_WB_4_LEVELS = 0x1e;
    private static final long TSC_1_GHZ = 40;
    private static final SeamcallLeaf[] LEAVES = SeamcallLeaf.values();
    private static final List<FieldTable> TABLES = List.of(FieldTable.SYS, FieldTable.TD, FieldTable.VP, FieldTable.TD_VMCS);

    private final FuzzMachine machine;
    private final FuzzChecker checker;
    private final Entropy random;
    private final FuzzGuest guest;
    private final Set<Long> doomed = new HashSet<>();
    /// Calls that belong together: what follows a demotion to undo it.
    private final ArrayDeque<long[]> planned = new ArrayDeque<>();

    FuzzGenerator(FuzzMachine machine, FuzzChecker checker, Entropy random) {
        this.machine = machine;
        this.checker = checker;
        this.random = random;
        this.guest = new FuzzGuest(machine, this, random);
    }

    int below(int bound) {
        return random.nextInt(bound);
    }

    boolean oneIn(int n) {
        return random.nextInt(n) == 0;
    }

    <T> T any(List<T> list) {
        return list.get(below(list.size()));
    }

    /// The identifier of a metadata field of the module (0), of a TD (1) or of a VCPU (2).
    long field(int context) {
        var row = any(TABLES.get(context == 2 ? 2 + below(2) : context).fields());
        long id = row.id() + (long) below(row.count()) * row.stride();
        return oneIn(6) ? id ^ 1L << below(64) : id;
    }

    boolean isDoomed(long tdrPa) {
        return doomed.contains(tdrPa);
    }

    /// A step for LP `lp`, which is not busy.
    FuzzStep next(int lp) {
        var step = invent(lp);
        for (int i = 1; step.kind == Kind.CALL && i < 7; i++) {
            long pa = step.operands[i] & SeptEntry.HPA;
            if (pa >= FuzzMachine.TDMR && pa < FuzzMachine.TDMR + FuzzMachine.RESERVED && !FuzzMachine.inPool(pa)) {
                step.operands[i] = 0; // a good page, but one that sweeps do not look at
            }
        }
        return step;
    }

    private FuzzStep invent(int lp) {
        if (machine.inGuest[lp]) {
            return guest.next(lp);
        }
        if (oneIn(40)) {
            return oneIn(2) ? params(lp, oneIn(2)) : new FuzzStep(lp, Kind.FILL, freePage(), random.nextLong());
        }
        if (!planned.isEmpty() && oneIn(2)) {
            long[] o = planned.remove();
            return new FuzzStep(lp, Kind.CALL, o);
        }
        int kind = below(100);
        if (kind < 82) {
            return goal(lp);
        }
        if (kind < 92) {
            return mutated(goal(lp));
        }
        return anyLeaf(lp);
    }

    private FuzzStep call(int lp, SeamcallLeaf leaf, long... operands) {
        var all = new long[Kind.CALL.operands];
        all[0] = leaf.number();
        System.arraycopy(operands, 0, all, 1, operands.length);
        all[7] = oneIn(30) ? 1 : 0;
        return new FuzzStep(lp, Kind.CALL, all);
    }

    // Operands

    private long freePage() {
        long pa = 0;
        for (int i = 0; i < 20; i++) {
            pa = oneIn(16) ? FuzzMachine.POOL + below(512) * 4096L : FuzzMachine.SMALL + below(512) * 4096L;
            if (machine.leafEntry(pa).type() == PageType.NDA) {
                break;
            }
        }
        return pa;
    }

    private long freeLarge() {
        long pa = 0;
        for (int i = 0; i < FuzzMachine.LARGE_PAGES; i++) {
            pa = FuzzMachine.POOL + below(FuzzMachine.LARGE_PAGES) * Pamt.bytes(Pamt.SIZE_2M);
            if (machine.leafEntry(pa).type() == PageType.NDA) {
                break;
            }
        }
        return pa;
    }

    private long anyPage() {
        return switch (below(8)) {
            case 0 -> FuzzMachine.RESERVED + FuzzMachine.TDMR;
            case 1 -> FuzzMachine.HOST;
            case 2 -> anyOf(checker.tdrs);
            case 3 -> anyOf(checker.tdvprs);
            case 4 -> PhysicalMemory.hpa(freePage(), below(64));
            case 5 -> random.nextLong();
            default -> FuzzMachine.POOL + below(FuzzMachine.POOL_FRAMES) * 4096L;
        };
    }

    private long anyOf(Set<Long> pages) {
        return pages.isEmpty() ? freePage() : any(List.copyOf(pages));
    }

    private long hostPage() {
        return FuzzMachine.HOST + below(FuzzMachine.HOST_PAGES) * 4096L;
    }

    long gpa() {
        return GPA_BASES[below(GPA_BASES.length)] + below(oneIn(4) ? 512 : 6) * 4096L;
    }

    private long anyGpaAndLevel() {
        int level = below(5);
        long gpa = gpa() & -(1L << 12 + 9 * Math.min(level, 3));
        return oneIn(8) ? gpa ^ 1L << below(64) | level : gpa | level;
    }

    /// Invents one wrong operand.
    private FuzzStep mutated(FuzzStep step) {
        if (step.kind != Kind.CALL) {
            return step;
        }
        int i = below(5);
        long[] o = step.operands;
        o[i] = switch (below(i == 0 ? 2 : 5)) {
            case 0 -> i == 0 ? o[i] | 1 << 16 : anyPage();
            case 1 -> {
                int bit = below(64 - 19);
                yield o[i] ^ 1L << (bit < 12 ? bit : bit + 19); // stay within the pool
            }
            case 2 -> anyGpaAndLevel();
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
                || leaf.number() >= SeamcallLeaf.EXPORT_ABORT.number() || leaf == SeamcallLeaf.SERVTD_BIND
                || leaf == SeamcallLeaf.SERVTD_PREBIND);
        return rare && !oneIn(400) ? SeamcallLeaf.PHYMEM_PAGE_RDMD.number() : rax;
    }

    private FuzzStep anyLeaf(int lp) {
        var leaf = LEAVES[below(LEAVES.length)];
        long tdr = anyOf(checker.tdrs);
        long vp = anyOf(checker.tdvprs);
        var step = switch (leaf) {
            case MNG_RD, MNG_WR -> call(lp, leaf, tdr, field(1), random.nextLong(), random.nextLong());
            case VP_RD, VP_WR -> call(lp, leaf, vp, field(2), random.nextLong() & below(4), -1L);
            case VP_ENTER, VP_FLUSH, VP_INIT -> call(lp, leaf, vp, random.nextLong(), below(8));
            case VP_ADDCX -> call(lp, leaf, freePage(), vp);
            case MEM_RD, MEM_WR -> call(lp, leaf, gpa() + 8L * below(512), tdr, random.nextLong());
            case MEM_PAGE_AUG, MEM_PAGE_ADD, MEM_SEPT_ADD, MEM_PAGE_RELOCATE, MEM_PAGE_DEMOTE -> call(lp, leaf, anyGpaAndLevel(), tdr,
                    oneIn(4) ? freeLarge() : freePage(), oneIn(2) ? hostPage() : freePage(), -1L, -1L);
            case MEM_RANGE_BLOCK, MEM_RANGE_UNBLOCK, MEM_SEPT_RD, MEM_PAGE_REMOVE, MEM_SEPT_REMOVE, MEM_PAGE_PROMOTE, MR_EXTEND ->
                call(lp, leaf, anyGpaAndLevel(), tdr);
            case MNG_CREATE -> call(lp, leaf, anyPage(), below(70));
            case MNG_ADDCX, VP_CREATE -> call(lp, leaf, anyPage(), tdr);
            case MNG_INIT -> call(lp, leaf, tdr, hostPage());
            case PHYMEM_PAGE_RECLAIM, PHYMEM_PAGE_RDMD, PHYMEM_PAGE_WBINVD -> call(lp, leaf, anyPage());
            case SYS_INFO -> call(lp, leaf, hostPage(), 1024, hostPage(), 32);
            case SYS_RD -> call(lp, leaf, 0, field(0));
            case SYS_RDALL -> call(lp, leaf, 0, hostPage(), field(0));
            case SYS_SHUTDOWN -> call(lp, leaf, below(3));
            case SYS_CONFIG -> call(lp, leaf, hostPage(), 1, 33);
            default -> call(lp, leaf, tdr);
        };
        step.operands[0] = allowed(step.operands[0]);
        return step;
    }

    private FuzzStep params(int lp, boolean good) {
        long attributes = (oneIn(3) ? Tdcs.DEBUG : 0) | (oneIn(2) ? Tdcs.SEPT_VE_DISABLE : 0) | (oneIn(6) ? Tdcs.PKS : 0)
                | (oneIn(12) ? Tdcs.PERFMON : 0);
        long words = MAX_VCPUS | (oneIn(4) ? 1L << 16 : 0);
        long[] o = {hostPage(), attributes, oneIn(2) ? 3 : 0xe7, words, EPT_WB_4_LEVELS, oneIn(4) ? 4 : 0, TSC_1_GHZ};
        if (!good) {
            o[1 + below(6)] ^= 1L << below(64);
        }
        return new FuzzStep(lp, Kind.PARAMS, o);
    }

    // The life of a TD

    private FuzzStep goal(int lp) {
        if (checker.tdrs.isEmpty() || checker.tdrs.size() < MAX_TDS && oneIn(60)) {
            return call(lp, SeamcallLeaf.MNG_CREATE, freePage(), 33 + below(oneIn(2) ? 3 : 31));
        }
        long tdrPa = anyOf(checker.tdrs);
        if (machine.leafEntry(tdrPa).type() != PageType.TDR) {
            return call(lp, SeamcallLeaf.PHYMEM_PAGE_RDMD, tdrPa); // just given away by a call in progress
        }
        var tdr = machine.module.tdr(tdrPa);
        return switch (tdr.lifecycleState()) {
            case Tdr.HKID_ASSIGNED -> call(lp, oneIn(30) ? SeamcallLeaf.MNG_VPFLUSHDONE : SeamcallLeaf.MNG_KEY_CONFIG, tdrPa);
            case Tdr.KEYS_CONFIGURED -> alive(lp, tdr);
            case Tdr.BLOCKED -> call(lp, oneIn(2) ? SeamcallLeaf.PHYMEM_CACHE_WB : SeamcallLeaf.MNG_KEY_FREEID,
                    oneIn(2) ? below(2) : tdrPa);
            default -> reclaim(lp, tdr);
        };
    }

    private FuzzStep reclaim(int lp, Tdr tdr) {
        long pa = tdr.pa;
        int from = below(FuzzMachine.POOL_FRAMES);
        for (int i = 0; tdr.u64(Tdr.CHLDCNT) != 0 && i < FuzzMachine.POOL_FRAMES; i++) {
            long at = FuzzMachine.POOL + (from + i) % FuzzMachine.POOL_FRAMES * 4096L;
            var entry = machine.leafEntry(at);
            if (entry.type() != PageType.NDA && entry.type() != PageType.TDR && entry.ownerPa() == tdr.pa) {
                pa = entry.hpa() == machine.pamt(at, Pamt.SIZE_4K).hpa() ? at : at & -Pamt.bytes(Pamt.SIZE_2M);
                break;
            }
        }
        doomed.remove(tdr.pa);
        return call(lp, SeamcallLeaf.PHYMEM_PAGE_RECLAIM, pa);
    }

    private FuzzStep alive(int lp, Tdr tdr) {
        if (tdr.numTdcx() < Tdcs.MIN_PAGES) {
            return call(lp, SeamcallLeaf.MNG_ADDCX, freePage(), tdr.pa);
        }
        var tdcs = new Tdcs(machine.memory, tdr);
        if (tdr.fatal() || oneIn(tdcs.opState() == OpState.RUNNABLE ? 1500 : 600)) {
            doomed.add(tdr.pa);
        }
        if (doomed.contains(tdr.pa)) {
            return destroy(lp, tdr);
        }
        return switch (tdcs.opState()) {
            case UNINITIALIZED -> switch (below(6)) {
                case 0 -> call(lp, SeamcallLeaf.MNG_ADDCX, freePage(), tdr.pa);
                case 1, 2 -> params(lp, !oneIn(8));
                default -> call(lp, SeamcallLeaf.MNG_INIT, tdr.pa, hostPage());
            };
            case INITIALIZED -> oneIn(40) ? call(lp, SeamcallLeaf.MR_FINALIZE, tdr.pa)
                    : oneIn(3) ? vcpu(lp, tdr, tdcs) : memory(lp, tdr, tdcs);
            default -> oneIn(3) ? vcpu(lp, tdr, tdcs) : memory(lp, tdr, tdcs);
        };
    }

    private FuzzStep destroy(int lp, Tdr tdr) {
        for (long vp : checker.tdvprs) {
            var vcpu = vcpuOf(vp, tdr);
            if (vcpu != null && vcpu.u8(Tdvps.NUM_PAGES) >= Tdvps.MIN_PAGES && vcpu.u32(Tdvps.ASSOC_LPID) == lp) {
                return call(lp, SeamcallLeaf.VP_FLUSH, vp);
            }
        }
        return call(lp, SeamcallLeaf.MNG_VPFLUSHDONE, tdr.pa);
    }

    private Tdvps vcpuOf(long tdvprPa, Tdr tdr) {
        var entry = machine.pamt(tdvprPa, Pamt.SIZE_4K);
        return entry.type() == PageType.TDVPR && entry.ownerPa() == tdr.pa
                ? Tdvps.rootOnly(machine.memory, tdvprPa, tdr.keyId()) : null;
    }

    private FuzzStep vcpu(int lp, Tdr tdr, Tdcs tdcs) {
        var mine = checker.tdvprs.stream().filter(pa -> vcpuOf(pa, tdr) != null).toList();
        if (mine.size() < 2 || mine.size() < MAX_VCPUS && oneIn(40)) {
            return call(lp, SeamcallLeaf.VP_CREATE, freePage(), tdr.pa);
        }
        long vp = any(mine);
        var vcpu = vcpuOf(vp, tdr);
        if (vcpu.state() == Tdvps.UNINITIALIZED) {
            if (vcpu.u8(Tdvps.NUM_PAGES) < Tdvps.MIN_PAGES + tdcs.numL2Vms() * Tdvps.PAGES_PER_L2_VM) {
                return call(lp, SeamcallLeaf.VP_ADDCX, freePage(), vp);
            }
            var init = call(lp, SeamcallLeaf.VP_INIT, vp, random.nextLong(), below(6));
            init.operands[0] |= oneIn(2) ? 1 << 16 : 0;
            return init;
        }
        if (oneIn(12)) {
            return call(lp, SeamcallLeaf.VP_FLUSH, vp);
        }
        return oneIn(20) ? call(lp, oneIn(2) ? SeamcallLeaf.VP_RD : SeamcallLeaf.VP_WR, vp, field(2), random.nextLong(), -1L)
                : call(lp, SeamcallLeaf.VP_ENTER, vp | (oneIn(16) ? 1L << 52 : 0));
    }

    private FuzzStep memory(int lp, Tdr tdr, Tdcs tdcs) {
        long gpa = gpa();
        var slot = new Sept(machine.memory, tdr.keyId()).walk(tdcs.eptp(), gpa, 0);
        int level = slot.level();
        if (level > 0 && oneIn(20) || oneIn(100)) {
            level = Math.min(level + 1, 3); // the table above
        }
        boolean runnable = tdcs.opState() == OpState.RUNNABLE;
        long info = gpa & -(1L << 12 + 9 * level) | level;
        if (level != slot.level()) {
            return call(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdr.pa);
        }
        return switch (SeptState.of(slot.value())) {
            case FREE -> free(lp, tdr, tdcs, info, level, runnable);
            case MAPPED, PENDING -> switch (below(6)) {
                case 0, 1, 2 -> call(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdr.pa);
                case 3 -> call(lp, SeamcallLeaf.MEM_SEPT_RD, info, tdr.pa);
                case 4 -> call(lp, SeamcallLeaf.MEM_RD, gpa, tdr.pa);
                default -> call(lp, runnable ? SeamcallLeaf.MEM_PAGE_REMOVE : SeamcallLeaf.MR_EXTEND, gpa, tdr.pa);
            };
            case BLOCKED, PENDING_BLOCKED -> level > 0 && planned.isEmpty() && oneIn(2) ? demote(lp, tdr, info)
                    : switch (below(8)) {
                case 0, 1, 2 -> call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa);
                case 3, 4 -> call(lp, SeamcallLeaf.MEM_PAGE_REMOVE, info, tdr.pa);
                case 5 -> call(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdr.pa);
                default -> call(lp, level == 0 ? SeamcallLeaf.MEM_PAGE_RELOCATE : SeamcallLeaf.MEM_PAGE_DEMOTE, info, tdr.pa,
                        freePage(), oneIn(3) ? freePage() : -1L, -1L, -1L);
            };
            case NL_BLOCKED -> switch (below(8)) {
                case 0, 1 -> call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa);
                case 2, 3 -> call(lp, SeamcallLeaf.MEM_SEPT_REMOVE, info, tdr.pa);
                case 4, 5 -> call(lp, SeamcallLeaf.MEM_PAGE_PROMOTE, info, tdr.pa);
                default -> call(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdr.pa);
            };
            case null, default -> call(lp, SeamcallLeaf.MEM_SEPT_RD, info, tdr.pa);
        };
    }

    private FuzzStep demote(int lp, Tdr tdr, long info) {
        planned.add(call(lp, SeamcallLeaf.MEM_PAGE_DEMOTE, info, tdr.pa, freePage(), -1L, -1L, -1L).operands);
        if (oneIn(2)) {
            planned.add(call(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdr.pa).operands);
            planned.add(call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa).operands);
            planned.add(call(lp, SeamcallLeaf.MEM_PAGE_PROMOTE, info, tdr.pa).operands);
        }
        return call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa);
    }

    private FuzzStep free(int lp, Tdr tdr, Tdcs tdcs, long info, int level, boolean runnable) {
        if (level == 0 && !runnable) {
            return call(lp, SeamcallLeaf.MEM_PAGE_ADD, info, tdr.pa, freePage(), hostPage());
        }
        if (level == 0) {
            return call(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdr.pa, freePage());
        }
        if (level == 1 && runnable && oneIn(3)) {
            return call(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdr.pa, freeLarge());
        }
        var add = call(lp, SeamcallLeaf.MEM_SEPT_ADD, info, tdr.pa | below(2), freePage(),
                tdcs.numL2Vms() > 0 ? freePage() : -1L, -1L, -1L);
        add.operands[0] |= tdcs.numL2Vms() > 0 ? 1 << 16 : 0;
        return add;
    }
}
