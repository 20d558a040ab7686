package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/// The running SHA-384 of a TD's build. [TDX-BASE "Measurement and Attestation"] Used under the exclusive lock of the TDR, so that its
/// buffers have one user.
public final class Measurement {
    public static final int HASH_BYTES = Sha384.DIGEST;
    /// Bytes that TDH.MR.EXTEND measures.
    public static final int CHUNK = 256;
    private static final int BLOCK = Sha384.BLOCK;
    private static final int GPA_OFFSET = 16;

    private final Sha384 digest = new Sha384();
    private final byte[] pageAdd = block("MEM.PAGE.ADD");
    private final byte[] extend = block("MR.EXTEND");
    private final byte[] chunk = new byte[CHUNK];

    private static MessageDigest newDigest() {
        try {
            return MessageDigest.getInstance("SHA-384");
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }

    public static byte[] sha384(byte[]... parts) {
        var digest = newDigest();
        for (byte[] part : parts) {
            digest.update(part);
        }
        return digest.digest();
    }

    private static byte[] block(String function) {
        var block = new byte[BLOCK];
        var name = function.getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(name, 0, block, 0, name.length);
        return block;
    }

    /// One 128-byte block: the function's name, then the GPA at byte 16.
    private void update(byte[] block, long gpa) {
        for (int i = 0; i < Long.BYTES; i++) {
            block[GPA_OFFSET + i] = (byte) (gpa >>> (8 * i));
        }
        digest.update(block, 0, 1);
    }

    /// Measures that a page was added.
    public void addPage(long gpa) {
        update(pageAdd, gpa);
    }

    /// Measures a chunk and where it is.
    ///
    /// @param hpa where its content is
    public void extend(long gpa, PhysicalMemory memory, long hpa) {
        update(extend, gpa);
        memory.read(hpa, chunk, 0, CHUNK);
        digest.update(chunk, 0, CHUNK / BLOCK);
    }

    /// The running hash as bytes, for [#restore].
    byte[] save() {
        return digest.save();
    }

    /// Goes on from what [#save] gave.
    void restore(byte[] saved) {
        digest.restore(saved);
    }

    /// MRTD; the measurement ends.
    public byte[] finish() {
        return digest.digest();
    }
}
