package cloister.vmm;

import cloister.devices.PciHost;
import java.util.ArrayList;
import java.util.List;

/// The memory map of the PC firmware interface. [ACPI "INT 15H, E820H - Query System Address Map"]
final class E820 {
    static final int RAM = 1;
    static final int RESERVED = 2;
    static final int ACPI = 3;
    static final int NVS = 4;

    record Entry(long gpa, long bytes, int type) {
    }

    private final List<Entry> entries = new ArrayList<>();

    /// The map of a machine with the given layout.
    ///
    /// @param td whether there is TD firmware, whose pages the kernel must leave alone: NVS rather than reserved, because
    ///           Linux maps reserved ranges as shared memory but NVS as private, and its mailbox is private
    static E820 of(GuestLayout layout, boolean td) {
        var map = new E820();
        map.entries.add(new Entry(0, GuestLayout.LOW_RAM_END, RAM));
        map.entries.add(new Entry(GuestLayout.ACPI_GPA, GuestLayout.ACPI_ROOM, ACPI));
        map.entries.add(new Entry(0xf0000, 0x10000, RESERVED));
        if (layout.lowEnd() > GuestLayout.HIGH_LOADING_START) {
            map.entries.add(new Entry(GuestLayout.HIGH_LOADING_START, layout.lowEnd() - GuestLayout.HIGH_LOADING_START, RAM));
        }
        map.entries.add(new Entry(PciHost.ECAM_GPA, PciHost.ECAM_BYTES, RESERVED));
        if (td) {
            map.entries.add(new Entry(TdFirmware.BASE_GPA, TdFirmware.BYTES, NVS));
        }
        if (layout.highBytes() > 0) {
            map.entries.add(new Entry(GuestLayout.HIGH_RAM_START, layout.highBytes(), RAM));
        }
        return map;
    }

    List<Entry> entries() {
        return entries;
    }
}
