package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;

/// What is left of the PC's system board: port B (0x61), port A (0x92), the reset line of the keyboard controller
/// (0x64) and the diagnostic port (0x80). There is no keyboard controller behind 0x60 and 0x64, no timer behind
/// port B and no interrupt controller.
public final class LegacyPorts implements PortDevice, Persistent {
    private static final int KEYBOARD_DATA = 0x60;
    private static final int PORT_B = 0x61;
    private static final int KEYBOARD_COMMAND = 0x64;
    private static final int POST = 0x80;
    private static final int PORT_A = 0x92;
    private static final int PULSE_RESET = 0xfe;
    private static final long REFRESH_NANOS = 15_085;

    private final VirtualClock clock;
    private final SystemControl system;
    private int portB;
    private int post;
    private int portA = 2; // A20 is open

    /// @param system receives resets
    public LegacyPorts(VirtualClock clock, SystemControl system) {
        this.clock = clock;
        this.system = system;
    }

    /// Claims its ports.
    public void claim(PortBus bus) {
        bus.claim(KEYBOARD_DATA, 2, this);
        bus.claim(KEYBOARD_COMMAND, 1, this);
        bus.claim(POST, 1, this);
        bus.claim(PORT_A, 1, this);
    }

    @Override public int readPort(int port, int size) {
        return switch (port) {
            case PORT_B -> portB | ((int) ((clock.nanos() / REFRESH_NANOS) & 1) << 4);
            case POST -> post;
            case PORT_A -> portA;
            default -> 0xff;
        };
    }

    @Override public void writePort(int port, int size, int value) {
        switch (port) {
            case PORT_B -> portB = value & 0xf;
            case POST -> post = value;
            case KEYBOARD_COMMAND -> {
                if (value == PULSE_RESET) {
                    system.reset("keyboard controller 0x64");
                }
            }
            case PORT_A -> {
                portA = value & 2;
                if ((value & 1) != 0) {
                    system.reset("system port A 0x92");
                }
            }
            default -> { }
        }
    }

    @Override public String stateName() {
        return "legacyPorts";
    }

    @Override public void describe(StateSink out) {
        out.field("portB", portB);
        out.field("post", post);
        out.field("portA", portA);
    }
}
