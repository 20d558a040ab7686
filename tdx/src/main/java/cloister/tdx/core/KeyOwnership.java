package cloister.tdx.core;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import java.util.Arrays;

/// The KeyID ownership table: the state of each private KeyID and the packages whose caches it may still be in.
/// [TDX-BASE "Key Ownership Table (KOT)"]
public final class KeyOwnership {
    /// States of a KeyID.
    public enum State { FREE, ASSIGNED, FLUSHED, RESERVED }

    /// KeyIDs that the module has room for. TDH.SYS.INIT refuses a platform with more.
    static final int MAX_KEY_IDS = 2048;

    public final LockWord.Own lock = new LockWord.Own();
    private final State[] state = new State[MAX_KEY_IDS];
    private final int[] writeBackPackages = new int[MAX_KEY_IDS];

    public KeyOwnership() {
        Arrays.fill(state, State.FREE);
    }

    /// Holds the table against all others.
    public Sharex.Held lockExclusive(LpState lp) throws LeafFailure {
        return Sharex.hold(lp, lock, LockMode.EXCLUSIVE, TdxStatus.OPERAND_BUSY.with(OperandId.KOT));
    }

    /// Holds the table against those who change the state of a KeyID.
    public Sharex.Held lockShared(LpState lp) throws LeafFailure {
        return Sharex.hold(lp, lock, LockMode.SHARED, TdxStatus.OPERAND_BUSY.with(OperandId.KOT));
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
