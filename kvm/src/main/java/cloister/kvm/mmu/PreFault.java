package cloister.kvm.mmu;

import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.spec.kvm.Errno;

/// Populates guest memory before anybody accesses it: KVM_PRE_FAULT_MEMORY. [LINUX kvm_vcpu_pre_fault_memory,
/// kvm_arch_vcpu_pre_fault_memory]
public final class PreFault {
    private static final long PAGE_SIZE = 1L << Mmu.PAGE_SHIFT;
    private static final int LEVEL_BITS = 9;

    private PreFault() {
    }

    /// Populates `range` for `vcpu`, and advances it by what was done. The caller holds the vCPU's mutex.
    ///
    /// Slots stay as they are found from the first page to the last: who changes them waits. That is why a slot which already goes is an
    /// error rather than a reason to try again.
    ///
    /// @throws KvmException as [cloister.kvm.KvmVcpu#preFaultMemory]
    public static void populate(VcpuMmu vcpu, GpaRange range) {
        boolean wholePages = ((range.gpa | range.size) & (PAGE_SIZE - 1)) == 0;
        if (range.flags != 0 || !wholePages || Long.compareUnsigned(range.gpa + range.size, range.gpa) <= 0) {
            throw new KvmException(Errno.EINVAL, "flags, or no range of whole pages: gpa 0x" + Long.toHexString(range.gpa) + ", size 0x"
                    + Long.toHexString(range.size));
        }
        var mmu = vcpu.mmu();
        int reading = mmu.slotReaders().readLock();
        try {
            long wanted = range.size;
            while (range.size != 0) {
                long done = vcpu.owner().signalPending() ? -Errno.EINTR.number() : page(mmu, vcpu, range);
                if (done >= 0) {
                    range.gpa += done;
                    range.size -= done;
                } else if (range.size == wanted) {
                    throw new KvmException(Errno.of((int) -done), "cannot populate 0x" + Long.toHexString(range.gpa));
                } else {
                    return; // what was done is a success
                }
            }
        } finally {
            mmu.slotReaders().readUnlock(reading);
        }
    }

    /// Populates the first page of `range`.
    ///
    /// @return bytes of the range that are mapped now, or a negative error number
    private static long page(Mmu mmu, VcpuMmu vcpu, GpaRange range) {
        if (!mmu.preFaultAllowed()) {
            return -Errno.EOPNOTSUPP.number();
        }
        if ((range.gpa & mmu.sharedBit()) != 0) {
            return -Errno.EINVAL.number();
        }
        int level = mmu.mapsForL1() ? asL1(mmu, vcpu, range.gpa) : map(mmu, vcpu, range.gpa);
        if (level < 0) {
            return level;
        }
        // A large page covers what is before the address too.
        long page = PAGE_SIZE << (LEVEL_BITS * (level - 1));
        long covered = (range.gpa & -page) + page - range.gpa;
        return Long.compareUnsigned(range.size, covered) < 0 ? range.size : covered;
    }

    private static int map(Mmu mmu, VcpuMmu vcpu, long gpa) {
        try {
            vcpu.reload();
            return mmu.isPrivate(gpa >>> Mmu.PAGE_SHIFT) ? vcpu.mapPage(gpa, VcpuMmu.ERROR_PRIVATE)
                    : vcpu.mapPage(gpa | mmu.sharedBit(), 0);
        } catch (KvmException noRoot) {
            return -noRoot.errno().number();
        }
    }

    /// The first form of KVM_MAP_MEMORY. The roots of the vCPU's real mode are dropped on the way, and stay empty.
    private static int asL1(Mmu mmu, VcpuMmu vcpu, long gpa) {
        boolean smm = vcpu.role().smm();
        boolean guestMode = vcpu.role().guestMode();
        boolean byGuestPhysical = vcpu.isByGuestPhysical();
        vcpu.mode(false, false, true);
        try {
            return map(mmu, vcpu, gpa);
        } finally {
            vcpu.mode(smm, guestMode, byGuestPhysical);
        }
    }
}
