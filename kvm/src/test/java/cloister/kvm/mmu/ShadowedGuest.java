package cloister.kvm.mmu;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.cpu.sys.NonRoot;
import cloister.cpu.sys.PageWalker;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// A guest whose tables are shadowed, beside the same guest on a processor that walks its tables itself. Both see the same accesses; the
/// second one's tables are a copy, so that accessed and dirty flags can be compared.
final class ShadowedGuest implements VcpuMmu.Owner, AutoCloseable {
    static final int TABLES = 12;
    static final long MEMORY = 4L << 20;
    private static final int TRIES = 64;

    /// What an access came to.
    ///
    /// @param gpa   behind the address, -1 for a fault
    /// @param error the error code of a fault, -1 for none
    record Result(long gpa, int error) {
    }

    final MmuFixture fixture = MmuFixture.withoutEpt();
    final GuestMemory memory = new GuestMemory(fixture.mmu);
    final VcpuMmu mmu = new VcpuMmu(fixture.mmu, this);
    final long[] copy = new long[(TABLES + 1) * 512];
    private final long address;
    private final PageWalker walker = new PageWalker();
    private final Cpu processor = new Cpu(fixture.memory, new VirtualClock(1000), new Entropy(1), walker);
    private final Cpu plain = new Cpu(fixture.memory, new VirtualClock(1000), new Entropy(1), walker);
    private final Translation out = new Translation();
    private long cr0;
    private long cr3;
    private long cr4;
    private long efer;
    /// The last access of the shadowed guest ended in a write that is to be emulated.
    boolean writeProtected;
    int faults;

    ShadowedGuest() {
        address = fixture.user.map(MEMORY);
        fixture.slot(0, 0, MEMORY, address);
        mmu.guestAddressBits(52);
        plain.vmx = new NonRoot() {
            @Override public boolean secondLevelActive() {
                return true;
            }

            @Override public long readEntry(Cpu cpu, long gpa, long linear, int bytes) {
                return inCopy(gpa) ? extract(copy[(int) (gpa >>> 3)], gpa, bytes) : memory.isMemory(gpa) ? memory.read(gpa, bytes) : 0;
            }

            @Override public boolean changeEntry(Cpu cpu, long gpa, long linear, int bytes, long old, long value) {
                if (inCopy(gpa)) {
                    store(gpa, bytes, value);
                }
                return true;
            }
        };
    }

    private static boolean inCopy(long gpa) {
        return gpa >= 0 && gpa < (TABLES + 1) * 4096L;
    }

    private static long extract(long word, long gpa, int bytes) {
        return bytes == 8 ? word : (word >>> (8 * (gpa & 4))) & 0xffff_ffffL;
    }

    private void store(long gpa, int bytes, long value) {
        int at = (int) (gpa >>> 3);
        int shift = (int) (8 * (gpa & 4));
        copy[at] = bytes == 8 ? value : (copy[at] & ~(0xffff_ffffL << shift)) | (value << shift);
    }

    /// Writes to both guests' tables, not seen by the MMU.
    void poke(long gpa, int bytes, long value) {
        store(gpa, bytes, value);
        memory.write(null, gpa, bytes, value);
    }

    void registers(long newCr0, long newCr3, long newCr4, long newEfer, int pkru) {
        cr0 = newCr0;
        cr3 = newCr3;
        cr4 = newCr4;
        efer = newEfer;
        plain.cr0 = cr0;
        plain.cr3 = cr3;
        plain.cr4 = cr4;
        plain.efer = efer;
        plain.pkru = pkru;
        for (int i = 0; i < 4; i++) {
            plain.pdpte[i] = inCopy(cr3) ? copy[(int) ((cr3 & 0xffff_ffe0L) >>> 3) + i] : 0;
        }
        mmu.guestPaging(cr0, cr3, cr4, efer);
        mmu.reload();
        mmu.syncRoots();
    }

    /// The access on a processor that walks the tables itself.
    Result plainAccess(long linear, int access, int right) {
        try {
            walker.walk(plain, linear, access, right, out);
            return new Result(out.hpa, -1);
        } catch (GuestFault fault) {
            return new Result(-1, fault.errorCode);
        }
    }

    /// The access on a processor that has the shadow pages, as often as it takes.
    Result access(long linear, int access, int right) {
        writeProtected = false;
        for (int tries = 0; tries < TRIES; tries++) {
            mmu.reload();
            loadProcessor();
            int error;
            try {
                walker.walk(processor, linear, access, right, out);
                return new Result(gpa(out.hpa), -1);
            } catch (GuestFault fault) {
                error = fault.errorCode;
            }
            faults++;
            switch (mmu.fault(linear, error | (right == Walker.SUPERVISOR_AC ? VcpuMmu.ERROR_ALLOWS_USER : 0))) {
                case FIXED, SPURIOUS, RETRY -> {
                }
                case REFLECT -> {
                    return new Result(-1, mmu.guestError());
                }
                case EMULATE -> {
                    return new Result(mmu.faultGpa(), -1);
                }
                case WRITE_PROTECTED -> {
                    writeProtected = true;
                    return new Result(mmu.faultGpa(), -1);
                }
                case INVALID_SLOT, MEMORY_FAULT, FAULT, NO_MEMORY, BUGGED -> throw new AssertionError("fault at 0x"
                        + Long.toHexString(linear));
            }
        }
        throw new AssertionError("an access to 0x" + Long.toHexString(linear) + " faults without end");
    }

    /// What VMX puts into the guest's registers: paging with WP and NX always on, PAE below guests without.
    private void loadProcessor() {
        boolean longMode = (efer & Efer.LMA) != 0;
        processor.cr0 = Cr0.PE | Cr0.PG | Cr0.WP;
        processor.cr4 = Cr4.PAE | (cr4 & (Cr4.SMEP | Cr4.SMAP | Cr4.LA57));
        processor.efer = Efer.NXE | (longMode ? Efer.LMA | Efer.LME : 0);
        processor.cr3 = mmu.rootPa();
        for (int i = 0; i < 4 && !longMode; i++) {
            processor.pdpte[i] = fixture.memory.read(mmu.rootPa() + (8 * i), 8);
        }
    }

    private long gpa(long pa) {
        for (long at = 0; at < MEMORY; at += 4096) {
            long page = fixture.user.pin(address + at, false);
            if ((page & -4096) == (pa & -4096)) {
                return at | (pa & 4095);
            }
        }
        throw new AssertionError("0x" + Long.toHexString(pa) + " is no memory of the guest");
    }

    @Override public boolean signalPending() {
        return false;
    }

    @Override public boolean vmDead() {
        return false;
    }

    @Override public boolean hasMtrrs() {
        return true;
    }

    @Override public GuestMtrrs mtrrs() {
        return fixture.mtrrs;
    }

    @Override public boolean cachesDisabled() {
        return false;
    }

    @Override public int protectionKeyRights() {
        return plain.pkru;
    }

    @Override public void close() {
        mmu.destroy();
        fixture.close();
    }
}
