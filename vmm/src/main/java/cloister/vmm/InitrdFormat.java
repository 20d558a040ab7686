package cloister.vmm;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.util.Optional;

/// What a kernel can do something with as an initial RAM disk: archives that it unpacks and file systems that it mounts. [LINUX
/// Documentation/driver-api/early-userspace/buffer-format.rst, init/do_mounts_rd.c, lib/decompress.c]
public enum InitrdFormat {
    /// A cpio archive with the "newc" header.
    CPIO(0, "070701"),
    /// A cpio archive with the "crc" header.
    CPIO_CRC(0, "070702"),
    /// Compressed by gzip.
    GZIP(0, "\u001f\u008b"),
    /// Compressed by old gzip.
    OLD_GZIP(0, "\u001f\u009e"),
    /// Compressed by bzip2.
    BZIP2(0, "BZh"),
    /// Compressed by lzma.
    LZMA(0, "\u005d\u0000"),
    /// Compressed by xz.
    XZ(0, "\u00fd7zXZ\u0000"),
    /// Compressed by lzop.
    LZO(0, "\u0089LZO"),
    /// Compressed by lz4, its legacy format.
    LZ4(0, "\u0002\u0021\u004c\u0018"),
    /// Compressed by zstd.
    ZSTD(0, "\u0028\u00b5\u002f\u00fd"),
    /// An ext2, ext3 or ext4 file system.
    EXT(0x438, "\u0053\u00ef"),
    /// A Minix file system of version 1.
    MINIX(0x410, "\u007f\u0013"),
    /// A Minix file system of version 1 with long names.
    MINIX_LONG(0x410, "\u008f\u0013"),
    /// A squashfs file system.
    SQUASHFS(0, "hsqs"),
    /// A cramfs file system.
    CRAMFS(0, "\u0045\u003d\u00cd\u0028"),
    /// A romfs file system.
    ROMFS(0, "-rom1fs-");

    private final int offset;
    private final byte[] magic;

    InitrdFormat(int offset, String magic) {
        this.offset = offset;
        this.magic = magic.getBytes(StandardCharsets.ISO_8859_1);
    }

    /// What `image` is; empty when no kernel would know. Zeros before an archive are skipped, as the kernel does it.
    public static Optional<InitrdFormat> of(MemorySegment image) {
        long start = 0;
        while (start < image.byteSize() && image.get(ValueLayout.JAVA_BYTE, start) == 0) {
            start++;
        }
        for (var format : values()) {
            if (format.isAt(image, format.offset) || (format.isArchive() && format.isAt(image, start))) {
                return Optional.of(format);
            }
        }
        return Optional.empty();
    }

    /// Whether the kernel unpacks it, after others perhaps, instead of mounting it.
    public boolean isArchive() {
        return compareTo(EXT) < 0;
    }

    private boolean isAt(MemorySegment image, long at) {
        return at + magic.length <= image.byteSize()
                && image.asSlice(at, magic.length).mismatch(MemorySegment.ofArray(magic)) < 0;
    }
}
