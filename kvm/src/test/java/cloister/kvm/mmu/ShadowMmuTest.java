package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Walker;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.PageFaultCode;
import cloister.spec.x86.Pte;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Shadow pages of a guest in long mode: what the VMM and the guest do to memory and tables is seen by the next access.
class ShadowMmuTest {
    private static final long RIGHTS = Pte.P | Pte.W | Pte.U | Pte.A | Pte.D;
    private static final long ROOT = 0x1000;
    private static final long SMALL = 0x4000;
    private static final long DIRECTORY = 0x3000;
    private static final long PAGE = 0x20_0000;
    private static final long OTHER = 0x20_1000;

    private final ShadowedGuest guest = new ShadowedGuest();

    /// Linear 0 to 2 MiB by small pages, the next 2 MiB by a large page of all memory's beginning.
    @BeforeEach void tables() {
        guest.poke(ROOT, 8, 0x2000 | RIGHTS);
        guest.poke(0x2000, 8, DIRECTORY | RIGHTS);
        guest.poke(DIRECTORY, 8, SMALL | RIGHTS);
        guest.poke(DIRECTORY + 8, 8, RIGHTS | Pte.PS);
        guest.poke(SMALL, 8, PAGE | RIGHTS);
        guest.poke(SMALL + 8, 8, OTHER | RIGHTS);
        load(ROOT);
    }

    @AfterEach void close() {
        guest.close();
    }

    private void load(long cr3) {
        guest.registers(Cr0.PE | Cr0.PG | Cr0.WP, cr3, Cr4.PAE, Efer.LME | Efer.LMA | Efer.NXE, 0);
    }

    private long write(long linear) {
        return guest.access(linear, Walker.WRITE, Walker.USER).gpa();
    }

    private long read(long linear) {
        return guest.access(linear, Walker.READ, Walker.USER).gpa();
    }

    private int faultsOf(Runnable accesses) {
        int before = guest.faults;
        accesses.run();
        return guest.faults - before;
    }

    @Test void anEntryThatChangedCountsAfterInvlpg() {
        assertThat(write(0)).isEqualTo(PAGE);
        assertThat(write(0x20_0000 + SMALL)).as("the table becomes unsync").isEqualTo(SMALL);
        assertThat(guest.writeProtected).isFalse();
        guest.poke(SMALL, 8, OTHER | RIGHTS);
        assertThat(read(0)).as("nobody dropped the translation").isEqualTo(PAGE);
        guest.mmu.invalidateAddress(0x1000);
        assertThat(read(0)).as("of another page").isEqualTo(PAGE);
        guest.mmu.invalidateAddress(0);
        assertThat(read(0)).isEqualTo(OTHER);
    }

    @Test void loadingCr3BringsAllTablesUpToDate() {
        write(0);
        write(0x1000);
        write(0x20_0000 + SMALL);
        guest.poke(SMALL, 8, 0);
        guest.poke(SMALL + 8, 8, (OTHER | RIGHTS) & ~Pte.W);
        guest.mmu.syncRoots();
        assertThat(guest.access(0, Walker.READ, Walker.USER).error()).isEqualTo(PageFaultCode.U);
        assertThat(read(0x1000)).isEqualTo(OTHER);
        assertThat(guest.access(0x1000, Walker.WRITE, Walker.USER).error()).isEqualTo(PageFaultCode.P | PageFaultCode.W | PageFaultCode.U);
        guest.mmu.syncRoots();
        assertThat(faultsOf(() -> write(0x20_0000 + SMALL))).as("the table was write-protected again").isPositive();
    }

    @Test void tablesOfHigherLevelsAreWrittenByEmulationOnly() {
        write(0);
        assertThat(write(0x20_0000 + DIRECTORY + 0x10)).isEqualTo(DIRECTORY + 0x10);
        assertThat(guest.writeProtected).isTrue();
        assertThat(guest.mmu.wroteOwnTable()).as("the directory maps itself").isTrue();
        guest.poke(DIRECTORY, 8, 0x5000 | RIGHTS);
        guest.poke(0x5000, 8, OTHER | RIGHTS);
        guest.mmu.trackWrite(DIRECTORY, 8);
        assertThat(read(0)).as("without any invalidation by the guest").isEqualTo(OTHER);
    }

