package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Transition;
import java.util.Locale;

/// VM exits for events that are not the guest's: exceptions, NMI, SMI, the notify window. All end as TD exits. [TDX-BASE
/// "TD VM Exits"]
final class EventExit {
    private static final int TYPE_NMI = 2;
    private static final int MACHINE_CHECK = 18;
    /// Qualification of an SMI exit: a machine check that was turned into an SMI.
    private static final long MSMI = 1;
    /// Qualification of a notify-window exit: the VM context is corrupt.
    private static final long CONTEXT_INVALID = 1;
    private static final long NMI_UNBLOCKED = 1 << 12;

    private EventExit() {
    }

    /// Only a debugger lets exceptions other than the machine check exit.
    static Transition exceptionOrNmi(VmExit exit) {
        boolean nmi = ((exit.interruption >>> 8) & 7) == TYPE_NMI;
        if (!nmi && (exit.interruption & 0xff) == MACHINE_CHECK) {
            return exit.toHost(TdExit.NON_ACCESSIBLE, exit.interruption);
        }
        if (nmi || exit.lp.tdcs.debug()) {
            return exit.toHost(TdxStatus.SUCCESS, exit.interruption);
        }
        throw new ModuleHalt(String.format(Locale.ROOT, "exception exit 0x%x", exit.interruption));
    }

    static Transition systemManagement(VmExit exit) {
        return exit.toHost((exit.qualification & MSMI) != 0 ? TdExit.NON_ACCESSIBLE : TdxStatus.SUCCESS, exit.interruption);
    }

    static Transition notifyWindow(VmExit exit) {
        if ((exit.qualification & NMI_UNBLOCKED) != 0) {
            NmiWindow.block(exit.lp);
        }
        return exit.toHost((exit.qualification & CONTEXT_INVALID) != 0 ? TdxStatus.NON_RECOVERABLE_TD : TdxStatus.SUCCESS);
    }
}
