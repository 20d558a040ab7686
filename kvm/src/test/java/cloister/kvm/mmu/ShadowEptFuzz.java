package cloister.kvm.mmu;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.Ept;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// EPT on EPT: a guest hypervisor's random EPT, random accesses of its guest, random writes to the tables. The shadow shows the address,
/// the violation with its qualification, the misconfiguration, the accessed and dirty flags that a walk of the guest's EPT as the manual
/// has it comes to. [SDM Vol. 3 "EPT Translation Mechanism", "EPT-Induced VM Exits"]
class ShadowEptFuzz {
    private static final int ACCESSES = Integer.getInteger("cloister.shadow.accesses", 10_000);
    private static final long SEED = Long.getLong("cloister.shadow.seed", 1);
    private static final int TABLES = 10;
    private static final int[] INDICES = {0, 1, 511};
    private static final long MEMORY = 4 * MmuFixture.MIB;
    private static final int PER_GUEST = 100;
    private static final int TRIES = 64;
    private static final long MISCONFIGURED = -1;
    private static final long REFUSED = -2;

    private final long[] copy = new long[(TABLES + 1) * 512];
    private Random random;
    private MmuFixture fixture;
    private GuestMemory memory;
    private VcpuMmu vcpu;
    private long address;
    private long eptp;
    private boolean executeOnly;
    private boolean writeProtected;
    private long qualification;

    @ParameterizedTest
    @CsvSource({"4, true", "4, false", "5, true"})
    void aNestedGuestSeesWhatItsHypervisorsEptSays(int levels, boolean flags) {
        int refused = 0;
        int misconfigured = 0;
        int emulated = 0;
        for (int guest = 0; guest < ACCESSES / PER_GUEST; guest++) {
            random = new Random(SEED * 7919 + guest);
            fixture = new MmuFixture();
            try (var closing = fixture) {
                begin(levels, flags);
                for (int i = 0; i < PER_GUEST; i++) {
                    var what = "guest " + guest + " access " + i;
                    long gpa = gpa(levels);
                    int access = 1 << random.nextInt(3);
                    long expected = expected(gpa, access, levels);
                    long expectedQualification = qualification;
                    assertThat(shadowed(gpa, access)).as(what).isEqualTo(expected);
                    assertThat(expected == REFUSED ? qualification : 0).as(what)
                            .isEqualTo(expected == REFUSED ? expectedQualification : 0);
                    compareTables(what);
                    refused += expected == REFUSED ? 1 : 0;
                    misconfigured += expected == MISCONFIGURED ? 1 : 0;
                    emulated += writeProtected ? 1 : 0;
                    if (access == Ept.WRITE && expected >= 4096 && expected < (TABLES + 1) * 4096L) {
                        poke(expected & -8, entry());
                        if (writeProtected) {
                            vcpu.trackWrite(expected & -8, 8);
                        } else {
                            vcpu.syncRoots();
                        }
                    }
                }
                vcpu.destroy();
            }
        }
        assertThat(refused).isPositive();
        assertThat(misconfigured).isPositive();
        assertThat(emulated).isPositive();
    }

    private void begin(int levels, boolean flags) {
        memory = new GuestMemory(fixture.mmu);
        address = fixture.user.map(MEMORY);
        fixture.slot(0, 0, MEMORY, address);
        vcpu = new VcpuMmu(fixture.mmu, fixture);
        vcpu.guestAddressBits(52);
        executeOnly = random.nextBoolean();
        for (int table = 1; table <= TABLES; table++) {
            for (int entry : INDICES) {
                poke((table * 4096L) + (8L * entry), entry());
            }
        }
        eptp = ((1L + random.nextInt(TABLES)) << 12) | Ept.TYPE_WB | ((long) (levels - 1) << 3) | (flags ? Ept.EPTP_ACCESSED_DIRTY : 0);
        vcpu.guestEpt(eptp, executeOnly);
        vcpu.reload();
    }

    private void poke(long at, long value) {
        copy[(int) (at >>> 3)] = value;
        memory.write(null, at, 8, value);
    }

    private long entry() {
        if (random.nextInt(12) == 0) {
            return 0;
        }
        long rights = random.nextInt(3) != 0 ? Ept.PERMISSIONS : random.nextInt(8);
        boolean large = random.nextInt(8) == 0;
        long frame = large ? 0 : random.nextInt(3) == 0 ? 16 + random.nextInt(900) : 1 + random.nextInt(TABLES);
        long type = random.nextInt(3) == 0 ? (long) random.nextInt(8) << 3 : 0;
        return rights | (large ? Ept.LARGE : 0) | (frame << 12) | type | (random.nextBoolean() ? Ept.ACCESSED : 0)
                | (random.nextBoolean() ? Ept.DIRTY : 0);
    }

