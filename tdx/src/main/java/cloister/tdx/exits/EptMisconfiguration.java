package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Transition;
import java.util.Locale;

/// EPT misconfigurations of a TD: only the VMM's shared EPT can have one. [TDX-BASE "EPT Misconfiguration"]
final class EptMisconfiguration {
    private EptMisconfiguration() {
    }

    static Transition handle(VmExit exit) {
        var lp = exit.lp;
        long gpa = lp.vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS);
        if (Gpa.isShared(gpa, lp.tdcs.gpaw())) {
            return TdExit.async(lp, TdxStatus.SUCCESS, exit.reason, 0, 0, gpa & -4096L, 0);
        }
        throw new ModuleHalt(String.format(Locale.ROOT, "Secure EPT misconfiguration at GPA 0x%x", gpa));
    }
}
