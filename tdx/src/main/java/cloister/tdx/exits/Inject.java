package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdvps;

/// Event injection into the guest, and moving it past an emulated instruction. [TDX-BASE "Exceptions"]
public final class Inject {
    private static final long VALID = 1L << 31;
    private static final long UD = 0x8000_0306L;
    private static final long DF = 0x8000_0b08L;
    private static final long GP = 0x8000_0b0dL;
    private static final long PF = 0x8000_0b0eL;
    private static final long VE = 0x8000_0314L;
    private static final long NMI = 0x8000_0202L;
    private static final long VECTOR_AND_TYPE = 0x7ff;
    private static final long RF = 1 << 16;
    private static final long TF = 1 << 8;
    private static final long BTF = 1 << 1;
    private static final long PENDING_BS = 1 << 14;
    private static final long BLOCKING_STI_MOVSS = 3;
    private static final int VE_VALID = -1;

    private Inject() {
    }

    public static boolean pending(LpState lp) {
        return (lp.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO) & VALID) != 0;
    }

    private static void setRf(LpState lp) {
        lp.vmcs.write(VmcsField.GUEST_RFLAGS, lp.vmcs.read(VmcsField.GUEST_RFLAGS) | RF);
    }

    private static void event(LpState lp, long info) {
        lp.vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, info);
    }

    public static void gp(LpState lp) {
        setRf(lp);
        event(lp, GP);
        lp.vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, 0);
    }

    public static void ud(LpState lp) {
        setRf(lp);
        event(lp, UD);
    }

    private static void df(LpState lp) {
        event(lp, DF);
        lp.vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, 0);
    }

    public static void nmi(LpState lp) {
        event(lp, NMI);
    }

    public static void pf(LpState lp, long linear, int errorCode) {
        long waiting = lp.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
        lp.cpu.cr2(linear);
        if ((waiting & VALID) != 0) {
            long what = waiting & VECTOR_AND_TYPE;
            if (what == (DF & VECTOR_AND_TYPE)) {
                throw TdExit.async(lp, TdxStatus.NON_RECOVERABLE_VCPU, ExitReason.TRIPLE_FAULT, 0, 0, 0, 0);
            }
            if (what == (PF & VECTOR_AND_TYPE) || what == (VE & VECTOR_AND_TYPE)) {
                df(lp);
                setRf(lp);
                return;
            }
        }
        event(lp, PF);
        lp.vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, errorCode);
        setRf(lp);
    }

    /// #VE with the VM exit's information in VE_INFO, or #DF while the guest has not read the last one.
    ///
    /// DEVIATION: the module injects #DF again when the delivery of a #DF is what exited, and so on for ever, without the host. Here it is
    /// the triple fault that it is for a page fault.
    public static void ve(LpState lp, long reason, long qualification, long gpa, long linear) {
        ve(lp, lp.vcpu, reason, qualification, gpa, linear);
    }

    public static void ve(LpState lp, Tdvps vcpu, long reason, long qualification, long gpa, long linear) {
        if (vcpu.veInfoValid()) {
            long waiting = lp.vmcs.read(VmcsField.ENTRY_INTERRUPTION_INFO);
            if ((waiting & VALID) != 0 && (waiting & VECTOR_AND_TYPE) == (DF & VECTOR_AND_TYPE)) {
                throw TdExit.async(lp, TdxStatus.NON_RECOVERABLE_VCPU, ExitReason.TRIPLE_FAULT, 0, 0, 0, 0);
            }
            df(lp);
        } else {
            vcpu.u32(Tdvps.VE_EXIT_REASON, (int) reason);
            vcpu.u64(Tdvps.VE_QUALIFICATION, qualification);
            vcpu.u64(Tdvps.VE_GLA, linear);
            vcpu.u64(Tdvps.VE_GPA, gpa);
            vcpu.u16(Tdvps.VE_EPTP_INDEX, (int) lp.vmcs.read(VmcsField.EPTP_INDEX));
            vcpu.u32(Tdvps.VE_INSTRUCTION_LENGTH, (int) lp.vmcs.read(VmcsField.EXIT_INSTRUCTION_LENGTH));
            vcpu.u32(Tdvps.VE_INSTRUCTION_INFO, (int) lp.vmcs.read(VmcsField.EXIT_INSTRUCTION_INFO));
            vcpu.u32(Tdvps.VE_VALID, VE_VALID);
            event(lp, VE);
        }
        setRf(lp);
    }

    /// Past the instruction that exited.
    static void advanceRip(LpState lp) {
        var vmcs = lp.vmcs;
        vmcs.write(VmcsField.GUEST_RIP, vmcs.read(VmcsField.GUEST_RIP) + vmcs.read(VmcsField.EXIT_INSTRUCTION_LENGTH));
        clearBlocking(lp);
        pendSingleStep(lp);
    }

    public static void clearBlocking(LpState lp) {
        long state = lp.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE);
        if ((state & BLOCKING_STI_MOVSS) != 0) {
            lp.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, state & ~BLOCKING_STI_MOVSS);
        }
    }

    /// The pending debug exception BS says whether the guest single-steps instructions.
    static void pendSingleStep(LpState lp) {
        var vmcs = lp.vmcs;
        boolean step = (vmcs.read(VmcsField.GUEST_RFLAGS) & TF) != 0 && (vmcs.read(VmcsField.GUEST_DEBUGCTL) & BTF) == 0;
        long pending = vmcs.read(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS);
        long wanted = step ? pending | PENDING_BS : pending & ~PENDING_BS;
        if (wanted != pending) {
            vmcs.write(VmcsField.GUEST_PENDING_DEBUG_EXCEPTIONS, wanted);
        }
    }
}
