package cloister.tdx.fuzz;

import cloister.spec.tdx.OpState;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.PamtEntry;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.fuzz.FuzzStep.Kind;

/// What a VMM does next with some TD: creates it, builds it, runs it, changes its memory, ends it and takes its pages back.
final class TdLife {
    private static final int MAX_TDS = 4;
    private static final int MAX_VCPUS = 4;
    private static final long EPT_WB_4_LEVELS = 0x1e;
    private static final long EPT_WB_5_LEVELS = 0x26;
    private static final long TSC_1_GHZ = 40;
    private static final long MANY_FEATURES = 0xe7;
    private static final long SERVICE_TD_IGNORES_ALL = 0x7ffL << 32;
    private static final long GIANT = 1L << 40;

    private final FuzzMachine machine;
    private final FuzzChecker checker;
    private final FuzzOperands operands;
    private final FuzzGenerator general;

    TdLife(FuzzMachine machine, FuzzChecker checker, FuzzOperands operands, FuzzGenerator general) {
        this.machine = machine;
        this.checker = checker;
        this.operands = operands;
        this.general = general;
    }

    private FuzzStep call(int lp, SeamcallLeaf leaf, long... given) {
        return general.call(lp, leaf, given);
    }

    FuzzStep params(int lp, boolean good) {
        long attributes = (operands.oneIn(3) ? Tdcs.DEBUG : 0) | (operands.oneIn(2) ? Tdcs.SEPT_VE_DISABLE : 0)
                | (operands.oneIn(6) ? Tdcs.PKS : 0) | (operands.oneIn(12) ? Tdcs.PERFMON : 0)
                | (operands.oneIn(12) ? Tdcs.MIGRATABLE : 0);
        boolean five = operands.oneIn(5);
        long words = MAX_VCPUS | (operands.oneIn(3) ? (1L + operands.below(3)) << 16 : 0);
        long flags = (operands.oneIn(4) ? Tdcs.NO_RBP_MOD : 0) | (operands.oneIn(4) ? Tdcs.FLEXIBLE_PENDING_VE : 0)
                | (five && operands.oneIn(2) ? 1 : 0);
        long[] o = {operands.hostPage(), attributes, operands.oneIn(2) ? 3 : MANY_FEATURES, words,
            five ? EPT_WB_5_LEVELS : EPT_WB_4_LEVELS, flags, TSC_1_GHZ,
            operands.oneIn(6) ? ((long) operands.below(80) << 32) | (1L << operands.below(32)) : 0};
        if (!good) {
            o[1 + operands.below(6)] ^= 1L << operands.below(64);
        }
        return new FuzzStep(lp, Kind.PARAMS, o);
    }

    FuzzStep next(int lp) {
        if (checker.tdrs.isEmpty() || (checker.tdrs.size() < MAX_TDS && operands.oneIn(60))) {
            return call(lp, SeamcallLeaf.MNG_CREATE, operands.freePage(), 33 + operands.below(operands.oneIn(2) ? 3 : 31));
        }
        long tdrPa = operands.tdr();
        if (machine.leafEntry(tdrPa).type() != PageType.TDR) {
            return call(lp, SeamcallLeaf.PHYMEM_PAGE_RDMD, tdrPa); // just given away by a call in progress
        }
        var tdr = machine.module.tdr(tdrPa);
        return switch (tdr.lifecycleState()) {
            case Tdr.HKID_ASSIGNED -> call(lp, operands.oneIn(30) ? SeamcallLeaf.MNG_VPFLUSHDONE : SeamcallLeaf.MNG_KEY_CONFIG, tdrPa);
            case Tdr.KEYS_CONFIGURED -> alive(lp, tdr);
            case Tdr.BLOCKED -> call(lp, operands.oneIn(2) ? SeamcallLeaf.PHYMEM_CACHE_WB : SeamcallLeaf.MNG_KEY_FREEID,
                    operands.oneIn(2) ? operands.below(2) : tdrPa);
            default -> reclaim(lp, tdr);
        };
    }

