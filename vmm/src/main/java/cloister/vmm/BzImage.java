package cloister.vmm;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;

/// A Linux bzImage: its setup header, checked, and its protected-mode part. Every value that the boot protocol allows is
/// taken, from protocol 2.12 on, the first with a 64-bit entry point; another value is refused by the name of its field.
/// [LINUX Documentation/arch/x86/boot.rst "Details of Header Fields"]
final class BzImage {
    static final int SETUP_HEADER = 0x1f1;
    /// The protected-mode part of a bzImage is never loaded below.
    static final long LOWEST_GPA = 0x100000;
    private static final int SYSSIZE = 0x1f4;
    private static final int BOOT_FLAG = 0x1fe;
    private static final int JUMP = 0x200;
    private static final int JUMP_LENGTH = 0x201;
    private static final int MAGIC = 0x202;
    private static final int VERSION = 0x206;
    private static final int KERNEL_VERSION = 0x20e;
    private static final int LOAD_FLAGS = 0x211;
    private static final int INITRD_ADDR_MAX = 0x22c;
    private static final int KERNEL_ALIGNMENT = 0x230;
    private static final int RELOCATABLE = 0x234;
    private static final int MIN_ALIGNMENT = 0x235;
    private static final int XLOADFLAGS = 0x236;
    private static final int CMDLINE_SIZE = 0x238;
    private static final int PAYLOAD_OFFSET = 0x248;
    private static final int PAYLOAD_LENGTH = 0x24c;
    private static final int PREF_ADDRESS = 0x258;
    private static final int INIT_SIZE = 0x260;
    private static final int FIELDS_END = INIT_SIZE + 4;
    /// A jump's offset is a signed byte, so no header is longer.
    private static final int LONGEST_HEADER = MAGIC + Byte.MAX_VALUE;
    private static final int HEADER_MAGIC = 0x53726448; // "HdrS"
    private static final int ELF_MAGIC = 0x464c457f;
    private static final int SHORT_JUMP = 0xeb;
    private static final int OLDEST_PROTOCOL = 0x20c;
    private static final int LOADED_HIGH = 1;
    private static final int KERNEL_64 = 1;
    private static final int CAN_BE_LOADED_ABOVE_4G = 2;
    private static final int SECTOR = 512;
    private static final int DEFAULT_SETUP_SECTORS = 4;
    private static final int PARAGRAPH = 16;
    private static final int ENTRY_64 = 0x200;
    private static final long LOW = 0xffff_ffffL;

    private final MemorySegment image;
    private final ByteBuffer header;
    private final String name;
    private final long protectedModeStart;

    /// Checks the image.
    ///
    /// @throws UserError naming what is wrong with it
    BzImage(MemorySegment image, String name) {
        this(image, name, true);
    }

    /// @param whole whether that is all of the image, not its beginning
    private BzImage(MemorySegment image, String name, boolean whole) {
        this.image = image;
        this.name = name;
        byte[] start = new byte[LONGEST_HEADER];
        MemorySegment.copy(image, ValueLayout.JAVA_BYTE, 0, start, 0, (int) Math.min(start.length, image.byteSize()));
        this.header = ByteBuffer.wrap(start).order(ByteOrder.LITTLE_ENDIAN);
        checkKind();
        checkHeader();
        int setupSectors = header.get(SETUP_HEADER) & 0xff;
        protectedModeStart = ((setupSectors == 0 ? DEFAULT_SETUP_SECTORS : setupSectors) + 1L) * SECTOR;
        if (whole) {
            checkSizes();
        }
        if (relocatable()) {
            checkAlignment();
        }
    }

    /// Checks what the first 64 KiB of an image tell.
    ///
    /// @throws UserError naming what is wrong with it
    static void checkStart(MemorySegment start, String name) {
        new BzImage(start, name, false);
    }

    private void checkKind() {
        if (image.byteSize() < FIELDS_END) {
            throw reject("is too short for a bzImage (" + image.byteSize() + " bytes): name a Linux x86 bzImage");
        }
        if (header.getShort(BOOT_FLAG) != (short) 0xaa55 || header.getInt(MAGIC) != HEADER_MAGIC) {
            throw reject(header.getInt(0) == ELF_MAGIC
                    ? "is an ELF file, not a bzImage: use arch/x86/boot/bzImage of the same build"
                    : "is not a bzImage (no HdrS magic): name a Linux x86 bzImage");
        }
    }

