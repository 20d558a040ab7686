package cloister.cpu.fpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.Locale;

/// The XSAVE area: layout constants, and saving to and restoring from memory of the host program in standard and compacted
/// format, as host software does with its own XSAVE, XSAVES, XRSTOR and XRSTORS. The guest's instructions are in
/// [XsaveInstructions]. [SDM Vol. 1 "XSAVE Area"]
///
/// Components of our silicon: x87, SSE, PKRU, and of IA32_XSS CET_U and CET_S ([CetComponents]).
public final class XsaveArea {
    public static final long X87 = 1;
    public static final long SSE = 1 << 1;
    public static final long PKRU = 1 << 9;
    public static final long CET_U = 1 << 11;
    public static final long CET_S = 1 << 12;
    /// Everything that XCR0 and IA32_XSS may enable.
    public static final long SUPPORTED = X87 | SSE | PKRU | CET_U | CET_S;
    /// XCOMP_BV bit of the compacted format.
    public static final long COMPACTED = 1L << 63;

    public static final int LEGACY_SIZE = 512;
    public static final int HEADER_SIZE = 64;
    /// Offset of the header's XSTATE_BV.
    public static final int XSTATE_BV = 512;
    /// Offset of the header's XCOMP_BV.
    public static final int XCOMP_BV = 520;
    /// Offset of the extended region.
    public static final int EXTENDED = LEGACY_SIZE + HEADER_SIZE;
    /// CPUID.(EAX=0DH,ECX=9):EBX: where PKRU stands in the standard format. The place that it has on Intel's servers.
    public static final int PKRU_OFFSET = 0xa80;
    /// CPUID.(EAX=0DH,ECX=9):EAX.
    public static final int PKRU_SIZE = 8;
    /// CPUID.(EAX=0DH,ECX=11):EAX and (ECX=12):EAX.
    public static final int CET_U_SIZE = 16;
    public static final int CET_S_SIZE = 24;
    /// CPUID.(EAX=0DH,ECX=0):ECX: size of a standard area with all components.
    public static final int STANDARD_SIZE = PKRU_OFFSET + PKRU_SIZE;

    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private XsaveArea() {
    }

    /// Size in bytes of an area for `components`, compacted or standard: CPUID.(EAX=0DH,ECX=1):EBX for XCR0 | XSS and
    /// CPUID.(EAX=0DH,ECX=0):EBX for XCR0.
    public static int size(long components, boolean compacted) {
        if (!compacted) {
            return (components & PKRU) == 0 ? EXTENDED : STANDARD_SIZE;
        }
        return EXTENDED + ((components & PKRU) != 0 ? PKRU_SIZE : 0) + ((components & CET_U) != 0 ? CET_U_SIZE : 0)
                + ((components & CET_S) != 0 ? CET_S_SIZE : 0);
    }

    /// XINUSE for `components`.
    public static long inUse(FpuState s, int pkru, long components) {
        long used = 0;
        if ((components & X87) != 0 && s.x87InUse()) {
            used |= X87;
        }
        if ((components & SSE) != 0 && s.sseInUse()) {
            used |= SSE;
        }
        if ((components & PKRU) != 0 && pkru != 0) {
            used |= PKRU;
        }
        return used;
    }

    /// Saves `components` in the format of XSAVE64 (standard) or XSAVES64 (compacted), writing the whole header. `area` has
    /// at least [#size] bytes.
    public static void save(FpuState s, int pkru, long components, boolean compacted, MemorySegment area) {
        long bv = inUse(s, pkru, components);
        if ((components & SSE) != 0 && s.mxcsr != FpuState.INITIAL_MXCSR) {
            bv |= SSE;
        }
        long[] image = s.image;
        if ((components & X87) != 0) {
            LegacyImage.saveX87(s, image, true);
            put(area, image, LegacyImage.CONTROL, LegacyImage.MXCSR);
            put(area, image, LegacyImage.ST, LegacyImage.XMM);
        }
        if ((components & SSE) != 0) {
            LegacyImage.saveMxcsr(s, image);
            LegacyImage.saveXmm(s, image, 16);
            put(area, image, LegacyImage.MXCSR, LegacyImage.ST);
            put(area, image, LegacyImage.XMM, LegacyImage.XMM_END);
        }
        area.asSlice(XSTATE_BV, HEADER_SIZE).fill((byte) 0);
        area.set(LONG, XSTATE_BV, bv);
        area.set(LONG, XCOMP_BV, compacted ? components | COMPACTED : 0);
        if ((components & PKRU) != 0) {
            area.set(LONG, compacted ? EXTENDED : PKRU_OFFSET, pkru & 0xffff_ffffL);
        }
    }

