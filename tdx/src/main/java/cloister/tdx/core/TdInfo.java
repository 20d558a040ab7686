package cloister.tdx.core;

import cloister.spec.tdx.OperandId;

/// TDINFO_STRUCT, which identifies a TD, and its hash TEE_INFO_HASH. [TDX-ABI "TDINFO_STRUCT"]
///
/// @param bytes the structure
/// @param hash  its SHA-384
public record TdInfo(byte[] bytes, byte[] hash) {
    public static final int BYTES = 512;
    /// Nothing is left out: a TD's own report.
    public static final int WHOLE = 0;
    private static final int HASH = Measurement.HASH_BYTES;

    // Bits of SERVTD_ATTR that leave fields of a service TD's TDINFO_STRUCT zero. [TDX-ABI "SERVTD_ATTR"]
    private static final int IGNORE_ATTRIBUTES = 1;
    private static final int IGNORE_XFAM = 1 << 1;
    private static final int IGNORE_MRTD = 1 << 2;
    private static final int IGNORE_MRCONFIGID = 1 << 3;
    private static final int IGNORE_MROWNER = 1 << 4;
    private static final int IGNORE_MROWNERCONFIG = 1 << 5;
    private static final int IGNORE_RTMR0 = 1 << 6;
    private static final int IGNORE_SERVTD_HASH = 1 << 10;

    /// Reads a TD's identity under its RTMR lock. The hash of the whole structure is remembered until an RTMR changes: it takes long, and
    /// TDG.MR.REPORT can be interrupted.
    ///
    /// @param ignore bits of fields to leave zero
    /// @throws LeafFailure busy
    public static TdInfo of(LpState lp, Tdcs tdcs, int ignore, boolean guest) throws LeafFailure {
        var lock = tdcs.lock(Tdcs.RTMR_LOCK);
        long busy = SharexHp.tryShared(lp, lock, guest);
        if (busy != 0) {
            throw new LeafFailure(busy | OperandId.RTMR);
        }
        try {
            byte[] info = collect(tdcs, ignore);
            if (ignore != WHOLE) {
                return new TdInfo(info, Measurement.sha384(info));
            }
            if (!isHashKnown(tdcs)) {
                tdcs.bytes(Tdcs.LAST_TEEINFO_HASH, Measurement.sha384(info));
                tdcs.flag(Tdcs.LAST_TEEINFO_HASH_VALID, true);
            }
            return new TdInfo(info, tdcs.bytes(Tdcs.LAST_TEEINFO_HASH, HASH));
        } finally {
            SharexHp.releaseShared(lock);
        }
    }

    /// Whether the hash of the whole structure need not be computed.
    public static boolean isHashKnown(Tdcs tdcs) {
        return tdcs.flag(Tdcs.LAST_TEEINFO_HASH_VALID);
    }

    private static byte[] collect(Tdcs tdcs, int ignore) {
        var info = new byte[BYTES];
        copy(tdcs, Tdcs.ATTRIBUTES, Long.BYTES, info, 0, ignore & IGNORE_ATTRIBUTES);
        copy(tdcs, Tdcs.XFAM, Long.BYTES, info, 8, ignore & IGNORE_XFAM);
        copy(tdcs, Tdcs.MRTD, HASH, info, 16, ignore & IGNORE_MRTD);
        copy(tdcs, Tdcs.MRCONFIGID, HASH, info, 64, ignore & IGNORE_MRCONFIGID);
        copy(tdcs, Tdcs.MROWNER, HASH, info, 112, ignore & IGNORE_MROWNER);
        copy(tdcs, Tdcs.MROWNERCONFIG, HASH, info, 160, ignore & IGNORE_MROWNERCONFIG);
        for (int i = 0; i < Tdcs.RTMRS; i++) {
            copy(tdcs, Tdcs.RTMR + HASH * i, HASH, info, 208 + HASH * i, ignore & (IGNORE_RTMR0 << i));
        }
        copy(tdcs, Tdcs.SERVTD_HASH, HASH, info, 400, ignore & IGNORE_SERVTD_HASH);
        return info;
    }

    private static void copy(Tdcs tdcs, int field, int bytes, byte[] info, int at, int ignored) {
        if (ignored == 0) {
            System.arraycopy(tdcs.bytes(field, bytes), 0, info, at, bytes);
        }
    }
}
