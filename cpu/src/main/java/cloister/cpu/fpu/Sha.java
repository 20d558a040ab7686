package cloister.cpu.fpu;

/// The SHA-1 and SHA-256 instructions. [SDM Vol. 1 "Programming with Intel SHA Extensions"; SDM Vol. 2]
///
/// Words are numbered as in the manual's operations; `word(x, r, n)` is doubleword `n` of a register, 3 the highest.
final class Sha {
    private static final int[] SHA1_K = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};

    private Sha() {
    }

    private static int word(long[] x, int r, int n) {
        return (int) (x[r + (n >> 1)] >>> (32 * (n & 1)));
    }

    private static void set(long[] x, int d, int w3, int w2, int w1, int w0) {
        x[d] = PackedInteger.pair(w0, w1);
        x[d + 1] = PackedInteger.pair(w2, w3);
    }

    static void sha1NextE(long[] x, int d, int s) {
        int e = Integer.rotateLeft(word(x, d, 3), 30);
        set(x, d, word(x, s, 3) + e, word(x, s, 2), word(x, s, 1), word(x, s, 0));
    }

    static void sha1Msg1(long[] x, int d, int s) {
        int w0 = word(x, d, 3);
        int w1 = word(x, d, 2);
        int w2 = word(x, d, 1);
        int w3 = word(x, d, 0);
        set(x, d, w2 ^ w0, w3 ^ w1, word(x, s, 3) ^ w2, word(x, s, 2) ^ w3);
    }

    static void sha1Msg2(long[] x, int d, int s) {
        int w16 = Integer.rotateLeft(word(x, d, 3) ^ word(x, s, 2), 1);
        int w17 = Integer.rotateLeft(word(x, d, 2) ^ word(x, s, 1), 1);
        int w18 = Integer.rotateLeft(word(x, d, 1) ^ word(x, s, 0), 1);
        int w19 = Integer.rotateLeft(word(x, d, 0) ^ w16, 1);
        set(x, d, w16, w17, w18, w19);
    }

    static void sha1Rounds4(long[] x, int d, int s, int function) {
        int a = word(x, d, 3);
        int b = word(x, d, 2);
        int c = word(x, d, 1);
        int t = word(x, d, 0);
        // The caller has already added E to the first message word.
        int e = 0;
        for (int n = 3; n >= 0; n--) {
            int f = switch (function & 3) {
                case 0 -> (b & c) ^ (~b & t);
                case 2 -> (b & c) ^ (b & t) ^ (c & t);
                default -> b ^ c ^ t;
            };
            int next = f + Integer.rotateLeft(a, 5) + word(x, s, n) + e + SHA1_K[function & 3];
            e = t;
            t = c;
            c = Integer.rotateLeft(b, 30);
            b = a;
            a = next;
        }
        set(x, d, a, b, c, t);
    }

    static void sha256Rounds2(long[] x, int d, int s) {
        int c = word(x, d, 3);
        int t = word(x, d, 2);
        int g = word(x, d, 1);
        int h = word(x, d, 0);
        int a = word(x, s, 3);
        int b = word(x, s, 2);
        int e = word(x, s, 1);
        int f = word(x, s, 0);
        for (int n = 0; n < 2; n++) {
            int choose = (e & f) ^ (~e & g);
            int majority = (a & b) ^ (a & c) ^ (b & c);
            int sigma1 = Integer.rotateRight(e, 6) ^ Integer.rotateRight(e, 11) ^ Integer.rotateRight(e, 25);
            int sigma0 = Integer.rotateRight(a, 2) ^ Integer.rotateRight(a, 13) ^ Integer.rotateRight(a, 22);
            int t1 = choose + sigma1 + word(x, 0, n) + h;
            h = g;
            g = f;
            f = e;
            e = t1 + t;
            t = c;
            c = b;
            b = a;
            a = t1 + majority + sigma0;
        }
        set(x, d, a, b, e, f);
    }

    static void sha256Msg1(long[] x, int d, int s) {
        int w0 = word(x, d, 0);
        int w1 = word(x, d, 1);
        int w2 = word(x, d, 2);
        int w3 = word(x, d, 3);
        set(x, d, w3 + small0(word(x, s, 0)), w2 + small0(w3), w1 + small0(w2), w0 + small0(w1));
    }

    static void sha256Msg2(long[] x, int d, int s) {
        int w16 = word(x, d, 0) + small1(word(x, s, 2));
        int w17 = word(x, d, 1) + small1(word(x, s, 3));
        int w18 = word(x, d, 2) + small1(w16);
        int w19 = word(x, d, 3) + small1(w17);
        set(x, d, w19, w18, w17, w16);
    }

    private static int small0(int w) {
        return Integer.rotateRight(w, 7) ^ Integer.rotateRight(w, 18) ^ (w >>> 3);
    }

    private static int small1(int w) {
        return Integer.rotateRight(w, 17) ^ Integer.rotateRight(w, 19) ^ (w >>> 10);
    }
}