    @Test void aTableThatIsNoneAnyMoreIsGivenUp() {
        write(0);
        load(0x6000); // whatever is there
        assertThat(guest.fixture.mmu.shadow().shadowing(0x2)).hasSize(1);
        assertThat(guest.mmu.unprotect(0x2000)).isTrue();
        assertThat(guest.mmu.unprotect(0x2000)).isFalse();
        assertThat(guest.fixture.mmu.shadow().shadowing(0x2)).isEmpty();
        for (int i = 0; i < 3; i++) {
            guest.mmu.trackWrite(DIRECTORY + 8, 8);
        }
        assertThat(guest.fixture.mmu.shadow().shadowing(0x3)).as("after a flood of writes").isEmpty();
        guest.mmu.trackWrite(SMALL + 3, 8);
        assertThat(guest.fixture.mmu.shadow().shadowing(0x4)).as("after a write across entries").isEmpty();
    }

    @Test void aRootOfBeforeIsFoundAgain() {
        guest.poke(0x6000, 8, 0x2000 | RIGHTS);
        write(0);
        load(0x6000);
        write(0);
        assertThat(faultsOf(() -> {
            load(ROOT);
            write(0);
            load(0x6000);
            write(0);
        })).isZero();
        long pages = guest.fixture.mmu.shadow().pages();
        guest.mmu.invalidatePcid(0, true);
        guest.mmu.reload();
        assertThat(guest.fixture.mmu.shadow().pages()).as("pages stay without a root").isEqualTo(pages);
    }

    @Test void writesAreLogged() {
        write(0);
        var slots = guest.fixture.mmu;
        long address = slots.slots().find(0).userspaceAddr();
        guest.fixture.slot(0, KvmAbi.MEM_LOG_DIRTY_PAGES, 0, ShadowedGuest.MEMORY, address);
        assertThat(dirty(PAGE)).isFalse();
        write(0);
        assertThat(dirty(PAGE)).isTrue();
        assertThat(dirty(PAGE)).as("reading the log protects again").isFalse();
        assertThat(faultsOf(() -> write(0))).isPositive();
        assertThat(dirty(PAGE)).isTrue();
        assertThat(dirty(OTHER)).isFalse();
    }

    private boolean dirty(long gpa) {
        try (var held = guest.fixture.mmu.lockSlots()) {
            long gfn = gpa >>> 12;
            return (guest.fixture.mmu.dirtyLog().get(0)[(int) (gfn >>> 6)] & (1L << gfn)) != 0;
        }
    }

    @Test void whatTheVmmTakesAwayIsUnmapped() {
        write(0);
        long address = guest.fixture.mmu.slots().find(0).userspaceAddr();
        guest.fixture.user.discard(address + PAGE, 4096);
        assertThat(faultsOf(() -> assertThat(write(0)).as("by the frame that is there now").isEqualTo(PAGE))).isPositive();
        read(0x1000);
        guest.fixture.user.protect(address, false);
        assertThat(faultsOf(() -> assertThat(read(0x1000)).isEqualTo(OTHER))).as("writable no more").isPositive();
    }

    @Test void aSlotThatGoesTakesItsPagesAlong() {
        for (boolean all : new boolean[] {true, false}) {
            guest.fixture.mmu.slotZapAllQuirk(all);
            write(0);
            read(0x20_0000);
            long address = guest.fixture.mmu.slots().find(0).userspaceAddr();
            assertThat(guest.fixture.mmu.pages().mapped(1) + guest.fixture.mmu.pages().mapped(2)).isPositive();
            guest.fixture.slot(0, 0, 0, address);
            assertThat(guest.fixture.mmu.pages().mapped(1) + guest.fixture.mmu.pages().mapped(2)).isZero();
            assertThat(guest.access(0, Walker.READ, Walker.USER).error()).as("the tables are gone").isEqualTo(PageFaultCode.U);
            guest.fixture.slot(0, 0, ShadowedGuest.MEMORY, address);
            guest.mmu.unload();
            assertThat(write(0)).isEqualTo(PAGE);
        }
    }

    @Test void thereAreNoMorePagesThanTheQuotaAllows() {
        var shadow = guest.fixture.mmu.shadow();
        assertThat(shadow.quota()).isEqualTo(64);
        for (int i = 0; i < 200; i++) {
            long table = 0x10_0000 + (i * 0x1000L);
            guest.memory.write(null, table, 8, 0x2000 | RIGHTS);
            load(table);
            assertThat(write(0)).isEqualTo(PAGE);
            assertThat(shadow.pages()).isLessThanOrEqualTo(64);
        }
        guest.mmu.unload();
        guest.fixture.vcpu.unload();
        shadow.zapAllFast();
        assertThat(shadow.pages()).isZero();
        assertThat(guest.fixture.mmu.pages().mapped(1)).isZero();
    }

