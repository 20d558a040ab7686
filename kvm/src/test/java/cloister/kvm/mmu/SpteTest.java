package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.Ept;
import java.util.Random;
import org.junit.jupiter.api.Test;

/// Bits of entries: software bits where the processor ignores them, marks of MMIO, large and small.
final class SpteTest {
    private static final long HARDWARE = Ept.PERMISSIONS | Ept.ADDRESS | (7L << Ept.MEMORY_TYPE_SHIFT) | Ept.IGNORE_PAT | Ept.LARGE
            | Ept.ACCESSED | Ept.DIRTY | Ept.USER_EXECUTE | Ept.SUPPRESS_VE;
    /// Verify guest paging, paging write, supervisor shadow stack, sub-page write permissions. [SDM Vol. 3 Table 30-1]
    private static final long NEWER = (1L << 57) | (1L << 58) | (1L << 60) | (1L << 61);

    private static SpteMasks ept() {
        var masks = new SpteMasks(46, true);
        masks.useEpt(true);
        return masks;
    }

    @Test void softwareBitsAreNoneOfTheProcessors() {
        long software = Spte.MMU_PRESENT | Spte.SAVED | Spte.EPT_HOST_WRITABLE | Spte.EPT_MMU_WRITABLE | Spte.AD_DISABLED
                | Spte.AD_WRITE_PROTECT_ONLY;
        assertThat(software & (HARDWARE | NEWER)).isZero();
        assertThat(Long.bitCount(software)).as("each has its own").isEqualTo(8);
        assertThat(Spte.isPresent(Spte.NONPRESENT)).isFalse();
        assertThat(Spte.isPresent(Spte.FROZEN)).isFalse();
        assertThat(Spte.FROZEN & Ept.PERMISSIONS).isZero();
    }

    @Test void entriesHaveNoReservedBits() {
        var masks = ept();
        for (int level = 1; level <= 3; level++) {
            long pa = 0x3f_c000_0000L;
            long leaf = masks.writable(masks.leaf(pa, level, 0, Spte.ACCESS_ALL, 6L << 3, false, true, true));
            assertThat(masks.reservedBits(leaf, level)).isZero();
            assertThat(masks.reservedBits(leaf | (1L << 46), level)).as("no such address").isNotZero();
            assertThat(masks.reservedBits(leaf | (1L << 57), level)).isNotZero();
        }
        assertThat(masks.reservedBits(masks.nonLeaf(0x1000, false), 4)).isZero();
        assertThat(masks.reservedBits(masks.nonLeaf(0x1000, false) | Ept.LARGE, 4)).isNotZero();
        var paging = new SpteMasks(46, true);
        assertThat(paging.reservedBits(paging.writable(paging.leaf(0x1000, 1, 0, Spte.ACCESS_ALL, 0, false, true, true)), 1)).isZero();
    }

    @Test void mmioEntriesKeepFrameAndGeneration() {
        var masks = ept();
        var random = new Random(1);
        for (int i = 0; i < 1000; i++) {
            long gpa = random.nextLong() & Ept.ADDRESS;
            long generation = random.nextLong() >>> 1;
            for (long value : new long[] {masks.mmioValue(), 0}) {
                long spte = masks.mmio(value, gpa, generation, Spte.ACCESS_ALL);
                assertThat(masks.isMmio(spte, value)).isTrue();
                assertThat(Spte.isPresent(spte)).isFalse();
                assertThat(masks.mmioGpa(spte)).isEqualTo(gpa);
                assertThat(Spte.generation(spte)).isEqualTo(generation & Spte.GENERATION_MASK);
            }
        }
        assertThat(masks.isMmio(Spte.NONPRESENT, masks.mmioValue())).isFalse();
        assertThat(masks.isMmio(Spte.FROZEN, masks.mmioValue())).isFalse();
        assertThat(masks.isMmio(Spte.NONPRESENT, 0)).as("a TD's empty entry suppresses #VE").isFalse();
    }

