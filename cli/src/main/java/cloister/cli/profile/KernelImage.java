package cloister.cli.profile;

import com.github.luben.zstd.ZstdInputStream;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.zip.GZIPInputStream;
import org.tukaani.xz.XZInputStream;

/// The kernel inside a bzImage, uncompressed. [BOOT "Details of Header Fields"]
public final class KernelImage {
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final int SETUP_SECTORS = 0x1f1;
    private static final int PAYLOAD_OFFSET = 0x248;
    private static final int PAYLOAD_LENGTH = 0x24c;
    private static final int SECTOR = 512;
    private static final int DEFAULT_SETUP_SECTORS = 4;

    private KernelImage() {
    }

    /// The functions of the kernel in a bzImage.
    ///
    /// @throws IOException with a message for people when the image is compressed as we cannot read, or tells no symbols
    public static SymbolTable symbols(MemorySegment bzImage) throws IOException {
        byte[] kernel;
        try {
            kernel = uncompressed(bzImage);
        } catch (IndexOutOfBoundsException e) {
            throw new IOException("the kernel has no compressed image inside", e);
        }
        var symbols = Kallsyms.find(kernel);
        if (symbols.isEmpty()) {
            throw new IOException("the kernel does not tell its symbols (CONFIG_KALLSYMS)");
        }
        return new SymbolTable(symbols);
    }

    private static byte[] uncompressed(MemorySegment bzImage) throws IOException {
        int sectors = bzImage.get(ValueLayout.JAVA_BYTE, SETUP_SECTORS) & 0xff;
        long start = ((sectors == 0 ? DEFAULT_SETUP_SECTORS : sectors) + 1L) * SECTOR
                + Integer.toUnsignedLong(bzImage.get(INT, PAYLOAD_OFFSET));
        long length = Integer.toUnsignedLong(bzImage.get(INT, PAYLOAD_LENGTH));
        byte[] payload = bzImage.asSlice(start, length).toArray(ValueLayout.JAVA_BYTE);
        if (payload.length < 8) {
            throw new IOException("the kernel has no compressed image inside");
        }
        var out = new ByteArrayOutputStream(8 * payload.length);
        try (var in = stream(payload)) {
            in.transferTo(out);
        } catch (IOException e) {
            // Behind the compressed stream are four bytes with the size, which some formats take for a broken second stream.
            if (out.size() < payload.length) {
                throw e;
            }
        }
        return out.toByteArray();
    }

    private static InputStream stream(byte[] payload) throws IOException {
        int magic = ((payload[0] & 0xff) << 24) | ((payload[1] & 0xff) << 16) | ((payload[2] & 0xff) << 8) | (payload[3] & 0xff);
        var in = new ByteArrayInputStream(payload);
        if (magic == 0x28b52ffd) {
            return new ZstdInputStream(in);
        } else if (magic == 0xfd377a58) {
            return new XZInputStream(in);
        } else if (magic >>> 16 == 0x1f8b) {
            return new GZIPInputStream(in);
        }
        throw new IOException("the kernel is compressed by something else than zstd, xz or gzip");
    }
}
