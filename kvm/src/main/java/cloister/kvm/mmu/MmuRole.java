package cloister.kvm.mmu;

/// The role of a page-table page: everything that must be equal for two vCPUs to share it. [LINUX union kvm_mmu_page_role]
///
/// Hot paths pass the `int` and use the static accessors. The layout is ours: level 2:0, access 7:3, then one bit each.
public record MmuRole(int word) {
    /// What the pages below may do: ACCESS_ bits of [Spte].
    private static final int ACCESS_SHIFT = 3;
    private static final int ACCESS_MASK = 31;
    private static final int LEVEL_MASK = 7;
    private static final int DIRECT = 1 << 8;
    private static final int SMM = 1 << 9;
    private static final int GUEST_MODE = 1 << 10;
    private static final int MIRROR = 1 << 11;
    private static final int AD_DISABLED = 1 << 12;
    private static final int INVALID = 1 << 13;
    // Of pages that shadow a guest's tables: what the guest's paging was like
    private static final int FOUR_BYTE = 1 << 14;
    private static final int QUADRANT_SHIFT = 15;
    private static final int QUADRANT_MASK = 3;
    private static final int NO_EXECUTE = 1 << 17;
    private static final int WRITE_PROTECT = 1 << 18;
    private static final int SMEP = 1 << 19;
    private static final int SMAP_WITHOUT_WP = 1 << 20;
    private static final int SHADOW_EPT = 1 << 21;
    /// DEVIATION: Linux has CR4.PSE in the role of the vCPU only, and goes on with pages of before when it changes.
    private static final int LARGE_PAGES_32 = 1 << 22;
    /// What may differ between a page and the root of the vCPU that brings the page up to date. [LINUX kvm_sync_page_check]
    private static final int SYNC_IGNORES = LEVEL_MASK | (ACCESS_MASK << ACCESS_SHIFT) | (QUADRANT_MASK << QUADRANT_SHIFT);

    /// The role of a direct root.
    ///
    /// @param level       4 or 5
    /// @param smm         whether it maps the address space of system-management mode
    /// @param guestMode   whether it is used while the vCPU runs a nested guest
    /// @param accessDirty whether the processor keeps accessed and dirty flags
    public static MmuRole directRoot(int level, boolean smm, boolean guestMode, boolean accessDirty) {
        return new MmuRole(level | (Spte.ACCESS_ALL << ACCESS_SHIFT) | DIRECT | (smm ? SMM : 0)
                | (guestMode ? GUEST_MODE : 0) | (accessDirty ? 0 : AD_DISABLED));
    }

    /// The role of a root of shadow pages.
    static int shadowRoot(GuestPaging paging, boolean smm, boolean guestMode) {
        int role = paging.shadowRootLevel() | (Spte.ACCESS_ALL << ACCESS_SHIFT) | (smm ? SMM : 0) | (guestMode ? GUEST_MODE : 0);
        if (!paging.translates()) {
            return role | DIRECT;
        }
        if (paging.isEpt()) {
            return role | SHADOW_EPT | (paging.accessedDirty() ? 0 : AD_DISABLED);
        }
        int fourByte = FOUR_BYTE | (paging.largePages32() ? LARGE_PAGES_32 : 0);
        return role | (paging.entryBytes() == 4 ? fourByte : 0) | (paging.noExecute() ? NO_EXECUTE : 0)
                | (paging.writeProtect() ? WRITE_PROTECT : 0) | (paging.smep() ? SMEP : 0)
                | (paging.smap() && !paging.writeProtect() ? SMAP_WITHOUT_WP : 0);
    }

    /// The role of a page that an entry of a page with `role` links. [LINUX kvm_mmu_child_role]
    static int child(int role, int index, boolean direct, int access) {
        int child = (role & ~(LEVEL_MASK | (ACCESS_MASK << ACCESS_SHIFT) | DIRECT | (QUADRANT_MASK << QUADRANT_SHIFT)))
                | (level(role) - 1) | (access << ACCESS_SHIFT) | (direct ? DIRECT : 0);
        // A table of 1024 entries of 4 bytes takes two pages of entries of 8 bytes.
        return (role & FOUR_BYTE) != 0 ? withQuadrant(child, index & 1) : child;
    }

    /// The same for another part of a table with entries of 4 bytes.
    static int withQuadrant(int role, int quadrant) {
        return (role & ~(QUADRANT_MASK << QUADRANT_SHIFT)) | (quadrant << QUADRANT_SHIFT);
    }

    static int quadrant(int role) {
        return (role >>> QUADRANT_SHIFT) & QUADRANT_MASK;
    }

    static boolean hasFourByteEntries(int role) {
        return (role & FOUR_BYTE) != 0;
    }

    /// Whether a vCPU whose root has `rootRole` can bring a page with `role` up to date.
    static boolean canSync(int role, int rootRole) {
        return ((role ^ rootRole) & ~SYNC_IGNORES) == 0;
    }

    /// The same with another level.
    static int withLevel(int role, int level) {
        return (role & ~LEVEL_MASK) | level;
    }

    /// The role of the mirror of external tables with this root.
    static int mirrored(int role) {
        return role | MIRROR;
    }

    /// The role of a page that may not be used any more.
    static int invalid(int role) {
        return role | INVALID;
    }

    /// 1 for a table of 4 KiB pages.
    static int level(int role) {
        return role & LEVEL_MASK;
    }

    static int access(int role) {
        return (role >>> ACCESS_SHIFT) & ACCESS_MASK;
    }

    static boolean isDirect(int role) {
        return (role & DIRECT) != 0;
    }

    static boolean isMirror(int role) {
        return (role & MIRROR) != 0;
    }

    static boolean isInvalid(int role) {
        return (role & INVALID) != 0;
    }

    static boolean isGuestMode(int role) {
        return (role & GUEST_MODE) != 0;
    }

    static boolean hasAccessedDirty(int role) {
        return (role & AD_DISABLED) == 0;
    }

    /// The address space of memory slots: 1 for system-management mode. [LINUX kvm_mmu_role_as_id]
    static int addressSpace(int role) {
        return (role & SMM) != 0 ? 1 : 0;
    }

    /// 1 for a table of 4 KiB pages, up to 5.
    public int level() {
        return level(word);
    }

    /// Whether it maps the address space of system-management mode.
    public boolean smm() {
        return addressSpace(word) != 0;
    }

    /// Whether it belongs to a nested guest.
    public boolean guestMode() {
        return isGuestMode(word);
    }
}
