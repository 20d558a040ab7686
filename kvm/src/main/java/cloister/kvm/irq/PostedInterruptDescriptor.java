package cloister.kvm.irq;

import cloister.memory.HostMemory;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.vmx.PostedInterrupts;
import java.util.stream.IntStream;

/// A posted-interrupt descriptor in platform memory. [SDM Vol. 3 "Posted-Interrupt Processing"]
public final class PostedInterruptDescriptor implements Persistent {
    private final HostMemory memory;
    private final long pa;

    /// @param pa 64-byte aligned
    public PostedInterruptDescriptor(HostMemory memory, long pa, int notificationVector) {
        this.memory = memory;
        this.pa = pa;
        memory.write(pa + PostedInterrupts.CONTROL, 8, PostedInterrupts.SUPPRESS | ((long) notificationVector << 16));
    }

    public long pa() {
        return pa;
    }

    /// Notifications go to the processor with `apicId` from now on, and are suppressed no more. What was posted meanwhile is outstanding.
    /// [LINUX vmx_vcpu_pi_load]
    ///
    /// The wake-up vector is for devices and processors that post interrupts themselves, which there are none of: the host's software
    /// finds a blocked vCPU by itself. So nothing is suppressed again when the vCPU leaves. [LINUX vmx_needs_pi_wakeup]
    public void load(int apicId) {
        long control = memory.read(pa + PostedInterrupts.CONTROL, 8);
        long loaded = (control & 0xffff_ffffL & ~PostedInterrupts.SUPPRESS) | ((long) apicId << 32);
        if (loaded == control) {
            return;
        }
        memory.write(pa + PostedInterrupts.CONTROL, 8, loaded);
        if (hasPending()) {
            testAndSetOutstanding();
        }
    }

    /// Requests `vector`.
    public void post(int vector) {
        long at = pa + PostedInterrupts.PIR + 8 * (vector >> 6);
        memory.atomics().fetchOr(at, 8, 1L << (vector & 63));
    }

    /// Sets the outstanding-notification bit.
    ///
    /// @return whether it was set already
    public boolean testAndSetOutstanding() {
        long control = memory.atomics().fetchOr(pa + PostedInterrupts.CONTROL, 8, PostedInterrupts.OUTSTANDING);
        return (control & PostedInterrupts.OUTSTANDING) != 0;
    }

    public boolean isOutstanding() {
        return (memory.read(pa + PostedInterrupts.CONTROL, 8) & PostedInterrupts.OUTSTANDING) != 0;
    }

    /// Moves all requests to `apic` and clears the notification. [LINUX vmx_sync_pir_to_irr]
    public void drainTo(LocalApic apic) {
        if (!isOutstanding()) {
            return;
        }
        memory.atomics().fetchAnd(pa + PostedInterrupts.CONTROL, 8, ~PostedInterrupts.OUTSTANDING);
        for (int i = 0; i < 8; i++) {
            long at = pa + PostedInterrupts.PIR + (4 * i);
            if (memory.read(at, 4) != 0) {
                int bits = (int) memory.atomics().exchange(at, 4, 0);
                apic.requestVectors(32 * i, bits);
            }
        }
    }

    /// Whether any vector is requested.
    public boolean hasPending() {
        for (int i = 0; i < 4; i++) {
            if (memory.read(pa + PostedInterrupts.PIR + 8 * i, 8) != 0) {
                return true;
            }
        }
        return false;
    }

    @Override public String stateName() {
        return "pi";
    }

    @Override public void describe(StateSink to) {
        to.words("pa", IntStream.range(0, 8).mapToLong(i -> memory.read(pa + (8L * i), 8)).toArray());
    }
}
