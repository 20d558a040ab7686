package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.Defect;
import cloister.kvm.UserMemoryRegion;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import cloister.spec.x86.MemoryType;
import cloister.spec.x86.Msr;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Memory types of mappings, by policy, quirk and attached devices.
final class MemoryTypesTest {
    private static final long ENABLE = 1 << 11;
    private static final long VALID = 1 << 11;
    private static final int BITS = 52;
    private MmuFixture f = new MmuFixture();
    private final long address = f.user.map(16 * MIB);

    @AfterEach void release() {
        f.close();
    }

    private void policy(String name) {
        f.mmu.memoryTypes().policy(MemoryTypePolicy.named(name));
        f.slot(0, 0, 16 * MIB, address);
    }

    private void mtrr(int msr, long value) {
        long first = f.mtrrs.firstOf(msr, BITS);
        long end = f.mtrrs.endOf(msr, BITS);
        assertThat(f.mtrrs.write(msr, value, BITS)).isTrue();
        f.mmu.memoryTypes().guestTypesChanged(first, end);
        f.mmu.memoryTypes().guestTypesChanged(f.mtrrs.firstOf(msr, BITS), f.mtrrs.endOf(msr, BITS));
    }

    private void range(int i, long base, long size, MemoryType type) {
        mtrr(Msr.IA32_MTRR_PHYSBASE0 + (2 * i), base | type.encoding());
        mtrr(Msr.IA32_MTRR_PHYSBASE0 + (2 * i) + 1, (-size & ((1L << BITS) - 1)) | VALID);
    }

    private long[] leaf(long gpa) {
        f.vcpu.fault(gpa, VcpuMmu.ERROR_WRITE);
        return f.walk(gpa);
    }

    private static String describe(long entry) {
        return MemoryType.of(Ept.memoryType(entry)) + ((entry & Ept.IGNORE_PAT) != 0 ? " whatever PAT says" : "");
    }

