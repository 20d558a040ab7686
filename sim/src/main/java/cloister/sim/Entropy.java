package cloister.sim;

/// The platform's only source of random numbers: SplitMix64 over the run's seed. Each consumer takes its own
/// stream by name, so that a new consumer does not shift the numbers of the others.
public final class Entropy implements Persistent {
    private static final long GAMMA = 0x9E3779B97F4A7C15L;
    private long state;

    /// @param seed the run's seed, any value
    public Entropy(long seed) {
        state = seed;
    }

    @Override public String stateName() {
        return "entropy";
    }

    @Override public void describe(StateSink out) {
        out.field("state", state);
    }

    /// An independent stream that depends on the seed and on `name` only.
    public Entropy stream(String name) {
        long h = state;
        for (int i = 0; i < name.length(); i++) {
            h = mix(h + GAMMA + name.charAt(i));
        }
        return new Entropy(h);
    }

    /// The next 64 uniformly distributed bits.
    public long nextLong() {
        state += GAMMA;
        return mix(state);
    }

    /// A number in `[0, bound)`; `bound` must be positive.
    public int nextInt(int bound) {
        return (int) Long.remainderUnsigned(nextLong(), bound);
    }

    /// Fills `target` with random bytes.
    public void fill(byte[] target) {
        for (int i = 0; i < target.length; i += Long.BYTES) {
            long word = nextLong();
            for (int j = i; j < Math.min(i + Long.BYTES, target.length); j++, word >>>= 8) {
                target[j] = (byte) word;
            }
        }
    }

    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }
}