    @Test void cachingIsDecidedWheneverTheMarkChanges() {
        var masks = new SpteMasks(52, true);
        assertThat(masks.mmioCaching()).as("52 address bits leave none for the mark of legacy tables").isFalse();
        masks.useEpt(true);
        assertThat(masks.mmioCaching()).as("EPT has misconfigurations").isTrue();
        masks.usePaging();
        assertThat(masks.mmioCaching()).isFalse();
        var narrow = new SpteMasks(51, true);
        assertThat(narrow.mmioCaching()).isTrue();
        assertThat(narrow.mmioValue()).isEqualTo((1L << 51) | 1);
        narrow.mmioBesideEncryptionBit(51, 51);
        assertThat(narrow.mmioCaching()).as("the encryption bit is the last").isFalse();
        narrow.mmioBesideEncryptionBit(47, 51);
        assertThat(narrow.mmioValue()).isEqualTo((1L << 51) | 1);
        var off = new SpteMasks(46, false);
        off.useEpt(true);
        assertThat(off.mmioCaching()).as("the parameter stays as it was given").isFalse();
    }

    @Test void badMarksTurnCachingOff() {
        var masks = ept();
        masks.mmio(Ept.WRITE, Ept.READ, 0);
        assertThat(masks.mmioCaching()).as("value outside its mask").isFalse();
        masks.mmio(1L << 55, 1L << 55, 0);
        assertThat(masks.mmioCaching()).as("where the generation is").isFalse();
        masks.mmio(Ept.SUPPRESS_VE, Ept.SUPPRESS_VE, 0);
        assertThat(masks.mmioCaching()).as("a frozen entry would match").isFalse();
        masks.mmio(Ept.WRITE, Ept.PERMISSIONS, 0);
        assertThat(masks.mmioCaching()).isTrue();
    }

    @Test void smallPagesOfALargeOneMakeItAgain() {
        var masks = ept();
        long large = masks.writable(masks.leaf(0x4000_0000L, 3, 0, Spte.ACCESS_ALL, 6L << 3, false, true, true));
        for (int i = 0; i < PageTables.ENTRIES; i++) {
            long middle = masks.small(large, 2, i, false, Spte.ACCESS_ALL);
            assertThat(Spte.address(middle)).isEqualTo(0x4000_0000L + ((long) i << 21));
            assertThat(Spte.isLarge(middle)).isTrue();
            assertThat(masks.large(middle, 3, false)).isEqualTo(large);
            long small = masks.small(middle, 1, i, false, Spte.ACCESS_ALL);
            assertThat(Spte.isLarge(small)).isFalse();
            assertThat(masks.large(small, 2, false)).isEqualTo(middle);
        }
        assertThat(masks.large(large, 3, true) & Ept.EXECUTE).as("the workaround").isZero();
    }

    @Test void agedEntriesComeBackWithoutWriteAccess() {
        var masks = new SpteMasks(46, true);
        masks.useEpt(false);
        long leaf = masks.writable(masks.leaf(0x1000, 1, Spte.AD_DISABLED, Spte.ACCESS_ALL, 6L << 3, false, true, true));
        assertThat(masks.isAccessed(leaf)).isTrue();
        long aged = masks.aged(leaf);
        assertThat(aged & (Ept.PERMISSIONS | Ept.USER_EXECUTE)).isZero();
        assertThat(masks.isAccessTracked(aged)).isTrue();
        assertThat(masks.isAccessed(aged)).isFalse();
        assertThat(masks.aged(aged)).isEqualTo(aged);
        assertThat(masks.restored(aged)).isEqualTo(leaf & ~Ept.WRITE);
        assertThat(masks.isVolatile(aged)).isTrue();
    }

    @Test void encryptionBitsAreInMemoryAndNotInDevices() {
        var masks = ept();
        masks.encryption(1L << 47, 3L << 46);
        assertThat(masks.leaf(0x1000, 1, 0, Spte.ACCESS_ALL, 0, false, true, true) & (1L << 47)).isNotZero();
        assertThat(masks.leaf(0x1000, 1, 0, Spte.ACCESS_ALL, 0, true, true, true) & (1L << 47)).isZero();
        masks.encryption(1L << 48, 1L << 47);
        assertThat(masks.nonLeaf(0x1000, false) & (1L << 48)).as("a value outside its mask is refused").isZero();
    }
}
