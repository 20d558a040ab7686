package cloister.devices;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.sim.VirtualClock;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

final class BoardDevicesTest {
    private final VirtualClock clock = new VirtualClock(1_000_000_000L);
    private final List<String> requests = new ArrayList<>();
    private final SystemControl system = new SystemControl() {
        @Override public void powerOff() {
            requests.add("off");
        }

        @Override public void reset(String mechanism) {
            requests.add("reset");
        }
    };
    private final PortBus bus = new PortBus();
    private boolean sci;
    private AcpiPm pm;

    @BeforeEach void wire() {
        pm = new AcpiPm(clock, level -> sci = level, system);
        bus.claim(PciHost.BASE, PciHost.PORTS, new PciHost(system));
        bus.claim(AcpiPm.EVENT_BLOCK, AcpiPm.PORTS, pm);
        new LegacyPorts(clock, system).claim(bus);
    }

    @Test void absentPortsReadAsOpenBus() {
        assertThat(bus.read(0x1234, 1)).isEqualTo(0xff);
        assertThat(bus.read(0x1234, 2)).isEqualTo(0xffff);
        assertThat(bus.read(0x1234, 4)).isEqualTo(-1);
        assertThat(bus.read(0x60, 2)).as("port 0x60 absent, port B present").isEqualTo(0x00ff);
        bus.write(0x1234, 4, 5);
        assertThatThrownBy(() -> bus.claim(0x61, 1, pm)).hasMessageContaining("0x61");
    }

    @Test void configurationMechanismOneShowsTheHostBridgeOnly() {
        bus.write(0xcf8, 4, 0x80000000);
        assertThat(bus.read(0xcf8, 4)).isEqualTo(0x80000000);
        assertThat(bus.read(0xcfc, 4)).isEqualTo(0x12378086);
        assertThat(bus.read(0xcfe, 2)).isEqualTo(0x1237);
        bus.write(0xcf8, 4, 0x80000008);
        assertThat(bus.read(0xcff, 1)).as("bridge").isEqualTo(6);
        bus.write(0xcf8, 4, 0x80000004);
        bus.write(0xcfc, 2, 0xffff);
        assertThat(bus.read(0xcfc, 2)).isEqualTo(0x0547);
        bus.write(0xcf8, 4, 0x80000800);
        assertThat(bus.read(0xcfc, 4)).as("no device 1").isEqualTo(-1);
        bus.write(0xcf8, 4, 0x80010000);
        assertThat(bus.read(0xcfc, 4)).as("no bus 1").isEqualTo(-1);
        bus.write(0xcf8, 4, 0);
        assertThat(bus.read(0xcfc, 4)).as("disabled").isEqualTo(-1);
    }

    @Test void configurationSpaceIsInMemoryToo() {
        var ecam = new PciHost(system).ecam();
        assertThat((int) ecam.readMmio(0, 4)).isEqualTo(0x12378086);
        assertThat((int) ecam.readMmio(2, 2) & 0xffff).isEqualTo(0x1237);
        assertThat(ecam.readMmio(8, 8)).isEqualTo(0x0600000200000000L >>> 32);
        ecam.writeMmio(4, 2, 0xffff);
        assertThat((int) ecam.readMmio(4, 2) & 0xffff).isEqualTo(0x0547);
        assertThat(ecam.readMmio(0x100, 4)).as("extended space").isEqualTo(-1);
        assertThat(ecam.readMmio(1 << 15, 4)).as("no device 1").isEqualTo(-1);
        assertThat(ecam.readMmio(1 << 20, 4)).as("no bus 1").isEqualTo(-1);
    }

    @Test void resetsByThreeWays() {
        bus.write(0xcf9, 1, 2);
        assertThat(requests).isEmpty();
        bus.write(0xcf9, 1, 6);
        bus.write(0x64, 1, 0xfe);
        bus.write(0x92, 1, 1);
        assertThat(requests).containsExactly("reset", "reset", "reset");
    }

    @Test void softOffNeedsTheRightSleepType() {
        assertThat(bus.read(0x604, 2)).as("ACPI mode").isEqualTo(1);
        bus.write(0x604, 2, (1 << 13) | (3 << 10));
        assertThat(requests).isEmpty();
        bus.write(0x604, 2, (1 << 13) | (AcpiPm.S5_SLEEP_TYPE << 10));
        assertThat(requests).containsExactly("off");
    }

    @Test void powerButtonRaisesSciUntilCleared() {
        pm.pressPowerButton();
        assertThat(sci).isFalse();
        bus.write(0x602, 2, 0x100);
        assertThat(sci).isTrue();
        assertThat(bus.read(0x600, 4)).isEqualTo(0x01000100);
        bus.write(0x600, 2, 0x100);
        assertThat(sci).isFalse();
    }

    @Test void timerCounts24BitsAt3579545Hertz() {
        clock.advance(1_000_000_000L);
        assertThat(bus.read(0x608, 4)).isEqualTo(3_579_545);
        clock.advance(9_000_000_000L);
        assertThat(bus.read(0x608, 4)).isEqualTo(35_795_450 & 0xffffff);
    }

    @Test void mmioBusFindsTheDeviceAndTheOffset() {
        var mmio = new MmioBus();
        mmio.claim(0x1000, 0x100, new MmioDevice() {
            @Override public long readMmio(long offset, int size) {
                return offset;
            }

            @Override public void writeMmio(long offset, int size, long value) {
            }
        });
        assertThat(mmio.read(0x10f0, 4)).isEqualTo(0xf0);
        assertThat(mmio.read(0x1100, 4)).isEqualTo(0xffffffffL);
        assertThat(mmio.read(0xfff, 8)).isEqualTo(-1);
        assertThatThrownBy(() -> mmio.claim(0x10ff, 1, null)).isInstanceOf(IllegalStateException.class);
    }
}
