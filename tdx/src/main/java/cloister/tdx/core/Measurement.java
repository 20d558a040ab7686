package cloister.tdx.core;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/// The running SHA-384 of a TD's build. [TDX-BASE "Measurement and Attestation"]
public final class Measurement {
    public static final int HASH_BYTES = 48;
    private static final int BLOCK = 128;
    private static final int CHUNK = 256;

    private Measurement() {
    }

    public static MessageDigest newDigest() {
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

    /// One 128-byte block: the function's name, then the GPA at byte 16.
    public static void extend(MessageDigest digest, String function, long gpa) {
        var block = new byte[BLOCK];
        var name = function.getBytes(StandardCharsets.US_ASCII);
        System.arraycopy(name, 0, block, 0, name.length);
        for (int i = 0; i < 8; i++) {
            block[16 + i] = (byte) (gpa >>> 8 * i);
        }
        digest.update(block);
    }

    public static int chunkBytes() {
        return CHUNK;
    }
}