    private FuzzStep reclaim(int lp, Tdr tdr) {
        long pa = tdr.pa;
        int units = FuzzPlatform.POOL_FRAMES / 512;
        int from = operands.below(units);
        for (int i = 0; pa == tdr.pa && tdr.u64(Tdr.CHLDCNT) != 0 && i < units; i++) {
            pa = owned(tdr, FuzzPlatform.POOL + (from + i) % units * Pamt.bytes(Pamt.SIZE_2M));
        }
        if (pa == tdr.pa && tdr.u64(Tdr.CHLDCNT) != 0) {
            pa = large(tdr);
        }
        general.doom(tdr.pa, false);
        return call(lp, SeamcallLeaf.PHYMEM_PAGE_RECLAIM, pa);
    }

    private static boolean belongs(PamtEntry entry, Tdr tdr) {
        int type = entry.type();
        return type > PageType.RSVD && type != PageType.TDR && entry.ownerPa() == tdr.pa;
    }

    /// A page of 2 MiB that the TD still has, or its TDR.
    private long owned(Tdr tdr, long unitPa) {
        if (belongs(machine.pamt(unitPa, Pamt.SIZE_2M), tdr)) {
            return unitPa;
        }
        int from = operands.below(512);
        for (int i = 0; i < 512; i++) {
            long pa = unitPa + (from + i) % 512 * 4096L;
            if (belongs(machine.pamt(pa, Pamt.SIZE_4K), tdr)) {
                return pa;
            }
        }
        return tdr.pa;
    }

    /// A page of the second TDMR that the TD still has.
    private long large(Tdr tdr) {
        if (machine.tdmr(FuzzPlatform.LARGE_TDMR) == null) {
            return tdr.pa;
        }
        for (long pa = FuzzPlatform.LARGE_TDMR; FuzzPlatform.inLarge(pa); pa += Pamt.bytes(Pamt.SIZE_2M)) {
            var entry = machine.leafEntry(pa);
            if (entry.type() == PageType.REG && entry.ownerPa() == tdr.pa) {
                return pa;
            }
        }
        for (long unit : checker.splitUnits()) {
            for (long pa = unit; pa < unit + Pamt.bytes(Pamt.SIZE_2M); pa += 4096) {
                var entry = machine.pamt(pa, Pamt.SIZE_4K);
                if (entry.type() == PageType.REG && entry.ownerPa() == tdr.pa) {
                    return pa;
                }
            }
        }
        return tdr.pa;
    }

