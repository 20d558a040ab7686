package cloister.tdx.exits;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.VmcsInit;

/// NMIs that the VMM asks for by PEND_NMI: the guest takes them when it can take an NMI and has read its last #VE. [TDX-BASE
/// "NMI Injection"]
public final class NmiWindow {
    private static final long BLOCKING_NMI = 1 << 3;

    private NmiWindow() {
    }

    private static boolean isDue(LpState lp) {
        return lp.vcpu.pendNmi() && !lp.vcpu.veInfoValid();
    }

    /// Lets the processor exit as soon as the guest could take the NMI.
    public static void openIfPending(LpState lp) {
        if (isDue(lp)) {
            exiting(lp, true);
        }
    }

    private static void exiting(LpState lp, boolean on) {
        long controls = lp.vmcs.read(VmcsField.PROC_BASED_CONTROLS);
        long bit = VmcsInit.PROC_NMI_WINDOW_EXITING;
        lp.vmcs.write(VmcsField.PROC_BASED_CONTROLS, on ? controls | bit : controls & ~bit);
    }

    /// The guest can take an NMI. The instruction length of this exit is 0: there is no instruction to skip.
    static void handle(LpState lp) {
        if (isDue(lp)) {
            Inject.nmi(lp);
            lp.vcpu.flag(Tdvps.PEND_NMI, false);
        }
        exiting(lp, false);
    }

    /// The exit undid what blocked NMIs: block them again.
    static void block(LpState lp) {
        lp.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE,
                lp.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE) | BLOCKING_NMI);
    }

    /// NMIs are no longer blocked: the one that blocked them will be delivered again.
    static void unblock(LpState lp) {
        lp.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE,
                lp.vmcs.read(VmcsField.GUEST_INTERRUPTIBILITY_STATE) & ~BLOCKING_NMI);
    }
}
