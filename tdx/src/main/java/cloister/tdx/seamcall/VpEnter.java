package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.core.Association;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LockedPage;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.NotModelled;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SpecCtrl;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.Translations;
import cloister.tdx.core.Xbuff;
import cloister.tdx.exits.GuestContext;
import cloister.tdx.exits.NmiWindow;
import cloister.tdx.exits.TdExit;
import cloister.tdx.exits.VmExit;
import cloister.tdx.exits.ZeroStepFilter;

/// TDH.VP.ENTER up to the VM entry. [TDX-BASE "TD Entry"]
public final class VpEnter {
    private static final long HOST_HINT = 1L << 52;
    private static final long RESUME_L1 = 1L << 53;
    private static final long RESERVED = 0xfff | (0x3ffL << 54);
    private static final long HOST_RECOVERABILITY_HINT = 1L << 60;
    private static final long ENABLE_MONITOR_FSM = 1 << 18;
    private static final long UNCORE_PMI = 1 << 13;
    private static final long IBPB = 1;

    private final LpState lp;
    private final ModuleState module;
    private Tdr tdr;
    private Tdcs tdcs;
    private Tdvps vcpu;
    /// The entry did not happen and looks like a TD exit instead.
    private boolean faked;

    public VpEnter(LpState lp) {
        this.lp = lp;
        this.module = lp.module;
    }

    /// @return true to enter the guest; false when RAX to R9 already tell of a TD exit
    public static boolean run(LpState lp) throws LeafFailure {
        return new VpEnter(lp).enter(lp.reg(RCX));
    }

