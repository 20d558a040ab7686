package cloister.tdx.core;

/// A page for each VM of a TD, 0 the L1: those that are locked are unlocked at the end.
public final class LockedPages implements AutoCloseable {
    private final LockedPage[] pages = new LockedPage[Tdcs.MAX_L2_VMS + 1];

    /// Takes over a page of VM `vm` that the caller locked.
    public void add(int vm, LockedPage page) {
        pages[vm] = page;
    }

    /// Locks a page that the TD is known to use for VM `vm`.
    public void lockInUse(LpState lp, int vm, long pa, int operand) throws LeafFailure {
        pages[vm] = lp.module.pamt.lockImplicit(lp, pa, Pamt.SIZE_4K, LockMode.EXCLUSIVE, operand);
    }

    /// Whether VM `vm` has a page here.
    public boolean has(int vm) {
        return pages[vm] != null;
    }

    /// The PAMT entry of VM `vm`'s page.
    public PamtEntry entry(int vm) {
        return pages[vm].entry();
    }

    @Override public void close() {
        for (var page : pages) {
            if (page != null) {
                page.close();
            }
        }
    }
}
