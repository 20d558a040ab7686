package cloister.vmm;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;

/// A Linux bzImage: its setup header, checked, and its protected-mode part. [LINUX Documentation/arch/x86/boot.rst]
final class BzImage {
    static final int SETUP_HEADER = 0x1f1;
    private static final int BOOT_FLAG = 0x1fe;
    private static final int JUMP_LENGTH = 0x201;
    private static final int MAGIC = 0x202;
    private static final int VERSION = 0x206;
    private static final int LOAD_FLAGS = 0x211;
    private static final int INITRD_ADDR_MAX = 0x22c;
    private static final int RELOCATABLE = 0x234;
    private static final int XLOADFLAGS = 0x236;
    private static final int CMDLINE_SIZE = 0x238;
    private static final int PREF_ADDRESS = 0x258;
    private static final int INIT_SIZE = 0x260;
    private static final int HEADER_MAGIC = 0x53726448; // "HdrS"
    private static final int OLDEST_PROTOCOL = 0x20e; // the first one with acpi_rsdp_addr
    private static final int LOADED_HIGH = 1;
    private static final int KERNEL_64 = 1;
    private static final int SECTOR = 512;
    private static final int ENTRY_64 = 0x200;

    private final byte[] image;
    private final ByteBuffer header;
    private final String name;
    private final int protectedModeStart;

    /// Checks the image.
    ///
    /// @throws UserError naming what is wrong with it
    BzImage(byte[] image, String name) {
        this.image = image;
        this.name = name;
        this.header = ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN);
        if (image.length < INIT_SIZE + 4) {
            throw reject("is too short for a kernel (" + image.length + " bytes): name a bzImage");
        }
        if (header.getShort(BOOT_FLAG) != (short) 0xaa55 || header.getInt(MAGIC) != HEADER_MAGIC) {
            throw reject(startsWithElf() ? "is an ELF file, not a bzImage: use arch/x86/boot/bzImage of the same build"
                    : "is not a bzImage (no HdrS magic): name a Linux x86 bzImage");
        }
        int protocol = header.getShort(VERSION) & 0xffff;
        if (protocol < OLDEST_PROTOCOL) {
            throw reject(String.format(Locale.ROOT, "speaks boot protocol %d.%02d, too old: use Linux 5.0 or later (protocol 2.14)",
                    protocol >> 8, protocol & 0xff));
        }
        if ((header.get(LOAD_FLAGS) & LOADED_HIGH) == 0 || (header.getShort(XLOADFLAGS) & KERNEL_64) == 0) {
            throw reject("has no 64-bit entry point: use an x86-64 kernel");
        }
        int setupSectors = header.get(SETUP_HEADER) & 0xff;
        protectedModeStart = ((setupSectors == 0 ? 4 : setupSectors) + 1) * SECTOR;
        long declared = (header.getInt(0x1f4) & 0xffff_ffffL) * 16;
        if (protectedModeStart + declared > image.length) {
            throw reject(String.format(Locale.ROOT, "is truncated: %d bytes of %d are there; get it again",
                    image.length, protectedModeStart + declared));
        }
    }

    private boolean startsWithElf() {
        return header.getInt(0) == 0x464c457f;
    }

    private UserError reject(String what) {
        return UserError.badInput("kernel " + name + " " + what);
    }

    /// Where it wants to be loaded.
    long preferredGpa() {
        return header.getLong(PREF_ADDRESS);
    }

    /// Bytes that it needs from its load address until it has found its feet.
    long initSize() {
        return header.getInt(INIT_SIZE) & 0xffff_ffffL;
    }

    /// The 64-bit entry point, from the load address.
    int entryOffset() {
        return ENTRY_64;
    }

    /// The highest address that a byte of the initrd may have.
    long initrdLastGpa() {
        return header.getInt(INITRD_ADDR_MAX) & 0xffff_ffffL;
    }

    /// The longest command line, without the terminating zero.
    int longestCommandLine() {
        return header.getInt(CMDLINE_SIZE);
    }

    /// Whether it runs at any suitably aligned address.
    boolean relocatable() {
        return header.get(RELOCATABLE) != 0;
    }

    /// What is loaded.
    byte[] protectedModePart() {
        return Arrays.copyOfRange(image, protectedModeStart, image.length);
    }

    /// The setup header's bytes, which start at [#SETUP_HEADER] here and in boot_params.
    byte[] setupHeader() {
        int end = JUMP_LENGTH + 1 + (image[JUMP_LENGTH] & 0xff);
        return Arrays.copyOfRange(image, SETUP_HEADER, end);
    }
}
