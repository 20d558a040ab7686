package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.sim.RoundRobin;
import cloister.spec.vmx.Ept;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Whether MMIO is cached, by what marks, and for how long. The table is derived from arch/x86/kvm/mmu/spte.c and svm.c of Linux 7.2.
final class MmioCachingTest {
    private static final int C_BIT = 47;
    private static final int KEY_BITS = 5;
    private static final long MARK_51 = (1L << 51) | 1;

    /// Vendor code, as it is loaded: the masks are reset for legacy tables first.
    private enum Vendor {
        /// VMX with EPT: 110b, which no part takes for a mapping.
        EPT {
            @Override void load(SpteMasks masks) {
                masks.usePaging();
                masks.useEpt(true);
            }

            @Override boolean works(int width) {
                return true;
            }
        },
        /// VMX or SVM with legacy tables: bit 51, which is no address bit of a part with less than 52.
        LEGACY {
            @Override void load(SpteMasks masks) {
                masks.usePaging();
                masks.mmioByReservedBit();
            }

            @Override boolean works(int width) {
                return width < 52;
            }
        },
        /// SVM with memory encryption, which takes five address bits; what is above them and is not the C-bit is reserved.
        C_BIT_47 {
            @Override void load(SpteMasks masks) {
                masks.usePaging();
                masks.mmioBesideEncryptionBit(C_BIT, width(masks) - KEY_BITS);
            }

            @Override boolean works(int width) {
                return true; // 52 - 5 is the C-bit itself, and 48 to 51 are left
            }
        },
        /// The same part when no address bit is taken.
        C_BIT_51 {
            @Override void load(SpteMasks masks) {
                masks.usePaging();
                masks.mmioBesideEncryptionBit(51, width(masks));
            }

            @Override boolean works(int width) {
                return width < 51; // 51 is the C-bit, 52 are all
            }
        };

        abstract void load(SpteMasks masks);

        abstract boolean works(int width);

        static int width(SpteMasks masks) {
            return masks.maxPhyAddr();
        }
    }

    static Stream<Arguments> loads() {
        var rows = new ArrayList<Arguments>();
        for (var rule : MmioParameter.values()) {
            for (boolean wanted : new boolean[] {true, false}) {
                for (var first : Vendor.values()) {
                    rows.add(arguments(rule, wanted, List.of(first)));
                    for (var second : Vendor.values()) {
                        rows.add(arguments(rule, wanted, List.of(first, second)));
                    }
                }
            }
        }
        return rows.stream();
    }

    @ParameterizedTest(name = "{0} mmio_caching={1} {2}")
    @MethodSource("loads")
    void isDecidedByEachMark(MmioParameter rule, boolean wanted, List<Vendor> loads) {
        for (int width = 36; width <= 52; width++) {
            var masks = new SpteMasks(width, wanted, rule);
            loads.forEach(vendor -> vendor.load(masks));
            int w = width;
            boolean expected = wanted && switch (rule) {
                case SNAPSHOT, VENDOR_SETS -> loads.getLast().works(width);
                // The legacy mark of before any vendor code was the first that could fail.
                case CLEARED_FOR_GOOD -> width < 52 && loads.stream().allMatch(vendor -> vendor.works(w));
            };
            assertThat(masks.mmioCaching()).as("MAXPHYADDR " + width).isEqualTo(expected);
            assertThat(masks.mmioValue() != 0).as("MAXPHYADDR " + width).isEqualTo(expected);
            if (expected) {
                assertMark(masks, loads.getLast(), width);
            }
        }
    }

    private static void assertMark(SpteMasks masks, Vendor vendor, int width) {
        long value = switch (vendor) {
            case EPT -> Ept.WRITE | Ept.EXECUTE;
            case LEGACY -> MARK_51;
            case C_BIT_47 -> reserved(width - KEY_BITS == C_BIT ? C_BIT + 1 : width - KEY_BITS);
            case C_BIT_51 -> reserved(width);
        };
        assertThat(masks.mmioValue()).isEqualTo(value);
        int addressBits = vendor == Vendor.C_BIT_47 ? width - KEY_BITS : width;
        for (long gpa : new long[] {0, 0x1000, 0xfec0_0000L & ((1L << addressBits) - 1), (1L << addressBits) - 0x1000}) {
            long spte = masks.mmio(value, gpa, 0x2_aaaa, 0);
            assertThat(masks.isMmio(spte, value)).isTrue();
            assertThat(masks.mmioGpa(spte)).isEqualTo(gpa);
            assertThat(Spte.generation(spte)).isEqualTo(0x2_aaaa);
        }
        assertThat(masks.isMmio(Spte.NONPRESENT, value)).isFalse();
        assertThat(masks.isMmio(Spte.FROZEN, value)).isFalse();
    }

    private static long reserved(int first) {
        return ((1L << 52) - (1L << first)) | 1;
    }

