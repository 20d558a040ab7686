package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.spec.tdx.FieldTable;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.Pamt;
import java.util.List;
import java.util.Set;

/// Plausible operands. While a call is suspended, those that conflict with it are likely.
final class FuzzOperands {
    private static final long[] GPA_BASES = {0, 0, 0x20_0000, 0x40_0000, 0x4000_0000L, 1L << 39};
    private static final List<FieldTable> TABLES = List.of(FieldTable.SYS, FieldTable.TD, FieldTable.VP, FieldTable.TD_VMCS,
            FieldTable.L2_VMCS);
    private static final long TWO_MIB = 0x20_0000L;
    private static final int TRIES = 20;

    private final FuzzMachine machine;
    private final FuzzChecker checker;
    private final Entropy random;
    /// The TD and the GPA of a call in progress; -1: none.
    private long focusTdr = -1;
    private long focusGpa = -1;
    /// Whether single 2 MiB pages of the second TDMR are given away, so that they never all become one page.
    final boolean scattered;

    FuzzOperands(FuzzMachine machine, FuzzChecker checker, Entropy random) {
        this.machine = machine;
        this.checker = checker;
        this.random = random;
        this.scattered = random.nextInt(2) == 0;
    }

    int below(int bound) {
        return random.nextInt(bound);
    }

    boolean oneIn(int n) {
        return random.nextInt(n) == 0;
    }

    long any() {
        return random.nextLong();
    }

    <T> T any(List<T> list) {
        return list.get(below(list.size()));
    }

    /// Conflicts with a call become likely.
    void focus(long tdr, long gpa) {
        focusTdr = tdr;
        focusGpa = gpa;
    }

    void blur() {
        focusTdr = -1;
        focusGpa = -1;
    }

    // Pages

    long freePage() {
        long pa = 0;
        for (int i = 0; i < TRIES; i++) {
            pa = oneIn(16) ? FuzzPlatform.POOL + below(512) * 4096L : FuzzPlatform.SMALL + below(FuzzPlatform.SMALL_PAGES) * 4096L;
            if (machine.isFree(pa)) {
                break;
            }
        }
        return pa;
    }

    long freeLarge() {
        if (machine.tdmr(FuzzPlatform.LARGE_TDMR) != null && scattered && oneIn(2)) {
            return FuzzPlatform.LARGE_TDMR + below(512) * TWO_MIB;
        }
        long pa = 0;
        for (int i = 0; i < FuzzPlatform.LARGE_PAGES; i++) {
            pa = FuzzPlatform.POOL + below(FuzzPlatform.LARGE_PAGES) * TWO_MIB;
            if (machine.isFree(pa)) {
                break;
            }
        }
        return pa;
    }

    long anyPage() {
        return switch (below(9)) {
            case 0 -> FuzzPlatform.RESERVED + FuzzPlatform.TDMR;
            case 1 -> FuzzPlatform.HOST;
            case 2 -> tdr();
            case 3 -> vp();
            case 4 -> PhysicalMemory.hpa(freePage(), below(64));
            case 5 -> random.nextLong();
            case 6 -> ModuleState.NULL_PA;
            default -> FuzzPlatform.POOL + below(FuzzPlatform.POOL_FRAMES) * 4096L;
        };
    }

    private long anyOf(Set<Long> pages) {
        return pages.isEmpty() ? freePage() : any(List.copyOf(pages));
    }

    long tdr() {
        return focusTdr != -1 && oneIn(2) && checker.tdrs.contains(focusTdr) ? focusTdr : anyOf(checker.tdrs);
    }

    long vp() {
        return anyOf(checker.tdvprs);
    }

    long hostPage() {
        return FuzzPlatform.HOST + (1 + below(FuzzPlatform.HOST_PAGES - 1)) * 4096L;
    }

    /// Whether a call must not name the page: a good one, but one that sweeps do not look at.
    static boolean isOutOfSight(long pa) {
        return (pa >= FuzzPlatform.TDMR && pa < FuzzPlatform.TDMR + FuzzPlatform.RESERVED && !FuzzPlatform.inPool(pa))
                || (FuzzPlatform.inLarge(pa) && (pa & (TWO_MIB - 1)) != 0);
    }

    // Guest addresses

    long gpa() {
        return focusGpa != -1 && oneIn(2) ? focusGpa : GPA_BASES[below(GPA_BASES.length)] + below(oneIn(4) ? 512 : 6) * 4096L;
    }

    long gpaAndLevel() {
        int level = below(5);
        long gpa = gpa() & -(1L << (12 + 9 * Math.min(level, 3)));
        return oneIn(8) ? (gpa ^ (1L << below(64))) | level : gpa | level;
    }

    static long at(long gpa, int level) {
        return (gpa & -Pamt.bytes(level)) | level;
    }

    // Metadata

    /// A field of the module (0), of a TD (1) or of a VCPU (2).
    FieldTable.Field row(int context) {
        return any(TABLES.get(context == 2 ? 2 + below(oneIn(4) ? 3 : 2) : context).fields());
    }

    /// An element's identifier, now and then a wrong one.
    long element(FieldTable.Field row) {
        long id = row.id() + (long) below(row.count() * row.elements()) * row.stride();
        return oneIn(8) ? id ^ (1L << below(64)) : id;
    }

    long field(int context) {
        return oneIn(30) ? -1L : element(row(context));
    }

    /// A field that a guest may read, mostly.
    long readable(int context) {
        var row = row(context);
        for (int i = 0; i < 40 && row.guestRead() == 0; i++) {
            row = row(context);
        }
        return oneIn(4) ? field(context) : element(row);
    }

    /// A field that somebody may write: the VMM of a debug TD or of another, or the guest.
    FieldTable.Field writable(int context, boolean debug, boolean guest) {
        var row = row(context);
        for (int i = 0; i < 60 && (guest ? row.guestWrite() : debug ? row.debugWrite() : row.hostWrite()) == 0; i++) {
            row = row(context);
        }
        return row;
    }

    /// A value with few bits, or one near the limits.
    long value() {
        return switch (below(6)) {
            case 0 -> 0;
            case 1 -> 1L << below(64);
            case 2 -> below(16);
            case 3 -> -1L;
            case 4 -> 10_000 + below(100_000_000);
            default -> random.nextLong();
        };
    }

}
