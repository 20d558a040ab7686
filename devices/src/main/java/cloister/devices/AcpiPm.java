package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.Ratio;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;

/// The fixed ACPI power-management hardware: PM1a event and control blocks and the PM timer.
/// [ACPI "ACPI Hardware Specification"]
public final class AcpiPm implements PortDevice, Persistent {
    /// PM1a status (16 bits), then PM1a enable (16 bits).
    public static final int EVENT_BLOCK = 0x600;
    /// PM1a control (16 bits).
    public static final int CONTROL_BLOCK = 0x604;
    /// The PM timer (32 bits, counts 24).
    public static final int TIMER_BLOCK = 0x608;
    /// Ports from [#EVENT_BLOCK].
    public static final int PORTS = 12;
    /// SLP_TYP of the soft-off state, which the DSDT's \_S5 object repeats.
    public static final int S5_SLEEP_TYPE = 5;

    private static final int ENABLE_REGISTER = EVENT_BLOCK + 2;
    private static final int POWER_BUTTON = 1 << 8;
    private static final int SCI_ENABLED = 1;
    private static final int SLEEP_ENABLE = 1 << 13;
    private static final long TIMER_HERTZ = 3_579_545;

    private final VirtualClock clock;
    private final InterruptLine sci;
    private final SystemControl system;
    private int status;
    private int enable;

    /// @param sci the system control interrupt, level
    public AcpiPm(VirtualClock clock, InterruptLine sci, SystemControl system) {
        this.clock = clock;
        this.sci = sci;
        this.system = system;
    }

    /// Presses and releases the power button.
    public void pressPowerButton() {
        status |= POWER_BUTTON;
        update();
    }

    @Override public boolean takesWide() {
        return true;
    }

    @Override public int readPort(int port, int size) {
        int register = port & ~1;
        int value = switch (register) {
            case EVENT_BLOCK -> status | (enable << 16);
            case ENABLE_REGISTER -> enable;
            case CONTROL_BLOCK -> SCI_ENABLED;
            case TIMER_BLOCK -> timer();
            case TIMER_BLOCK + 2 -> timer() >>> 16;
            default -> 0;
        };
        return value >>> (8 * (port & 1));
    }

    @Override public void writePort(int port, int size, int value) {
        if (size == 1 && (port & 1) != 0) {
            writeWord(port & ~1, value << 8, 0xff00);
            return;
        }
        writeWord(port, value & 0xffff, size == 1 ? 0xff : 0xffff);
        if (size == 4) {
            writeWord(port + 2, value >>> 16, 0xffff);
        }
    }

    private void writeWord(int port, int value, int mask) {
        switch (port) {
            case EVENT_BLOCK -> status &= ~value;
            case ENABLE_REGISTER -> enable = (enable & ~mask) | (value & mask);
            case CONTROL_BLOCK -> {
                if ((value & SLEEP_ENABLE) != 0 && ((value >>> 10) & 7) == S5_SLEEP_TYPE) {
                    system.powerOff();
                }
            }
            default -> { } // the timer is read-only
        }
        update();
    }

    private int timer() {
        return (int) Ratio.floor(clock.now(), TIMER_HERTZ, clock.ticksPerSecond()) & 0xff_ffff;
    }

    private void update() {
        sci.drive((status & enable) != 0);
    }

    @Override public String stateName() {
        return "acpiPm";
    }

    @Override public void describe(StateSink out) {
        out.field("status", status);
        out.field("enable", enable);
    }
}
