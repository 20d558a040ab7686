package cloister.tdx.tdcall;

import cloister.spec.tdx.OperandId;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Transition;
import cloister.tdx.exits.EptExits;

/// The Secure EPT entry that a guest-side memory function acts on. The guest locks that entry only: TLB tracking keeps the tables
/// above it from going away. [TDX-BASE "Secure EPT Concurrency"]
final class GuestSeptTarget implements AutoCloseable {
    private final LpState lp;
    private final Sept sept;
    private final int wantedLevel;
    private boolean locked;
    final long gpa;
    final Sept.Slot slot;
    /// Where the walk ended: the wanted level or, at an entry that leads no further, one above it.
    final int level;
    /// The entry, from [#lock] on as it is under the lock.
    long entry;

    /// Walks to the entry of `gpa` at level `wantedLevel`, without a lock.
    GuestSeptTarget(LpState lp, long gpa, int wantedLevel) {
        this.lp = lp;
        this.sept = new Sept(lp.tdcs.memory, lp.tdr.keyId());
        this.wantedLevel = wantedLevel;
        this.gpa = gpa;
        this.slot = sept.walk(lp.tdcs.eptp(), gpa, wantedLevel);
        this.level = slot.level();
        this.entry = slot.value();
    }

    boolean isAtWantedLevel() {
        return level == wantedLevel;
    }

    void lock() throws LeafFailure {
        long busy = Sept.lockEntryByGuest(lp, slot);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RCX);
        }
        locked = true;
        entry = slot.read();
    }

    /// Whether the tree of L2 VM `vm` maps the page as well.
    boolean isAliased(int vm) {
        return vm <= lp.tdcs.numL2Vms() && SeptEntry.isAliased(entry, vm);
    }

    /// Where the walk of an L2 VM's tree ends. Blocked tables do not stop it: had they been blocked before the entry was read, that
    /// entry would be out of reach.
    Sept.Slot walkL2(int vm) {
        return sept.walkL2GuestSide(lp.tdcs.septp(lp.tdr, vm), gpa, level);
    }

    /// The entry of an L2 VM's tree, which exists because the L1 entry says so.
    Sept.Slot l2(int vm) {
        var found = walkL2(vm);
        if (found.level() != level) {
            throw new ModuleHalt("an L2 Secure EPT lacks an aliased entry");
        }
        return found;
    }

    /// The TD exit of a function that finds no page that it may act on.
    ///
    /// @param type extended exit qualification type
    Transition violation(int type) {
        close();
        return EptExits.leafViolation(lp, type, gpa, wantedLevel, entry, level);
    }

    /// Replaces the entry and unlocks it.
    void replace(long value) {
        slot.write(value & ~SeptEntry.LOCK);
        locked = false;
    }

    @Override public void close() {
        if (locked) {
            slot.write(slot.read() & ~SeptEntry.LOCK);
            locked = false;
        }
    }
}
