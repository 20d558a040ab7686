package cloister.vmm;

import cloister.devices.AcpiPm;
import cloister.devices.ByteSink;
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

/// The machine's board: the devices and how they are wired.
final class Board {
    private static final int FIRMWARE_DEBUG_PORT = 0x402;

    final PortBus ports = new PortBus();
    final MmioBus mmio = new MmioBus();
    final IoApic ioApic;
    final Uart16550 com1;
    final Uart16550 com2;

    Board(MachineConfig config, ByteSink console, VirtualClock clock, IoApic.Messages messages, SystemControl system) {
        ioApic = new IoApic(messages);
        mmio.claim(IoApic.BASE_GPA, IoApic.BYTES, ioApic);
        com1 = new Uart16550(AcpiTables.COM1_PORT, ioApic.line(AcpiTables.COM1_IRQ), console);
        com2 = new Uart16550(AcpiTables.COM2_PORT, ioApic.line(AcpiTables.COM2_IRQ), config.secondSerial);
        ports.claim(AcpiTables.COM1_PORT, Uart16550.PORTS, com1);
        ports.claim(AcpiTables.COM2_PORT, Uart16550.PORTS, com2);
        ports.claim(CmosRtc.BASE, 2, new CmosRtc(clock, config.startEpochSeconds, asserted -> { }));
        var pci = new PciHost(system);
        ports.claim(PciHost.BASE, PciHost.PORTS, pci);
        mmio.claim(PciHost.ECAM_GPA, PciHost.ECAM_BYTES, pci.ecam());
        ports.claim(AcpiPm.EVENT_BLOCK, AcpiPm.PORTS, new AcpiPm(clock, ioApic.line(AcpiTables.SCI_IRQ), system));
        ports.claim(FIRMWARE_DEBUG_PORT, 1, new DebugPort(console));
        new LegacyPorts(clock, system).claim(ports);
    }
}
