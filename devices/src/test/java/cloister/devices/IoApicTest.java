package cloister.devices;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

final class IoApicTest {
    private final List<String> events = new ArrayList<>();
    private final IoApic ioApic = new IoApic(new IoApic.Messages() {
        @Override public void send(int pin, long address, int data) {
            events.add("send %d %x %x".formatted(pin, address, data));
        }

        @Override public void routed(int pin, long address, int data, boolean enabled) {
            events.add("route %d %b".formatted(pin, enabled));
        }
    });

    private void write(int register, int value) {
        ioApic.writeMmio(0, 4, register);
        ioApic.writeMmio(0x10, 4, value);
    }

    private int read(int register) {
        ioApic.writeMmio(0, 4, register);
        return (int) ioApic.readMmio(0x10, 4);
    }

    @Test void identifiesItself() {
        assertThat(read(1)).isEqualTo(0x170011);
        write(0, 0x0f000000);
        assertThat(read(0)).isEqualTo(0x0f000000);
        for (int pin = 0; pin < IoApic.PINS; pin++) {
            assertThat(read(0x10 + 2 * pin)).as("masked at power-on").isEqualTo(0x10000);
        }
        assertThat(read(0x10 + 2 * IoApic.PINS)).isZero();
    }

    @Test void edgePinSendsOncePerEdgeUnlessMasked() {
        var line = ioApic.line(4);
        line.drive(true);
        line.drive(false);
        write(0x19, 3 << 24);
        write(0x18, 0x831); // logical destination, vector 0x31
        events.clear();
        line.drive(true);
        line.drive(true);
        line.drive(false);
        line.drive(true);
        assertThat(events).containsExactly("send 4 fee03004 31", "send 4 fee03004 31");
    }

    @Test void levelPinRepeatsAtEndOfInterruptWhileAsserted() {
        write(0x22, 0x8042); // pin 9, level, vector 0x42
        events.clear();
        var line = ioApic.line(9);
        line.drive(true);
        line.drive(true);
        assertThat(events).containsExactly("send 9 fee00000 c042");
        assertThat(read(0x22)).as("remote IRR").isEqualTo(0xc042);
        ioApic.endOfInterrupt(0x41);
        assertThat(events).hasSize(1);
        ioApic.endOfInterrupt(0x42);
        assertThat(events).hasSize(2);
        line.drive(false);
        ioApic.endOfInterrupt(0x42);
        assertThat(events).hasSize(2);
        assertThat(read(0x22)).isEqualTo(0x8042);
    }

    @Test void levelPinDeliversWhenUnmaskedWhileAsserted() {
        ioApic.line(9).drive(true);
        write(0x22, 0x18042);
        assertThat(events).noneMatch(e -> e.startsWith("send"));
        write(0x22, 0x8042);
        assertThat(events).last().isEqualTo("send 9 fee00000 c042");
    }
}
