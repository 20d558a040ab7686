package cloister.cli.guest;

import java.io.BufferedInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.function.Predicate;
import org.apache.commons.compress.archivers.ar.ArArchiveInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.apache.commons.compress.compressors.gzip.GzipCompressorInputStream;
import org.apache.commons.compress.compressors.xz.XZCompressorInputStream;
import org.apache.commons.compress.compressors.zstandard.ZstdCompressorInputStream;

/// Reads single files out of a Debian binary package. [DEB-FORMAT deb(5)]
record DebPackage(Path file) {
    /// Extracts the first regular file whose path (as in `boot/vmlinuz-6.12`, without leading `./`) matches.
    ///
    /// @param target the file to write
    /// @return whether there was one
    boolean extract(Predicate<String> wanted, Path target) throws IOException {
        try (var ar = new ArArchiveInputStream(new BufferedInputStream(Files.newInputStream(file)))) {
            for (var member = ar.getNextEntry(); member != null; member = ar.getNextEntry()) {
                if (member.getName().startsWith("data.tar")) {
                    return extractFromTar(decompress(member.getName(), ar), wanted, target);
                }
            }
        }
        throw new IOException(file + " has no data member");
    }

    private static boolean extractFromTar(InputStream data, Predicate<String> wanted, Path target) throws IOException {
        var tar = new TarArchiveInputStream(data);
        for (var entry = tar.getNextEntry(); entry != null; entry = tar.getNextEntry()) {
            String name = entry.getName().startsWith("./") ? entry.getName().substring(2) : entry.getName();
            if (entry.isFile() && wanted.test(name)) {
                Files.copy(tar, target);
                return true;
            }
        }
        return false;
    }

    private static InputStream decompress(String name, InputStream in) throws IOException {
        return switch (name.substring("data.tar".length())) {
            case "" -> in;
            case ".gz" -> new GzipCompressorInputStream(in);
            case ".xz" -> new XZCompressorInputStream(in);
            case ".zst" -> new ZstdCompressorInputStream(in);
            default -> throw new IOException("package member " + name + " is compressed in an unknown way");
        };
    }
}
