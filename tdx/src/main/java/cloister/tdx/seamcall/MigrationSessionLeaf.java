package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.NotModelled;
import cloister.tdx.core.TdAccess;
import java.util.EnumMap;
import java.util.Map;

/// A function that works only within a migration session. Sessions are not modelled, so that no TD is ever in a state that allows
/// it: all that is left of the function is what it checks before, and how it fails. [TDX-MIG]
final class MigrationSessionLeaf implements HostLeaf {
    /// Leaf, which register names the TDR (or TDVPR), how the TDR is locked, how the operation state is locked, and which
    /// registers are zero on failure.
    private static final String LEAVES = """
            EXPORT_ABORT    RCX   SHARED    EXCLUSIVE -
            EXPORT_BLOCKW   RDX   SHARED    SHARED    -
            EXPORT_MEM      RDX   SHARED    SHARED    -
            EXPORT_PAUSE    RCX   EXCLUSIVE NONE      -
            EXPORT_TRACK    RCX   SHARED    EXCLUSIVE -
            EXPORT_STATE_TD RCX   SHARED    EXCLUSIVE RDX
            EXPORT_STATE_VP TDVPR SHARED    SHARED    RDX
            IMPORT_END      RCX   EXCLUSIVE NONE      -
            IMPORT_COMMIT   RCX   EXCLUSIVE NONE      -
            IMPORT_MEM      RDX   SHARED    SHARED    -
            IMPORT_TRACK    RCX   EXCLUSIVE NONE      -
            IMPORT_STATE_TD RCX   EXCLUSIVE NONE      RCX,RDX
            IMPORT_STATE_VP TDVPR SHARED    SHARED    RCX,RDX
            """;

    private final SeamcallLeaf leaf;
    private final String handle;
    private final LockMode tdrMode;
    private final LockMode opStateMode;
    private final String cleared;

    private MigrationSessionLeaf(String[] columns) {
        leaf = SeamcallLeaf.valueOf(columns[0]);
        handle = columns[1];
        tdrMode = LockMode.valueOf(columns[2]);
        opStateMode = LockMode.valueOf(columns[3]);
        cleared = columns[4];
    }

    static Map<SeamcallLeaf, HostLeaf> all() {
        var leaves = new EnumMap<SeamcallLeaf, HostLeaf>(SeamcallLeaf.class);
        LEAVES.lines().map(line -> new MigrationSessionLeaf(line.split(" +"))).forEach(leaf -> leaves.put(leaf.leaf, leaf));
        return leaves;
    }

    /// The end of what the model has of a migration function.
    static NotModelled notModelled(SeamcallLeaf leaf) {
        return new NotModelled("TD migration (" + leaf.specificationName() + ")");
    }

    @Override public void call(LpState lp, int version) throws LeafFailure {
        long rcx = lp.reg(RCX);
        long rdx = lp.reg(RDX);
        if (cleared.contains("RCX")) {
            lp.reg(RCX, 0);
        }
        if (cleared.contains("RDX")) {
            lp.reg(RDX, 0);
        }
        switch (handle) {
            case "TDVPR" -> {
                try (var tdvpr = lp.module.lockTdvpr(lp, rcx, LockMode.EXCLUSIVE, OperandId.RCX);
                        var tdr = lp.module.lockOwner(lp, tdvpr, tdrMode)) {
                    refuse(lp, tdr.pa());
                }
            }
            case "RDX" -> {
                try (var tdr = lp.module.lockTdr(lp, rdx, tdrMode, OperandId.RDX)) {
                    refuse(lp, tdr.pa());
                }
            }
            default -> {
                try (var tdr = lp.module.lockTdr(lp, rcx, tdrMode, OperandId.RCX)) {
                    refuse(lp, tdr.pa());
                }
            }
        }
    }

    private void refuse(LpState lp, long tdrPa) throws LeafFailure {
        try (var td = TdAccess.open(lp, lp.module.tdr(tdrPa), opStateMode, leaf)) {
            throw notModelled(leaf);
        }
    }
}
