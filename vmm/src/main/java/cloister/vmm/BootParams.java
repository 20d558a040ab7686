package cloister.vmm;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Builds `struct boot_params`, the "zero page". [LINUX Documentation/arch/x86/zero-page.rst]
final class BootParams {
    static final int BYTES = 4096;
    private static final int ACPI_RSDP_ADDR = 0x070;
    private static final int E820_ENTRIES = 0x1e8;
    private static final int E820_TABLE = 0x2d0;
    private static final int E820_ENTRY_BYTES = 20;
    private static final int VID_MODE = 0x1fa;
    private static final int TYPE_OF_LOADER = 0x210;
    private static final int RAMDISK_IMAGE = 0x218;
    private static final int RAMDISK_SIZE = 0x21c;
    private static final int CMD_LINE_PTR = 0x228;
    private static final int LOADER_UNDEFINED = 0xff;
    private static final int VIDEO_NORMAL = 0xffff;

    private BootParams() {
    }

    static byte[] build(BzImage kernel, long initrdGpa, int initrdBytes, long rsdpGpa, E820 map) {
        var page = ByteBuffer.allocate(BYTES).order(ByteOrder.LITTLE_ENDIAN);
        page.put(BzImage.SETUP_HEADER, kernel.setupHeader());
        page.putShort(VID_MODE, (short) VIDEO_NORMAL);
        page.put(TYPE_OF_LOADER, (byte) LOADER_UNDEFINED);
        page.putInt(RAMDISK_IMAGE, initrdBytes == 0 ? 0 : (int) initrdGpa);
        page.putInt(RAMDISK_SIZE, initrdBytes);
        page.putInt(CMD_LINE_PTR, (int) GuestLayout.COMMAND_LINE_GPA);
        page.putLong(ACPI_RSDP_ADDR, rsdpGpa);
        int at = E820_TABLE;
        for (var entry : map.entries()) {
            page.putLong(at, entry.gpa()).putLong(at + 8, entry.bytes()).putInt(at + 16, entry.type());
            at += E820_ENTRY_BYTES;
        }
        page.put(E820_ENTRIES, (byte) map.entries().size());
        return page.array();
    }
}
