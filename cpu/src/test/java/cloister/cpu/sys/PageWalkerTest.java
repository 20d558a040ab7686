package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.memory.AccessObserver;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Pte;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

class PageWalkerTest {
    private static final long LINEAR = 0x40_2123L;
    private static final long FRAME = 0x5000;
    private static final long PRESENT = Pte.P | Pte.W | Pte.U;

    private final PhysicalMemory memory = new PhysicalMemory(4 << 20, 32);
    private final PageWalker walker = new PageWalker();
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), walker);
    private final Translation out = new Translation();

    @AfterEach
    void close() {
        memory.close();
    }

    private void longMode(int levels) {
        cpu.cr0 = Cr0.PE | Cr0.PG;
        cpu.cr4 = Cr4.PAE | (levels == 5 ? Cr4.LA57 : 0);
        cpu.efer = Efer.LME | Efer.LMA | Efer.NXE;
        cpu.cr3 = 0x10000;
        long table = 0x10000;
        for (int level = levels; level > 1; level--) {
            put(level, (table + 0x1000) | PRESENT);
            table += 0x1000;
        }
        put(1, FRAME | PRESENT);
    }

    private long at(int level) {
        int levels = (cpu.cr4 & Cr4.LA57) != 0 ? 5 : 4;
        return 0x10000 + (levels - level) * 0x1000L + ((LINEAR >>> (12 + 9 * (level - 1))) & 0x1ff) * 8;
    }

    private void put(int level, long entry) {
        memory.write(at(level), 8, entry);
    }

    private long entry(int level) {
        return memory.read(at(level), 8);
    }

    /// The error code, or -1 when the access is allowed.
    private int walk(int access, int right) {
        try {
            walker.walk(cpu, LINEAR, access, right, out);
            return -1;
        } catch (GuestFault f) {
            assertThat(f.vector).isEqualTo(14);
            assertThat(f.address).isEqualTo(LINEAR);
            return f.errorCode;
        }
    }

    /// Another processor unmaps the page after the walk has read the entry and before its accessed flag is set: the flag must not bring
    /// the old entry back. [SDM Vol. 3 "Accessed and Dirty Flags"]
    @Test
    void anEntryThatChangesUnderTheWalkIsReadAgain() {
        longMode(4);
        int[] reads = {0};
        memory.observe(new AccessObserver() {
            @Override public void beforeRead(long pa, long bytes) {
                if (pa == at(1) && ++reads[0] == 2) {
                    put(1, 0);
                }
            }

            @Override public void afterWrite(long pa, long bytes) {
            }
        });
        assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isZero();
        memory.observe(null);
        assertThat(entry(1)).isZero();
    }

    /// Every combination of page rights, control bits and access, against the SDM's prose restated.
    @Test
    void accessRightsExhaustively() {
        longMode(4);
        for (int c = 0; c < 1 << 11; c++) {
            boolean u = (c & 1) != 0;
            boolean w = (c & 2) != 0;
            boolean xd = (c & 4) != 0;
            boolean wp = (c & 8) != 0;
            boolean smep = (c & 16) != 0;
            boolean smap = (c & 32) != 0;
            boolean pke = (c & 64) != 0;
            boolean ad = (c & 128) != 0;
            boolean wd = (c & 256) != 0;
            boolean pks = (c & 512) != 0;
            boolean dirty = (c & 1024) != 0;
            cpu.cr0 = Cr0.PE | Cr0.PG | (wp ? Cr0.WP : 0);
            cpu.cr4 = Cr4.PAE | (smep ? Cr4.SMEP : 0) | (smap ? Cr4.SMAP : 0) | (pke ? Cr4.PKE : 0) | (pks ? Cr4.PKS : 0);
            cpu.pkru = ((ad ? 1 : 0) | (wd ? 2 : 0)) << (2 * 5);
            cpu.pkrs = cpu.pkru;
            for (int access = 0; access < 3; access++) {
                for (int right = 0; right < 3; right++) {
                    put(1, FRAME | Pte.P | (u ? Pte.U : 0) | (w ? Pte.W : 0) | (xd ? Pte.XD : 0) | (dirty ? Pte.D : 0) | (5L << 59));
                    boolean user = right == Walker.USER;
                    boolean write = access == Walker.WRITE;
                    boolean fetch = access == Walker.FETCH;
                    boolean keyCounts = !fetch && (u ? pke : pks);
                    boolean key = keyCounts && (ad || (write && wd && (user || wp)));
                    boolean mode = user ? !u : u && (fetch ? smep : smap && right == Walker.SUPERVISOR);
                    boolean denied = mode || key || (write && !w && (user || wp)) || (fetch && xd);
                    int expected = denied ? 1 | (write ? 2 : 0) | (user ? 4 : 0) | (fetch ? 16 : 0) | (key ? 32 : 0) : -1;
                    if (walk(access, right) != expected) {
                        assertThat(walk(access, right)).as("%s access %d right %d", Integer.toBinaryString(c), access, right)
                                .isEqualTo(expected);
                    }
                    if (!denied) {
                        boolean mayWrite = (w || (!user && !wp)) && !((u ? pke : pks) && (ad || (wd && (user || wp))));
                        assertThat(entry(1) & (Pte.A | Pte.D)).isEqualTo(Pte.A | (dirty || write ? Pte.D : 0));
                        assertThat(out.writable).isEqualTo(mayWrite && (dirty || write));
                        assertThat(out.hpa).isEqualTo(FRAME | (LINEAR & 0xfff));
                    } else {
                        assertThat(entry(1) & Pte.A).isZero();
                    }
                }
            }
        }
    }

    @Test
    void rightsOfUpperLevelsAreCombined() {
        for (int level = 1; level <= 5; level++) {
            longMode(5);
            assertThat(walk(Walker.WRITE, Walker.USER)).isEqualTo(-1);
            put(level, entry(level) & ~Pte.W);
            assertThat(walk(Walker.WRITE, Walker.SUPERVISOR)).isEqualTo(-1);
            assertThat(walk(Walker.WRITE, Walker.USER)).isEqualTo(7);
            put(level, entry(level) & ~Pte.U);
            assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(5);
            put(level, entry(level) | Pte.XD);
            assertThat(walk(Walker.FETCH, Walker.SUPERVISOR)).isEqualTo(17);
            put(level, 0);
            assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isEqualTo(0);
        }
    }

    @Test
    void reservedBits() {
        for (int level = 4; level >= 1; level--) {
            longMode(4);
            cpu.efer &= ~Efer.NXE;
            put(level, entry(level) | Pte.XD);
            assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isEqualTo(9);
        }
        longMode(4);
        put(4, entry(4) | Pte.PS);
        assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isEqualTo(9);
        longMode(4);
        put(2, Pte.PS | 0x2000 | PRESENT);
        assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isEqualTo(9);
        longMode(4);
        put(1, PhysicalMemory.hpa(FRAME, 32) | PRESENT);
        assertThat(walk(Walker.READ, Walker.SUPERVISOR)).as("a private KeyID").isEqualTo(9);
        put(1, PhysicalMemory.hpa(FRAME, 31) | PRESENT);
        assertThat(walk(Walker.READ, Walker.SUPERVISOR)).isEqualTo(-1);
    }

    @Test
    void largePages() {
        longMode(4);
        put(2, 0x20_0000 | Pte.PS | Pte.G | PRESENT);
        cpu.cr4 |= Cr4.PGE;
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(0x20_2123);
        assertThat(out.pageShift).isEqualTo(21);
        assertThat(out.global).isTrue();
        put(3, Pte.PS | PRESENT);
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(LINEAR);
        assertThat(out.pageShift).isEqualTo(30);
    }

    @Test
    void legacy32BitPaging() {
        cpu.cr0 = Cr0.PE | Cr0.PG;
        cpu.cr3 = 0x10000;
        memory.write(0x10000 + (LINEAR >>> 22) * 4, 4, 0x11000 | PRESENT);
        memory.write(0x11000 + ((LINEAR >>> 12) & 0x3ff) * 4, 4, FRAME | Pte.P | Pte.U);
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(FRAME | 0x123);
        assertThat(walk(Walker.WRITE, Walker.USER)).isEqualTo(7);
        assertThat(walk(Walker.WRITE, Walker.SUPERVISOR)).as("without CR0.WP").isEqualTo(-1);
        assertThat(walk(Walker.FETCH, Walker.USER)).as("no NX").isEqualTo(-1);
        cpu.cr4 = Cr4.PSE;
        memory.write(0x10000 + (LINEAR >>> 22) * 4, 4, 0x40_0000 | 0x2000 | Pte.PS | PRESENT);
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(0x1_0040_2123L);
        assertThat(out.pageShift).isEqualTo(22);
        memory.write(0x10000 + (LINEAR >>> 22) * 4, 4, 0x60_0000 | Pte.PS | PRESENT);
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(13);
    }

    @Test
    void paePaging() {
        cpu.cr0 = Cr0.PE | Cr0.PG;
        cpu.cr4 = Cr4.PAE;
        memory.write(0x10020, 8, 0x11000 | Pte.P);
        ControlRegisters.loadPdptes(cpu, 0x10020);
        memory.write(0x11000 + 2 * 8, 8, 0x12000 | PRESENT);
        memory.write(0x12000 + 2 * 8, 8, FRAME | PRESENT);
        assertThat(walk(Walker.WRITE, Walker.USER)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(FRAME | 0x123);
        memory.write(0x12000 + 2 * 8, 8, FRAME | (1L << 52) | PRESENT);
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(13);
        cpu.pdpte[0] = 0;
        assertThat(walk(Walker.READ, Walker.USER)).isEqualTo(4);
        memory.write(0x10020, 8, 0x11000 | Pte.P | Pte.W);
        assertThatThrownBy(() -> ControlRegisters.loadPdptes(cpu, 0x10020)).isInstanceOf(GuestFault.class);
    }

    @Test
    void withoutPagingLinearIsPhysical() {
        assertThat(walk(Walker.WRITE, Walker.SUPERVISOR)).isEqualTo(-1);
        assertThat(out.hpa).isEqualTo(LINEAR);
        assertThat(out.writable).isTrue();
    }
}
