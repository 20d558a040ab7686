package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.x86.MemoryType;
import cloister.spec.x86.Msr;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class GuestMtrrsTest {
    private static final int BITS = 40;
    private static final long ENABLE = 1 << 11;
    private static final long FIXED_ENABLE = 1 << 10;
    private static final long VALID = 1 << 11;
    private static final long MEBIBYTE = 1L << 20;
    private final GuestMtrrs mtrrs = new GuestMtrrs();

    private void range(int i, long base, long size, MemoryType type) {
        pair(i, base, (-size & ((1L << BITS) - 1)), type);
    }

    private void pair(int i, long base, long mask, MemoryType type) {
        assertThat(mtrrs.write(Msr.IA32_MTRR_PHYSBASE0 + 2 * i, base | type.encoding(), BITS)).isTrue();
        assertThat(mtrrs.write(Msr.IA32_MTRR_PHYSBASE0 + 2 * i + 1, mask | VALID, BITS)).isTrue();
    }

    private void defType(long value) {
        assertThat(mtrrs.write(Msr.IA32_MTRR_DEF_TYPE, value, BITS)).isTrue();
    }

    @ParameterizedTest @CsvSource({
        "0x2ff, 0x806, true", "0x2ff, 0xc00, true", "0x2ff, 0x802, false", "0x2ff, 0x807, false", "0x2ff, 0x1006, false",
        "0x2ff, 0x906, false",
        "0x2ff, 0x100000006, false", "0x200, 0x6, true", "0x200, 0xfffffff006, true", "0x200, 0x10000000006, false", "0x200, 0x106, false",
        "0x200, 0x3, false", "0x200, 0x7, false", "0x201, 0x800, true", "0x201, 0xfffffff800, true", "0x201, 0xffffffff00, false",
        "0x201, 0x10000000800, false", "0x20f, 0x800, true", "0x250, 0x0606060606060606, true", "0x250, 0x0606060206060606, false",
        "0x259, 0x0001040506000104, true", "0x26f, 0x0700000000000000, false", "0xfe, 0x508, false"})
    void valuesAreChecked(String msr, String value, boolean accepted) {
        int index = Integer.decode(msr);
        long before = mtrrs.read(index);
        assertThat(mtrrs.write(index, Long.decode(value), BITS)).isEqualTo(accepted);
        assertThat(mtrrs.read(index)).isEqualTo(accepted ? Long.decode(value) : before);
    }

    @Test void theCapabilitiesNameEightRangesTheFixedOnesAndWriteCombining() {
        assertThat(mtrrs.read(Msr.IA32_MTRRCAP)).isEqualTo(0x508);
    }

    @Test void allIsUncacheableUntilTheyAreEnabled() {
        range(0, 0, MEBIBYTE, MemoryType.WB);
        defType(MemoryType.WB.encoding() | FIXED_ENABLE);
        assertThat(mtrrs.typeOf(0x1000)).isEqualTo(MemoryType.UC);
        assertThat(mtrrs.isUniform(0, 1L << 30)).isTrue();
        defType(MemoryType.WT.encoding() | ENABLE);
        assertThat(mtrrs.typeOf(0x1000)).isEqualTo(MemoryType.WB);
        assertThat(mtrrs.typeOf(MEBIBYTE)).isEqualTo(MemoryType.WT);
    }

    @ParameterizedTest @CsvSource({"UC, WB, UC", "UC, WC, UC", "WB, WT, WT", "WT, WB, WT", "WB, WB, WB", "WC, WB, UC", "WP, WT, UC"})
    void variableRangesThatOverlapCombine(MemoryType a, MemoryType b, MemoryType both) {
        defType(MemoryType.WP.encoding() | ENABLE);
        range(2, 0, 4 * MEBIBYTE, a);
        range(5, 2 * MEBIBYTE, 2 * MEBIBYTE, b);
        assertThat(mtrrs.typeOf(MEBIBYTE)).isEqualTo(a);
        assertThat(mtrrs.typeOf(3 * MEBIBYTE)).isEqualTo(both);
        assertThat(mtrrs.typeOf(4 * MEBIBYTE)).isEqualTo(MemoryType.WP);
    }

    @Test void fixedRangesGoBeforeVariableOnes() {
        range(0, 0, 2 * MEBIBYTE, MemoryType.WB);
        assertThat(mtrrs.write(Msr.IA32_MTRR_FIX16K_A0000, 0x0104_0506_0001_0405L, BITS)).isTrue();
        defType(MemoryType.UC.encoding() | ENABLE | FIXED_ENABLE);
        assertThat(mtrrs.typeOf(0xa0000)).isEqualTo(MemoryType.WP);
        assertThat(mtrrs.typeOf(0xa3fff)).isEqualTo(MemoryType.WP);
        assertThat(mtrrs.typeOf(0xa4000)).isEqualTo(MemoryType.WT);
        assertThat(mtrrs.typeOf(0xbc000)).isEqualTo(MemoryType.WC);
        assertThat(mtrrs.typeOf(0xc0000)).isEqualTo(MemoryType.UC);
        assertThat(mtrrs.typeOf(MEBIBYTE)).isEqualTo(MemoryType.WB);
        defType(MemoryType.UC.encoding() | ENABLE);
        assertThat(mtrrs.typeOf(0xa0000)).isEqualTo(MemoryType.WB);
    }

    @Test void aBlockIsUniformWhenEveryPageOfItHasOneType() {
        var random = new Random(8);
        int mixed = 0;
        for (int n = 0; n < 3000; n++) {
            defType((random.nextInt(4) == 0 ? 0 : ENABLE) | (random.nextBoolean() ? FIXED_ENABLE : 0) | type(random).encoding());
            for (int i = 0; i < GuestMtrrs.VARIABLE_COUNT; i++) {
                long mask = random.nextInt(3) == 0 ? random.nextInt(1 << 12) * 4096L : -(4096L << random.nextInt(13));
                pair(i, (random.nextInt(1 << 12) * 4096L), mask & ((1L << BITS) - 1), type(random));
                if (random.nextInt(4) != 0) {
                    assertThat(mtrrs.write(Msr.IA32_MTRR_PHYSBASE0 + 2 * i + 1, 0, BITS)).isTrue();
                }
            }
            for (int msr = Msr.IA32_MTRR_FIX4K_C0000; msr < Msr.IA32_MTRR_FIX4K_C0000 + 8; msr++) {
                assertThat(mtrrs.write(msr, type(random).encoding() * 0x0101_0101_0101_0101L, BITS)).isTrue();
            }
            long size = 4096L << random.nextInt(10);
            long gpa = (random.nextInt(1 << 12) * 4096L) & -size;
            boolean same = true;
            for (long at = gpa; at < gpa + size; at += 4096) {
                same &= mtrrs.typeOf(at) == mtrrs.typeOf(gpa);
            }
            if (mtrrs.isUniform(gpa, size)) {
                assertThat(same).as("a large page at 0x%x of 0x%x bytes would have one type", gpa, size).isTrue();
            } else if (!same) {
                mixed++;
            }
            if (same && size == 4096) {
                assertThat(mtrrs.isUniform(gpa, size)).isTrue();
            }
        }
        assertThat(mixed).isGreaterThan(100);
    }

    private static MemoryType type(Random random) {
        return MemoryType.of(new int[] {0, 1, 4, 5, 6}[random.nextInt(5)]);
    }

    @ParameterizedTest @CsvSource({
        "0x250, 0x0, 0x80000", "0x258, 0x80000, 0xa0000", "0x259, 0xa0000, 0xc0000", "0x268, 0xc0000, 0xc8000", "0x26f, 0xf8000, 0x100000",
        "0x2ff, 0x0, -1"})
    void registersSpeakOfTheirRanges(String msr, String first, String end) {
        assertThat(mtrrs.firstOf(Integer.decode(msr), BITS)).isEqualTo(Long.decode(first));
        assertThat(mtrrs.endOf(Integer.decode(msr), BITS)).isEqualTo(Long.decode(end));
    }

    @Test void aMaskWithHolesSpeaksOfEverything() {
        range(1, 8 * MEBIBYTE, 4 * MEBIBYTE, MemoryType.WT);
        assertThat(mtrrs.firstOf(0x202, BITS)).isEqualTo(8 * MEBIBYTE);
        assertThat(mtrrs.endOf(0x203, BITS)).isEqualTo(12 * MEBIBYTE);
        pair(1, 8 * MEBIBYTE, 0xf0_0000_0000L | (4 * MEBIBYTE), MemoryType.WT);
        assertThat(mtrrs.firstOf(0x202, BITS)).isZero();
        assertThat(mtrrs.endOf(0x202, BITS)).isEqualTo(-1);
        pair(1, 8 * MEBIBYTE, 0xf000_0000L, MemoryType.WT); // the addresses beyond 32 bits differ as they like
        assertThat(mtrrs.endOf(0x202, BITS)).isEqualTo(-1);
    }

    @Test void writeBackOnlyHasOneTypeAndNoRanges() {
        mtrrs.writeBackOnly();
        assertThat(mtrrs.read(Msr.IA32_MTRRCAP)).isZero();
        assertThat(mtrrs.read(Msr.IA32_MTRR_DEF_TYPE)).isEqualTo(0x806);
        assertThat(mtrrs.write(Msr.IA32_MTRR_DEF_TYPE, 0x806, BITS)).isTrue();
        for (long value : new long[] {0, 6, 0xc06, 0x800, 0x804, 0x1806}) {
            assertThat(mtrrs.write(Msr.IA32_MTRR_DEF_TYPE, value, BITS)).as("0x%x", value).isFalse();
        }
        for (int msr : new int[] {0xfe, 0x200, 0x20f, 0x250, 0x258, 0x26f}) {
            assertThat(mtrrs.write(msr, 0, BITS)).isFalse();
            assertThat(mtrrs.has(msr)).isEqualTo(msr == 0xfe);
        }
        assertThat(mtrrs.typeOf(0xa0000)).isEqualTo(MemoryType.WB);
    }
}
