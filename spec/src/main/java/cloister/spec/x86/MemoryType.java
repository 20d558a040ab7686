package cloister.spec.x86;

/// How the processor caches an access, with the encodings of MTRRs, PAT entries and EPT entries. [SDM Vol. 3 "Memory Cache Control"]
public enum MemoryType {
    /// Uncacheable.
    UC(0),
    /// Write-combining.
    WC(1),
    /// Write-through.
    WT(4),
    /// Write-protected.
    WP(5),
    /// Write-back.
    WB(6),
    /// Uncacheable unless an MTRR says write-combining; in PAT entries only.
    UC_MINUS(7);

    private static final MemoryType[] BY_ENCODING = {UC, WC, null, null, WT, WP, WB, UC_MINUS};

    private final int encoding;

    MemoryType(int encoding) {
        this.encoding = encoding;
    }

    /// The encoding, 0 to 7.
    public int encoding() {
        return encoding;
    }

    /// The type that the low three bits of `encoding` name, or null for the reserved encodings 2 and 3.
    public static MemoryType of(int encoding) {
        return BY_ENCODING[encoding & 7];
    }

    /// Whether `encoding` is one of the five types that an MTRR may have.
    public static boolean isOfMtrr(int encoding) {
        return encoding >= 0 && encoding < 7 && of(encoding) != null;
    }

    /// The type of an address that two variable MTRRs cover. Combinations that the manual leaves undefined are uncacheable.
    /// [SDM Vol. 3 "MTRR Precedences"]
    public static MemoryType overlap(MemoryType a, MemoryType b) {
        if (a == b) {
            return a;
        }
        return (a == WB && b == WT) || (a == WT && b == WB) ? WT : UC;
    }
}
