package cloister.vmm;

import cloister.devices.AcpiPm;
import cloister.devices.ByteSink;
import cloister.devices.ByteSource;
import cloister.devices.CmosRtc;
import cloister.devices.DebugPort;
import cloister.devices.IoApic;
import cloister.devices.LegacyPorts;
import cloister.devices.MmioBus;
import cloister.devices.PciHost;
import cloister.devices.PortBus;
import cloister.devices.SystemControl;
import cloister.devices.Uart16550;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;
import java.util.List;
import java.util.function.LongConsumer;

/// The machine's board: the devices and how they are wired.
final class Board implements Persistent {
    private static final int FIRMWARE_DEBUG_PORT = 0x402;

    final PortBus ports = new PortBus();
    final MmioBus mmio = new MmioBus();
    final IoApic ioApic;
    private final Uart16550 com1;
    private final Uart16550 com2;
    private final Uart16550 com3;
    private final CmosRtc rtc;
    private final PciHost pci;
    private final AcpiPm power;
    private final LegacyPorts legacy;
    private final ConsoleFeed feed;
    private final ExecInput execInput;

    /// @param idleForEver called with seconds when no input can come any more and the guest has been silent for so long
    Board(MachineConfig config, ByteSink console, VirtualClock clock, IoApic.Messages messages, SystemControl system,
            LongConsumer idleForEver) {
        ioApic = new IoApic(messages);
        mmio.claim(IoApic.BASE_GPA, IoApic.BYTES, ioApic);
        feed = new ConsoleFeed(config.consoleInput, console, clock, this::inputReady, idleForEver);
        com1 = new Uart16550(AcpiTables.COM1_PORT, ioApic.line(AcpiTables.COM1_IRQ), feed::said, feed);
        execInput = new ExecInput(config.execInput);
        com2 = new Uart16550(AcpiTables.COM2_PORT, ioApic.line(AcpiTables.COM2_IRQ),
                config.exec == null ? octet -> { } : config.exec, execInput);
        com3 = new Uart16550(AcpiTables.COM3_PORT, ioApic.line(AcpiTables.COM3_IRQ), config.execErrors, ByteSource.EMPTY);
        if (config.exec != null) {
            config.exec.onReady(() -> {
                execInput.ready();
                com2.inputReady();
            });
        }
        ports.claim(AcpiTables.COM1_PORT, Uart16550.PORTS, com1);
        ports.claim(AcpiTables.COM2_PORT, Uart16550.PORTS, com2);
        ports.claim(AcpiTables.COM3_PORT, Uart16550.PORTS, com3);
        rtc = new CmosRtc(clock, config.startEpochSeconds, asserted -> { });
        ports.claim(CmosRtc.BASE, 2, rtc);
        pci = new PciHost(system);
        ports.claim(PciHost.BASE, PciHost.PORTS, pci);
        mmio.claim(PciHost.ECAM_GPA, PciHost.ECAM_BYTES, pci.ecam());
        power = new AcpiPm(clock, ioApic.line(AcpiTables.SCI_IRQ), system);
        ports.claim(AcpiPm.EVENT_BLOCK, AcpiPm.PORTS, power);
        ports.claim(FIRMWARE_DEBUG_PORT, 1, new DebugPort(console));
        legacy = new LegacyPorts(clock, system);
        legacy.claim(ports);
    }

    @Override public String stateName() {
        return "board";
    }

    @Override public void describe(StateSink out) {
        for (Persistent part : List.of(ioApic, com1, com2, com3, rtc, pci, power, legacy, feed, execInput)) {
            out.part(part);
        }
    }

    /// Input may have come.
    void inputReady() {
        com1.inputReady();
        com2.inputReady();
    }
}
