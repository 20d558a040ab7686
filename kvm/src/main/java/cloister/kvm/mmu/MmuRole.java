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

    /// Whether the tables are indexed by guest-physical address without a guest's own tables in between.
    public boolean direct() {
        return isDirect(word);
    }

    /// Whether the page mirrors a table that only an external agent may write.
    public boolean mirror() {
        return isMirror(word);
    }

    /// Whether the page must not be used any more.
    public boolean invalid() {
        return isInvalid(word);
    }
}
