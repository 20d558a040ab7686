package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;
import cloister.tdx.port.PlatformInfo.Cmr;
import java.util.ArrayList;
import java.util.List;

/// TDH.SYS.CONFIG's checks of TDMRs, in the order given. [TDX-BASE "TDMR and PAMT Configuration"]
public final class TdmrCheck {
    private static final long GIB = 1L << 30;
    private final ModuleState module;
    private final List<TdmrInfo> accepted = new ArrayList<>();

    public TdmrCheck(ModuleState module) {
        this.module = module;
    }

    public List<Tdmr> tdmrs() {
        var result = new ArrayList<Tdmr>();
        accepted.forEach(info -> result.add(new Tdmr(info)));
        return result;
    }

    private static LeafFailure fail(TdxStatus status, int info0, int info1, int info2) {
        return new LeafFailure(status, info0 | (info1 << 8) | (info2 << 16));
    }

    public void add(TdmrInfo info) throws LeafFailure {
        int i = accepted.size();
        accepted.add(info);
        if (ModuleState.wraps(info.base(), info.size())) {
            throw fail(TdxStatus.INVALID_TDMR, i, 0, 0);
        }
        if (i > 0) {
            var previous = accepted.get(i - 1);
            if (Long.compareUnsigned(info.base(), previous.base() + previous.size()) < 0) {
                throw fail(TdxStatus.NON_ORDERED_TDMR, i, 0, 0);
            }
        }
        if (((info.base() | info.size()) & (GIB - 1)) != 0 || info.size() == 0 || !isPlain(info.base())
                || !isPlain(info.base() + info.size() - 1)) {
            throw fail(TdxStatus.INVALID_TDMR, i, 0, 0);
        }
        checkReserved(info, i);
        checkPamt(info, i);
        checkAvailableInCmrs(info, i);
    }

    private boolean isPlain(long pa) {
        return ModuleState.belowMaxPa(pa) && module.keyId(pa) == 0;
    }

    private static void checkReserved(TdmrInfo info, int i) throws LeafFailure {
        long[] offset = info.rsvdOffset();
        long[] size = info.rsvdSize();
        for (int j = 0; j < TdmrInfo.MAX_RESERVED; j++) {
            if (size[j] == 0) {
                if (j < TdmrInfo.MAX_RESERVED - 1 && size[j + 1] != 0) {
                    throw fail(TdxStatus.NON_ORDERED_RESERVED_IN_TDMR, i, j, 0);
                }
                continue;
            }
            if (ModuleState.wraps(offset[j], size[j])) {
                throw fail(TdxStatus.INVALID_RESERVED_IN_TDMR, i, j, 0);
            }
            if (j > 0 && (Long.compareUnsigned(offset[j], offset[j - 1]) < 0
                    || Long.compareUnsigned(offset[j], offset[j - 1] + size[j - 1]) < 0)) {
                throw fail(TdxStatus.NON_ORDERED_RESERVED_IN_TDMR, i, j, 0);
            }
            if (((offset[j] | size[j]) & 0xfff) != 0 || ModuleState.wraps(info.base(), offset[j])
                    || ModuleState.wraps(info.base() + offset[j], size[j])
                    || Long.compareUnsigned(offset[j] + size[j], info.size()) > 0) {
                throw fail(TdxStatus.INVALID_RESERVED_IN_TDMR, i, j, 0);
            }
        }
    }