    @Test void withoutMtrrsInCpuidMemoryIsWriteBack() {
        policy("mtrr");
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(describe(leaf(0)[0])).as("there are some, and they are off").isEqualTo("UC");
        f.hasMtrrs = false;
        assertThat(describe(leaf(4 * MIB)[0])).isEqualTo("WB");
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.WT.encoding());
        assertThat(describe(leaf(8 * MIB)[0])).as("registers that are on count").isEqualTo("WT");
    }

    @ParameterizedTest @CsvSource({
        // policy, non-coherent DMA, quirk IGNORE_GUEST_PAT, CR0.CD, quirk CD_NW_CLEARED, what an MTRR says: the entry
        "upstream-7.2, false, true,  false, true,  UC, WB whatever PAT says",
        "upstream-7.2, true,  true,  false, true,  UC, WB",
        "upstream-7.2, false, false, false, true,  UC, WB",
        "upstream-7.2, true,  false, true,  false, UC, WB",
        "mtrr,         false, true,  false, true,  UC, WB whatever PAT says",
        "mtrr,         false, false, true,  false, UC, WB whatever PAT says",
        "mtrr,         true,  true,  false, true,  UC, UC",
        "mtrr,         true,  true,  false, true,  WT, WT",
        "mtrr,         true,  true,  false, true,  WC, WC",
        "mtrr,         true,  true,  false, true,  WP, WP",
        "mtrr,         true,  true,  false, true,  WB, WB",
        "mtrr,         true,  true,  true,  true,  UC, WB whatever PAT says",
        "mtrr,         true,  true,  true,  false, WB, UC whatever PAT says",
        "proposed-2023, false, false, false, true, UC, WB whatever PAT says",
        "proposed-2023, true,  false, true,  true, UC, WB"})
    void policiesDecide(String policy, boolean dma, boolean ignorePat, boolean cacheDisable, boolean cdCleared, MemoryType mtrr,
                        String expected) {
        policy(policy);
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | mtrr.encoding());
        f.mmu.memoryTypes().ignoreGuestPatQuirk(ignorePat);
        f.mmu.memoryTypes().cacheDisableQuirk(cdCleared);
        f.cachesDisabled = cacheDisable;
        if (dma) {
            f.mmu.memoryTypes().noncoherentDma(true);
        }
        assertThat(describe(leaf(0x5000)[0])).isEqualTo(expected);
    }

    @ParameterizedTest @CsvSource({"upstream-7.2", "mtrr", "proposed-2023"})
    void deviceMemoryIsUncachedWhateverElseHolds(String name) {
        policy(name);
        f.slot(1, 32 * MIB, 0x2000, f.user.mapDevice(1L << 40, 0x2000));
        assertThat(describe(leaf(32 * MIB)[0])).isEqualTo("UC");
        f.mmu.memoryTypes().noncoherentDma(true);
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.WB.encoding());
        assertThat(describe(leaf(32 * MIB)[0])).isEqualTo("UC");
    }

    @Test void aLargePageHasOneType() {
        policy("mtrr");
        f.mmu.memoryTypes().noncoherentDma(true);
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.WB.encoding());
        range(3, (4 * MIB) + 0x10000, 0x10000, MemoryType.UC);
        assertThat(leaf(2 * MIB)[1]).as("level where all is WB").isEqualTo(2);
        assertThat(leaf(4 * MIB)[1]).as("level where a part is UC").isEqualTo(1);
        assertThat(describe(leaf(4 * MIB)[0])).isEqualTo("WB");
        assertThat(describe(leaf((4 * MIB) + 0x11000)[0])).isEqualTo("UC");
        f.mmu.memoryTypes().noncoherentDma(false);
        assertThat(leaf(4 * MIB)[1]).as("level when MTRRs do not count").isEqualTo(2);
    }

    @Test void anMtrrThatChangesZapsWhereItSpokeAndWhereItSpeaks() {
        policy("mtrr");
        f.mmu.memoryTypes().noncoherentDma(true);
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.WB.encoding());
        range(0, 4 * MIB, 2 * MIB, MemoryType.WT);
        for (long at = 0; at < 16 * MIB; at += 2 * MIB) {
            leaf(at);
        }
        mtrr(Msr.IA32_MTRR_PHYSBASE0, (8 * MIB) | MemoryType.WT.encoding());
        for (long at = 0; at < 16 * MIB; at += 2 * MIB) {
            assertThat(Spte.isPresent(f.walk(at)[0])).as("0x%x is mapped", at).isEqualTo(at != 4 * MIB && at != 8 * MIB);
        }
        assertThat(describe(leaf(4 * MIB)[0])).isEqualTo("WB");
        assertThat(describe(leaf(8 * MIB)[0])).isEqualTo("WT");
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.UC.encoding());
        assertThat(Spte.isPresent(f.walk(0)[0])).as("the default type speaks of all").isFalse();
    }

    @Test void mappingsStayWhenMtrrsDoNotCount() {
        policy("mtrr");
        leaf(0);
        mtrr(Msr.IA32_MTRR_DEF_TYPE, ENABLE | MemoryType.UC.encoding());
        assertThat(Spte.isPresent(f.walk(0)[0])).isTrue();
    }

    @Test void theFirstDeviceAndTheLastZap() {
        policy("upstream-7.2");
        leaf(0);
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(Spte.isPresent(f.walk(0)[0])).as("mapped behind the first").isFalse();
        leaf(0);
        f.mmu.memoryTypes().noncoherentDma(true);
        f.mmu.memoryTypes().noncoherentDma(false);
        assertThat(Spte.isPresent(f.walk(0)[0])).as("mapped while one is left").isTrue();
        f.mmu.memoryTypes().noncoherentDma(false);
        assertThat(Spte.isPresent(f.walk(0)[0])).as("mapped behind the last").isFalse();
        f.mmu.memoryTypes().ignoreGuestPatQuirk(false);
        leaf(0);
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(Spte.isPresent(f.walk(0)[0])).as("mapped with the quirk off").isTrue();
    }

    @ParameterizedTest @CsvSource({"false", "true"})
    void aTdLosesItsMemoryToADeviceOnlyWithTheDefect(boolean planted) {
        f.close();
        f = new MmuFixture(64 * MIB, MmuParameters.DEFAULT, true, new RoundRobin());
        var external = new RecordingTables();
        f.mmu.mirror(external, 1L << 47);
        var file = f.mmu.createGuestMemfd(0x10000, 0);
        f.mmu.setMemoryRegion(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, 0x10000, f.user.map(0x10000), file, 0));
        var vcpu = f.newVcpu();
        f.mmu.setAttributes(0, 0x10000, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        assertThat(vcpu.fault(0x3000, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRIVATE)).isEqualTo(FaultResult.FIXED);
        if (planted) {
            f.mmu.plant(Defect.NONCOHERENT_DMA_ZAPS_MIRROR);
        }
        f.mmu.memoryTypes().noncoherentDma(true);
        assertThat(external.calls.contains("remove 3")).as("the page was removed from the Secure EPT: %s", external.calls)
                .isEqualTo(planted);
        assertThat(vcpu.isPrivateMapped(0x3000)).isNotEqualTo(planted);
    }
}
