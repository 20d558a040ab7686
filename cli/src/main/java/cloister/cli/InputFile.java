package cloister.cli;

import cloister.vmm.InitrdFormat;
import cloister.vmm.UserError;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.Channels;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/// Files that the user hands to the guest. They are mapped, so that their size costs no heap.
final class InputFile {
    private InputFile() {
    }

    /// The content of `file`.
    ///
    /// @param what the option that named it, for messages
    /// @throws UserError when it cannot be read
    static MemorySegment map(Path file, String what) {
        try {
            return Files.isRegularFile(file) ? mapRegular(file) : mapStream(file);
        } catch (NoSuchFileException e) {
            throw UserError.badInput(what + ": there is no file " + file + ": check the path");
        } catch (IOException e) {
            throw UserError.badInput(what + ": cannot read " + file + " (" + e.getMessage() + "): check the file");
        }
    }

    /// An initial RAM disk.
    ///
    /// @param command whether a command shall be run in it, for which it has to be an archive
    /// @throws UserError when it cannot be read, or no kernel could do anything with it
    static MemorySegment mapInitrd(Path file, boolean command) {
        var content = map(file, "--initrd");
        var format = InitrdFormat.of(content);
        if (format.isEmpty()) {
            throw UserError.badInput("--initrd: " + file + " is neither a cpio archive, plain or compressed, nor a file system image: "
                    + "name an initramfs, for example one of 'cloister initrd'");
        }
        if (command && !format.get().isArchive()) {
            throw UserError.badInput("--initrd: " + file + " is a file system image; --exec needs a cpio archive, plain or compressed");
        }
        return content;
    }

    private static MemorySegment mapRegular(Path file) throws IOException {
        try (var channel = FileChannel.open(file, StandardOpenOption.READ)) {
            return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
        }
    }

    /// A pipe cannot be mapped: its content goes through a file whose name is gone at once, so that nothing is left behind when a signal
    /// ends us while we read.
    private static MemorySegment mapStream(Path pipe) throws IOException {
        var copy = Files.createTempFile("cloister-input", null);
        try (var channel = FileChannel.open(copy, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            Files.delete(copy);
            try (var in = Files.newInputStream(pipe)) {
                in.transferTo(Channels.newOutputStream(channel));
            }
            return channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), Arena.ofAuto());
        }
    }
}
