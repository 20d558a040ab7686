package cloister.cpu.core;

/// The data breakpoints in force, and which of them accesses have met. [SDM Vol. 3 "Breakpoint Field Recognition"]
///
/// The [Tlb] keeps pages that hold a watched address out of its short cuts and reports every other access here, so that nothing
/// is lost while none is armed.
public final class Watchpoints {
    private static final int BREAKPOINTS = 4;
    private static final int DATA_WRITES = 1;
    private static final int DATA_READS_AND_WRITES = 3;
    private static final int PAGE_SHIFT = 12;

    private final Tlb tlb;
    private final long[] dr = new long[BREAKPOINTS];
    private long dr7;

    private final long[] first = new long[BREAKPOINTS];
    private final int[] size = new int[BREAKPOINTS];
    private final int[] number = new int[BREAKPOINTS];
    private final boolean[] reads = new boolean[BREAKPOINTS];
    private int count;
    private long hits;

    Watchpoints(Tlb tlb) {
        this.tlb = tlb;
    }

    /// Takes over the debug registers.
    public void follow(Cpu cpu) {
        if (dr7 == cpu.dr7 && ((count == 0 && !data(dr7)) || sameAddresses(cpu))) {
            return;
        }
        dr7 = cpu.dr7;
        dr[0] = cpu.dr0;
        dr[1] = cpu.dr1;
        dr[2] = cpu.dr2;
        dr[3] = cpu.dr3;
        boolean had = count != 0;
        select();
        if (had || count != 0) {
            tlb.closeShortCuts();
        }
    }

    private boolean sameAddresses(Cpu cpu) {
        return dr[0] == cpu.dr0 && dr[1] == cpu.dr1 && dr[2] == cpu.dr2 && dr[3] == cpu.dr3;
    }

    private static boolean data(long dr7) {
        return (dr7 & 0xff) != 0 && (dr7 & 0x1111_0000L) != 0; // R/W 01 and 11 have bit 0 set
    }

    private void select() {
        count = 0;
        for (int i = 0; i < BREAKPOINTS; i++) {
            int kind = kind(dr7, i);
            if (enabled(dr7, i) && (kind == DATA_WRITES || kind == DATA_READS_AND_WRITES)) {
                size[count] = length(dr7, i);
                first[count] = dr[i] & -size[count];
                number[count] = i;
                reads[count] = kind == DATA_READS_AND_WRITES;
                count++;
            }
        }
    }

    /// Whether DR7 enables breakpoint `i`, locally or globally.
    public static boolean enabled(long dr7, int i) {
        return ((dr7 >>> (2 * i)) & 3) != 0;
    }

    /// The R/W field of breakpoint `i`: 0 execution, 1 data writes, 2 I/O, 3 data.
    public static int kind(long dr7, int i) {
        return (int) (dr7 >>> (16 + 4 * i)) & 3;
    }

    /// The bytes that the LEN field of breakpoint `i` says: 1, 2, 8 or 4.
    public static int length(long dr7, int i) {
        return switch ((int) (dr7 >>> (18 + 4 * i)) & 3) {
            case 0 -> 1;
            case 1 -> 2;
            case 2 -> 8;
            default -> 4;
        };
    }

    boolean onPage(long linear) {
        for (int i = 0; i < count; i++) {
            if ((first[i] ^ linear) >>> PAGE_SHIFT == 0) {
                return true;
            }
        }
        return false;
    }

    /// An access of `bytes` bytes.
    void access(long linear, int bytes, boolean write) {
        for (int i = 0; i < count; i++) {
            boolean overlaps = linear - first[i] < size[i] && first[i] - linear < bytes;
            if (overlaps && (write || reads[i])) {
                hits |= 1L << number[i];
            }
        }
    }

    /// Breakpoint `i` has been met in another way (I/O).
    public void hit(int i) {
        hits |= 1L << i;
    }

    /// Whether any has been met since [#take].
    public boolean met() {
        return hits != 0;
    }

    /// DR6 bits B0 to B3 of those met; forgets them.
    public long take() {
        long taken = hits;
        hits = 0;
        return taken;
    }
}
