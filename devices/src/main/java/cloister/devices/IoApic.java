package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// An I/O APIC with 24 pins that delivers by messages. [Intel 82093AA data sheet]
public final class IoApic implements MmioDevice, Persistent {
    /// Where PCs have it.
    public static final long BASE_GPA = 0xfec00000L;
    /// Its range in bytes.
    public static final long BYTES = 0x1000;
    /// Number of pins.
    public static final int PINS = 24;

    private static final int VERSION = 0x11;
    private static final int SELECT = 0;
    private static final int WINDOW = 0x10;
    private static final long MASKED = 1L << 16;
    private static final long LEVEL = 1L << 15;
    private static final long REMOTE_IRR = 1L << 14;
    private static final long READ_ONLY = REMOTE_IRR | (1L << 12);
    private static final long MSI_BASE = 0xfee00000L;

    /// Where its messages go.
    public interface Messages {
        /// A message-signalled interrupt. [SDM Vol. 3 "Message Signalled Interrupts"]
        void send(int pin, long address, int data);

        /// The message of a pin changed (it may be masked now).
        ///
        /// @param enabled whether the pin can deliver
        void routed(int pin, long address, int data, boolean enabled);
    }

    private final Messages messages;
    private final long[] entries = new long[PINS];
    private int asserted;
    private int select;
    private int id;

    /// All pins masked.
    public IoApic(Messages messages) {
        this.messages = messages;
        Arrays.fill(entries, MASKED);
    }

    /// The wire into `pin`.
    public InterruptLine line(int pin) {
        return asserted -> drive(pin, asserted);
    }

    /// The end of interrupt for `vector` from a local APIC.
    public void endOfInterrupt(int vector) {
        for (int pin = 0; pin < PINS; pin++) {
            long entry = entries[pin];
            if ((entry & LEVEL) != 0 && (entry & 0xff) == vector && (entry & REMOTE_IRR) != 0) {
                entries[pin] &= ~REMOTE_IRR;
                serviceLevel(pin);
            }
        }
    }

    @Override public long readMmio(long offset, int size) {
        return offset == SELECT ? select : offset == WINDOW ? readRegister() : 0;
    }

    @Override public void writeMmio(long offset, int size, long value) {
        if (offset == SELECT) {
            select = (int) value & 0xff;
        } else if (offset == WINDOW) {
            writeRegister((int) value);
        }
    }

    private int readRegister() {
        return switch (select) {
            case 0, 2 -> id << 24;
            case 1 -> VERSION | ((PINS - 1) << 16);
            default -> {
                int pin = (select - 0x10) >> 1;
                yield select < 0x10 || pin >= PINS ? 0 : (int) (entries[pin] >>> (32 * (select & 1)));
            }
        };
    }

    private void writeRegister(int value) {
        if (select == 0) {
            id = (value >>> 24) & 0xf;
            return;
        }
        int pin = (select - 0x10) >> 1;
        if (select < 0x10 || pin >= PINS) {
            return;
        }
        long old = entries[pin];
        long changed;
        if ((select & 1) != 0) {
            changed = (old & 0xffff_ffffL) | ((long) value << 32);
        } else {
            changed = (old & ((0xffff_ffffL << 32) | READ_ONLY)) | (value & 0x1ffffL & ~READ_ONLY);
        }
        if ((changed & LEVEL) == 0) {
            changed &= ~REMOTE_IRR;
        }
        entries[pin] = changed;
        if (changed != old) {
            messages.routed(pin, address(changed), data(changed), (changed & MASKED) == 0);
        }
        serviceLevel(pin);
    }

    private void drive(int pin, boolean level) {
        boolean was = ((asserted >>> pin) & 1) != 0;
        asserted = level ? asserted | (1 << pin) : asserted & ~(1 << pin);
        long entry = entries[pin];
        if ((entry & LEVEL) != 0) {
            serviceLevel(pin);
        } else if (level && !was && (entry & MASKED) == 0) { // an edge on a masked pin is lost
            messages.send(pin, address(entry), data(entry));
        }
    }

    private void serviceLevel(int pin) {
        long entry = entries[pin];
        boolean high = ((asserted >>> pin) & 1) != 0;
        if ((entry & LEVEL) != 0 && high && (entry & (MASKED | REMOTE_IRR)) == 0) {
            entries[pin] |= REMOTE_IRR;
            messages.send(pin, address(entry), data(entry));
        }
    }

    private static long address(long entry) {
        long destination = entry >>> 56;
        long logical = (entry >>> 11) & 1;
        return MSI_BASE | (destination << 12) | (logical << 2);
    }

    private static int data(long entry) {
        int level = (int) ((entry >>> 15) & 1);
        return ((int) entry & 0xff) | ((int) ((entry >>> 8) & 7) << 8) | (level << 14) | (level << 15);
    }

    @Override public String stateName() {
        return "ioApic";
    }

    @Override public void describe(StateSink out) {
        out.words("entries", entries);
        out.field("asserted", asserted);
        out.field("select", select);
        out.field("id", id);
    }
}
