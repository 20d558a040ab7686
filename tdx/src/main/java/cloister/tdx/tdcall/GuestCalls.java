package cloister.tdx.tdcall;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.TdMsr;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.exits.GuestMode;
import cloister.tdx.exits.Inject;
import cloister.tdx.exits.TdExit;
import cloister.tdx.tdcall.GuestLeaf.Outcome;
import java.util.EnumMap;
import java.util.Map;

/// TDCALL: the dispatcher of guest-side functions. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"]
public final class GuestCalls {
    private static final long RESERVED = ~0xff_ffffL;
    private static final Map<TdcallLeaf, GuestLeaf> LEAVES = leaves();

    private GuestCalls() {
    }

    /// @return whether an interrupt stopped the function, so that the guest executes TDCALL again
    public static boolean handle(LpState lp) {
        if (!GuestMode.is64Bit(lp)) {
            Inject.gp(lp);
            return false;
        }
        long rax = lp.vcpu.gpr(LpState.RAX);
        int version = (int) (rax >>> 16) & 0xff;
        long status;
        try {
            if ((rax & RESERVED) != 0 || (version > 0 && (rax & 0xffff) != TdcallLeaf.VM_RD.number())) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
            }
            var leaf = TdcallLeaf.of((int) rax & 0xffff);
            if (leaf == null) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
            }
            if (LEAVES.get(leaf).call(lp, version) == Outcome.INTERRUPTED) {
                Inject.clearBlocking(lp);
                if ((lp.attributes & Tdcs.PERFMON) == 0) {
                    lp.cpu.wrmsr(TdMsr.FIXED_CTR0, lp.cpu.rdmsr(TdMsr.FIXED_CTR0) + 2);
                }
                lp.vcpu.flag(Tdvps.HP_LOCK_BUSY, false);
                return true;
            }
            status = 0;
        } catch (LeafFailure failure) {
            status = failure.status();
        }
        lp.vcpu.gpr(LpState.RAX, hostPriority(lp, status));
        return false;
    }

    private static Map<TdcallLeaf, GuestLeaf> leaves() {
        var leaves = new EnumMap<TdcallLeaf, GuestLeaf>(TdcallLeaf.class);
        leaves.put(TdcallLeaf.VP_VMCALL, new VpVmcall());
        leaves.put(TdcallLeaf.VP_INFO, new VpInfo());
        leaves.put(TdcallLeaf.MR_RTMR_EXTEND, new MrRtmrExtend());
        leaves.put(TdcallLeaf.VP_VEINFO_GET, new VpVeinfoGet());
        leaves.put(TdcallLeaf.MR_REPORT, new MrReport());
        leaves.put(TdcallLeaf.VP_CPUIDVE_SET, new VpCpuidveSet());
        leaves.put(TdcallLeaf.MEM_PAGE_ACCEPT, new MemPageAccept());
        leaves.put(TdcallLeaf.MR_VERIFYREPORT, new MrVerifyreport());
        leaves.put(TdcallLeaf.VM_RD, new VmRd());
        leaves.put(TdcallLeaf.VM_WR, new VmWr());
        leaves.put(TdcallLeaf.VP_RD, new VpRd());
        leaves.put(TdcallLeaf.VP_WR, new VpWr());
        leaves.put(TdcallLeaf.SYS_RD, new SysRd());
        leaves.put(TdcallLeaf.SYS_RDALL, new SysRdall());
        leaves.put(TdcallLeaf.VP_ENTER, new VpEnter());
        leaves.put(TdcallLeaf.VP_INVEPT, new VpInvept());
        leaves.put(TdcallLeaf.VP_INVGLA, new VpInvgla());
        leaves.put(TdcallLeaf.SERVTD_RD, new ServtdRd());
        leaves.put(TdcallLeaf.SERVTD_WR, new ServtdWr());
        leaves.put(TdcallLeaf.MEM_PAGE_ATTR_RD, new MemPageAttrRd());
        leaves.put(TdcallLeaf.MEM_PAGE_ATTR_WR, new MemPageAttrWr());
        return leaves;
    }

    /// A guest that keeps failing because the host wants a lock tells the host after a while.
    private static long hostPriority(LpState lp, long status) {
        var vcpu = lp.vcpu;
        if (!TdxStatus.OPERAND_BUSY_HOST_PRIORITY.matches(status)) {
            vcpu.flag(Tdvps.HP_LOCK_BUSY, false);
            return status;
        }
        long busy = TdxStatus.OPERAND_BUSY.with(status);
        if (!vcpu.flag(Tdvps.HP_LOCK_BUSY)) {
            vcpu.flag(Tdvps.HP_LOCK_BUSY, true);
            vcpu.u64(Tdvps.HP_LOCK_BUSY_START, lp.cpu.tsc());
        } else if (Long.compareUnsigned(lp.cpu.tsc() - vcpu.u64(Tdvps.HP_LOCK_BUSY_START),
                lp.tdcs.u64(Tdcs.HP_LOCK_TIMEOUT)) >= 0) {
            vcpu.flag(Tdvps.HP_LOCK_BUSY, false);
            vcpu.gpr(LpState.RAX, busy);
            throw TdExit.withoutReason(lp, TdxStatus.HOST_PRIORITY_BUSY_TIMEOUT);
        }
        return busy;
    }
}
