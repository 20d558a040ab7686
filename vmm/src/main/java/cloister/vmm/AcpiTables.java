package cloister.vmm;

import cloister.devices.AcpiPm;
import cloister.devices.CmosRtc;
import cloister.devices.IoApic;
import cloister.devices.PciHost;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/// Lays out the ACPI tables of a machine in one block: RSDP first, then FACS, DSDT, FADT, MADT, MCFG, XSDT.
/// [ACPI "ACPI Software Programming Model"]
final class AcpiTables {
    static final int SCI_IRQ = 9;
    static final int COM1_PORT = 0x3f8;
    static final int COM1_IRQ = 4;
    static final int COM2_PORT = 0x2f8;
    static final int COM2_IRQ = 3;
    static final int COM3_PORT = 0x3e8;
    /// Not COM1's, as on a PC: an ISA interrupt is not shared.
    static final int COM3_IRQ = 5;

    private static final int HEADER = 36;
    private static final int FADT_BYTES = 276;
    private static final long LOCAL_APIC_GPA = 0xfee00000L;
    private static final int SYSTEM_IO = 1;

    private final long base;
    private final ByteBuffer block;
    private int next = 64; // after the RSDP

    private AcpiTables(long base, int room) {
        this.base = base;
        this.block = ByteBuffer.allocate(room).order(ByteOrder.LITTLE_ENDIAN);
    }

    /// Builds the block; the RSDP is at its start.
    ///
    /// @param base        where the block will be
    /// @param cpus        number of CPUs, APIC ids count from 0
    /// @param resetVectorGpa where a CPU goes that the kernel takes offline, if there is a mailbox
    /// @param mailboxGpa  the wake-up mailbox of a TD, 0 for a machine that starts CPUs by INIT and SIPI
    static byte[] build(long base, int room, int cpus, long mailboxGpa, long resetVectorGpa) {
        var tables = new AcpiTables(base, room);
        long facs = tables.place(facs(), 64);
        long dsdt = tables.place(table("DSDT", 2, dsdt()), 16);
        long fadt = tables.place(table("FACP", 6, fadt(facs, dsdt)), 16);
        long madt = tables.place(table("APIC", 6, madt(cpus, mailboxGpa, resetVectorGpa)), 16);
        long mcfg = tables.place(table("MCFG", 1, mcfg()), 16);
        long xsdt = tables.place(table("XSDT", 1, Aml.concat(Aml.little(fadt, 8), Aml.little(madt, 8), Aml.little(mcfg, 8))), 16);
        tables.block.put(0, rsdp(xsdt));
        return tables.block.array();
    }

    private long place(byte[] table, int alignment) {
        next = (next + alignment - 1) & -alignment;
        block.put(next, table);
        long gpa = base + next;
        next += table.length;
        return gpa;
    }

    private static byte[] rsdp(long xsdt) {
        var out = ByteBuffer.allocate(HEADER).order(ByteOrder.LITTLE_ENDIAN);
        out.put(0, "RSD PTR ".getBytes(StandardCharsets.US_ASCII)).put(9, oemId());
        out.put(15, (byte) 2).putInt(20, HEADER).putLong(24, xsdt);
        out.put(8, checksum(out.array(), 20));
        out.put(32, checksum(out.array(), HEADER));
        return out.array();
    }

    private static byte[] oemId() {
        return "CLOIST".getBytes(StandardCharsets.US_ASCII);
    }

    private static byte[] table(String signature, int revision, byte[] body) {
        var out = ByteBuffer.allocate(HEADER + body.length).order(ByteOrder.LITTLE_ENDIAN);
        out.put(signature.getBytes(StandardCharsets.US_ASCII)).putInt(out.capacity()).put((byte) revision).put((byte) 0);
        out.put(oemId()).put("CLOISTER".getBytes(StandardCharsets.US_ASCII)).putInt(1);
        out.put("CLOI".getBytes(StandardCharsets.US_ASCII)).putInt(1).put(body);
        out.put(9, checksum(out.array(), out.capacity()));
        return out.array();
    }

    /// The byte that makes the first `length` bytes sum to zero, where its own place holds zero.
    static byte checksum(byte[] bytes, int length) {
        int sum = 0;
        for (int i = 0; i < length; i++) {
            sum += bytes[i];
        }
        return (byte) -sum;
    }

    private static byte[] facs() {
        var out = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
        out.put(0, "FACS".getBytes(StandardCharsets.US_ASCII)).putInt(4, 64).put(32, (byte) 2);
        return out.array();
    }