    /// Whether XRSTOR (standard format) or XRSTORS (compacted format) with XCR0 | XSS = `enabled` would accept the area's
    /// header and MXCSR.
    public static boolean valid(MemorySegment area, long enabled, boolean compacted) {
        long bv = area.get(LONG, XSTATE_BV);
        long comp = area.get(LONG, XCOMP_BV);
        boolean mxcsr = (area.get(LONG, 8L * LegacyImage.MXCSR) & 0xffff_ffffL & ~FpuState.MXCSR_MASK) == 0;
        if (!compacted) {
            return (bv & ~enabled) == 0 && comp == 0 && area.get(LONG, XCOMP_BV + 8) == 0 && mxcsr;
        }
        long reserved = 0;
        for (int at = XCOMP_BV + 8; at < EXTENDED; at += 8) {
            reserved |= area.get(LONG, at);
        }
        return comp < 0 && (comp & ~COMPACTED & ~enabled) == 0 && (bv & ~comp) == 0 && reserved == 0
                && ((bv & SSE) == 0 || mxcsr);
    }

    /// Restores `components` from an area in standard or compacted format (XCOMP_BV says which), components that
    /// the area lacks to their initial configuration. Returns the new PKRU: `pkru` when PKRU is not among `components`.
    ///
    /// @throws IllegalArgumentException when XRSTOR would raise #GP
    public static int restore(FpuState s, int pkru, long components, MemorySegment area) {
        boolean compacted = area.get(LONG, XCOMP_BV) < 0;
        if (!valid(area, SUPPORTED, compacted)) {
            throw new IllegalArgumentException(String.format(Locale.ROOT, "malformed XSAVE area: XSTATE_BV %x, XCOMP_BV %x",
                    area.get(LONG, XSTATE_BV), area.get(LONG, XCOMP_BV)));
        }
        return restoreValid(s, pkru, components, compacted, area);
    }

    /// As [#restore], of an area that [#valid] has accepted.
    public static int restoreValid(FpuState s, int pkru, long components, boolean compacted, MemorySegment area) {
        long bv = area.get(LONG, XSTATE_BV);
        long[] image = s.image;
        MemorySegment.copy(area, LONG, 0, image, 0, LegacyImage.XMM_END);
        restoreLegacy(s, image, components, bv, compacted, true, 16);
        if ((components & PKRU) == 0) {
            return pkru;
        }
        return (bv & PKRU) == 0 ? 0 : (int) area.get(LONG, compacted ? EXTENDED : PKRU_OFFSET);
    }

    /// The x87 and SSE part of XRSTOR and XRSTORS.
    static void restoreLegacy(FpuState s, long[] image, long rfbm, long bv, boolean compacted, boolean wide, int registers) {
        if ((rfbm & X87) != 0) {
            if ((bv & X87) != 0) {
                LegacyImage.loadX87(s, image, wide);
            } else {
                s.initX87();
            }
        }
        if ((rfbm & SSE) == 0) {
            return;
        }
        // The standard format loads MXCSR even when XSTATE_BV says that SSE state is initial.
        if (!compacted || (bv & SSE) != 0) {
            LegacyImage.loadMxcsr(s, image);
        } else {
            s.mxcsr = FpuState.INITIAL_MXCSR;
        }
        if ((bv & SSE) != 0) {
            LegacyImage.loadXmm(s, image, registers);
        } else {
            Arrays.fill(s.xmm, 0, 2 * registers, 0);
        }
    }

    /// Writes the 512-byte image of FXSAVE64. `area` has at least 512 bytes.
    public static void fxsave(FpuState s, MemorySegment area) {
        long[] image = s.image;
        LegacyImage.saveX87(s, image, true);
        LegacyImage.saveMxcsr(s, image);
        LegacyImage.saveXmm(s, image, 16);
        put(area, image, 0, LegacyImage.XMM_END);
    }

    /// Loads a 512-byte image of FXSAVE64.
    ///
    /// @throws IllegalArgumentException when MXCSR has reserved bits set
    public static void fxrstor(FpuState s, MemorySegment area) {
        long[] image = s.image;
        MemorySegment.copy(area, LONG, 0, image, 0, LegacyImage.XMM_END);
        if (LegacyImage.mxcsrReserved(image)) {
            throw new IllegalArgumentException(String.format(Locale.ROOT, "reserved bits in MXCSR %x", (int) image[LegacyImage.MXCSR]));
        }
        LegacyImage.loadX87(s, image, true);
        LegacyImage.loadMxcsr(s, image);
        LegacyImage.loadXmm(s, image, 16);
    }

    private static void put(MemorySegment area, long[] image, int from, int to) {
        MemorySegment.copy(image, from, area, LONG, 8L * from, to - from);
    }
}
