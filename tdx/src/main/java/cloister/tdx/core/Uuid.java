package cloister.tdx.core;

/// The 256 random bits that name a TD, its TD_UUID. [TDX-BASE "TD_UUID"]
public record Uuid(long w0, long w1, long w2, long w3) {
    /// Reads the four words at `offset`.
    public static Uuid of(Structure structure, int offset) {
        return new Uuid(structure.u64(offset), structure.u64(offset + 8), structure.u64(offset + 16), structure.u64(offset + 24));
    }

    public void store(Structure structure, int offset) {
        structure.u64(offset, w0);
        structure.u64(offset + 8, w1);
        structure.u64(offset + 16, w2);
        structure.u64(offset + 24, w3);
    }
}
