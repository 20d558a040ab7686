package cloister.cpu.fpu;

/// The AES transformations on the state as an XMM register holds it: column `c` is doubleword `c`, row 0 its lowest byte.
/// [FIPS 197; SDM Vol. 1 "Programming with AESNI"]
final class Aes {
    private static final byte[] SBOX = new byte[256];
    private static final byte[] INVERSE_SBOX = new byte[256];
    /// SubBytes and MixColumns of a byte in row 0; the other rows are rotations.
    private static final int[] ENCRYPT = new int[256];
    /// InvSubBytes and InvMixColumns of a byte in row 0.
    private static final int[] DECRYPT = new int[256];
    /// InvMixColumns of a byte in row 0.
    private static final int[] INVERSE_MIX = new int[256];

    static {
        int p = 1;
        int q = 1;
        // p runs through all non-zero field elements as powers of 3, q through their inverses.
        do {
            p = p ^ twice(p);
            q ^= q << 1;
            q ^= q << 2;
            q ^= q << 4;
            q &= 0xff;
            q ^= (q & 0x80) != 0 ? 9 : 0;
            int x = q | (q << 8);
            SBOX[p] = (byte) (q ^ (x >> 7) ^ (x >> 6) ^ (x >> 5) ^ (x >> 4) ^ 0x63);
        } while (p != 1);
        SBOX[0] = 0x63;
        for (int n = 0; n < 256; n++) {
            INVERSE_SBOX[SBOX[n] & 0xff] = (byte) n;
        }
        for (int n = 0; n < 256; n++) {
            int s = SBOX[n] & 0xff;
            ENCRYPT[n] = twice(s) | (s << 8) | (s << 16) | ((twice(s) ^ s) << 24);
            INVERSE_MIX[n] = inverseMix(n);
        }
        for (int n = 0; n < 256; n++) {
            DECRYPT[n] = INVERSE_MIX[INVERSE_SBOX[n] & 0xff];
        }
    }

    private Aes() {
    }

    private static int twice(int x) {
        return ((x << 1) ^ ((x & 0x80) != 0 ? 0x11b : 0)) & 0xff;
    }

    private static int inverseMix(int x) {
        int x2 = twice(x);
        int x4 = twice(x2);
        int x8 = twice(x4);
        return (x8 ^ x4 ^ x2) | ((x8 ^ x) << 8) | ((x8 ^ x4 ^ x) << 16) | ((x8 ^ x2 ^ x) << 24);
    }

    static void encrypt(long[] x, int d, int s) {
        int c0 = (int) x[d];
        int c1 = (int) (x[d] >>> 32);
        int c2 = (int) x[d + 1];
        int c3 = (int) (x[d + 1] >>> 32);
        long keyLow = x[s];
        long keyHigh = x[s + 1];
        x[d] = PackedInteger.pair(column(ENCRYPT, c0, c1, c2, c3), column(ENCRYPT, c1, c2, c3, c0)) ^ keyLow;
        x[d + 1] = PackedInteger.pair(column(ENCRYPT, c2, c3, c0, c1), column(ENCRYPT, c3, c0, c1, c2)) ^ keyHigh;
    }

    static void encryptLast(long[] x, int d, int s) {
        int c0 = (int) x[d];
        int c1 = (int) (x[d] >>> 32);
        int c2 = (int) x[d + 1];
        int c3 = (int) (x[d + 1] >>> 32);
        long keyLow = x[s];
        long keyHigh = x[s + 1];
        x[d] = PackedInteger.pair(substitute(SBOX, c0, c1, c2, c3), substitute(SBOX, c1, c2, c3, c0)) ^ keyLow;
        x[d + 1] = PackedInteger.pair(substitute(SBOX, c2, c3, c0, c1), substitute(SBOX, c3, c0, c1, c2)) ^ keyHigh;
    }

    static void decrypt(long[] x, int d, int s) {
        int c0 = (int) x[d];
        int c1 = (int) (x[d] >>> 32);
        int c2 = (int) x[d + 1];
        int c3 = (int) (x[d + 1] >>> 32);
        long keyLow = x[s];
        long keyHigh = x[s + 1];
        x[d] = PackedInteger.pair(column(DECRYPT, c0, c3, c2, c1), column(DECRYPT, c1, c0, c3, c2)) ^ keyLow;
        x[d + 1] = PackedInteger.pair(column(DECRYPT, c2, c1, c0, c3), column(DECRYPT, c3, c2, c1, c0)) ^ keyHigh;
    }

    static void decryptLast(long[] x, int d, int s) {
        int c0 = (int) x[d];
        int c1 = (int) (x[d] >>> 32);
        int c2 = (int) x[d + 1];
        int c3 = (int) (x[d + 1] >>> 32);
        long keyLow = x[s];
        long keyHigh = x[s + 1];
        byte[] box = INVERSE_SBOX;
        x[d] = PackedInteger.pair(substitute(box, c0, c3, c2, c1), substitute(box, c1, c0, c3, c2)) ^ keyLow;
        x[d + 1] = PackedInteger.pair(substitute(box, c2, c1, c0, c3), substitute(box, c3, c2, c1, c0)) ^ keyHigh;
    }

    static void inverseMixColumns(long[] x, int d, int s) {
        x[d] = inverseMixPair(x[s]);
        x[d + 1] = inverseMixPair(x[s + 1]);
    }

    private static long inverseMixPair(long columns) {
        int low = (int) columns;
        int high = (int) (columns >>> 32);
        return PackedInteger.pair(column(INVERSE_MIX, low, low, low, low), column(INVERSE_MIX, high, high, high, high));
    }

    static void keyGenerationAssist(long[] x, int d, int s, int constant) {
        int x1 = substituteWord((int) (x[s] >>> 32));
        int x3 = substituteWord((int) (x[s + 1] >>> 32));
        x[d] = PackedInteger.pair(x1, Integer.rotateRight(x1, 8) ^ constant);
        x[d + 1] = PackedInteger.pair(x3, Integer.rotateRight(x3, 8) ^ constant);
    }

    private static int column(int[] table, int row0, int row1, int row2, int row3) {
        return table[row0 & 0xff]
                ^ Integer.rotateLeft(table[(row1 >>> 8) & 0xff], 8)
                ^ Integer.rotateLeft(table[(row2 >>> 16) & 0xff], 16)
                ^ Integer.rotateLeft(table[row3 >>> 24], 24);
    }

    private static int substitute(byte[] box, int row0, int row1, int row2, int row3) {
        return (box[row0 & 0xff] & 0xff) | ((box[(row1 >>> 8) & 0xff] & 0xff) << 8)
                | ((box[(row2 >>> 16) & 0xff] & 0xff) << 16) | ((box[row3 >>> 24] & 0xff) << 24);
    }

    private static int substituteWord(int word) {
        return substitute(SBOX, word, word, word, word);
    }
}
