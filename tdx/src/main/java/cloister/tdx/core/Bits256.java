package cloister.tdx.core;

/// 256 random bits: the TD_UUID that names a TD, or a migration key. [TDX-BASE "TD_UUID"], [TDX-MIG]
public record Bits256(long w0, long w1, long w2, long w3) {
    /// Reads the four words at `offset`.
    public static Bits256 of(Structure structure, int offset) {
        return new Bits256(structure.u64(offset), structure.u64(offset + 8), structure.u64(offset + 16), structure.u64(offset + 24));
    }

    public void store(Structure structure, int offset) {
        structure.u64(offset, w0);
        structure.u64(offset + 8, w1);
        structure.u64(offset + 16, w2);
        structure.u64(offset + 24, w3);
    }
}
