package cloister.tdx.core;

import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.math.BigInteger;
import java.nio.ByteOrder;

/// A SHA-384 that has taken whole blocks so far: eight chaining words and a count, so that a measurement which spans many calls is
/// data like everything else. [FIPS-180-4 "SHA-384"]
///
/// For one call over one message `java.security.MessageDigest` is faster; its state cannot be taken out of it.
final class Sha384 {
    /// Bytes in a block.
    static final int BLOCK = 128;
    /// Bytes in a digest.
    static final int DIGEST = 48;
    /// Bytes of the saved state: eight words and the number of blocks.
    static final int STATE = 72;
    private static final int ROUNDS = 80;
    private static final VarHandle WORD = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.BIG_ENDIAN);

    private static final long[] INITIAL = {
        0xcbbb9d5dc1059ed8L, 0x629a292a367cd507L, 0x9159015a3070dd17L, 0x152fecd8f70e5939L,
        0x67332667ffc00b31L, 0x8eb44a8768581511L, 0xdb0c2e0d64f98fa7L, 0x47b5481dbefa4fa4L};
    private static final long[] K = roundConstants();

    private final long[] state = INITIAL.clone();
    private final long[] schedule = new long[ROUNDS];
    private long blocks;

    /// Takes `count` blocks from `offset` on.
    void update(byte[] source, int offset, int count) {
        for (int i = 0; i < count; i++) {
            compress(source, offset + (i * BLOCK));
        }
        blocks += count;
    }

    /// The digest of what was taken; the state stays as it is.
    byte[] digest() {
        var end = new Sha384();
        System.arraycopy(state, 0, end.state, 0, state.length);
        var padding = new byte[BLOCK];
        padding[0] = (byte) 0x80;
        WORD.set(padding, BLOCK - Long.BYTES, blocks * BLOCK * Byte.SIZE);
        end.compress(padding, 0);
        var digest = new byte[DIGEST];
        for (int i = 0; i < DIGEST / Long.BYTES; i++) {
            WORD.set(digest, i * Long.BYTES, end.state[i]);
        }
        return digest;
    }

    /// The state as bytes, for [#restore].
    byte[] save() {
        var saved = new byte[STATE];
        for (int i = 0; i < state.length; i++) {
            WORD.set(saved, i * Long.BYTES, state[i]);
        }
        WORD.set(saved, STATE - Long.BYTES, blocks);
        return saved;
    }

    /// Goes on from what [#save] gave.
    void restore(byte[] saved) {
        if (saved.length != STATE) {
            throw new IllegalArgumentException("SHA-384 state of " + saved.length + " bytes");
        }
        for (int i = 0; i < state.length; i++) {
            state[i] = (long) WORD.get(saved, i * Long.BYTES);
        }
        blocks = (long) WORD.get(saved, STATE - Long.BYTES);
    }

    /// Steps 1 to 4 of the hash computation. Eight rounds are written one after the other with the working variables in turned
    /// places, so that none is moved.
    private void compress(byte[] source, int offset) {
        long[] w = schedule;
        for (int t = 0; t < 16; t++) {
            w[t] = (long) WORD.get(source, offset + (t * Long.BYTES));
        }
        for (int t = 16; t < ROUNDS; t++) {
            long x = w[t - 2];
            long y = w[t - 15];
            w[t] = (Long.rotateRight(x, 19) ^ Long.rotateRight(x, 61) ^ (x >>> 6)) + w[t - 7]
                    + (Long.rotateRight(y, 1) ^ Long.rotateRight(y, 8) ^ (y >>> 7)) + w[t - 16];
        }
        long a = state[0];
        long b = state[1];
        long c = state[2];
        long d = state[3];
        long e = state[4];
        long f = state[5];
        long g = state[6];
        long h = state[7];
        for (int t = 0; t < ROUNDS; t += 8) {
            h += first(e, f, g) + K[t] + w[t];
            d += h;
            h += second(a, b, c);
            g += first(d, e, f) + K[t + 1] + w[t + 1];
            c += g;
            g += second(h, a, b);
            f += first(c, d, e) + K[t + 2] + w[t + 2];
            b += f;
            f += second(g, h, a);
            e += first(b, c, d) + K[t + 3] + w[t + 3];
            a += e;
            e += second(f, g, h);
            d += first(a, b, c) + K[t + 4] + w[t + 4];
            h += d;
            d += second(e, f, g);
            c += first(h, a, b) + K[t + 5] + w[t + 5];
            g += c;
            c += second(d, e, f);
            b += first(g, h, a) + K[t + 6] + w[t + 6];
            f += b;
            b += second(c, d, e);
            a += first(f, g, h) + K[t + 7] + w[t + 7];
            e += a;
            a += second(b, c, d);
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }

    /// Sum 1 and Ch.
    private static long first(long e, long f, long g) {
        return (Long.rotateRight(e, 14) ^ Long.rotateRight(e, 18) ^ Long.rotateRight(e, 41)) + (g ^ (e & (f ^ g)));
    }

    /// Sum 0 and Maj.
    private static long second(long a, long b, long c) {
        return (Long.rotateRight(a, 28) ^ Long.rotateRight(a, 34) ^ Long.rotateRight(a, 39)) + ((a & b) | (c & (a | b)));
    }

    /// The first 64 fractional bits of the cube roots of the first eighty primes, found by bisection in integers.
    private static long[] roundConstants() {
        var constants = new long[ROUNDS];
        int found = 0;
        for (int n = 2; found < ROUNDS; n++) {
            if (isPrime(n)) {
                constants[found++] = cubeRootFraction(n);
            }
        }
        return constants;
    }

    private static boolean isPrime(int n) {
        for (int d = 2; d * d <= n; d++) {
            if (n % d == 0) {
                return false;
            }
        }
        return true;
    }

    private static long cubeRootFraction(int n) {
        var target = BigInteger.valueOf(n).shiftLeft(3 * Long.SIZE);
        var root = BigInteger.ZERO;
        for (int bit = Long.SIZE + 3; bit >= 0; bit--) {
            var tried = root.setBit(bit);
            if (tried.pow(3).compareTo(target) <= 0) {
                root = tried;
            }
        }
        return root.longValue();
    }
}