    private FuzzStep alive(int lp, Tdr tdr) {
        if (tdr.numTdcx() < Tdcs.MIN_PAGES) {
            return call(lp, SeamcallLeaf.MNG_ADDCX, operands.freePage(), tdr.pa);
        }
        var tdcs = new Tdcs(machine.memory, tdr);
        if (tdr.fatal() || operands.oneIn(tdcs.opState() == OpState.RUNNABLE ? 2500 : 900)) {
            general.doom(tdr.pa, true);
        }
        if (general.isDoomed(tdr.pa)) {
            return destroy(lp, tdr);
        }
        if (operands.oneIn(tdcs.opState() == OpState.RUNNABLE ? 200 : 30)) {
            long attributes = operands.oneIn(2) ? SERVICE_TD_IGNORES_ALL : operands.below(2) | ((long) operands.below(0x800) << 32);
            return operands.oneIn(3) ? call(lp, SeamcallLeaf.SERVTD_PREBIND, tdr.pa, operands.hostPage(), 0, 0, attributes)
                    : call(lp, SeamcallLeaf.SERVTD_BIND, tdr.pa, operands.tdr(), 0, 0, attributes);
        }
        return switch (tdcs.opState()) {
            case UNINITIALIZED -> switch (operands.below(6)) {
                case 0 -> call(lp, SeamcallLeaf.MNG_ADDCX, operands.freePage(), tdr.pa);
                case 1, 2 -> params(lp, !operands.oneIn(8));
                default -> call(lp, SeamcallLeaf.MNG_INIT, tdr.pa, operands.hostPage());
            };
            case INITIALIZED -> operands.oneIn(60) ? call(lp, SeamcallLeaf.MR_FINALIZE, tdr.pa)
                    : operands.oneIn(2) ? vcpu(lp, tdr, tdcs) : memory(lp, tdr, tdcs);
            default -> operands.oneIn(2) ? vcpu(lp, tdr, tdcs) : memory(lp, tdr, tdcs);
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
        boolean building = tdcs.opState() == OpState.INITIALIZED || operands.oneIn(60);
        if (building && (mine.size() < 2 || (mine.size() < MAX_VCPUS && operands.oneIn(20)))) {
            return call(lp, SeamcallLeaf.VP_CREATE, operands.freePage(), tdr.pa);
        }
        if (mine.isEmpty()) {
            return memory(lp, tdr, tdcs);
        }
        long vp = operands.any(mine);
        var vcpu = vcpuOf(vp, tdr);
        if (vcpu.state() == Tdvps.UNINITIALIZED && !building) {
            return memory(lp, tdr, tdcs);
        }
        if (vcpu.state() == Tdvps.UNINITIALIZED) {
            if (vcpu.u8(Tdvps.NUM_PAGES) < Tdvps.MIN_PAGES + tdcs.numL2Vms() * Tdvps.PAGES_PER_L2_VM || operands.oneIn(20)) {
                return call(lp, SeamcallLeaf.VP_ADDCX, operands.freePage(), vp);
            }
            var init = call(lp, SeamcallLeaf.VP_INIT, vp, operands.any(), operands.below(6));
            init.operands[0] |= operands.oneIn(2) ? 1 << 16 : 0;
            return init;
        }
        int associated = vcpu.u32(Tdvps.ASSOC_LPID);
        if (operands.oneIn(12)) {
            return call(lp, SeamcallLeaf.VP_FLUSH, vp);
        }
        if (operands.oneIn(16)) {
            return access(lp, tdcs, vp);
        }
        if ((tdcs.opState() != OpState.RUNNABLE && !operands.oneIn(20))
                || (associated != lp && associated != Tdvps.NO_LP && !operands.oneIn(8))) {
            return memory(lp, tdr, tdcs);
        }
        return call(lp, SeamcallLeaf.VP_ENTER, vp | (operands.oneIn(16) ? 1L << (52 + operands.below(2)) : 0));
    }

    private FuzzStep access(int lp, Tdcs tdcs, long vp) {
        if (operands.oneIn(2)) {
            var read = call(lp, SeamcallLeaf.VP_RD, vp, operands.field(2));
            read.operands[0] |= operands.oneIn(2) ? 1 << 16 : 0;
            return read;
        }
        var row = operands.writable(2, tdcs.debug(), false);
        long id = row.name().equals("SHARED_EPTP") ? row.id() : operands.element(row);
        long value = row.name().equals("SHARED_EPTP") ? operands.hostPage() : operands.value();
        return call(lp, SeamcallLeaf.VP_WR, vp, id, value, tdcs.debug() ? row.debugWrite() : row.hostWrite());
    }

    // Memory

    private FuzzStep memory(int lp, Tdr tdr, Tdcs tdcs) {
        long gpa = operands.gpa();
        if (general.isPlanned(tdr.pa, gpa) && !operands.oneIn(10)) {
            return call(lp, SeamcallLeaf.MEM_SEPT_RD, gpa, tdr.pa);
        }
        var slot = new Sept(machine.memory, tdr.keyId()).walk(tdcs.eptp(), gpa, 0);
        int level = slot.level();
        boolean runnable = tdcs.opState() == OpState.RUNNABLE;
        if (runnable && general.mayPlan() && operands.oneIn(25)) {
            plan(tdr, tdcs, gpa, slot);
        }
        if ((level > 0 && operands.oneIn(20)) || operands.oneIn(100)) {
            level = Math.min(level + 1, 3); // the table above
        }
        long info = FuzzOperands.at(gpa, level);
        if (level != slot.level()) {
            return call(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdr.pa);
        }
        return switch (SeptState.of(slot.value())) {
            case FREE -> free(lp, tdr, tdcs, info, level, runnable);
            case MAPPED, PENDING -> switch (operands.below(7)) {
                case 0, 1, 2 -> call(lp, SeamcallLeaf.MEM_RANGE_BLOCK, info, tdr.pa);
                case 3 -> call(lp, SeamcallLeaf.MEM_SEPT_RD, info, tdr.pa | (tdcs.debug() ? operands.below(2) : 0));
                case 4 -> call(lp, SeamcallLeaf.MEM_RD, gpa + 8L * operands.below(512), tdr.pa);
                case 5 -> call(lp, SeamcallLeaf.MEM_WR, gpa + 8L * operands.below(512), tdr.pa, operands.any());
                default -> call(lp, runnable ? SeamcallLeaf.MEM_PAGE_REMOVE : SeamcallLeaf.MR_EXTEND, gpa, tdr.pa);
            };
            case BLOCKED, PENDING_BLOCKED -> switch (operands.below(8)) {
                case 0, 1, 2 -> call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa);
                case 3, 4 -> call(lp, SeamcallLeaf.MEM_PAGE_REMOVE, info, tdr.pa);
                case 5 -> call(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdr.pa);
                default -> call(lp, level == 0 ? SeamcallLeaf.MEM_PAGE_RELOCATE : SeamcallLeaf.MEM_PAGE_DEMOTE, info, tdr.pa,
                        operands.freePage(), operands.oneIn(3) ? operands.freePage() : -1L, -1L, -1L);
            };
            case NL_BLOCKED -> switch (operands.below(8)) {
                case 0, 1 -> call(lp, SeamcallLeaf.MEM_TRACK, tdr.pa);
                case 2, 3 -> versioned(call(lp, SeamcallLeaf.MEM_SEPT_REMOVE, info, tdr.pa));
                case 4, 5 -> versioned(call(lp, SeamcallLeaf.MEM_PAGE_PROMOTE, info, tdr.pa));
                default -> call(lp, SeamcallLeaf.MEM_RANGE_UNBLOCK, info, tdr.pa);
            };
            case null, default -> call(lp, SeamcallLeaf.MEM_SEPT_RD, info, tdr.pa);
        };
    }

