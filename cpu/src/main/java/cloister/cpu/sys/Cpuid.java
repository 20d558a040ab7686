package cloister.cpu.sys;

import cloister.spec.x86.Cr4;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/// What CPUID returns: the identity and the features of our silicon. [SDM Vol. 2 CPUID]
///
/// The part is Intel-like (family 6, the model number of Sapphire Rapids) and enumerates what is implemented. Where the
/// TDX module insists on a feature that can only be had as registers (architectural LBR, performance monitoring, debug
/// store), it is enumerated and its registers exist; turning it on stops the run with a clear message.
public final class Cpuid {
    /// MAXPHYADDR.
    public static final int PHYSICAL_ADDRESS_BITS = 52;
    public static final int LINEAR_ADDRESS_BITS = 57;
    public static final int LAST_BASIC_LEAF = 0x1f;
    public static final int LAST_EXTENDED_LEAF = 0x8000_0008;
    public static final int FAMILY_MODEL_STEPPING = 0x806f8;
    /// The TSC: a 25 MHz crystal times 40.
    public static final int CRYSTAL_HZ = 25_000_000;
    public static final int TSC_PER_CRYSTAL = 40;

    /// The state components that XCR0 may enable: x87, SSE, PKRU.
    public static final long XCR0_SUPPORTED = 0x203;
    /// The state components that IA32_XSS may enable: CET_U, CET_S.
    public static final long XSS_SUPPORTED = 0x1800;
    /// Offset of PKRU in the standard format.
    public static final int PKRU_OFFSET = 0xa80;
    private static final int XSAVE_LEGACY_AND_HEADER = 576;
    private static final int PKRU_SIZE = 8;
    private static final int CET_U_SIZE = 16;
    private static final int CET_S_SIZE = 24;

    private static final int EDX_1 = bits(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 21, 23, 24, 25, 26,
            27, 28);
    private static final int ECX_1 = bits(0, 1, 2, 3, 4, 5, 6, 9, 13, 15, 17, 19, 20, 21, 22, 23, 24, 25, 26, 30);
    private static final int EBX_7 = bits(0, 1, 3, 4, 6, 7, 8, 9, 10, 11, 13, 18, 19, 20, 23, 24, 29);
    private static final int ECX_7 = bits(2, 3, 5, 7, 16, 22, 24, 27, 28, 31);
    private static final int EDX_7 = bits(4, 10, 14, 19, 20, 26, 27, 28, 29, 30, 31);
    /// Leaf 7 EBX: HLE and RTM.
    private static final int TSX = (1 << 4) | (1 << 11);
    private static final long TSX_CPUID_CLEAR = 2;
    private static final int OSXSAVE = 1 << 27;
    private static final int OSPKE = 1 << 4;
    private static final int APIC = 1 << 9;
    private static final int SYSCALL = 1 << 11;
    private static final byte[] BRAND = brand("Cloister virtual TDX processor @ 1.00GHz");

    private static final int SELF_SNOOP = 1 << 27;

    private final int perPackage;
    private final int coreIdBits;
    private final boolean selfSnoop;

    /// One package of processors with self-snoop.
    ///
    /// @param logicalProcessors in it, 1 to 128
    public Cpuid(int logicalProcessors) {
        this(logicalProcessors, 1, true);
    }

    /// @param logicalProcessors of all packages, 1 to 128
    /// @param packages          1 to 8, all alike: the TDX module wants the same topology from every processor
    /// @param selfSnoop         whether the caches snoop their own processor's bus accesses, so that one frame can have several memory
    ///                          types
    public Cpuid(int logicalProcessors, int packages, boolean selfSnoop) {
        if (logicalProcessors < 1 || logicalProcessors > 128) {
            throw new IllegalArgumentException("1 to 128 logical processors, not " + logicalProcessors);
        }
        if (packages < 1 || packages > 8 || logicalProcessors % packages != 0) {
            throw new IllegalArgumentException(logicalProcessors + " processors in " + packages + " packages");
        }
        this.perPackage = logicalProcessors / packages;
        this.coreIdBits = Math.max(1, 32 - Integer.numberOfLeadingZeros(perPackage - 1));
        this.selfSnoop = selfSnoop;
    }