    private void checkHeader() {
        int protocol = header.getShort(VERSION) & 0xffff;
        if (protocol < OLDEST_PROTOCOL) {
            throw reject(String.format(Locale.ROOT, "speaks boot protocol %d.%02d, too old: 64-bit entry came with 2.12 (Linux 3.8)",
                    protocol >> 8, protocol & 0xff));
        }
        if ((header.get(LOAD_FLAGS) & LOADED_HIGH) == 0) {
            throw rejectField("loadflags", header.get(LOAD_FLAGS) & 0xff, "lacks LOADED_HIGH, so this is a zImage: use a bzImage");
        }
        if ((header.getShort(XLOADFLAGS) & KERNEL_64) == 0) {
            throw rejectField("xloadflags", header.getShort(XLOADFLAGS) & 0xffff,
                    "lacks XLF_KERNEL_64, so there is no 64-bit entry point: use an x86-64 kernel");
        }
        if ((header.get(JUMP) & 0xff) != SHORT_JUMP) {
            throw rejectField("jump", header.getShort(JUMP) & 0xffff, "is no short jump, so the header's end is unknown");
        }
        if (headerEnd() < FIELDS_END) {
            throw rejectField("jump", header.getShort(JUMP) & 0xffff, "ends the header before init_size");
        }
    }

    private void checkSizes() {
        long declared = (header.getInt(SYSSIZE) & LOW) * PARAGRAPH;
        if (protectedModeStart + declared > image.byteSize()) {
            throw reject(String.format(Locale.ROOT, "is truncated: %d bytes of %d are there, by setup_sects and syssize; get it again",
                    image.byteSize(), protectedModeStart + declared));
        }
        if (protectedModeBytes() <= ENTRY_64) {
            throw reject("is truncated: nothing is at its 64-bit entry point; get it again");
        }
        long payload = header.getInt(PAYLOAD_LENGTH) & LOW;
        if (payload != 0 && (header.getInt(PAYLOAD_OFFSET) & LOW) + payload > protectedModeBytes()) {
            throw rejectField("payload_length", payload, "reaches beyond the file; get it again");
        }
        int version = header.getShort(KERNEL_VERSION) & 0xffff;
        if (version >= protectedModeStart - SECTOR) {
            throw rejectField("kernel_version", version, "points beyond the setup sectors");
        }
    }

    private void checkAlignment() {
        int alignment = header.getInt(KERNEL_ALIGNMENT);
        if (Integer.bitCount(alignment) != 1) {
            throw rejectField("kernel_alignment", alignment & LOW, "is no power of two");
        }
        if ((header.get(MIN_ALIGNMENT) & 0xff) >= Integer.SIZE) {
            throw rejectField("min_alignment", header.get(MIN_ALIGNMENT) & 0xff, "is no exponent of an address below 4 GiB");
        }
    }

    private UserError rejectField(String field, long value, String why) {
        return reject("has " + field + " 0x" + Long.toHexString(value) + ", which " + why);
    }

    /// What is wrong with it, in one line.
    UserError reject(String what) {
        return UserError.badInput("kernel " + name + " " + what);
    }

    private boolean relocatable() {
        return header.get(RELOCATABLE) != 0;
    }

    private int headerEnd() {
        return MAGIC + header.get(JUMP_LENGTH);
    }

    /// Where it wants to be loaded: at pref_address, not below 1 MiB, and if it can be relocated, aligned as it likes.
    ///
    /// @return an address below 2^33
    /// @throws UserError when it wants to be above `limit`, an address below 4 GiB
    long preferredGpa(long limit) {
        long preferred = header.getLong(PREF_ADDRESS);
        if (Long.compareUnsigned(preferred, limit) >= 0) {
            throw rejectField("pref_address", preferred, "is not below 0x" + Long.toHexString(limit)
                    + ", where Cloister loads kernels");
        }
        long gpa = Math.max(preferred, LOWEST_GPA);
        if (!relocatable()) {
            return gpa;
        }
        long alignment = Math.max(header.getInt(KERNEL_ALIGNMENT) & LOW, 1L << header.get(MIN_ALIGNMENT));
        return (gpa + alignment - 1) & -alignment;
    }

    /// Bytes that it needs from its load address until it has found its feet: init_size, but at least what is loaded.
    long initSize() {
        return Math.max(header.getInt(INIT_SIZE) & LOW, protectedModeBytes());
    }

    /// The 64-bit entry point, from the load address.
    int entryOffset() {
        return ENTRY_64;
    }

    /// The highest address that a byte of the initrd may have.
    long initrdLastGpa() {
        boolean anywhere = (header.getShort(XLOADFLAGS) & CAN_BE_LOADED_ABOVE_4G) != 0;
        return anywhere ? LOW : header.getInt(INITRD_ADDR_MAX) & LOW;
    }

    /// The longest command line, without the terminating zero.
    long longestCommandLine() {
        return header.getInt(CMDLINE_SIZE) & LOW;
    }

    private long protectedModeBytes() {
        return image.byteSize() - protectedModeStart;
    }

    /// What is loaded.
    MemorySegment protectedModePart() {
        return image.asSlice(protectedModeStart);
    }

    /// The setup header's bytes, which start at [#SETUP_HEADER] here and in boot_params.
    byte[] setupHeader() {
        return Arrays.copyOfRange(header.array(), SETUP_HEADER, headerEnd());
    }
}
