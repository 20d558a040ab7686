package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.PageType;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.SeptTarget;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;
import java.util.EnumMap;
import java.util.Map;

/// The functions of TD migration as far as they fail for a TD that does not migrate. [TDX-MIG]
///
/// Export and import themselves are not modelled: a call that would start them halts the module.
public final class Migration {
    /// Leaf, which register names the TDR (or TDVPR), how the TDR is locked, how the operation state is locked, and which
    /// registers are zero on failure.
    private static final String LEAVES = """
            EXPORT_ABORT           RCX   SHARED    EXCLUSIVE -
            EXPORT_BLOCKW          RDX   SHARED    SHARED    -
            EXPORT_RESTORE         RDX   SHARED    SHARED    -
            EXPORT_MEM             RDX   SHARED    SHARED    -
            EXPORT_PAUSE           RCX   EXCLUSIVE NONE      -
            EXPORT_TRACK           RCX   SHARED    EXCLUSIVE -
            EXPORT_STATE_IMMUTABLE RCX   SHARED    EXCLUSIVE RDX
            EXPORT_STATE_TD        RCX   SHARED    EXCLUSIVE RDX
            EXPORT_STATE_VP        TDVPR SHARED    SHARED    RDX
            IMPORT_ABORT           RCX   EXCLUSIVE NONE      -
            IMPORT_END             RCX   EXCLUSIVE NONE      -
            IMPORT_COMMIT          RCX   EXCLUSIVE NONE      -
            IMPORT_MEM             RDX   SHARED    SHARED    -
            IMPORT_TRACK           RCX   EXCLUSIVE NONE      -
            IMPORT_STATE_IMMUTABLE RCX   EXCLUSIVE NONE      RCX,RDX
            IMPORT_STATE_TD        RCX   EXCLUSIVE NONE      RCX,RDX
            IMPORT_STATE_VP        TDVPR SHARED    SHARED    RCX,RDX
            """;
    private static final Map<SeamcallLeaf, Row> ROWS = new EnumMap<>(SeamcallLeaf.class);
    private static final int MAX_STREAMS = 512;
    private static final long LIST_RESERVED = 7L << 52;
    private static final long ENTRY_RESERVED = 3 | 0xf << 3 | 3L << 54 | 7L << 61;
    private static final long ENTRY_MIGRATE = 1L << 52;
    private static final long ENTRY_RESULT = 3L << 52 | 0x1fL << 56;
    private static final long ENTRY_SKIPPED = 1L << 56;
    private static final long ENTRY_INVALID = 15L << 56;

    static {
        LEAVES.lines().map(line -> line.split(" +")).forEach(c -> ROWS.put(SeamcallLeaf.valueOf(c[0]),
                new Row(c[1], LockMode.valueOf(c[2]), LockMode.valueOf(c[3]), c[4])));
    }

    private record Row(String handle, LockMode tdr, LockMode opState, String cleared) {
    }

    private Migration() {
    }

    /// The function `leaf`, or null when it is none of migration.
    public static HostLeaf leaf(SeamcallLeaf leaf) {
        if (leaf == SeamcallLeaf.MIG_STREAM_CREATE) {
            return Migration::streamCreate;
        }
        if (leaf == SeamcallLeaf.EXPORT_UNBLOCKW) {
            return Migration::unblockForWriting;
        }
        return ROWS.containsKey(leaf) ? (lp, version) -> check(lp, leaf) : null;
    }

    private static void check(LpState lp, SeamcallLeaf leaf) throws LeafFailure {
        var row = ROWS.get(leaf);
        long rcx = lp.reg(RCX);
        long rdx = lp.reg(RDX);
        if (row.cleared().contains("RCX")) {
            lp.reg(RCX, 0);
        }
        if (row.cleared().contains("RDX")) {
            lp.reg(RDX, 0);
        }
        if (row.handle().equals("TDVPR")) {
            try (var tdvpr = lp.module.lockTdvpr(lp, rcx, LockMode.EXCLUSIVE, OperandId.RCX);
                    var tdr = lp.module.lockOwner(lp, tdvpr, row.tdr())) {
                run(lp, leaf, row, tdr.pa(), rcx);
            }
        } else {
            boolean second = row.handle().equals("RDX");
            try (var tdr = lp.module.lockTdr(lp, second ? rdx : rcx, row.tdr(), second ? OperandId.RDX : OperandId.RCX)) {
                run(lp, leaf, row, tdr.pa(), rcx);
            }
        }
    }