    private static byte[] fadt(long facs, long dsdt) {
        var table = ByteBuffer.allocate(FADT_BYTES).order(ByteOrder.LITTLE_ENDIAN); // offsets as in the specification
        table.putInt(36, (int) facs).putInt(40, (int) dsdt);
        table.put(45, (byte) 4); // enterprise server
        table.putShort(46, (short) SCI_IRQ);
        table.putInt(56, AcpiPm.EVENT_BLOCK).putInt(64, AcpiPm.CONTROL_BLOCK).putInt(76, AcpiPm.TIMER_BLOCK);
        table.put(88, (byte) 4).put(89, (byte) 2).put(91, (byte) 4);
        table.putShort(96, (short) 0xfff).putShort(98, (short) 0xfff); // no C2, no C3
        table.put(108, (byte) CmosRtc.CENTURY);
        table.putShort(109, (short) (1 | (1 << 2))); // ISA devices yes, 8042 no, VGA no
        table.putInt(112, 1 | (1 << 2) | (1 << 5) | (1 << 10)); // WBINVD, C1, no sleep button, reset register
        gas(table, 116, 8, 1, PciHost.RESET_CONTROL);
        table.put(128, (byte) PciHost.RESET_VALUE);
        table.put(131, (byte) 3); // minor version
        table.putLong(140, dsdt); // not X_FIRMWARE_CTRL: it is for a FACS above 4 GiB, and two addresses are one too many
        gas(table, 148, 32, 2, AcpiPm.EVENT_BLOCK);
        gas(table, 172, 16, 2, AcpiPm.CONTROL_BLOCK);
        gas(table, 208, 32, 3, AcpiPm.TIMER_BLOCK);
        table.put(268, "Cloister".getBytes(StandardCharsets.US_ASCII));
        return Arrays.copyOfRange(table.array(), HEADER, FADT_BYTES);
    }

    private static void gas(ByteBuffer table, int at, int bits, int accessSize, long address) {
        table.put(at, (byte) SYSTEM_IO).put(at + 1, (byte) bits).put(at + 3, (byte) accessSize);
        table.putLong(at + 4, address);
    }

    private static byte[] madt(int cpus, long mailboxGpa, long resetVectorGpa) {
        List<byte[]> parts = new ArrayList<>();
        parts.add(Aml.concat(Aml.little(LOCAL_APIC_GPA, 4), Aml.little(0, 4))); // no 8259
        for (int cpu = 0; cpu < cpus; cpu++) {
            parts.add(Aml.concat(new byte[] {0, 8, (byte) cpu, (byte) cpu}, Aml.little(1, 4)));
        }
        parts.add(Aml.concat(new byte[] {1, 12, 0, 0}, Aml.little(IoApic.BASE_GPA, 4), Aml.little(0, 4)));
        // The SCI is level-triggered and active high, unlike an ISA interrupt.
        parts.add(Aml.concat(new byte[] {2, 10, 0, SCI_IRQ}, Aml.little(SCI_IRQ, 4), Aml.little(0xd, 2)));
        if (mailboxGpa != 0) {
            // Version 1, with a reset vector: Linux damages a table of version 0. [ACPI "Multiprocessor Wakeup Structure"]
            parts.add(Aml.concat(new byte[] {0x10, 24}, Aml.little(1, 2), Aml.little(0, 4), Aml.little(mailboxGpa, 8),
                    Aml.little(resetVectorGpa, 8)));
        }
        return Aml.concat(parts.toArray(byte[][]::new));
    }

    /// Where the configuration space of segment 0 is in memory. [PCIFW "MCFG Table Description"]
    private static byte[] mcfg() {
        return Aml.concat(Aml.little(0, 8), Aml.little(PciHost.ECAM_GPA, 8), Aml.little(0, 2), new byte[] {0, (byte) PciHost.LAST_BUS},
                Aml.little(0, 4));
    }

    private static byte[] dsdt() {
        byte[] pci = Aml.device("PCI0",
                Aml.name("_HID", Aml.eisaId("PNP0A03")), Aml.name("_UID", Aml.integer(0)), Aml.name("_BBN", Aml.integer(0)),
                Aml.name("_CRS", Aml.resources(Aml.wordSpace(2, 0, 0xff), Aml.io(PciHost.BASE, PciHost.PORTS),
                        Aml.wordSpace(1, 0, PciHost.BASE - 1), Aml.wordSpace(1, PciHost.BASE + PciHost.PORTS, 0xffff),
                        Aml.memorySpace(GuestLayout.HOLE_START, PciHost.ECAM_GPA - 1),
                        Aml.memorySpace(PciHost.ECAM_GPA + PciHost.ECAM_BYTES, IoApic.BASE_GPA - 1))));
        // Linux uses the memory of MCFG only where a motherboard device claims it.
        byte[] motherboard = Aml.device("MBRD", Aml.name("_HID", Aml.eisaId("PNP0C02")), Aml.name("_UID", Aml.integer(0)),
                Aml.name("_CRS", Aml.resources(Aml.fixedMemory(PciHost.ECAM_GPA, PciHost.ECAM_BYTES))));
        byte[] rtc = Aml.device("RTC_", Aml.name("_HID", Aml.eisaId("PNP0B00")),
                Aml.name("_CRS", Aml.resources(Aml.io(CmosRtc.BASE, 2))));
        byte[] sleep = Aml.name("\\_S5_", Aml.packageOf(Aml.integer(AcpiPm.S5_SLEEP_TYPE),
                Aml.integer(AcpiPm.S5_SLEEP_TYPE), Aml.integer(0), Aml.integer(0)));
        return Aml.concat(Aml.scope("\\_SB_", motherboard, pci, rtc, com("COM1", 1, COM1_PORT, COM1_IRQ),
                com("COM2", 2, COM2_PORT, COM2_IRQ), com("COM3", 3, COM3_PORT, COM3_IRQ)), sleep);
    }

    private static byte[] com(String name, int uid, int port, int irq) {
        return Aml.device(name, Aml.name("_HID", Aml.eisaId("PNP0501")), Aml.name("_UID", Aml.integer(uid)),
                Aml.name("_CRS", Aml.resources(Aml.io(port, 8), Aml.irq(irq))));
    }
}
