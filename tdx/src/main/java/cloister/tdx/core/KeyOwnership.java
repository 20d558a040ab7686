package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;

/// The KeyID ownership table: the state of each private KeyID and the packages whose caches it may still be in.
/// [TDX-BASE "Key Ownership Table (KOT)"]
public final class KeyOwnership {
    /// States of a KeyID.
    public enum State { FREE, ASSIGNED, FLUSHED, RESERVED }

    private static final int MAX_KEY_IDS = 64;

    public final LockWord.Own lock = new LockWord.Own();
    private final State[] state = new State[MAX_KEY_IDS];
    private final int[] writeBackPackages = new int[MAX_KEY_IDS];

    public KeyOwnership() {
        java.util.Arrays.fill(state, State.FREE);
    }

    /// The table's lock, held exclusively.
    public record Held(LockWord word) implements AutoCloseable {
        @Override public void close() {
            Sharex.releaseExclusive(word);
        }
    }

    public Held lockExclusive(LpState lp) throws LeafFailure {
        if (!Sharex.tryExclusive(lp, lock)) {
            throw new LeafFailure(TdxStatus.OPERAND_BUSY, OperandId.KOT);
        }
        return new Held(lock);
    }

    public State state(int keyId) {
        return state[keyId];
    }

    public void state(int keyId, State value) {
        state[keyId] = value;
    }

    /// A bitmap of the packages that have not written their caches back since the KeyID was flushed.
    public int writeBackPackages(int keyId) {
        return writeBackPackages[keyId];
    }

    public void writeBackPackages(int keyId, int packages) {
        writeBackPackages[keyId] = packages;
    }
}