    private static void run(LpState lp, SeamcallLeaf leaf, Row row, long tdrPa, long rcx) throws LeafFailure {
        try (var td = TdAccess.open(lp, lp.module.tdr(tdrPa), row.opState(), leaf)) {
            switch (leaf) {
                case IMPORT_STATE_IMMUTABLE -> {
                    if (td.tdcs().u16(Tdcs.NUM_MIGS) == 0) {
                        throw new LeafFailure(TdxStatus.MIN_MIGS_NOT_CREATED);
                    }
                    throw notModelled(leaf);
                }
                case EXPORT_STATE_IMMUTABLE -> {
                    if ((td.tdcs().u64(Tdcs.ATTRIBUTES) & Tdcs.MIGRATABLE) == 0) {
                        throw new LeafFailure(TdxStatus.TD_NOT_MIGRATABLE);
                    }
                    throw notModelled(leaf);
                }
                case EXPORT_RESTORE -> skipList(lp, td.tdcs(), leaf, rcx);
                default -> throw notModelled(leaf);
            }
        }
    }

    private static ModuleHalt notModelled(SeamcallLeaf leaf) {
        return new ModuleHalt("TD migration is not modelled: " + leaf.specificationName());
    }

    /// A list of pages of which none asks for anything.
    private static void skipList(LpState lp, Tdcs tdcs, SeamcallLeaf leaf, long info) throws LeafFailure {
        var memory = lp.module.memory;
        try (var tree = Sept.lockTree(lp, tdcs, LockMode.SHARED)) {
            int first = (int) (info >>> 3) & 0x1ff;
            int last = (int) (info >>> 55) & 0x1ff;
            long list = info & SeptEntry.HPA;
            if ((info & 7) != 0 || (info & LIST_RESERVED) != 0 || first > last || tree == null) {
                throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RCX);
            }
            lp.module.requireShared(list, PhysicalMemory.FRAME_SIZE, OperandId.RCX);
            int at = first;
            try {
                for (; at <= last; at++) {
                    long entry = memory.read(list + 8L * at, 8);
                    if ((entry & ENTRY_MIGRATE) != 0) {
                        throw notModelled(leaf);
                    }
                    boolean valid = (entry & ENTRY_RESERVED) == 0;
                    memory.write(list + 8L * at, 8, entry & ~ENTRY_RESULT | (valid ? ENTRY_SKIPPED : ENTRY_INVALID));
                    if (!valid) {
                        throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.GPA_LIST_ENTRY);
                    }
                    if (at < last && lp.hostInterruptPending()) {
                        at++;
                        throw new LeafFailure(TdxStatus.INTERRUPTED_RESUMABLE);
                    }
                }
            } finally {
                lp.reg(RCX, info & ~(0x1ffL << 3) | (at & 0x1ffL) << 3);
            }
        }
    }

    private static void unblockForWriting(LpState lp, int version) throws LeafFailure {
        long info = lp.reg(RCX);
        long tdrPa = lp.reg(RDX);
        lp.reg(RCX, 0);
        lp.reg(RDX, 0);
        try (var target = SeptTarget.open(lp, SeamcallLeaf.EXPORT_UNBLOCKW, info, tdrPa, 0, 0, LockMode.SHARED)) {
            if (!SeptState.of(target.entry).anyBlockedw()) {
                throw target.fail(TdxStatus.EPT_ENTRY_STATE_INCORRECT);
            }
            throw notModelled(SeamcallLeaf.EXPORT_UNBLOCKW);
        }
    }

    /// TDH.MIG.STREAM.CREATE: adds a page for a migration stream.
    private static void streamCreate(LpState lp, int version) throws LeafFailure {
        try (var tdrPage = lp.module.lockTdr(lp, lp.reg(RDX), LockMode.SHARED, OperandId.RDX);
                var td = TdAccess.open(lp, lp.module.tdr(tdrPage.pa()), LockMode.EXCLUSIVE,
                        SeamcallLeaf.MIG_STREAM_CREATE)) {
            int streams = td.tdcs().u16(Tdcs.NUM_MIGS);
            if (streams >= MAX_STREAMS) {
                throw new LeafFailure(TdxStatus.MAX_MIGS_NUM_EXCEEDED);
            }
            try (var page = lp.module.lockFree(lp, lp.reg(RCX), OperandId.RCX)) {
                lp.module.fillPage(td.tdr().withKey(page.pa()), 0);
                td.tdr().addChildren(1);
                page.entry().assign(PageType.TDCX, tdrPage.pa());
                td.tdcs().u64(Tdcs.MIGSC_LINKS + 8 * streams, page.pa());
                td.tdcs().u16(Tdcs.NUM_MIGS, streams + 1);
            }
        }
    }
}
