package cloister.tdx.core;

/// Which module this is.
public final class ModuleVersion {
    public static final int BUILD_DATE = 20240101;
    public static final int BUILD_NUM = 0;
    public static final int MAJOR = 1;
    public static final int MINOR = 5;
    static final int UPDATE = 6;
    /// The only handoff version.
    public static final int HANDOFF = 0;
    static final int HANDOFF_PAGES = 15;
    /// The SEAM database entry of this module: there was never another.
    public static final int SEAMDB_INDEX = 1;
    public static final long SEAMDB_NONCE = 0x1111;

    private ModuleVersion() {
    }
}
