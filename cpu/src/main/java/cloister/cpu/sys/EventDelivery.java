package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;

/// Delivers interrupts and exceptions. [SDM Vol. 3 "Interrupt and Exception Handling"]
public final class EventDelivery {
    private EventDelivery() {
    }

    /// Delivers an event through the IDT, serialising faults, #DF and triple fault included. On return `rip` is the handler's first
    /// instruction. In non-root operation this asks the exception bitmap for every exception but the injected first one.
    ///
    /// @param type         of [cloister.spec.vmx.Interruption]
    /// @param errorCode    pushed when `hasErrorCode`
    /// @param returnRip    the return address to push
    /// @param address      the linear address of #PF, the DR6 bits of #DB, else 0
    /// @param injected     by VM entry: no interception of this event itself
    public static void deliver(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long returnRip, long address,
            boolean injected) {
        throw new ModelLimit("event delivery not in place yet");
    }
}
