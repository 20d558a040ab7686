package cloister.cpu.sys;

import cloister.cpu.core.Cpu;

/// What waits for an instruction boundary of one logical processor, and what the processor does meanwhile.
/// [SDM Vol. 3 "Priority Among Concurrent Events", "Guest Non-Register State" activity state]
public final class PendingEvents {
    /// The bit of [Cpu#attention] that stands for anything here. Whoever raises an event sets it through the methods below; the run
    /// loop clears it when it has looked.
    public static final int ATTENTION = 1;

    /// What the processor does: the values are those of the VMCS's activity state.
    public static final int ACTIVE = 0;
    public static final int HLT = 1;
    public static final int SHUTDOWN = 2;
    public static final int WAIT_FOR_SIPI = 3;

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
    /// UMWAIT, TPAUSE and MWAIT: the TSC at which waiting ends by itself; 0 when not waiting so.
    public long waitUntil;

    /// For `cpu`, nothing pending.
    public PendingEvents(Cpu cpu) {
        this.cpu = cpu;
    }

    /// Makes the run loop look at events at the next instruction boundary.
    public void raise() {
        cpu.attention |= ATTENTION;
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
                return i << 6 | 63 - Long.numberOfLeadingZeros(external[i]);
            }
        }
        return -1;
    }

    /// Acknowledges `vector`.
    public void acknowledge(int vector) {
        external[vector >>> 6] &= ~(1L << vector);
    }
}