    /// The package of processor `index`.
    public int packageOf(int index) {
        return index / perPackage;
    }

    /// The x2APIC id of processor `index`: its package above its number in the package.
    public int apicId(int index) {
        return (packageOf(index) << coreIdBits) | (index % perPackage);
    }

    /// The registers' state on which some leaves depend.
    ///
    /// @param apicId      the x2APIC id of the asking logical processor
    /// @param apicEnabled IA32_APIC_BASE.EN
    /// @param longMode    in 64-bit mode
    public record Asker(int apicId, boolean apicEnabled, boolean longMode, long cr4, long xcr0, long xss) {
    }

    /// Fills `out` with EAX, EBX, ECX and EDX. Leaves out of range return the data of the last basic leaf, which are the
    /// topology's end.
    public void query(int leaf, int subleaf, Asker asker, int[] out) {
        int known = leaf;
        if (Integer.compareUnsigned(leaf, LAST_BASIC_LEAF) > 0
                && (leaf >= 0 || Integer.compareUnsigned(leaf, LAST_EXTENDED_LEAF) > 0)) {
            known = LAST_BASIC_LEAF;
        }
        switch (known) {
            case 0x0 -> set(out, LAST_BASIC_LEAF, 0x756e6547, 0x6c65746e, 0x49656e69);
            case 0x1 -> version(asker, out);
            case 0x2 -> set(out, 0x00feff01, 0, 0, 0);
            case 0x4 -> cache(subleaf, out);
            case 0x5 -> set(out, 0x40, 0x40, 3, 0);
            case 0x6 -> set(out, 1 << 2, 0, 0, 0);
            case 0x7 -> extendedFeatures(subleaf, asker, out);
            case 0xa -> set(out, 0x08300805, 0xf8, 0x7, 0x8603);
            case 0xb -> topology(subleaf, asker, out);
            case 0xd -> extendedState(subleaf, asker, out);
            case 0x14 -> set(out, subleaf == 0 ? 1 : 0, 0, 0, 0);
            case 0x15 -> set(out, 1, TSC_PER_CRYSTAL, CRYSTAL_HZ, 0);
            case 0x16 -> set(out, 1000, 1000, 25, 0);
            case 0x1c -> set(out, 1, 0, 0, 0);
            case 0x1f -> topology(subleaf, asker, out);
            case 0x8000_0000 -> set(out, LAST_EXTENDED_LEAF, 0, 0, 0);
            case 0x8000_0001 -> set(out, 0, 0, bits(0, 5, 8),
                    bits(20, 26, 27, 29) | (asker.longMode ? SYSCALL : 0));
            case 0x8000_0002, 0x8000_0003, 0x8000_0004 -> brand(known - 0x8000_0002, out);
            case 0x8000_0006 -> set(out, 0, 0, 0x0800_7040, 0);
            case 0x8000_0007 -> set(out, 0, 0, 0, 1 << 8);
            case 0x8000_0008 -> set(out, (LINEAR_ADDRESS_BITS << 8) | PHYSICAL_ADDRESS_BITS, 1 << 9, 0, 0);
            default -> set(out, 0, 0, 0, 0);
        }
    }

    /// Hides TSX from the registers that [#query] has filled for `leaf`, if IA32_TSX_CTRL says so. [SDM Vol. 4 IA32_TSX_CTRL]
    public static void hideTsx(int leaf, int subleaf, long tsxCtrl, int[] out) {
        if (leaf == 7 && subleaf == 0 && (tsxCtrl & TSX_CPUID_CLEAR) != 0) {
            out[1] &= ~TSX;
        }
    }

    /// Bytes of the XSAVE area in standard format for the components in `xcr0`.
    public static int standardXsaveSize(long xcr0) {
        return (xcr0 & 0x200) != 0 ? PKRU_OFFSET + PKRU_SIZE : XSAVE_LEGACY_AND_HEADER;
    }