    /// [LINUX kvm_mmu_change_mmu_pages]
    @Test void aSmallerQuotaTakesTheOldestPagesAndLeavesRoots() {
        var shadow = guest.fixture.mmu.shadow();
        guest.fixture.mmu.shadowPages(1000);
        for (int i = 0; i < 200; i++) {
            long table = 0x10_0000 + (i * 0x1000L);
            guest.memory.write(null, table, 8, 0x2000 | RIGHTS);
            load(table);
            assertThat(write(0)).isEqualTo(PAGE);
        }
        assertThat(shadow.pages()).isGreaterThan(200);
        guest.fixture.mmu.shadowPages(64);
        assertThat(shadow.pages()).isEqualTo(64);
        assertThat(shadow.quota()).isEqualTo(64);
        assertThat(shadow.shadowing(0x100)).as("the oldest").isEmpty();
        assertThat(shadow.shadowing(0x100 + 199)).as("the root in use").hasSize(1);
        assertThat(write(0)).isEqualTo(PAGE);
    }

    /// The tables' entries beside the one that faults, for pages that have frames.
    private void eightPages(int first, long flags) {
        for (int i = first; i < first + 8; i++) {
            guest.memory.write(null, PAGE + (i * 0x1000L), 8, i);
            guest.poke(SMALL + (8 * i), 8, (PAGE + (i * 0x1000L)) | flags);
        }
        guest.mmu.syncRoots();
    }

    @Test void aFaultBringsTheNeighboursThatTheGuestHasUsed() {
        eightPages(0, RIGHTS);
        assertThat(faultsOf(() -> read(0x3000))).isPositive();
        assertThat(faultsOf(() -> {
            for (int i = 0; i < 8; i++) {
                assertThat(read(i * 0x1000L)).isEqualTo(PAGE + (i * 0x1000L));
                assertThat(write(i * 0x1000L)).isEqualTo(PAGE + (i * 0x1000L));
            }
        })).isZero();
        assertThat(guest.fixture.mmu.pages().mapped(1)).isEqualTo(8);
    }

    @Test void neighboursWithoutAccessedFlagAreNoneAndCleanOnesAreReadOnly() {
        eightPages(0, RIGHTS & ~Pte.A);
        read(0);
        assertThat(faultsOf(() -> read(0x1000))).as("the guest has not used it").isPositive();
        eightPages(8, RIGHTS & ~Pte.D);
        read(0x8000);
        assertThat(faultsOf(() -> read(0xf000))).isZero();
        assertThat(faultsOf(() -> write(0xf000))).as("its dirty flag is to be set").isPositive();
        assertThat(guest.memory.read(SMALL + (8 * 15), 8) & Pte.D).isNotZero();
    }

    @Test void neighboursWithoutFramesStayAway() {
        eightPages(0, RIGHTS);
        guest.fixture.user.discard(guest.fixture.mmu.slots().find(0).userspaceAddr() + PAGE, 8 * 0x1000L);
        read(0);
        assertThat(guest.fixture.mmu.pages().mapped(1)).isEqualTo(1);
        assertThat(faultsOf(() -> read(0x7000))).isPositive();
    }

    @Test void nothingIsPrefetchedDuringAnInvalidation() {
        eightPages(0, RIGHTS);
        long elsewhere = guest.fixture.mmu.slots().find(0).userspaceAddr() + PAGE + 0x10_0000;
        guest.fixture.mmu.beginInvalidation(elsewhere, elsewhere + 0x1000);
        read(0);
        guest.fixture.mmu.endInvalidation(elsewhere, elsewhere + 0x1000);
        assertThat(guest.fixture.mmu.pages().mapped(1)).isEqualTo(1);
    }

    @Test void withoutPagingLinearIsPhysical() {
        guest.registers(Cr0.PE, 0, 0, 0, 0);
        assertThat(write(PAGE + 5)).isEqualTo(PAGE + 5);
        assertThat(read(0xfee0_0000L)).as("no slot").isEqualTo(0xfee0_0000L);
    }
}
