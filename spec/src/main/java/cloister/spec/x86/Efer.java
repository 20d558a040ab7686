package cloister.spec.x86;

/// Bits of IA32_EFER. [SDM Vol. 4 "IA32_EFER"]
public final class Efer {
    public static final long SCE = 1L;
    public static final long LME = 1L << 8;
    public static final long LMA = 1L << 10;
    public static final long NXE = 1L << 11;

    private Efer() {
    }
}
