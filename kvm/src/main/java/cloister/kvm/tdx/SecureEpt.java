package cloister.kvm.tdx;

import cloister.kvm.Defect;
import cloister.kvm.KvmPolicy;
import cloister.kvm.mmu.ExternalPageTables;
import cloister.sim.SwitchPoint;
import cloister.spec.tdx.SeamRegs;

/// Keeps a TD's Secure EPT as the mirror root says, by SEAMCALLs. [LINUX tdx_sept_set_private_spte ...]
final class SecureEpt implements ExternalPageTables {
    /// A SEAMCALL of a zap that is repeated when the module is busy.
    private enum Step { BLOCK, TRACK, REMOVE }

    private final TdVm vm;
    private final KvmSeam seam;
    /// Nonzero while an initial page is added: the frame with its content.
    private long pageAddSourcePa;
    /// vCPUs stay out of the guest while a zap is being retried. [LINUX wait_for_sept_zap]
    private boolean zapPending;
    /// 0: vCPUs are kept out for one retry; else how often a busy call is repeated while they run.
    private long retries;

    SecureEpt(TdVm vm, KvmSeam seam) {
        this.vm = vm;
        this.seam = seam;
    }

    void pageAddSource(long pa) {
        pageAddSourcePa = pa;
    }

    boolean zapPending() {
        return zapPending;
    }

    @Override public Result linkTable(long gfn, int level, long tablePa) {
        var out = seam.borrow();
        var result = result("TDH.MEM.SEPT.ADD", seam.memSeptAdd(vm.tdrPa(), gfn << 12, level, tablePa, out));
        seam.giveBack(out);
        if (result == Result.DONE) {
            vm.counters.tdxPages++;
        }
        return result;
    }

    @Override public Result mapLeaf(long gfn, int level, long pa) {
        var out = seam.borrow();
        var result = mapLeaf(gfn, level, pa, out);
        seam.giveBack(out);
        return result;
    }

    private Result mapLeaf(long gfn, int level, long pa, SeamRegs out) {
        Result result;
        if (vm.isRunnable()) {
            result = result("TDH.MEM.PAGE.AUG", seam.memPageAug(vm.tdrPa(), gfn << 12, level, pa, out));
            if (result == Result.DONE) {
                vm.counters.pagesAugmented++;
            }
        } else {
            if (pageAddSourcePa == 0) {
                vm.bug("a private page was mapped outside KVM_TDX_INIT_MEM_REGION before KVM_TDX_FINALIZE_VM");
                return Result.FAILED;
            }
            result = result("TDH.MEM.PAGE.ADD",
                    seam.memPageAdd(vm.tdrPa(), gfn << 12, pa, pageAddSourcePa, out));
            if (result == Result.DONE) {
                vm.counters.pagesAdded++;
            }
        }
        if (result == Result.DONE) {
            vm.counters.tdxPages++;
        }
        return result;
    }

    @Override public boolean removeLeaf(long gfn, int level, long pa) {
        var out = seam.borrow();
        boolean returned = removeLeaf(gfn, level, pa, out);
        seam.giveBack(out);
        return returned;
    }

    private boolean removeLeaf(long gfn, int level, long pa, SeamRegs out) {
        long gpa = gfn << 12;
        if (bugOn("TDH.MEM.RANGE.BLOCK", withoutVcpus(Step.BLOCK, gpa, level, out))) {
            return lost();
        }
        track(out);
        if (bugOn("TDH.MEM.PAGE.REMOVE", withoutVcpus(Step.REMOVE, gpa, level, out))
                || bugOn("TDH.PHYMEM.PAGE.WBINVD", seam.phymemPageWbinvd(pa, vm.hkid()))) {
            return lost();
        }
        clear(pa);
        vm.counters.tdxPages--;
        return true;
    }

    @Override public boolean reclaimTable(long tablePa) {
        return reclaim(tablePa);
    }

    /// TDH.PHYMEM.PAGE.RECLAIM of a control page or table, when the TD is being torn down.
    boolean reclaim(long pagePa) {
        if (bugOn("TDH.PHYMEM.PAGE.RECLAIM", seam.phymemPageReclaim(pagePa, new SeamRegs()))) {
            return lost();
        }
        clear(pagePa);
        vm.counters.tdxPages--;
        return true;
    }

    private boolean lost() {
        vm.counters.leakedPages++;
        return false;
    }

    /// After this no vCPU uses a translation that was blocked before. [LINUX tdx_track]
    private void track(SeamRegs out) {
        if (!vm.isRunnable()) {
            return;
        }
        bugOn("TDH.MEM.TRACK", withoutVcpus(Step.TRACK, 0, 0, out));
        vm.makeAllVcpusLeaveGuest();
    }

    /// How a zap goes on when the module is busy, see [KvmPolicy#ZAP_CONTENTION].
    void zapContention(String choice) {
        retries = switch (choice) {
            case "retry-forever" -> Long.MAX_VALUE;
            case "retry-n" -> KvmPolicy.RETRIES;
            default -> 0;
        };
    }

    /// One retry, with all vCPUs kept out of the guest. [LINUX tdh_do_no_vcpus]
    private long withoutVcpus(Step step, long gpa, int level, SeamRegs out) {
        long status = call(step, gpa, level, out);
        return KvmSeam.isBusy(status) ? repeated(status, step, gpa, level, out) : status;
    }

    private long repeated(long busy, Step step, long gpa, int level, SeamRegs out) {
        long status = busy;
        boolean spins = vm.mmu.has(Defect.TD_ZAP_SPINS_ON_BUSY);
        if (retries == 0 && !spins) {
            zapPending = true;
            vm.makeAllVcpusLeaveGuest();
            vm.counters.busyRetries++;
            status = call(step, gpa, level, out);
            zapPending = false;
            return status;
        }
        for (long left = spins ? Long.MAX_VALUE : retries; left > 0 && KvmSeam.isBusy(status) && (spins || !vm.isDead()); left--) {
            vm.host.scheduler().switchPoint(SwitchPoint.YIELD, vm, left);
            vm.counters.busyRetries++;
            status = call(step, gpa, level, out);
        }
        return status;
    }

    private long call(Step step, long gpa, int level, SeamRegs out) {
        return switch (step) {
            case BLOCK -> seam.memRangeBlock(vm.tdrPa(), gpa, level, out);
            case TRACK -> seam.memTrack(vm.tdrPa());
            case REMOVE -> seam.memPageRemove(vm.tdrPa(), gpa, level, out);
        };
    }

    /// Takes the page for the host's KeyID: on parts with the partial-write erratum only MOVDIR64B may. [LINUX
    /// tdx_quirk_reset_paddr]
    void clear(long pa) {
        vm.host.cpus().here().lp().clearFrame(pa);
    }

    private Result result(String what, long status) {
        if (KvmSeam.isBusy(status)) {
            vm.counters.busyRetries++; // whoever wants the page comes back
            return Result.BUSY;
        }
        return bugOn(what, status) ? Result.FAILED : Result.DONE;
    }

    private boolean bugOn(String what, long status) {
        if (status != 0) {
            vm.bug(what + " failed: 0x" + Long.toHexString(status));
        }
        return status != 0;
    }
}
