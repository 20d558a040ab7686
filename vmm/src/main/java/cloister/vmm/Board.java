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
import cloister.sim.VirtualClock;
import java.util.function.LongConsumer;

/// The machine's board: the devices and how they are wired.
final class Board {
    private static final int FIRMWARE_DEBUG_PORT = 0x402;

    final PortBus ports = new PortBus();
    final MmioBus mmio = new MmioBus();
    final IoApic ioApic;
    private final Uart16550 com1;
    private final Uart16550 com2;

    /// @param idleForEver called with seconds when no input can come any more and the guest has been silent for so long
    Board(MachineConfig config, ByteSink console, VirtualClock clock, IoApic.Messages messages, SystemControl system,
            LongConsumer idleForEver) {
        ioApic = new IoApic(messages);
        mmio.claim(IoApic.BASE_GPA, IoApic.BYTES, ioApic);
        var feed = new ConsoleFeed(config.consoleInput, console, clock, this::inputReady, idleForEver);
        com1 = new Uart16550(AcpiTables.COM1_PORT, ioApic.line(AcpiTables.COM1_IRQ), feed::said, feed);
        var execInput = new ExecInput(config.execInput);
        com2 = new Uart16550(AcpiTables.COM2_PORT, ioApic.line(AcpiTables.COM2_IRQ),
                config.exec == null ? octet -> { } : config.exec, execInput);
        var com3 = new Uart16550(AcpiTables.COM3_PORT, ioApic.line(AcpiTables.COM3_IRQ), config.execErrors, ByteSource.EMPTY);
        if (config.exec != null) {
            config.exec.onReady(() -> {
                execInput.ready();
                com2.inputReady();
            });
        }
        ports.claim(AcpiTables.COM1_PORT, Uart16550.PORTS, com1);
        ports.claim(AcpiTables.COM2_PORT, Uart16550.PORTS, com2);
        ports.claim(AcpiTables.COM3_PORT, Uart16550.PORTS, com3);
        ports.claim(CmosRtc.BASE, 2, new CmosRtc(clock, config.startEpochSeconds, asserted -> { }));
        var pci = new PciHost(system);
        ports.claim(PciHost.BASE, PciHost.PORTS, pci);
        mmio.claim(PciHost.ECAM_GPA, PciHost.ECAM_BYTES, pci.ecam());
        ports.claim(AcpiPm.EVENT_BLOCK, AcpiPm.PORTS, new AcpiPm(clock, ioApic.line(AcpiTables.SCI_IRQ), system));
        ports.claim(FIRMWARE_DEBUG_PORT, 1, new DebugPort(console));
        new LegacyPorts(clock, system).claim(ports);
    }

    /// Input may have come.
    void inputReady() {
        com1.inputReady();
        com2.inputReady();
    }
}