    private FuzzStep versioned(FuzzStep step) {
        step.operands[0] |= operands.oneIn(2) ? 1 << 16 : 0;
        return step;
    }

    private void plan(Tdr tdr, Tdcs tdcs, long gpa, Sept.Slot slot) {
        boolean leaf = SeptEntry.isLeaf(slot.value());
        boolean mapped = SeptState.of(slot.value()) == SeptState.MAPPED || SeptState.of(slot.value()) == SeptState.PENDING;
        if (machine.tdmr(FuzzPlatform.LARGE_TDMR) != null && !operands.scattered && operands.oneIn(16)
                && allFree(FuzzPlatform.LARGE_TDMR)) {
            general.plan(FuzzPlan.giant(tdr, operands, GIANT));
        } else if (mapped && leaf && slot.level() == 1) {
            general.plan(FuzzPlan.splitAndMerge(tdr, operands, gpa, tdcs.numL2Vms()));
        } else if (mapped && leaf && slot.level() == 0) {
            general.plan(operands.oneIn(2) ? FuzzPlan.move(tdr, operands, gpa) : FuzzPlan.drop(tdr, operands, gpa, 0, true));
        } else if (operands.oneIn(4)) {
            general.plan(FuzzPlan.addAndDropTable(tdr, operands, 3L << 39));
        } else if (mapped) {
            general.plan(FuzzPlan.drop(tdr, operands, gpa, slot.level(), leaf));
        }
    }

    private boolean allFree(long giantPa) {
        boolean free = machine.pamt(giantPa, Pamt.SIZE_1G).type() == PageType.NDA;
        for (long pa = giantPa; free && pa < giantPa + Pamt.bytes(Pamt.SIZE_1G); pa += Pamt.bytes(Pamt.SIZE_2M)) {
            free = machine.pamt(pa, Pamt.SIZE_2M).type() == PageType.NDA;
        }
        return free;
    }

    private FuzzStep free(int lp, Tdr tdr, Tdcs tdcs, long info, int level, boolean runnable) {
        if (level == 0 && !runnable) {
            return call(lp, SeamcallLeaf.MEM_PAGE_ADD, info, tdr.pa, operands.freePage(), operands.hostPage());
        }
        if (level == 0) {
            long page = operands.freePage();
            if (!machine.isFree(page) && operands.oneIn(10)) {
                general.doom(tdr.pa, true); // memory runs out
            }
            return call(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdr.pa, page);
        }
        if (level == 1 && runnable && operands.oneIn(3)) {
            return call(lp, SeamcallLeaf.MEM_PAGE_AUG, info, tdr.pa, operands.freeLarge());
        }
        int vms = tdcs.numL2Vms();
        var add = call(lp, SeamcallLeaf.MEM_SEPT_ADD, info, tdr.pa | operands.below(2), operands.freePage(), page(vms > 0), page(vms > 1),
                page(vms > 2));
        add.operands[0] |= vms > 0 ? 1 << 16 : 0;
        return add;
    }

    private long page(boolean wanted) {
        return wanted ? operands.freePage() : -1L;
    }
}
