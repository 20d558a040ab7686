package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Walker;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Pte;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Random tables, random accesses, random writes to the tables through whatever maps them: a guest whose tables are shadowed sees what a
/// guest sees whose tables the processor walks: the same address, the same fault with the same error code, the same accessed and dirty
/// flags. 25,000 accesses for each form of paging; -Dcloister.shadow.seed=N and -Dcloister.shadow.accesses=M for others.
class ShadowPagingFuzz {
    private static final int ACCESSES = Integer.getInteger("cloister.shadow.accesses", 25_000);
    private static final long SEED = Long.getLong("cloister.shadow.seed", 1);
    private static final int PER_GUEST = 100;
    private static final int[] INDICES = {0, 1, 2, 3, 511};

    enum Form { BITS32, PAE, LEVELS4, LEVELS5 }

    private Random random;
    private Form form;
    private boolean noExecute;

    @ParameterizedTest
    @EnumSource(Form.class)
    void aShadowedGuestSeesWhatItsProcessorWouldShowIt(Form tested) {
        form = tested;
        int emulated = 0;
        int refused = 0;
        for (int guestNumber = 0; guestNumber < ACCESSES / PER_GUEST; guestNumber++) {
            random = new Random(SEED * 1_000_003 + guestNumber);
            try (var guest = new ShadowedGuest()) {
                for (int table = 0; table <= ShadowedGuest.TABLES; table++) {
                    for (int entry : slots()) {
                        guest.poke(place(table, entry), entryBytes(), entry());
                    }
                }
                registers(guest);
                for (int i = 0; i < PER_GUEST; i++) {
                    var what = form + " guest " + guestNumber + " access " + i;
                    long linear = linear();
                    int access = random.nextInt(3);
                    int right = random.nextInt(3);
                    var expected = guest.plainAccess(linear, access, right);
                    assertThat(guest.access(linear, access, right)).as(what).isEqualTo(expected);
                    compareTables(guest, what);
                    refused += expected.error() >= 0 ? 1 : 0;
                    emulated += guest.writeProtected ? 1 : 0;
                    if (access == Walker.WRITE && expected.error() < 0 && expected.gpa() < (ShadowedGuest.TABLES + 1) * 4096L) {
                        write(guest, expected.gpa(), linear);
                    }
                    if (random.nextInt(40) == 0) {
                        registers(guest);
                    }
                }
            }
        }
        assertThat(refused).isBetween(ACCESSES / 20, ACCESSES);
        assertThat(emulated).as("writes to tables that must be emulated").isPositive();
    }

    /// The guest's store: to a table that is unsync now the processor writes itself, and the guest drops its translations.
    private void write(ShadowedGuest guest, long gpa, long linear) {
        long at = gpa & -entryBytes();
        guest.poke(at, entryBytes(), entry());
        if (guest.writeProtected) {
            guest.mmu.trackWrite(at, entryBytes());
        } else if (random.nextBoolean()) {
            guest.mmu.invalidateAddress(linear);
            int access = random.nextInt(3);
            int right = random.nextInt(3);
            assertThat(guest.access(linear, access, right)).as("after INVLPG").isEqualTo(guest.plainAccess(linear, access, right));
            guest.mmu.syncRoots();
        } else {
            guest.mmu.syncRoots();
        }
    }

    private void registers(ShadowedGuest guest) {
        boolean wp = random.nextInt(3) != 0;
        noExecute = form != Form.BITS32 && random.nextBoolean();
        // CR4.SMAP with CR0.WP 0 is not exact in Linux either: see "SMAP" in mmu.rst.
        long cr4 = (random.nextBoolean() ? Cr4.SMEP : 0) | (wp && random.nextBoolean() ? Cr4.SMAP : 0)
                | (form == Form.BITS32 ? random.nextBoolean() ? Cr4.PSE : 0 : Cr4.PAE) | (form == Form.LEVELS5 ? Cr4.LA57 : 0);
        long efer = (noExecute ? Efer.NXE : 0) | (form.compareTo(Form.LEVELS4) >= 0 ? Efer.LME | Efer.LMA : 0);
        long cr3 = (1L + random.nextInt(ShadowedGuest.TABLES)) << 12;
        if (form == Form.PAE) {
            cr3 = 0;
            for (int i = 0; i < 4; i++) {
                guest.poke(8L * i, 8, random.nextInt(8) == 0 ? 0 : Pte.P | ((1L + random.nextInt(ShadowedGuest.TABLES)) << 12));
            }
        }
        guest.registers(Cr0.PE | Cr0.PG | (wp ? Cr0.WP : 0), cr3, cr4, efer, 0);
    }

    private int entryBytes() {
        return form == Form.BITS32 ? 4 : 8;
    }

    private int[] slots() {
        return form == Form.BITS32 ? new int[] {0, 1, 2, 511, 512, 513, 1023} : INDICES;
    }

    private long place(int table, int entry) {
        return (table * 4096L) + ((long) entry * entryBytes());
    }

    private long entry() {
        if (random.nextInt(12) == 0) {
            return 0;
        }
        long value = Pte.P | chance(4, Pte.W) | chance(4, Pte.U) | chance(2, Pte.A) | chance(2, Pte.D) | chance(8, Pte.PS, 1)
                | chance(4, Pte.G, 1);
        long frame = random.nextInt(3) == 0 ? 16 + random.nextInt(900) : 1 + random.nextInt(ShadowedGuest.TABLES);
        if ((value & Pte.PS) != 0 && random.nextInt(4) != 0) {
            frame = 0; // a large page from the beginning of memory, tables included
        }
        value |= frame << 12;
        if (form != Form.BITS32) {
            value |= (noExecute || random.nextInt(20) == 0 ? chance(6, Pte.XD, 1) : 0) | chance(40, 1L << 51, 1) | chance(40, 1L << 56, 1);
        }
        return value;
    }

    private long chance(int of, long bit) {
        return random.nextInt(of) != 0 ? bit : 0;
    }

    private long chance(int of, long bit, int times) {
        return random.nextInt(of) < times ? bit : 0;
    }

    private long linear() {
        long offset = (long) (form == Form.BITS32 ? slots()[random.nextInt(7)] : INDICES[random.nextInt(5)]) * entryBytes();
        if (form == Form.BITS32) {
            return ((long) slots()[random.nextInt(7)] << 22) | ((long) slots()[random.nextInt(7)] << 12) | offset;
        }
        int levels = form == Form.PAE ? 2 : form == Form.LEVELS4 ? 4 : 5;
        long address = offset;
        for (int level = 0; level < levels; level++) {
            address |= (long) INDICES[random.nextInt(5)] << (12 + (9 * level));
        }
        if (form == Form.PAE) {
            return address | ((long) random.nextInt(4) << 30);
        }
        int unused = Long.SIZE - 12 - (9 * levels);
        return address << unused >> unused;
    }

    private void compareTables(ShadowedGuest guest, String what) {
        for (int table = 0; table <= ShadowedGuest.TABLES; table++) {
            for (int entry : slots()) {
                long at = place(table, entry) & -8;
                assertThat(guest.memory.read(at, 8)).as(what + ": entry at 0x%x", at).isEqualTo(guest.copy[(int) (at >>> 3)]);
            }
        }
    }
}
