package cloister.kvm.vcpu;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.ExceptionVector;

/// Exceptions, NMIs and interrupts of a vCPU on their way into the guest. [LINUX struct kvm_queued_exception, kvm_queued_interrupt,
/// nmi_injected]
///
/// An event is pending until an entry takes it along, and injected from then until an exit shows that its delivery was finished. An
/// exit in the middle of the delivery leaves it injected: the next entry takes it along again, before anything new.
public final class QueuedEvents implements Persistent {
    /// An NMI that is being taken, and one that came meanwhile.
    private static final int MOST_NMIS = 2;

    /// Raised, but no entry has taken it along.
    public boolean exceptionPending;
    /// Taken along by an entry, perhaps not delivered.
    public boolean exceptionInjected;
    /// Of the exception, as are the next four.
    public int vector;
    public boolean hasErrorCode;
    public int errorCode;
    /// Whether CR2 or DR6 change when the exception is taken along.
    public boolean hasPayload;
    /// The address of a page fault, or the new conditions of a debug exception.
    public long payload;
    /// The APIC has given out the interrupt.
    public boolean interruptInjected;
    /// The interrupt is an INT n of the guest whose delivery was broken off.
    public boolean interruptSoft;
    public int interrupt;
    public boolean nmiInjected;
    /// NMIs that wait for the guest to be ready for one.
    public int nmiPending;
    /// NMIs that the vCPU has not looked at yet.
    public int nmiQueued;
    /// The length of the instruction that made a soft event, in bytes.
    public int instructionLength;

    /// Raises an exception. With another one that is pending or injected it becomes a double fault, or takes its place, in the hope
    /// that the instruction raises that one again. [LINUX kvm_multiple_exception]
    ///
    /// @return whether it can be delivered; false is a triple fault
    boolean raise(int newVector, boolean withErrorCode, int newErrorCode, boolean withPayload, long newPayload) {
        if (exceptionPending || exceptionInjected) {
            if (vector == ExceptionVector.DF) {
                return false;
            }
            boolean second = isContributory(newVector) || (newVector == ExceptionVector.PF && vector == ExceptionVector.PF);
            if ((isContributory(vector) || vector == ExceptionVector.PF) && second) {
                pend(ExceptionVector.DF, true, 0, false, 0);
                return true;
            }
        }
        pend(newVector, withErrorCode, newErrorCode, withPayload, newPayload);
        return true;
    }

    private void pend(int newVector, boolean withErrorCode, int newErrorCode, boolean withPayload, long newPayload) {
        exceptionPending = true;
        exceptionInjected = false;
        vector = newVector;
        hasErrorCode = withErrorCode;
        errorCode = newErrorCode;
        hasPayload = withPayload;
        payload = newPayload;
    }

    /// The delivery of an exception was broken off. [LINUX kvm_requeue_exception]
    public void requeueException(int again, boolean withErrorCode, int newErrorCode) {
        pend(again, withErrorCode, newErrorCode, false, 0);
        exceptionPending = false;
        exceptionInjected = true;
    }

    /// An interrupt goes along with the next entry. [LINUX kvm_queue_interrupt]
    public void queueInterrupt(int number, boolean soft) {
        interruptInjected = true;
        interruptSoft = soft;
        interrupt = number;
    }

    /// [SDM Vol. 3 "Interrupt and Exception Classes"]
    private static boolean isContributory(int vector) {
        return vector == ExceptionVector.DE || (vector >= ExceptionVector.TS && vector <= ExceptionVector.GP);
    }

    /// Whether an event must be taken along again before a new one may. [LINUX kvm_event_needs_reinjection]
    public boolean needsReinjection() {
        return exceptionInjected || interruptInjected || nmiInjected;
    }

    /// Nothing is on its way any more: the exit that asks says itself what was broken off.
    public void clearInjected() {
        exceptionPending = false;
        exceptionInjected = false;
        interruptInjected = false;
        nmiInjected = false;
    }

    /// Takes NMIs that came: one while the guest handles another, else one more. [LINUX process_nmi]
    void takeNmis(boolean masked) {
        nmiPending = Math.min(nmiPending + nmiQueued, masked || nmiInjected ? 1 : MOST_NMIS);
        nmiQueued = 0;
    }

    void reset() {
        clearInjected();
        nmiPending = 0;
        nmiQueued = 0;
    }

    @Override public String stateName() {
        return "events";
    }

    @Override public void describe(StateSink to) {
        to.flag("exceptionPending", exceptionPending);
        to.flag("exceptionInjected", exceptionInjected);
        to.field("vector", vector);
        to.flag("hasErrorCode", hasErrorCode);
        to.field("errorCode", errorCode);
        to.flag("hasPayload", hasPayload);
        to.field("payload", payload);
        to.flag("interruptInjected", interruptInjected);
        to.flag("interruptSoft", interruptSoft);
        to.field("interrupt", interrupt);
        to.flag("nmiInjected", nmiInjected);
        to.field("nmiPending", nmiPending);
        to.field("nmiQueued", nmiQueued);
        to.field("instructionLength", instructionLength);
    }
}
