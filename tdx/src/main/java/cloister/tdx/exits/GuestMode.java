package cloister.tdx.exits;

import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;

/// The processor mode of the guest at a VM exit. [SDM Vol. 3 "Guest-State Area"]
public final class GuestMode {
    private static final long EFER_LMA = 1 << 10;
    private static final long CS_LONG = 1 << 13;

    private GuestMode() {
    }

    /// The privilege level: DPL of SS.
    public static int cpl(LpState lp) {
        return ((int) lp.vmcs.read(VmcsField.GUEST_SS_ACCESS_RIGHTS) >>> 5) & 3;
    }

    public static boolean is64Bit(LpState lp) {
        return (lp.vmcs.read(VmcsField.GUEST_EFER) & EFER_LMA) != 0
                && (lp.vmcs.read(VmcsField.GUEST_CS_ACCESS_RIGHTS) & CS_LONG) != 0;
    }
}