    @Test void withoutItEachAccessIsAViolationOfItsOwn() {
        try (var f = new MmuFixture()) {
            f.masks.mmio(0, 0, 0);
            assertThat(f.vcpu.fault(0xfec0_0000L, 0)).isEqualTo(FaultResult.EMULATE);
            assertThat(f.walk(0xfec0_0000L)[0]).as("no entry is made").isEqualTo(Spte.NONPRESENT);
            assertThat(f.vcpu.fault(0xfec0_0000L, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.EMULATE);
            f.slot(0, 0, 0x1000, f.user.map(0x1000));
            assertThat(f.vcpu.fault(0, VcpuMmu.ERROR_WRITE)).isEqualTo(FaultResult.FIXED);
        }
    }

    @Test void framesThatThePlatformCannotHaveGetNoEntry() {
        try (var f = new MmuFixture(64L << 20, MmuParameters.DEFAULT, false, new RoundRobin(), true, 46)) {
            f.vcpu.fault((1L << 46) - 0x1000, 0);
            assertThat(f.masks.isMmio(f.walk((1L << 46) - 0x1000)[0], f.mmu.mmioValue())).isTrue();
            assertThat(f.vcpu.fault(1L << 46, 0)).isEqualTo(FaultResult.EMULATE);
            assertThat(f.walk(1L << 46)[0]).isEqualTo(Spte.NONPRESENT);
        }
    }

    @Test void lastAccessIsRememberedByBothAddresses() {
        var cache = new MmioCache();
        cache.remember(0x7fff_1234L, 0xfec00, Spte.ACCESS_WRITE, 4);
        assertThat(cache.hasGpa(0xfec0_0fffL, 4)).isTrue();
        assertThat(cache.hasGpa(0xfec0_1000L, 4)).isFalse();
        assertThat(cache.hasGva(0x7fff_1000L, 4)).isTrue();
        assertThat(cache.hasGpa(0xfec0_0000L, 6)).as("other slots").isFalse();
        assertThat(cache.hasGva(0x7fff_1000L, 5)).as("the other address space").isFalse();
        cache.dropGva(0x7fff_2000L);
        assertThat(cache.hasGva(0x7fff_1000L, 4)).isTrue();
        cache.dropGva(0x7fff_1fffL);
        assertThat(cache.hasGva(0x7fff_1000L, 4)).isFalse();
        assertThat(cache.hasGpa(0xfec0_0000L, 4)).as("does not depend on translations").isTrue();
        assertThat(cache.gfn()).isEqualTo(0xfec00);
        assertThat(cache.access()).isEqualTo(Spte.ACCESS_WRITE);
        cache.remember(0x1000, 0, 0, 4);
        assertThat(cache.hasGpa(0, 4)).as("frame 0 means nothing").isFalse();
        cache.remember(0x5000, 5, 0, 6);
        cache.dropGvas();
        assertThat(cache.hasGva(0x5000, 6)).isFalse();
    }

    @Test void nothingIsRememberedWhileSlotsChange() {
        var cache = new MmioCache();
        cache.remember(0x1000, 1, 0, 4 | MemSlotSet.UPDATE_IN_PROGRESS);
        assertThat(cache.hasGpa(0x1000, 4 | MemSlotSet.UPDATE_IN_PROGRESS)).isFalse();
        assertThat(cache.hasGva(0x1000, 4 | MemSlotSet.UPDATE_IN_PROGRESS)).isFalse();
    }

    /// The vCPU takes the fault while a slot is being put there: it must look again once the slot is in place.
    @Test void accessThatMeetsAChangeOfSlotsIsNotTakenForMmioAfterwards() {
        var results = new ArrayList<FaultResult>();
        try (var f = new MmuFixture() {
            @Override public void kickVcpus() {
                if (results.isEmpty()) {
                    results.add(vcpu.fault(0xfec0_0000L, 0));
                    results.add(vcpu.misconfiguration(0xfec0_0000L));
                }
            }
        }) {
            f.slot(0, 0, 0x1000, f.user.map(0x1000)); // any change will do
            assertThat(results).containsExactly(FaultResult.EMULATE, FaultResult.EMULATE);
            assertThat(f.vcpu.mmioCache().hasGpa(0xfec0_0000L, f.mmu.slots().generation(0))).isFalse();
            assertThat(f.vcpu.misconfiguration(0xfec0_0000L)).isEqualTo(FaultResult.EMULATE);
            assertThat(f.vcpu.mmioCache().hasGpa(0xfec0_0000L, f.mmu.slots().generation(0))).isTrue();
        }
    }

    @Test void addressSpacesNeverHaveTheSameGeneration() {
        try (var f = new MmuFixture()) {
            for (int i = 0; i < 3; i++) {
                f.slot(i, i * 0x1000L, 0x1000, f.user.map(0x1000));
                assertThat(f.mmu.slots().generation(0) & 1).isZero();
                assertThat(f.mmu.slots().generation(1) & 1).isEqualTo(1);
            }
            assertThat(f.mmu.slots().generation(0)).isEqualTo(6);
            f.slot((1 << 16) | 1, 0, 0x1000, f.user.map(0x1000));
            assertThat(f.mmu.slots().generation(1)).isEqualTo(3);
        }
    }
}
