package cloister.kvm;

import java.util.List;

/// What KVM and the host kernel know of memory, and no software on the platform could ask: for people and for checks. It changes nothing.
/// Called with the scheduler's baton. Frames are physical addresses without KeyID.
public interface KvmInspection {
    /// What the tables below a root translate from, and for whom.
    enum Tables {
        /// EPT, from guest-physical addresses; a TD's shared memory, with the SHARED bit.
        EPT,
        /// What KVM has of a TD's Secure EPT.
        MIRROR,
        /// Shadow pages in the form of the guest's own tables, from linear addresses.
        SHADOW
    }

    /// The root of page tables.
    ///
    /// @param tablePa      frame of the table
    /// @param level        4 or 5
    /// @param invalid      whether no vCPU takes it any more
    /// @param addressSpace which slots it shows, 1 for system-management mode
    record Root(Tables tables, long tablePa, int level, boolean invalid, int addressSpace) {
    }

    /// The roots of the VM; of shadow pages those that vCPUs have.
    List<Root> roots();

    /// The frame behind an address of the VMM, -1 when there is none yet, or no mapping.
    long frameAt(long userAddress);

    /// The frame of a page of a guest_memfd, -1 when it has none.
    long frameOf(GuestMemfd file, long page);

    /// Whether the bitmap of a slot has a page as written. False for a slot without bitmap.
    ///
    /// @param slot as for KVM_GET_DIRTY_LOG
    boolean isLogged(int slot, long page);

    /// Whether nobody owns a frame.
    boolean isFree(long framePa);

    /// Frames that the host kernel has handed out and not got back.
    long framesInUse();

    /// `observer` sees what is freed from now on, before it is. Null for nobody.
    void onFree(FreeObserver observer);

    /// Sees frames being freed.
    @FunctionalInterface
    interface FreeObserver {
        /// `frames` frames from `pa` on are about to be freed.
        void freed(long pa, long frames);
    }
}