    private void checkPamt(TdmrInfo info, int i) throws LeafFailure {
        for (int size = Pamt.SIZE_1G; size >= Pamt.SIZE_4K; size--) {
            long base = info.pamtBase()[size];
            long bytes = info.pamtSize()[size];
            if (ModuleState.wraps(base, bytes) || ((base | bytes) & 0xfff) != 0 || !isPlain(base)
                    || !isPlain(base + bytes - 1)
                    || Long.compareUnsigned(bytes, info.size() / Pamt.bytes(size) * PamtEntry.BYTES) < 0) {
                throw fail(TdxStatus.INVALID_PAMT, i, size, 0);
            }
        }
        for (int j = 0; j < i; j++) {
            for (int size = Pamt.SIZE_4K; size <= Pamt.SIZE_1G; size++) {
                if (overlapsAny(info, size, accepted.get(j), Pamt.SIZE_4K)) {
                    throw fail(TdxStatus.PAMT_OVERLAP, i, size, j);
                }
            }
        }
        for (int size = Pamt.SIZE_4K; size < Pamt.SIZE_1G; size++) {
            if (overlapsAny(info, size, info, size + 1)) {
                throw fail(TdxStatus.PAMT_OVERLAP, i, size, i);
            }
        }
        for (int j = 0; j <= i; j++) {
            for (int size = Pamt.SIZE_4K; size <= Pamt.SIZE_1G; size++) {
                if (overlapsAvailable(accepted.get(j), info.pamtBase()[size], info.pamtSize()[size])) {
                    throw fail(TdxStatus.PAMT_OVERLAP, i, size, j);
                }
            }
            for (int size = Pamt.SIZE_4K; j < i && size <= Pamt.SIZE_1G; size++) {
                if (overlapsAvailable(info, accepted.get(j).pamtBase()[size], accepted.get(j).pamtSize()[size])) {
                    throw fail(TdxStatus.PAMT_OVERLAP, j, size, i);
                }
            }
        }
        for (int size = Pamt.SIZE_1G; size >= Pamt.SIZE_4K; size--) {
            if (!inCmr(info.pamtBase()[size], info.pamtBase()[size] + info.pamtSize()[size])) {
                throw fail(TdxStatus.PAMT_OUTSIDE_CMRS, i, size, 0);
            }
        }
    }

    /// Whether a PAMT range overlaps one of another TDMR's ranges of page size `from` and up.
    private static boolean overlapsAny(TdmrInfo info, int size, TdmrInfo other, int from) {
        for (int s = from; s <= Pamt.SIZE_1G; s++) {
            if (ModuleState.overlaps(info.pamtBase()[size], info.pamtSize()[size], other.pamtBase()[s],
                    other.pamtSize()[s])) {
                return true;
            }
        }
        return false;
    }

    private interface Area {
        boolean found(long start, long end);
    }

    /// Visits the parts of a TDMR that are not reserved, in order, until the visitor says true.
    private static boolean anyAvailable(TdmrInfo info, Area visitor) {
        long start = info.base();
        long end = info.base() + info.size();
        for (int j = 0; j < TdmrInfo.MAX_RESERVED && info.rsvdSize()[j] != 0; j++) {
            long reserved = info.base() + info.rsvdOffset()[j];
            if (reserved != start && visitor.found(start, reserved)) {
                return true;
            }
            start = reserved + info.rsvdSize()[j];
        }
        return start != end && visitor.found(start, end);
    }

    private static boolean overlapsAvailable(TdmrInfo info, long base, long bytes) {
        return anyAvailable(info, (start, end) -> ModuleState.overlaps(base, bytes, start, end - start));
    }

    private void checkAvailableInCmrs(TdmrInfo info, int i) throws LeafFailure {
        if (anyAvailable(info, (start, end) -> !inCmr(start, end))) {
            throw fail(TdxStatus.TDMR_OUTSIDE_CMRS, i, 0, 0);
        }
    }

    /// Whether a range lies in convertible memory; adjacent ranges count as one.
    private boolean inCmr(long start, long end) {
        long runStart = 0;
        long runEnd = 0;
        for (Cmr cmr : module.platform.cmrs()) {
            if (cmr.size() == 0) {
                continue;
            }
            runStart = cmr.base() == runEnd ? runStart : cmr.base();
            runEnd = cmr.base() + cmr.size();
            if (Long.compareUnsigned(start, runStart) >= 0 && Long.compareUnsigned(end, runEnd) <= 0) {
                return true;
            }
        }
        return false;
    }
}