    /// Bytes of the XSAVE area in compacted format for `components` (XCR0 | XSS).
    public static int compactXsaveSize(long components) {
        return XSAVE_LEGACY_AND_HEADER
                + ((components & 0x200) != 0 ? PKRU_SIZE : 0)
                + ((components & 0x800) != 0 ? CET_U_SIZE : 0)
                + ((components & 0x1000) != 0 ? CET_S_SIZE : 0);
    }

    private void version(Asker asker, int[] out) {
        set(out, FAMILY_MODEL_STEPPING, (asker.apicId << 24) | (1 << (coreIdBits + 16)) | (8 << 8),
                ECX_1 | ((asker.cr4 & Cr4.OSXSAVE) != 0 ? OSXSAVE : 0),
                EDX_1 & (asker.apicEnabled ? -1 : ~APIC) & (selfSnoop ? -1 : ~SELF_SNOOP));
    }

    /// [SDM Vol. 2 CPUID leaf 04H]: EAX type, level and sharing; EBX line size 64, ways; ECX sets.
    private void cache(int subleaf, int[] out) {
        int idsOfCores = ((1 << coreIdBits) - 1) << 26;
        int sharedByAll = ((1 << coreIdBits) - 1) << 14;
        switch (subleaf) {
            case 0 -> set(out, idsOfCores | 0x121, 0x02c0_003f, 0x3f, 0); // 48 KiB data, 12 ways
            case 1 -> set(out, idsOfCores | 0x122, 0x01c0_003f, 0x3f, 0); // 32 KiB code, 8 ways
            case 2 -> set(out, idsOfCores | 0x143, 0x03c0_003f, 0x7ff, 0); // 2 MiB, 16 ways
            case 3 -> set(out, idsOfCores | sharedByAll | 0x163, 0x0380_003f, 0x3fff, 4); // 15 MiB, 15 ways
            default -> set(out, 0, 0, 0, 0);
        }
    }

    private static void extendedFeatures(int subleaf, Asker asker, int[] out) {
        switch (subleaf) {
            case 0 -> set(out, 2, EBX_7, ECX_7 | ((asker.cr4 & Cr4.PKE) != 0 ? OSPKE : 0), EDX_7);
            case 1 -> set(out, bits(10, 11, 12), 0, 0, 0);
            case 2 -> set(out, 0, 0, 0, bits(0, 1, 2, 4));
            default -> set(out, 0, 0, 0, 0);
        }
    }

    private void topology(int subleaf, Asker asker, int[] out) {
        switch (subleaf) {
            case 0 -> set(out, 0, 1, 0x100, asker.apicId);
            case 1 -> set(out, coreIdBits, perPackage, 0x201, asker.apicId);
            default -> set(out, 0, 0, subleaf & 0xff, asker.apicId);
        }
    }

    private static void extendedState(int subleaf, Asker asker, int[] out) {
        switch (subleaf) {
            case 0 -> set(out, (int) XCR0_SUPPORTED, standardXsaveSize(asker.xcr0), standardXsaveSize(XCR0_SUPPORTED), 0);
            case 1 -> set(out, 0xf, compactXsaveSize(asker.xcr0 | asker.xss), (int) XSS_SUPPORTED, 0);
            case 9 -> set(out, PKRU_SIZE, PKRU_OFFSET, 0, 0);
            case 11 -> set(out, CET_U_SIZE, 0, 1, 0);
            case 12 -> set(out, CET_S_SIZE, 0, 1, 0);
            default -> set(out, 0, 0, 0, 0);
        }
    }

    private static void brand(int third, int[] out) {
        var words = ByteBuffer.wrap(BRAND, third * 16, 16).order(ByteOrder.LITTLE_ENDIAN);
        set(out, words.getInt(), words.getInt(), words.getInt(), words.getInt());
    }

    private static byte[] brand(String text) {
        return Arrays.copyOf(text.getBytes(StandardCharsets.US_ASCII), 48);
    }

    private static int bits(int... numbers) {
        int result = 0;
        for (int n : numbers) {
            result |= 1 << n;
        }
        return result;
    }

    private static void set(int[] out, int eax, int ebx, int ecx, int edx) {
        out[0] = eax;
        out[1] = ebx;
        out[2] = ecx;
        out[3] = edx;
    }
}
