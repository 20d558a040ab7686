package cloister.tdx.seamcall;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;

/// The link from TDCS to the context page of a migration stream, locked. Link 0 is the backward stream, the others are forward
/// streams. [TDX-MIG "Migration Streams"]
///
/// A link has the lock in bit 0, "initialised" in bit 1 and the page in bits 51:12.
final class MigrationStream implements AutoCloseable {
    static final int BACKWARD = 0;
    static final int FIRST_FORWARD = 1;
    /// A session needs one stream of each direction.
    static final int MIN_STREAMS = 2;
    static final int MAX_STREAMS = 512;
    private static final long LOCK = 1;
    private static final long INITIALIZED = 2;

    private final Tdcs tdcs;
    private final int at;

    private MigrationStream(Tdcs tdcs, int at) {
        this.tdcs = tdcs;
        this.at = at;
    }

    static MigrationStream lock(LpState lp, Tdcs tdcs, int index) throws LeafFailure {
        lp.cpu.switchPoint(tdcs, offset(index));
        var stream = new MigrationStream(tdcs, offset(index));
        if ((stream.link() & LOCK) != 0) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.MIGSC);
        }
        stream.link(stream.link() | LOCK);
        lp.cpu.locked(tdcs, offset(index));
        return stream;
    }

    private static int offset(int index) {
        return Tdcs.MIGSC_LINKS + Long.BYTES * index;
    }

    /// Adds a stream with the page at `pa`.
    static void create(Tdcs tdcs, int index, long pa) {
        tdcs.u64(offset(index), pa & SeptEntry.HPA);
    }

    private long link() {
        return tdcs.u64(at);
    }

    private void link(long value) {
        tdcs.u64(at, value);
    }

    boolean isInitialized() {
        return (link() & INITIALIZED) != 0;
    }

    void initialize() {
        link(link() | INITIALIZED);
    }

    @Override public void close() {
        link(link() & ~LOCK);
    }
}
