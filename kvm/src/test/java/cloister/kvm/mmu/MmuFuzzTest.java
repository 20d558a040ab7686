package cloister.kvm.mmu;

import static cloister.kvm.mmu.MmuFixture.MIB;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.KvmException;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.GuestMemFile;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Ept;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Random operations; after each, what a processor would find in the tables is compared with what slots, attributes and the VMM's
/// memory say by themselves.
final class MmuFuzzTest {
    private static final long PAGE = 0x1000;
    private static final int PAGES = 1536;
    private static final long SHARED = 1L << 47;
    private static final int OPERATIONS = 1500;

    /// A machine under random operations.
    private static final class Run {
        final Random random;
        final boolean td;
        final MmuFixture f;
        final RecordingTables external = new RecordingTables();
        final long user;
        final GuestMemFile file;
        /// What the test knows of the slots: first page, pages, first page in user memory; null when there is none.
        final long[][] slots = new long[3][];
        final int[] flags = new int[3];

        Run(int seed) {
            random = new Random(seed);
            td = seed % 3 == 2;
            var parameters = new MmuParameters(seed % 2 == 1, random.nextBoolean(), 3, 5, 0);
            f = new MmuFixture(64 * MIB, parameters, td, new RoundRobin(), seed % 5 != 4);
            f.mmu.slotZapAllQuirk(random.nextBoolean());
            if (td) {
                f.mmu.mirror(external, SHARED);
            }
            user = f.user.map(PAGES * PAGE);
            file = td ? f.mmu.createGuestMemfd(PAGES * PAGE, 0) : null;
            if (td) {
                f.newVcpu();
            }
        }

        private VcpuMmu vcpu() {
            return f.vcpus.getFirst();
        }

        private int page() {
            return random.nextInt(PAGES);
        }

        void step() {
            vcpu().reload();
            switch (random.nextInt(20)) {
                case 0 -> setSlot(random.nextInt(3));
                case 1 -> {
                    int first = page();
                    f.user.discard(user + (first * PAGE), (1 + random.nextInt(PAGES - first)) * PAGE);
                }
                case 2 -> toggleLog(random.nextInt(3));
                case 3 -> f.user.clearAccessed(user, user + (PAGES * PAGE));
                case 4 -> readLog(random.nextInt(3));
                case 5 -> f.mmu.recoverNxHugePages(1 + random.nextInt(2));
                case 6 -> convert();
                case 7 -> f.user.protect(user, random.nextInt(4) != 0);
                default -> fault(page());
            }
            vcpu().reload();
        }

        private void setSlot(int id) {
            if (slots[id] != null && random.nextBoolean()) {
                f.slot(id, 0, 0, 0);
                slots[id] = null;
                return;
            }
            int first = random.nextBoolean() ? page() & -512 : page();
            int length = 1 + random.nextInt(PAGES - first);
            int from = td || random.nextBoolean() ? first : random.nextInt(PAGES - length + 1);
            int wanted = td ? KvmAbi.MEM_GUEST_MEMFD : random.nextInt(4) == 0 ? KvmAbi.MEM_READONLY : 0;
            try {
                f.mmu.setMemoryRegion(new UserMemoryRegion(id, wanted, first * PAGE, length * PAGE, user + (from * PAGE), file,
                        from * PAGE));
                slots[id] = new long[] {first, length, from};
                flags[id] = wanted;
            } catch (KvmException refused) {
                // It overlaps, or the slot is there and has another size.
            }
        }

        private void toggleLog(int id) {
            if (slots[id] != null && !td) {
                flags[id] ^= KvmAbi.MEM_LOG_DIRTY_PAGES;
                long[] s = slots[id];
                f.slot(id, flags[id], s[0] * PAGE, s[1] * PAGE, user + (s[2] * PAGE));
            }
        }

        private void readLog(int id) {
            if (slots[id] != null && (flags[id] & KvmAbi.MEM_LOG_DIRTY_PAGES) != 0) {
                f.mmu.dirtyLog().get(id);
            }
        }

