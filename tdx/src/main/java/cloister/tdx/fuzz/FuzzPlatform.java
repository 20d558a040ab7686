package cloister.tdx.fuzz;

import cloister.sim.Entropy;
import cloister.tdx.port.PlatformInfo;
import cloister.tdx.port.PlatformInfo.Cmr;
import cloister.tdx.replay.VectorPlatform;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/// The machine below the module: processors, packages, memory and what of it is convertible.
///
/// @param packages 1 or 2
/// @param cmrs     0: all memory but the module's own is convertible; else the seed of a random layout
record FuzzPlatform(int packages, long cmrs) {
    static final int LPS = 4;
    static final int FIRST_PRIVATE_KEY = 32;
    static final int KEYS = 64;
    /// Physical memory: the VMM's and the PAMTs' in the first GiB, a TDMR in each of the others.
    static final long BYTES = 3L << 30;
    /// The first TDMR; its upper quarter is reserved and holds SEAM memory.
    static final long TDMR = 1L << 30;
    static final long RESERVED = 0x3000_0000L;
    /// The second TDMR, without reserved areas: only 2 MiB pages and one of 1 GiB.
    static final long LARGE_TDMR = 2L << 30;
    /// Bytes of a TDMR.
    static final long TDMR_BYTES = 1L << 30;
    /// What the fuzzer lets the module have of the first TDMR: 2 MiB pages, then small pages.
    static final long POOL = TDMR;
    static final int LARGE_PAGES = 3;
    static final long SMALL = POOL + LARGE_PAGES * 0x20_0000L;
    static final int SMALL_PAGES = 2 * 512;
    static final int POOL_FRAMES = LARGE_PAGES * 512 + SMALL_PAGES;
    /// Pages of the VMM.
    static final long HOST = 0x20_0000L;
    static final int HOST_PAGES = 8;
    /// The PAMTs of TDMR i begin here, 16 MiB apart: of 1 GiB, 2 MiB and 4 KiB pages.
    static final long PAMTS = 0x1000_0000L;
    private static final long PAMT_STRIDE = 0x100_0000L;
    private static final long PAMT_2M = 0x1000;
    private static final long PAMT_4K = 0x1_0000;
    private static final long CONVERTIBLE = 0x10_0000L;
    private static final int PACKAGE_SHIFT = 3;
    private static final int FMS = 0x806f8;
    private static final int MAX_CMRS = 6;

    static final FuzzPlatform USUAL = new FuzzPlatform(1, 0);

    /// The processors' CPUID and MSRs.
    static VectorPlatform silicon() {
        try (var in = new InputStreamReader(FuzzPlatform.class.getResourceAsStream("fuzz-platform.json"),
                StandardCharsets.UTF_8)) {
            return new VectorPlatform(JsonParser.parseReader(in).getAsJsonObject());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    int packageOf(int lp) {
        return lp * packages / LPS;
    }

    /// The x2APIC ID of an LP.
    int apicId(int lp) {
        int perPackage = LPS / packages;
        return (packageOf(lp) << PACKAGE_SHIFT) | (lp % perPackage);
    }

    /// What the SEAM loader says.
    PlatformInfo info() {
        return new PlatformInfo(LPS, packages, layout(), Collections.nCopies(packages, FMS));
    }

    private List<Cmr> layout() {
        if (cmrs == 0) {
            return List.of(new Cmr(CONVERTIBLE, TDMR + RESERVED - CONVERTIBLE), new Cmr(LARGE_TDMR, TDMR_BYTES));
        }
        var random = new Entropy(cmrs);
        var result = new ArrayList<Cmr>();
        long at = (1 + random.nextInt(3)) * CONVERTIBLE; // SMRR is below
        while (result.size() < MAX_CMRS && at < BYTES) {
            at = at >= TDMR + RESERVED && at < LARGE_TDMR ? LARGE_TDMR : at;
            long left = ((at < LARGE_TDMR ? TDMR + RESERVED : BYTES) - at) >>> 12;
            long pages = 1 + Long.remainderUnsigned(random.nextLong(), random.nextInt(3) == 0 ? Math.min(left, 512) : left);
            result.add(new Cmr(at, pages << 12));
            at += pages << 12;
            at += random.nextInt(3) == 0 ? 0 : (long) random.nextInt(512) << 12; // adjacent ranges are ranges of their own
        }
        return result;
    }

    /// Where the PAMT of pages of `size` of TDMR `index` lies in a usual bring-up.
    static long pamt(int index, int size) {
        return PAMTS + index * PAMT_STRIDE + (size == 0 ? PAMT_4K : size == 1 ? PAMT_2M : 0);
    }

    static boolean inPool(long pa) {
        return pa >= POOL && pa < POOL + POOL_FRAMES * 4096L;
    }

    static boolean inLarge(long pa) {
        return pa >= LARGE_TDMR && pa < LARGE_TDMR + TDMR_BYTES;
    }
}
