package cloister.tdx.exits;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.ModuleHalt;

/// A VM exit interrupted the delivery of an event to the guest: the next entry delivers it again. [TDX-BASE "VM Exits During
/// Event Delivery"]
final class EventDelivery {
    private static final long VALID = 1L << 31;
    private static final long HAS_ERROR_CODE = 1 << 11;
    private static final int TYPE_NMI = 2;
    /// What the entry field has of the IDT-vectoring information: vector, type, error code, valid.
    private static final long ENTRY_BITS = 0x8000_0fffL;

    private EventDelivery() {
    }

    static void resume(VmExit exit) {
        var vmcs = exit.lp.vmcs;
        long info = vmcs.read(VmcsField.IDT_VECTORING_INFO);
        if ((info & VALID) == 0) {
            return;
        }
        if (exit.basic != ExitReason.TASK_SWITCH && exit.basic != ExitReason.EPT_VIOLATION
                && exit.basic != ExitReason.EPT_MISCONFIGURATION) {
            if (exit.lp.tdcs.debug()) {
                throw exit.toHost(TdxStatus.SUCCESS);
            }
            throw new ModuleHalt("VM exit " + exit.basic + " during event delivery");
        }
        if (((info >>> 8) & 7) == TYPE_NMI) {
            NmiWindow.unblock(exit.lp);
        }
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, info & ENTRY_BITS);
        if ((info & HAS_ERROR_CODE) != 0) {
            vmcs.write(VmcsField.ENTRY_EXCEPTION_ERROR_CODE, vmcs.read(VmcsField.IDT_VECTORING_ERROR_CODE));
        }
        vmcs.write(VmcsField.ENTRY_INSTRUCTION_LENGTH, vmcs.read(VmcsField.EXIT_INSTRUCTION_LENGTH));
    }
}
