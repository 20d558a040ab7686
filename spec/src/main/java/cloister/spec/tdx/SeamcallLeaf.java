package cloister.spec.tdx;

/// Host-side functions, by leaf number. [TDX-ABI "Host-Side (SEAMCALL) Interface Functions"]
public enum SeamcallLeaf {
    VP_ENTER(0),
    MNG_ADDCX(1),
    MEM_PAGE_ADD(2),
    MEM_SEPT_ADD(3),
    VP_ADDCX(4),
    MEM_PAGE_RELOCATE(5),
    MEM_PAGE_AUG(6),
    MEM_RANGE_BLOCK(7),
    MNG_KEY_CONFIG(8),
    MNG_CREATE(9),
    VP_CREATE(10),
    MNG_RD(11),
    MEM_RD(12),
    MNG_WR(13),
    MEM_WR(14),
    MEM_PAGE_DEMOTE(15),
    MR_EXTEND(16),
    MR_FINALIZE(17),
    VP_FLUSH(18),
    MNG_VPFLUSHDONE(19),
    MNG_KEY_FREEID(20),
    MNG_INIT(21),
    VP_INIT(22),
    MEM_PAGE_PROMOTE(23),
    PHYMEM_PAGE_RDMD(24),
    MEM_SEPT_RD(25),
    VP_RD(26),
    MNG_KEY_RECLAIMID(27),
    PHYMEM_PAGE_RECLAIM(28),
    MEM_PAGE_REMOVE(29),
    MEM_SEPT_REMOVE(30),
    SYS_KEY_CONFIG(31),
    SYS_INFO(32),
    SYS_INIT(33),
    SYS_RD(34),
    SYS_LP_INIT(35),
    SYS_TDMR_INIT(36),
    SYS_RDALL(37),
    MEM_TRACK(38),
    MEM_RANGE_UNBLOCK(39),
    PHYMEM_CACHE_WB(40),
    PHYMEM_PAGE_WBINVD(41),
    MEM_SEPT_WR(42),
    VP_WR(43),
    SYS_LP_SHUTDOWN(44),
    SYS_CONFIG(45),
    SERVTD_BIND(48),
    SERVTD_PREBIND(49),
    SYS_SHUTDOWN(52),
    SYS_UPDATE(53),
    EXPORT_ABORT(64),
    EXPORT_BLOCKW(65),
    EXPORT_RESTORE(66),
    EXPORT_MEM(68),
    EXPORT_PAUSE(70),
    EXPORT_TRACK(71),
    EXPORT_STATE_IMMUTABLE(72),
    EXPORT_STATE_TD(73),
    EXPORT_STATE_VP(74),
    EXPORT_UNBLOCKW(75),
    IMPORT_ABORT(80),
    IMPORT_END(81),
    IMPORT_COMMIT(82),
    IMPORT_MEM(83),
    IMPORT_TRACK(84),
    IMPORT_STATE_IMMUTABLE(85),
    IMPORT_STATE_TD(86),
    IMPORT_STATE_VP(87),
    MIG_STREAM_CREATE(96);

    private static final SeamcallLeaf[] BY_NUMBER = new SeamcallLeaf[97];

    static {
        for (var leaf : values()) {
            BY_NUMBER[leaf.number] = leaf;
        }
    }

    private final int number;
    private final String specificationName;

    SeamcallLeaf(int number) {
        this.number = number;
        this.specificationName = "TDH." + name().replace('_', '.');
    }

    /// The leaf number, RAX bits 15:0.
    public int number() {
        return number;
    }

    /// The leaf with that number, or null when there is none.
    public static SeamcallLeaf of(int number) {
        return number >= 0 && number < BY_NUMBER.length ? BY_NUMBER[number] : null;
    }

    /// The name of the specification, with dots: TDH.MNG.ADDCX.
    public String specificationName() {
        return specificationName;
    }
}