    private boolean enter(long operand) throws LeafFailure {
        long miscEnable = lp.cpu.rdmsr(Msr.IA32_MISC_ENABLE);
        if ((miscEnable & PlatformCheck.LIMIT_CPUID_MAXVAL) != 0) {
            throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
        }
        if ((operand & RESERVED) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        var tdvprPage = module.lockTdvpr(lp, operand & SeptEntry.HPA, LockMode.SHARED, OperandId.RCX);
        LockedPage tdrPage;
        try {
            tdrPage = module.lockOwner(lp, tdvprPage, LockMode.SHARED);
        } catch (LeafFailure busy) {
            tdvprPage.close();
            throw busy;
        }
        boolean entered = false;
        try {
            tdr = module.tdr(tdrPage.pa());
            lp.tdrPage = tdrPage;
            lp.tdvprPage = tdvprPage;
            prepare(operand, miscEnable);
            if (!faked) {
                commit(operand);
                entered = true;
            }
        } finally {
            if (!entered && lp.tdvprPage != null) { // else a TD exit released everything
                lp.leaveTd();
                tdrPage.close();
                tdvprPage.close();
            }
        }
        return entered;
    }

    private void prepare(long operand, long miscEnable) throws LeafFailure {
        try (var td = TdAccess.open(lp, tdr, LockMode.SHARED, SeamcallLeaf.VP_ENTER)) {
            tdcs = td.tdcs();
            vcpu = Tdvps.whole(module.memory, lp.tdvprPage.pa(), tdr.keyId(), tdcs.numL2Vms());
            if (vcpu == null) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            boolean newAssociation = Association.associate(lp, tdcs, vcpu, false);
            lp.vmcs = module.vcpu(vcpu.tdvprPa).vmcs()[vcpu.currentVm()];
            lp.xbuff = new Xbuff(vcpu);
            if (((operand & HOST_HINT) != 0 && vcpu.u8(Tdvps.LAST_TD_EXIT) != Tdvps.ASYNC_TRAP)
                    || ((operand & RESUME_L1) != 0 && vcpu.currentVm() == 0)) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            if (vcpu.currentVm() != 0) {
                throw new NotModelled("entry of an L2 VM");
            }
            if (lp.cpu.rdmsr(Msr.IA32_TSC_ADJUST) != module.config.tscAdjust) {
                throw new LeafFailure(TdxStatus.INCONSISTENT_MSR, Msr.IA32_TSC_ADJUST);
            }
            if (lp.cpu.tsc() - vcpu.u64(Tdvps.LAST_EXIT_TSC) < 0) {
                throw new LeafFailure(TdxStatus.TSC_ROLLBACK);
            }
            if (tdcs.cpuidFlag(Tdcs.MONITOR_MWAIT) && (miscEnable & ENABLE_MONITOR_FSM) == 0) {
                throw new LeafFailure(TdxStatus.INCORRECT_MSR_VALUE, Msr.IA32_MISC_ENABLE);
            }
            lp.host.takeDsArea();
            Translations.begin(lp, tdr, tdcs, vcpu, newAssociation);
            zeroStepFilter();
        }
    }

    /// Refuses entry while the private pages that the guest faulted on again and again are still not there.
    private void zeroStepFilter() throws LeafFailure {
        long missing;
        try {
            missing = ZeroStepFilter.atEntry(lp, tdr, tdcs, vcpu);
        } catch (LeafFailure busy) {
            Translations.end(tdcs, vcpu);
            throw busy;
        }
        if (missing != ZeroStepFilter.NOTHING_MISSING) {
            Translations.end(tdcs, vcpu);
            TdExit.fakeEptViolation(lp, tdcs, vcpu, missing);
            faked = true;
        }
    }

    private void commit(long operand) {
        if (vcpu.tdvprPa != lp.lastTdvprPa) {
            Translations.flush(lp, tdr, tdcs);
            lp.cpu.wrmsr(Msr.IA32_PRED_CMD, IBPB);
            lp.lastTdvprPa = vcpu.tdvprPa;
        }
        vcpu.flag(Tdvps.LP_DEPENDENT_HPA_UPDATED, true); // the VMCS of the L1 VM has this LP's host state
        vcpu.flag(Tdvps.MODULE_DEPENDENT_HPA_UPDATED, true);
        lp.tdr = tdr;
        lp.tdcs = tdcs;
        lp.vcpu = vcpu;
        lp.attributes = tdcs.attributes();
        lp.xfam = vcpu.xfam();
        switch (vcpu.u8(Tdvps.LAST_TD_EXIT)) {
            case Tdvps.TDVMCALL -> takeVmcallResult(vcpu.gpr(RCX));
            case Tdvps.ASYNC_TRAP -> vcpu.gpr(LpState.RAX, (vcpu.gpr(LpState.RAX) & ~HOST_RECOVERABILITY_HINT)
                    | ((operand & HOST_HINT) != 0 ? HOST_RECOVERABILITY_HINT : 0));
            default -> {
            }
        }
        var vmcs = lp.vmcs;
        NmiWindow.openIfPending(lp);
        long uncorePmi = lp.cpu.seamVmcs().read(VmcsField.GUEST_DEBUGCTL) & UNCORE_PMI;
        vmcs.write(VmcsField.GUEST_DEBUGCTL, (vmcs.read(VmcsField.GUEST_DEBUGCTL) & ~UNCORE_PMI) | uncorePmi);
        if (SpecCtrl.isVirtual(module.config, tdcs)) {
            vmcs.write(VmcsField.SPEC_CTRL_SHADOW, SpecCtrl.virtual(module.config, tdcs, vcpu.u64(Tdvps.SPEC_CTRL)));
        }
        new GuestContext(lp).load();
        lp.stepping.fruitless = 0;
        lp.stepping.lastEntryTsc = lp.cpu.tsc();
        vcpu.u8(Tdvps.STATE, Tdvps.ACTIVE);
        VmExit.loadRegisters(lp);
    }

    /// The VMM's answer to TDG.VP.VMCALL goes to the registers that the guest selected.
    private void takeVmcallResult(long mask) {
        for (int i = 0; i < 16; i++) {
            if (((mask >>> (16 + i)) & 1) != 0) {
                lp.xbuff.xmm(i, lp.cpu.xmmLow(i), lp.cpu.xmmHigh(i));
            }
        }
        for (int i = 2; i < 16; i++) {
            if (((mask >>> i) & 1) != 0) {
                vcpu.gpr(i, lp.reg(i));
            }
        }
        vcpu.gpr(LpState.RAX, 0);
    }
}
