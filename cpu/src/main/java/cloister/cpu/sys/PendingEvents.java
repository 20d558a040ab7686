package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.vmx.Interruption;
import java.util.Arrays;

/// What waits for an instruction boundary of one logical processor, and what the processor does meanwhile.
/// [SDM Vol. 3 "Priority Among Concurrent Events", "Guest Non-Register State" activity state]
public final class PendingEvents implements Persistent {
    /// The bit of [Cpu#attention] that stands for anything here. Whoever raises an event sets it through the methods below; the run
    /// loop clears it when it has looked.
    public static final int ATTENTION = 1;

    /// What the processor does: the values are those of the VMCS's activity state.
    public static final int ACTIVE = 0;
    public static final int HLT = 1;
    public static final int SHUTDOWN = 2;
    public static final int WAIT_FOR_SIPI = 3;

    private static final int SPINS = 64;

    private final Cpu cpu;
    /// One of the constants above.
    public int activity;
    /// An NMI has arrived.
    public boolean nmiPending;
    /// NMIs are blocked until IRET.
    public boolean nmiBlocked;
    /// DR6 bits of debug traps that the previous instruction left behind (B0-B3, BS; bit 12: any enabled breakpoint met, as in the VMCS's
    /// pending debug exceptions).
    public long pendingDebug;
    /// Vectors of external interrupts at the processor's own interrupt input, one bit each. Taken highest first.
    public final long[] external = new long[4];
    /// The guest seems to spin: the run loop lets others run and time pass.
    boolean spinning;
    private int spins;
    /// Counts what transfers control through the IDT, or otherwise swallows the single-step trap.
    int deliveries;
    /// Called by [#raise] while the run loop waits in an inactive state.
    Runnable waker;

    /// What is being delivered, in the format of the IDT-vectoring information; 0 when nothing is. For VM exits.
    public int vectoringInfo;
    /// Valid when [#vectoringInfo] has an error code.
    public int vectoringErrorCode;
    /// Instruction length of a software event in delivery.
    public int vectoringLength;

    /// For `cpu`, nothing pending.
    public PendingEvents(Cpu cpu) {
        this.cpu = cpu;
    }

    @Override public String stateName() {
        return "events";
    }

    @Override public void describe(StateSink out) {
        out.field("activity", activity);
        out.words("nmi", nmiPending ? 1 : 0, nmiBlocked ? 1 : 0);
        out.field("pendingDebug", pendingDebug);
        out.words("external", external.clone());
        out.words("spins", spinning ? 1 : 0, spins);
        out.words("vectoring", vectoringInfo, vectoringErrorCode, vectoringLength);
    }

    /// Forgets everything: RESET.
    void clear() {
        activity = ACTIVE;
        nmiPending = false;
        nmiBlocked = false;
        pendingDebug = 0;
        Arrays.fill(external, 0);
    }

    /// Makes the run loop look at events at the next instruction boundary.
    public void raise() {
        cpu.attention |= ATTENTION;
        if (waker != null) {
            waker.run();
        }
    }

    /// Whether the run loop is to look.
    boolean raised() {
        return (cpu.attention & ATTENTION) != 0;
    }

    /// PAUSE and the like: after some in one slice the slice ends.
    void spin() {
        if (++spins % SPINS == 0) {
            spinning = true;
            raise();
        }
    }

    /// An NMI arrives.
    public void raiseNmi() {
        nmiPending = true;
        raise();
    }

    /// External interrupt `vector` arrives.
    public void raiseExternal(int vector) {
        external[vector >>> 6] |= 1L << vector;
        raise();
    }

    /// The highest external vector that waits, or -1.
    public int highestExternal() {
        for (int i = 3; i >= 0; i--) {
            if (external[i] != 0) {
                return (i << 6) | (63 - Long.numberOfLeadingZeros(external[i]));
            }
        }
        return -1;
    }

    /// Acknowledges `vector`.
    public void acknowledge(int vector) {
        external[vector >>> 6] &= ~(1L << vector);
    }

    /// Something that only RFLAGS.IF holds back may be deliverable now.
    void interruptFlagSet() {
        if ((external[0] | external[1] | external[2] | external[3]) != 0 || cpu.vmx.waitsForInterruptFlag(cpu)) {
            raise();
        }
    }

    void startVectoring(int type, int vector, int errorCode, boolean hasErrorCode, int length) {
        vectoringInfo = Interruption.VALID | (type << 8) | vector | (hasErrorCode ? Interruption.DELIVER_ERROR_CODE : 0);
        vectoringErrorCode = errorCode;
        vectoringLength = length;
    }

    void endVectoring() {
        vectoringInfo = 0;
    }

    /// How many events have been delivered through the IDT; wraps around.
    public int deliveries() {
        return deliveries;
    }
}
