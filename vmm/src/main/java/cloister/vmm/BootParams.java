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
    private static final int CODE32_START = 0x214;
    private static final int RAMDISK_IMAGE = 0x218;
    private static final int RAMDISK_SIZE = 0x21c;
    private static final int EXT_LOADER_VER = 0x226;
    private static final int CMD_LINE_PTR = 0x228;
    private static final int HARDWARE_SUBARCH = 0x23c;
    private static final int HARDWARE_SUBARCH_DATA = 0x240;
    private static final int SETUP_DATA = 0x250;
    private static final int LOADER_UNDEFINED = 0xff;
    private static final int VIDEO_NORMAL = 0xffff;

    private BootParams() {
    }

    /// The zero page. Whatever the kernel's file holds in fields that a boot loader writes is overwritten.
    ///
    /// @param initrdGpa below 4 GiB, its end too; meaningless when there are no `initrdBytes`
    static byte[] build(BzImage kernel, long kernelGpa, long initrdGpa, long initrdBytes, long rsdpGpa, E820 map) {
        var page = ByteBuffer.allocate(BYTES).order(ByteOrder.LITTLE_ENDIAN);
        page.put(BzImage.SETUP_HEADER, kernel.setupHeader());
        page.putShort(VID_MODE, (short) VIDEO_NORMAL);
        page.put(TYPE_OF_LOADER, (byte) LOADER_UNDEFINED);
        page.putInt(CODE32_START, (int) kernelGpa);
        page.putInt(RAMDISK_IMAGE, initrdBytes == 0 ? 0 : (int) initrdGpa);
        page.putInt(RAMDISK_SIZE, (int) initrdBytes);
        page.putShort(EXT_LOADER_VER, (short) 0); // and ext_loader_type
        page.putInt(HARDWARE_SUBARCH, 0).putLong(HARDWARE_SUBARCH_DATA, 0).putLong(SETUP_DATA, 0);
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