        private void convert() {
            if (td) {
                int first = page();
                f.mmu.setAttributes(first * PAGE, (1 + random.nextInt(PAGES - first)) * PAGE,
                        random.nextBoolean() ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0);
            }
        }

        private void fault(int page) {
            boolean isPrivate = td && random.nextBoolean();
            long gpa = page * PAGE;
            long error = new long[] {0, VcpuMmu.ERROR_WRITE, VcpuMmu.ERROR_FETCH}[random.nextInt(3)];
            if (isPrivate) {
                vcpu().fault(gpa, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRIVATE);
                return;
            }
            long at = td ? gpa | SHARED : gpa;
            long present = Spte.isPresent(f.walk(at)[0]) ? VcpuMmu.ERROR_PRESENT : 0;
            if (random.nextInt(4) == 0) {
                vcpu().mapPage(at, 0);
            } else {
                vcpu().fault(at, error | present);
            }
        }

        /// What a processor may reach is what slots, attributes and the VMM's memory say.
        void check() {
            for (int page = 0; page < PAGES; page += 1 + random.nextInt(40)) {
                long gpa = page * PAGE;
                long[] leaf = f.walk(td ? gpa | SHARED : gpa);
                if (Spte.isPresent(leaf[0])) {
                    checkEntry(page, leaf[0], (int) leaf[1]);
                }
                if (td) {
                    boolean mapped = vcpu().isPrivateMapped(gpa);
                    assertThat(!mapped || (f.mmu.attributes().isPrivate(page) && slotOf(page) >= 0)).as("private page %d", page).isTrue();
                }
            }
        }

        private int slotOf(int page) {
            for (int id = 0; id < 3; id++) {
                if (slots[id] != null && page >= slots[id][0] && page < slots[id][0] + slots[id][1]) {
                    return id;
                }
            }
            return -1;
        }

        private void checkEntry(int page, long entry, int level) {
            int id = slotOf(page);
            assertThat(id).as("slot of mapped page %d", page).isNotNegative();
            assertThat(td && f.mmu.attributes().isPrivate(page)).as("shared mapping of private page %d", page).isFalse();
            long pinned = f.user.pin(user + ((slots[id][2] + page - slots[id][0]) * PAGE), false);
            long offset = (page & ((1L << (9 * (level - 1))) - 1)) * PAGE;
            assertThat((entry & Ept.ADDRESS) + offset).as("frame of page %d", page).isEqualTo(pinned & Ept.ADDRESS);
            assertThat(f.masks.reservedBits(entry, level)).isZero();
            if ((entry & Ept.WRITE) == 0) {
                return;
            }
            assertThat(flags[id] & KvmAbi.MEM_READONLY).as("writable page %d of a read-only slot", page).isZero();
            assertThat(pinned & 1).as("the VMM may write page %d", page).isEqualTo(1);
            if ((flags[id] & KvmAbi.MEM_LOG_DIRTY_PAGES) != 0) {
                assertThat(level).as("size of a page that logs").isEqualTo(1);
                long index = page - slots[id][0];
                long bits = f.mmu.slots().find(page).dirtyBitmap()[(int) (index / 64)];
                assertThat((bits >>> index) & 1).as("page %d can be written and nobody would know", page).isEqualTo(1);
            }
        }

        void end() {
            if (file != null) {
                file.close();
            }
            vcpu().destroy();
            f.mmu.destroy();
            f.user.unmap(user);
            assertThat(f.mmu.tdp().tables.pages()).isZero();
            assertThat(f.frames.allocatedFrames()).as("every frame has come back").isZero();
            for (int level = 1; level <= 3; level++) {
                assertThat(f.mmu.pages().mapped(level)).isZero();
            }
            f.close();
        }
    }

    @ParameterizedTest @ValueSource(ints = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 29})
    void tablesSayWhatSlotsAndMemorySay(int seed) {
        var run = new Run(seed);
        for (int i = 0; i < OPERATIONS; i++) {
            run.step();
            run.check();
        }
        run.end();
    }
}
