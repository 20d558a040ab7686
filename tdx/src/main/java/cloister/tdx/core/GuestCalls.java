package cloister.tdx.core;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;

/// TDCALL: the dispatcher of guest-side functions. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"]
final class GuestCalls {
    private static final long EFER_LMA = 1 << 10;
    private static final long CS_LONG = 1 << 13;
    private static final long RESERVED = ~0xff_ffffL;

    private GuestCalls() {
    }

    static boolean in64BitMode(LpState lp) {
        return (lp.vmcs.read(VmcsField.GUEST_EFER) & EFER_LMA) != 0
                && (lp.vmcs.read(VmcsField.GUEST_CS_ACCESS_RIGHTS) & CS_LONG) != 0;
    }

    /// @return whether an interrupt stopped the function, so that the guest executes TDCALL again
    static boolean handle(LpState lp) {
        if (!in64BitMode(lp)) {
            Inject.gp(lp);
            return false;
        }
        long rax = lp.vcpu.gpr(LpState.RAX);
        int version = (int) (rax >>> 16) & 0xff;
        long status;
        try {
            if ((rax & RESERVED) != 0 || version > 0 && (rax & 0xffff) != TdcallLeaf.VM_RD.number()) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
            }
            if (!call(lp, TdcallLeaf.of((int) rax & 0xffff), version)) {
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

    /// @return false when interrupted
    private static boolean call(LpState lp, TdcallLeaf leaf, int version) throws LeafFailure {
        if (leaf == null) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        switch (leaf) {
            case VP_VMCALL -> vmcall(lp);
            case VP_INFO -> GuestLeaves.info(lp);
            case MR_RTMR_EXTEND -> GuestReport.extend(lp);
            case VP_VEINFO_GET -> GuestLeaves.veInfo(lp);
            case MR_REPORT -> {
                return GuestReport.report(lp);
            }
            case VP_CPUIDVE_SET -> GuestLeaves.cpuidVe(lp);
            case MEM_PAGE_ACCEPT -> {
                return GuestPages.accept(lp);
            }
            case MR_VERIFYREPORT -> GuestReport.verify(lp);
            case VM_RD -> MetadataLeaves.guestVmRead(lp, version);
            case VM_WR -> MetadataLeaves.guestVmWrite(lp);
            case VP_RD -> MetadataLeaves.guestVpRead(lp);
            case VP_WR -> MetadataLeaves.guestVpWrite(lp);
            case SYS_RD -> MetadataLeaves.guestSysRead(lp);
            case SYS_RDALL -> MetadataLeaves.guestSysReadAll(lp);
            case VP_ENTER -> GuestPartition.enter(lp);
            case VP_INVEPT -> GuestPartition.invept(lp);
            case VP_INVVPID -> GuestPartition.invvpid(lp);
            case SERVTD_RD -> GuestPartition.serviceTd(lp, true);
            case SERVTD_WR -> GuestPartition.serviceTd(lp, false);
            case MEM_PAGE_ATTR_RD -> PageAttributes.read(lp);
            case MEM_PAGE_ATTR_WR -> PageAttributes.write(lp);
        }
        return true;
    }

    private static void vmcall(LpState lp) throws LeafFailure {
        long mask = lp.vcpu.gpr(RCX);
        int forbidden = 1 << LpState.RAX | 1 << RCX | 1 << LpState.RSP
                | (lp.tdcs.configFlag(Tdcs.NO_RBP_MOD) ? 1 << LpState.RBP : 0);
        if ((mask & forbidden) != 0 || mask >>> 32 != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
        }
        throw TdExit.vmcall(lp, mask);
    }

    /// RCX and RDX zero, the default output of several functions.
    static void clear(LpState lp) {
        lp.vcpu.gpr(RCX, 0);
        lp.vcpu.gpr(RDX, 0);
    }
}
