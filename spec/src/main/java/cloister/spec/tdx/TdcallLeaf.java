package cloister.spec.tdx;

/// Guest-side functions, by leaf number. [TDX-ABI "Guest-Side (TDCALL) Interface Functions"]
public enum TdcallLeaf {
    VP_VMCALL(0),
    VP_INFO(1),
    MR_RTMR_EXTEND(2),
    VP_VEINFO_GET(3),
    MR_REPORT(4),
    VP_CPUIDVE_SET(5),
    MEM_PAGE_ACCEPT(6),
    VM_RD(7),
    VM_WR(8),
    VP_RD(9),
    VP_WR(10),
    SYS_RD(11),
    SYS_RDALL(12),
    SERVTD_RD(18),
    SERVTD_WR(20),
    MR_VERIFYREPORT(22),
    MEM_PAGE_ATTR_RD(23),
    MEM_PAGE_ATTR_WR(24),
    VP_ENTER(25),
    VP_INVEPT(26),
    VP_INVGLA(27);

    private static final TdcallLeaf[] BY_NUMBER = new TdcallLeaf[28];

    static {
        for (var leaf : values()) {
            BY_NUMBER[leaf.number] = leaf;
        }
    }

    private final int number;
    private final String specificationName;

    TdcallLeaf(int number) {
        this.number = number;
        this.specificationName = "TDG." + name().replace('_', '.');
    }

    /// The leaf number, RAX bits 15:0.
    public int number() {
        return number;
    }

    /// The leaf with that number, or null when there is none.
    public static TdcallLeaf of(int number) {
        return number >= 0 && number < BY_NUMBER.length ? BY_NUMBER[number] : null;
    }

    /// The name of the specification, with dots: TDG.VP.INFO.
    public String specificationName() {
        return specificationName;
    }
}
