package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.HashSet;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class CpuidTest {
    private final Cpuid cpuid = new Cpuid(4);

    private int[] query(int leaf, int subleaf, long cr4, long xcr0, long xss) {
        int[] out = new int[4];
        cpuid.query(leaf, subleaf, new Cpuid.Asker(2, true, true, cr4, xcr0, xss), out);
        return out;
    }

    /// What the TDX module demands of the platform before it initialises: leaf, sub-leaf, register, mask, value.
    @ParameterizedTest
    @CsvSource({
        "0x1, 0, 1, 0xff00, 0x800", "0x1, 0, 2, 0x47faa217, 0x47faa217", "0x1, 0, 3, 0x1fa9fbff, 0x1fa9fbff",
        "0x4, 0, 1, 0xfff, 0x3f", "0x4, 1, 1, 0xfff, 0x3f", "0x4, 2, 1, 0xfff, 0x3f", "0x4, 3, 0, 0xe0, 0x60",
        "0x4, 3, 3, 1, 0", "0x4, 4, 0, 0x1f, 0", "0x6, 0, 0, 0x800000, 0", "0x7, 0, 0, 0xffffffff, 2",
        "0x7, 0, 1, 0x219424c3, 0x219424c3", "0x7, 0, 2, 0x99000000, 0x99000000", "0x7, 0, 3, 0xfc082600, 0xfc080400",
        "0x7, 2, 3, 0x17, 0x17", "0xa, 0, 0, 0xff00, 0x800", "0xa, 0, 2, 0xfffffff0, 0", "0xa, 0, 3, 0x8000, 0x8000",
        "0xd, 0, 0, 3, 3", "0xd, 1, 0, 0xf, 0xf", "0xd, 1, 2, 0x1800, 0x1800", "0x14, 0, 0, 0xffffffff, 1",
        "0x1f, 5, 2, 0xff00, 0", "0x80000001, 0, 2, 0x121, 0x121", "0x80000001, 0, 3, 0x2c100800, 0x2c100800",
        "0x80000006, 0, 2, 0xff, 0x40", "0x80000007, 0, 3, 0x100, 0x100", "0x80000008, 0, 1, 0x200, 0x200"})
    void satisfiesTheTdxModule(String leaf, int subleaf, int register, String mask, String value) {
        int actual = query(Long.decode(leaf).intValue(), subleaf, 0, 3, 0)[register];
        assertThat(actual & Long.decode(mask).intValue()).isEqualTo(Long.decode(value).intValue());
    }

    /// The L3 cache is shared by the package: its sharing field has the top bit of the core level's shift.
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4, 5, 8, 64})
    void topologyAndSharedCacheAgree(int processors) {
        int[] out = new int[4];
        var asker = new Cpuid.Asker(0, true, true, 0, 3, 0);
        new Cpuid(processors).query(0x1f, 1, asker, out);
        int shift = out[0];
        assertThat(out[1]).isEqualTo(processors);
        assertThat(1 << shift).isGreaterThanOrEqualTo(processors);
        new Cpuid(processors).query(4, 3, asker, out);
        assertThat(((out[0] >>> 14) & 0xfff) >> (shift - 1)).isEqualTo(1);
    }

    /// Ids are unique, the bits above the core level's shift number the package, and each package has as many processors.
    @ParameterizedTest
    @CsvSource({"8, 1", "8, 2", "6, 2", "6, 3", "3, 3", "8, 8", "128, 8"})
    void packagesAreTheUpperBitsOfTheApicId(int processors, int packages) {
        var spread = new Cpuid(processors, packages, true);
        var ids = new HashSet<Integer>();
        int[] out = new int[4];
        for (int i = 0; i < processors; i++) {
            int id = spread.apicId(i);
            assertThat(ids.add(id)).isTrue();
            spread.query(0x1f, 1, new Cpuid.Asker(id, true, true, 0, 3, 0), out);
            assertThat(out[3]).isEqualTo(id);
            assertThat(id >>> out[0]).isEqualTo(spread.packageOf(i)).isLessThan(packages);
            assertThat(out[1]).isEqualTo(processors / packages);
        }
        assertThat(spread.packageOf(processors - 1)).isEqualTo(packages - 1);
    }

    @ParameterizedTest
    @CsvSource({"2, 3", "5, 4", "9, 9", "4, 0"})
    void unevenPackagesAreRefused(int processors, int packages) {
        assertThatThrownBy(() -> new Cpuid(processors, packages, true)).isInstanceOf(IllegalArgumentException.class);
    }

    @Test
    void selfSnoopIsAnOptionOfThePlatform() {
        int[] out = new int[4];
        var asker = new Cpuid.Asker(0, true, true, 0, 3, 0);
        new Cpuid(1, 1, true).query(1, 0, asker, out);
        int with = out[3];
        new Cpuid(1, 1, false).query(1, 0, asker, out);
        assertThat(with ^ out[3]).isEqualTo(1 << 27);
    }

    @Test
    void dynamicBitsFollowTheRegisters() {
        assertThat(query(1, 0, 1 << 18, 3, 0)[2] & (1 << 27)).isNotZero();
        assertThat(query(1, 0, 0, 3, 0)[2] & (1 << 27)).isZero();
        assertThat(query(7, 0, 1 << 22, 3, 0)[2] & (1 << 4)).isNotZero();
        assertThat(query(0xd, 0, 0, 3, 0)[1]).isEqualTo(576);
        assertThat(query(0xd, 0, 0, 0x203, 0)[1]).isEqualTo(0xa88);
        assertThat(query(0xd, 1, 0, 0x203, 0)[1]).isEqualTo(584);
        assertThat(query(0xb, 0, 0, 3, 0)[3]).isEqualTo(2);
    }

    @Test
    void leavesOutOfRangeReadAsTheLastBasicOne() {
        assertThat(query(0x4000_0000, 7, 0, 3, 0)).isEqualTo(query(0x1f, 7, 0, 3, 0));
        assertThat(query(0x8000_0009, 0, 0, 3, 0)).isEqualTo(query(0x1f, 0, 0, 3, 0));
        assertThat(query(0x15, 0, 0, 3, 0)).containsExactly(1, 40, 25_000_000, 0);
    }
}