    private long gpa(int levels) {
        long gpa = 8L * INDICES[random.nextInt(3)];
        for (int level = 0; level < levels; level++) {
            gpa |= (long) INDICES[random.nextInt(3)] << (12 + (9 * level));
        }
        return gpa;
    }

    /// The walk of the manual in the copy.
    private long expected(long gpa, int access, int levels) {
        long table = eptp & Ept.ADDRESS;
        long rights = Ept.PERMISSIONS;
        int[] path = new int[levels];
        int depth = 0;
        for (int level = levels;; level--) {
            int shift = 12 + (9 * (level - 1));
            long at = table + (8 * ((gpa >>> shift) & 511));
            long entry = at >= 4096 && at < (TABLES + 1) * 4096L ? copy[(int) (at >>> 3)]
                    : memory.isMemory(at) ? memory.read(at, 8) : 0;
            if ((entry & Ept.PERMISSIONS) == 0) {
                return refuse(access, 0);
            }
            boolean last = level == 1 || ((entry & Ept.LARGE) != 0 && level <= 3);
            long type = (entry >>> 3) & 7;
            long low = last && level > 1 ? ((1L << shift) - 1) & Ept.ADDRESS : 0;
            boolean bad = (entry & 3) == 2 || ((entry & 7) == 4 && !executeOnly) || (entry & low) != 0
                    || (last ? type == 2 || type == 3 || type == 7 : (entry & 0x78) != 0 || (level > 3 && (entry & Ept.LARGE) != 0));
            if (bad) {
                return MISCONFIGURED;
            }
            path[depth++] = (int) (at >>> 3);
            rights &= entry;
            if (last) {
                if ((rights & access) == 0) {
                    return refuse(access, rights);
                }
                for (int i = 0; i < depth && (eptp & Ept.EPTP_ACCESSED_DIRTY) != 0; i++) {
                    if (path[i] < copy.length) {
                        copy[path[i]] |= Ept.ACCESSED | (i == depth - 1 && access == Ept.WRITE ? Ept.DIRTY : 0);
                    }
                }
                long mask = (1L << shift) - 1;
                return (entry & Ept.ADDRESS & ~mask) | (gpa & mask);
            }
            table = entry & Ept.ADDRESS;
        }
    }

    private long refuse(int access, long rights) {
        qualification = access | ((rights & Ept.PERMISSIONS) << 3);
        return REFUSED;
    }

    private long shadowed(long gpa, int access) {
        writeProtected = false;
        for (int tries = 0; tries < TRIES; tries++) {
            vcpu.reload();
            long[] found = fixture.walk(vcpu.eptp(), gpa);
            FaultResult result;
            long error = ((found[0] & Ept.PERMISSIONS) != 0 ? VcpuMmu.ERROR_PRESENT : 0)
                    | (access == Ept.WRITE ? VcpuMmu.ERROR_WRITE : access == Ept.EXECUTE ? VcpuMmu.ERROR_FETCH : 0);
            if ((found[0] & 3) == 2) {
                result = vcpu.misconfiguration(gpa);
                // A misconfiguration does not tell the access: who emulates it walks the guest's EPT for it.
                result = result == FaultResult.EMULATE ? vcpu.fault(gpa, error) : result;
            } else if ((found[0] & access) != 0) {
                long mask = (PageTables.span((int) found[1]) << 12) - 1;
                return l1Gpa((Spte.address(found[0]) & ~mask) | (gpa & mask));
            } else {
                result = vcpu.fault(gpa, error);
            }
            switch (result) {
                case FIXED, SPURIOUS, RETRY -> {
                }
                case REFLECT -> {
                    qualification = vcpu.guestQualification();
                    return (vcpu.guestError() & 8) != 0 ? MISCONFIGURED : REFUSED;
                }
                case EMULATE, WRITE_PROTECTED -> {
                    writeProtected = result == FaultResult.WRITE_PROTECTED;
                    return vcpu.faultGpa();
                }
                case INVALID_SLOT, MEMORY_FAULT, FAULT, NO_MEMORY, BUGGED -> throw new AssertionError(result);
            }
        }
        throw new AssertionError("an access to 0x" + Long.toHexString(gpa) + " faults without end");
    }

    private long l1Gpa(long pa) {
        for (long at = 0; at < MEMORY; at += 4096) {
            if ((fixture.user.pin(address + at, false) & -4096) == (pa & -4096)) {
                return at | (pa & 4095);
            }
        }
        throw new AssertionError("0x" + Long.toHexString(pa) + " is no memory of the guest");
    }

    private void compareTables(String what) {
        for (int table = 1; table <= TABLES; table++) {
            for (int entry : INDICES) {
                long at = (table * 4096L) + (8L * entry);
                assertThat(memory.read(at, 8)).as(what + ": entry at 0x%x", at).isEqualTo(copy[(int) (at >>> 3)]);
            }
        }
    }
}
