package cloister.cli;

import cloister.vmm.UserError;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;

/// Files with snapshots: `.json` is JSON, every other name text.
final class DumpFile {
    private DumpFile() {
    }

    /// Refuses before the run what could not be written after it.
    static void check(String option, Path file) {
        var folder = file.toAbsolutePath().getParent();
        if (Files.isDirectory(file) || folder == null || !Files.isDirectory(folder)
                || !Files.isWritable(Files.exists(file) ? file : folder)) {
            throw UserError.usage(option + ": cannot write " + file + ": choose a file in a folder that is there");
        }
    }

    /// Writes a snapshot, or says that it could not: a run goes on without its dump.
    ///
    /// @return whether it is written
    static boolean write(Path file, Dump dump) {
        try {
            boolean json = file.getFileName().toString().endsWith(".json");
            Files.writeString(file, json ? SnapshotJson.write(dump)
                    : SnapshotText.of(dump.module()) + "\n" + MemoryTypeText.summary(dump.memoryTypes()));
            return true;
        } catch (IOException e) {
            System.err.println("cloister: cannot write " + file + " (" + e.getMessage() + ")");
            return false;
        }
    }

    /// @throws UserError when there is no such dump
    static Dump read(Path file) {
        try {
            return SnapshotJson.read(InputFile.text(file), file.toString());
        } catch (NoSuchFileException e) {
            throw UserError.badInput("there is no file " + file + ": make one with 'cloister run --dump-on-exit FILE.json'");
        } catch (IOException e) {
            throw UserError.badInput("cannot read " + file + " (" + e.getMessage() + "): check the file");
        }
    }
}
