package cloister.tdx.core;

/// Checks of guest-physical addresses. [TDX-BASE "Guest Physical Address Space"]
public final class Gpa {
    private static final long PAGE_INFO_RESERVED = (0x1ffL << 3) | (0xfffL << 52);

    private Gpa() {
    }

    /// The SHARED bit's position.
    public static int sharedBit(boolean gpaw) {
        return gpaw ? 51 : 47;
    }

    public static boolean isShared(long gpa, boolean gpaw) {
        return ((gpa >>> sharedBit(gpaw)) & 1) != 0;
    }

    /// Whether a GPA is within the TD's address width and, if asked, private.
    public static boolean isValid(long gpa, Tdcs tdcs, boolean privateOnly) {
        boolean gpaw = tdcs.gpaw();
        if (privateOnly && isShared(gpa, gpaw)) {
            return false;
        }
        int maxpa = tdcs.virtMaxpa() == 0 ? ModuleState.MAX_PA : tdcs.virtMaxpa();
        int width = Math.min(maxpa, gpaw ? 52 : 48);
        return (gpa & (-1L << width) & ~(1L << sharedBit(gpaw))) == 0;
    }

    /// Whether reserved bits of a faulting GPA are set, so that the guest gets #PF.
    public static boolean aboveMaxpa(long gpa, boolean gpaw, int virtMaxpa) {
        int maxpa = virtMaxpa == 0 ? ModuleState.MAX_PA : virtMaxpa;
        if (!gpaw && maxpa > 48 && (gpa & bits(maxpa - 1, 48)) != 0) {
            return true;
        }
        return maxpa < 52 && (gpa & bits(51, maxpa) & ~(1L << sharedBit(gpaw))) != 0;
    }

    private static long bits(int high, int low) {
        return ((1L << (high - low + 1)) - 1) << low;
    }

    /// Whether a "GPA and level" operand is well formed: reserved bits, level range, alignment.
    public static boolean isPageInfo(long operand, int minLevel, int maxLevel) {
        int level = level(operand);
        return (operand & PAGE_INFO_RESERVED) == 0 && level >= minLevel && level <= maxLevel
                && (gpa(operand) & ((1L << (12 + 9 * level)) - 1)) == 0;
    }

    /// The level of a "GPA and level" operand.
    public static int level(long operand) {
        return (int) operand & 7;
    }

    /// The GPA of a "GPA and level" operand.
    public static long gpa(long operand) {
        return operand & SeptEntry.HPA;
    }
}
