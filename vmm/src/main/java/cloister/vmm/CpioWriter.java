package cloister.vmm;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Set;

/// Writes the "newc" cpio format that the kernel unpacks as initramfs.
/// [LINUX Documentation/driver-api/early-userspace/buffer-format.rst]
///
/// Deterministic: inode numbers count up, times are zero, everything belongs to root.
final class CpioWriter {
    private static final int DIRECTORY = 0040000;
    private static final int REGULAR = 0100000;
    private static final int SYMLINK = 0120000;
    private static final int CHARACTER = 0020000;
    private static final int HEADER_BYTES = 110;

    private final ByteArrayOutputStream out = new ByteArrayOutputStream(1 << 20);
    private final Set<String> directories = new LinkedHashSet<>();
    private int inode = 1;

    /// Adds a directory and those above it; a second time has no effect.
    void directory(String path) {
        String name = relative(path);
        if (name.isEmpty() || !directories.add(name)) {
            return;
        }
        parents(name);
        entry(name, DIRECTORY | 0755, new byte[0], 0, 0);
    }

    /// Adds a regular file.
    ///
    /// @param permissions the low twelve mode bits
    void file(String path, int permissions, byte[] content) {
        String name = relative(path);
        parents(name);
        entry(name, REGULAR | permissions, content, 0, 0);
    }

    /// Adds a symbolic link.
    void symlink(String path, String target) {
        String name = relative(path);
        parents(name);
        entry(name, SYMLINK | 0777, target.getBytes(StandardCharsets.UTF_8), 0, 0);
    }

    /// Adds a character device node.
    void characterDevice(String path, int permissions, int major, int minor) {
        String name = relative(path);
        parents(name);
        entry(name, CHARACTER | permissions, new byte[0], major, minor);
    }

    /// Ends the archive.
    byte[] finish() {
        inode = 0;
        entry("TRAILER!!!", 0, new byte[0], 0, 0);
        return out.toByteArray();
    }

    private void parents(String name) {
        int slash = name.lastIndexOf('/');
        if (slash > 0) {
            directory(name.substring(0, slash));
        }
    }

    private void entry(String name, int mode, byte[] content, int major, int minor) {
        byte[] nameBytes = (name + '\0').getBytes(StandardCharsets.UTF_8);
        int links = (mode & 0170000) == DIRECTORY ? 2 : 1;
        int[] fields = {inode++, mode, 0, 0, links, 0, content.length, 0, 0, major, minor, nameBytes.length, 0};
        var header = new StringBuilder("070701");
        for (int field : fields) {
            header.append(String.format(Locale.ROOT, "%08X", field));
        }
        out.writeBytes(header.toString().getBytes(StandardCharsets.US_ASCII));
        out.writeBytes(nameBytes);
        pad(HEADER_BYTES + nameBytes.length);
        out.writeBytes(content);
        pad(content.length);
    }

    private void pad(int written) {
        for (int i = written; (i & 3) != 0; i++) {
            out.write(0);
        }
    }

    private static String relative(String path) {
        return path.startsWith("/") ? path.substring(1) : path;
    }
}
