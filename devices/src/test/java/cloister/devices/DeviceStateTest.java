package cloister.devices;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.sim.Persistent;
import cloister.sim.StateListing;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;
import java.lang.reflect.Modifier;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/// What a guest can see of a device is data with a name. [ADR 31]
class DeviceStateTest {
    /// Fields that are no state of the guest, and why.
    private static final Map<String, String> NO_STATE = """
            AcpiPm.clock wiring
            AcpiPm.sci wiring
            AcpiPm.system wiring
            CmosRtc.clock wiring
            CmosRtc.irq wiring
            IoApic.messages wiring
            PciHost.system wiring
            Uart16550.base constant
            Uart16550.irq wiring
            Uart16550.output wiring
            Uart16550.input wiring
            LegacyPorts.clock wiring
            LegacyPorts.system wiring
            """.lines().collect(Collectors.toMap(line -> line.substring(0, line.indexOf(' ')), line -> line));

    private static Stream<Persistent> devices() {
        var clock = new VirtualClock(1_000_000_000L);
        var system = new SystemControl() {
            @Override public void powerOff() {
            }

            @Override public void reset(String mechanism) {
            }
        };
        return Stream.of(new AcpiPm(clock, level -> { }, system), new CmosRtc(clock, 0, level -> { }), ioApic(), new PciHost(system),
                new Uart16550(0x3f8, level -> { }, octet -> { }, ByteSource.EMPTY), new LegacyPorts(clock, system));
    }

    private static IoApic ioApic() {
        return new IoApic(new IoApic.Messages() {
            @Override public void send(int pin, long address, int data) {
            }

            @Override public void routed(int pin, long address, int data, boolean enabled) {
            }
        });
    }

    private static Set<String> declared(Persistent device) {
        var names = new HashSet<String>();
        device.describe(new StateSink() {
            @Override public void field(String name, long value) {
                names.add(name);
            }

            @Override public void words(String name, long... values) {
                names.add(name);
            }

            @Override public void part(Persistent part) {
                names.add(part.stateName());
            }
        });
        return names;
    }

    @Test void everyFieldIsDeclaredOrNoState() {
        var wrong = new TreeSet<String>();
        var known = new HashSet<String>();
        devices().forEach(device -> {
            var names = declared(device);
            var fields = Arrays.stream(device.getClass().getDeclaredFields()).filter(field -> !Modifier.isStatic(field.getModifiers()));
            fields.forEach(field -> {
                String name = device.getClass().getSimpleName() + "." + field.getName();
                known.add(name);
                if (names.contains(field.getName()) == NO_STATE.containsKey(name)) {
                    wrong.add(name);
                }
            });
        });
        assertThat(wrong).as("neither declared nor without state, or both").isEmpty();
        assertThat(known).as("the list names fields that exist").containsAll(NO_STATE.keySet());
    }

    /// A device that a guest writes to and that keeps something of it has a constructor in [#devices]: no other class here has registers.
    @Test void everyDeviceWithRegistersIsLookedAt() {
        assertThat(devices().map(device -> device.getClass().getSimpleName()))
                .containsExactlyInAnyOrder("AcpiPm", "CmosRtc", "IoApic", "PciHost", "Uart16550", "LegacyPorts");
        assertThat(DebugPort.class.getDeclaredFields()).filteredOn(field -> !Modifier.isStatic(field.getModifiers()))
                .extracting(field -> field.getName()).containsExactly("output");
    }

    record Write(int port, int size, int value) {
    }

    static Stream<List<Object>> writes() {
        return Stream.of(List.of(0, new Write(AcpiPm.EVENT_BLOCK + 2, 2, 0x100)), List.of(1, new Write(0x70, 1, 0x32)),
                List.of(3, new Write(PciHost.BASE, 4, 0x8000_0004)), List.of(4, new Write(0x3ff, 1, 0x5a)),
                List.of(4, new Write(0x3fb, 1, 0x83)), List.of(5, new Write(0x80, 1, 0x55)));
    }

    @ParameterizedTest
    @MethodSource("writes")
    void whatAGuestWritesIsInTheState(List<Object> row) {
        var device = devices().toList().get((int) row.getFirst());
        var write = (Write) row.get(1);
        var before = StateListing.of(device);
        assertThat(before.differences(StateListing.of(device))).isEmpty();
        ((PortDevice) device).writePort(write.port(), write.size(), write.value());
        assertThat(StateListing.of(device).differences(before)).hasSize(1);
    }

    @Test void configurationSpaceAndRedirectionEntriesAreInTheState() {
        var pci = (PciHost) devices().toList().get(3);
        var before = StateListing.of(pci);
        pci.ecam().writeMmio(4, 2, 0x0006);
        assertThat(StateListing.of(pci).differences(before)).singleElement().asString().contains("function 0");
        var ioApic = ioApic();
        before = StateListing.of(ioApic);
        ioApic.writeMmio(0, 4, 0x10 + 2 * 3);
        ioApic.writeMmio(0x10, 4, 0x33);
        assertThat(StateListing.of(ioApic).differences(before)).hasSize(2);
        assertThat(declared((CmosRtc) devices().toList().get(1))).contains("secondTimer", "periodicTimer");
    }
}
