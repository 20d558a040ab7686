package cloister.cli;

import cloister.vmm.InitrdFormat;
import cloister.vmm.UserError;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.function.Consumer;

/// Files that the user hands to us. Those for the guest are mapped, so that their size costs no heap. What is no regular file, such as
/// a pipe or a device, may never end: of that no more is read than somebody could use.
final class InputFile {
    /// No kernel is longer: its loader counts the memory that it needs in 32 bits. [LINUX Documentation/arch/x86/boot.rst "init_size"]
    static final long LONGEST_KERNEL = 1L << 32;
    private static final int CHUNK = 1 << 20;
    /// Bytes that stay free in the folder for temporary files: others need it, too.
    private static final long LEFT_FREE = 64L << 20;
    /// A text takes several times its length while it is read.
    private static final int HEAP_PER_TEXT = 6;
    private static final int UNAVAILABLE = ExitCode.UNAVAILABLE.code();

    private InputFile() {
    }

    /// The content of `file`.
    ///
    /// @param what  the option that named it, for messages
    /// @param most  bytes that a stream may have
    /// @param check is shown the beginning of a stream, before the rest is read, and throws when it is of no use
    /// @throws UserError when it cannot be read
    static MemorySegment map(Path file, String what, long most, Consumer<MemorySegment> check) {
        try {
            var mapped = Files.isRegularFile(file) ? mapRegular(file) : null;
            return mapped != null ? mapped : mapStream(file, what, most, check);
        } catch (NoSuchFileException e) {
            throw UserError.badInput(what + ": there is no file " + file + ": check the path");
        } catch (IOException e) {
            throw UserError.badInput(what + ": cannot read " + file + " (" + e.getMessage() + "): check the file");
        }
    }

    /// An initial RAM disk.
    ///
    /// @param command whether a command shall be run in it, for which it has to be an archive
    /// @param most    bytes that a stream may have
    /// @throws UserError when it cannot be read, or no kernel could do anything with it
    static MemorySegment mapInitrd(Path file, boolean command, long most) {
        var content = map(file, "--initrd", most, start -> {
            if (!isZero(start)) {
                checkInitrd(start, file, command);
            }
        });
        checkInitrd(content, file, command);
        return content;
    }

    private static void checkInitrd(MemorySegment content, Path file, boolean command) {
        var format = InitrdFormat.of(content);
        if (format.isEmpty()) {
            throw UserError.badInput("--initrd: " + file + " is neither a cpio archive, plain or compressed, nor a file system image: "
                    + "name an initramfs, for example one of 'cloister initrd'");
        }
        if (command && !format.get().isArchive()) {
            throw UserError.badInput("--initrd: " + file + " is a file system image; --exec needs a cpio archive, plain or compressed");
        }
    }

    /// Zeros may stand before an archive.
    private static boolean isZero(MemorySegment content) {
        return content.byteSize() > 0 && content.mismatch(MemorySegment.ofArray(new byte[(int) content.byteSize()])) < 0;
    }

    /// A text file.
    ///
    /// @throws IOException when it cannot be read, or is longer than the heap allows
    static String text(Path file) throws IOException {
        int most = (int) Math.min(Runtime.getRuntime().maxMemory() / HEAP_PER_TEXT, Integer.MAX_VALUE / 2);
        try (var in = Files.newInputStream(file)) {
            byte[] content = in.readNBytes(most + 1);
            if (content.length > most) {
                throw new IOException("it is longer than the " + (most >> 20) + " MiB that CLOISTER_HEAP leaves for it");
            }
            for (byte octet : content) {
                if (octet >= 0 && octet < ' ' && octet != '\n' && octet != '\r' && octet != '\t') {
                    throw new IOException("it is no text");
                }
            }
            return new String(content, StandardCharsets.UTF_8);
        }
    }

    /// The lines of a text file, as [#text]; the message of a failure names the file.
    static List<String> lines(Path file) throws IOException {
        try {
            return text(file).lines().toList();
        } catch (FileSystemException e) {
            throw e;
        } catch (IOException e) {
            throw new IOException(file + " (" + e.getMessage() + ")", e);
        }
    }

    /// Null when it is none that can be mapped: files of the kernel's own, as in /proc, say that they are empty, or very long.
    private static MemorySegment mapRegular(Path file) throws IOException {
        try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
            return channel.size() == 0 ? null : channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
        } catch (NoSuchFileException e) {
            throw e;
        } catch (IOException | UnsupportedOperationException e) {
            return null; // whatever it is, reading it will say so again
        }
    }

    /// A stream cannot be mapped: its content goes through a file whose name is gone at once, so that nothing is left behind when a signal
    /// ends us while we read.
    private static MemorySegment mapStream(Path stream, String what, long most, Consumer<MemorySegment> check) throws IOException {
        try (var in = Files.newInputStream(stream)) {
            byte[] chunk = in.readNBytes(CHUNK);
            check.accept(MemorySegment.ofArray(chunk));
            var copy = temporary(what, stream);
            try (var channel = FileChannel.open(copy, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
                var folder = Files.getFileStore(copy.getParent());
                Files.delete(copy);
                for (long size = 0; chunk.length > 0; chunk = next(in, chunk.length)) {
                    size += chunk.length;
                    if (size > most) {
                        throw UserError.badInput(what + ": " + stream + " is longer than the " + (most >> 20)
                                + " MiB that this guest could take: name a file that ends, or give it more --memory");
                    }
                    if (folder.getUsableSpace() < LEFT_FREE) {
                        throw new UserError(UNAVAILABLE, what + ": there is no room in " + copy.getParent() + " for what comes out of "
                                + stream + ": make room, or name a regular file");
                    }
                    write(channel, chunk);
                }
                return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
            }
        }
    }

    private static Path temporary(String what, Path stream) {
        try {
            return Files.createTempFile("cloister-input", null);
        } catch (IOException e) {
            throw new UserError(UNAVAILABLE, what + ": there is no place for what comes out of " + stream + " (" + e.getMessage()
                    + "): name a regular file");
        }
    }

    private static byte[] next(InputStream in, int last) throws IOException {
        return last < CHUNK ? new byte[0] : in.readNBytes(CHUNK);
    }

    private static void write(FileChannel channel, byte[] chunk) throws IOException {
        var bytes = ByteBuffer.wrap(chunk);
        while (bytes.hasRemaining()) {
            channel.write(bytes);
        }
    }
}
