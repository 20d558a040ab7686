package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Rflags;

/// Walks a guest's own page tables, for the instruction emulator: with the permissions of the access, and setting accessed and
/// dirty flags. Protection keys are not looked at. [LINUX arch/x86/kvm/mmu/paging_tmpl.h]
public final class GuestWalk {
    /// An access bit: the access writes. The bits are those of a page fault's error code.
    public static final int WRITE = 2;
    /// An access bit: from CPL 3.
    public static final int USER = 4;
    /// An access bit: fetches an instruction.
    public static final int FETCH = 16;

    private static final int PRESENT_FAULT = 1;
    private static final int RESERVED_FAULT = 8;
    private static final long FAULT = Long.MIN_VALUE;
    /// What [#used] gets for an entry that is not the last one.
    private static final long NO_LEAF = -1;
    private static final long PRESENT = 1;
    private static final long LARGE = 1 << 7;
    private static final long ACCESSED = 1 << 5;
    private static final long DIRTY = 1 << 6;
    private static final long NX = Long.MIN_VALUE;
    private static final long ADDRESS = 0x000f_ffff_ffff_f000L;

    /// The registers that paging depends on.
    public record Registers(long cr0, long cr3, long cr4, long efer, long rflags) {
    }

    private final GuestMemory memory;
    private final VcpuMmu vcpu;
    private final Registers registers;
    private final int access;
    /// The permissions that all entries so far grant: [#WRITE] and [#USER].
    private int granted = WRITE | USER;
    private boolean noExecute;

    private GuestWalk(GuestMemory memory, VcpuMmu vcpu, Registers registers, int access) {
        this.memory = memory;
        this.vcpu = vcpu;
        this.registers = registers;
        this.access = access;
    }

    /// Translates `linear`.
    ///
    /// @param vcpu   whose access it is, for dirty logging
    /// @param access [#WRITE], [#USER], [#FETCH] together
    /// @return the guest-physical address, or what [#isFault] tells to be a fault
    public static long translate(GuestMemory memory, VcpuMmu vcpu, long linear, int access, Registers registers) {
        if ((registers.cr0 & Cr0.PG) == 0) {
            return linear & 0xffff_ffffL;
        }
        var walk = new GuestWalk(memory, vcpu, registers, access);
        try {
            if ((registers.efer & Efer.LMA) != 0) {
                return walk.wide(linear, registers.cr3 & ADDRESS, (registers.cr4 & Cr4.LA57) != 0 ? 5 : 4);
            }
            if ((registers.cr4 & Cr4.PAE) != 0) {
                long pdpte = memory.read((registers.cr3 & 0xffff_ffe0L) + 8 * ((linear >>> 30) & 3), 8);
                return (pdpte & PRESENT) == 0 ? walk.fault(0) : walk.wide(linear & 0xffff_ffffL, pdpte & ADDRESS, 2);
            }
            return walk.narrow(linear);
        } catch (KvmException outsideMemory) {
            return walk.fault(0); // a paging structure where no memory is
        }
    }

    /// Whether [#translate] failed.
    public static boolean isFault(long result) {
        return result < 0;
    }

    /// The error code of the page fault that [#translate] returned.
    public static int errorCode(long result) {
        return (int) result;
    }

    private long fault(int cause) {
        boolean tellsFetch = (registers.efer & Efer.NXE) != 0 || (registers.cr4 & Cr4.SMEP) != 0;
        return FAULT | cause | (access & (tellsFetch ? WRITE | USER | FETCH : WRITE | USER));
    }

    private long wide(long linear, long root, int levels) {
        long table = root;
        for (int level = levels;; level--) {
            int shift = 12 + 9 * (level - 1);
            long at = table + 8 * ((linear >>> shift) & 511);
            long entry = memory.read(at, 8);
            if ((entry & PRESENT) == 0) {
                return fault(0);
            }
            boolean leaf = level == 1 || (level <= 3 && (entry & LARGE) != 0);
            long mask = (1L << shift) - 1;
            long reserved = level >= 4 ? LARGE : leaf && level > 1 ? mask & ADDRESS & ~(1L << 12) : 0;
            if ((entry & reserved) != 0 || ((entry & NX) != 0 && (registers.efer & Efer.NXE) == 0)) {
                return fault(PRESENT_FAULT | RESERVED_FAULT);
            }
            granted &= (int) entry;
            noExecute |= (entry & NX) != 0;
            if (leaf) {
                return !allowed() ? fault(PRESENT_FAULT) : used(at, entry, 8, (entry & ADDRESS & ~mask) | (linear & mask));
            }
            used(at, entry, 8, NO_LEAF);
            table = entry & ADDRESS;
        }
    }

    private long narrow(long linear) {
        long at = (registers.cr3 & 0xffff_f000L) + 4 * ((linear >>> 22) & 1023);
        long pde = memory.read(at, 4);
        if ((pde & PRESENT) == 0) {
            return fault(0);
        }
        granted &= (int) pde;
        if ((registers.cr4 & Cr4.PSE) != 0 && (pde & LARGE) != 0) {
            long gpa = (((pde >>> 13) & 0xff) << 32) | (pde & 0xffc0_0000L) | (linear & 0x3f_ffff);
            return (pde & (1 << 21)) != 0 ? fault(PRESENT_FAULT | RESERVED_FAULT) : !allowed() ? fault(PRESENT_FAULT) : used(at, pde,
                    4, gpa);
        }
        used(at, pde, 4, NO_LEAF);
        at = (pde & 0xffff_f000L) + 4 * ((linear >>> 12) & 1023);
        long pte = memory.read(at, 4);
        granted &= (int) pte;
        return (pte & PRESENT) == 0 ? fault(0) : !allowed() ? fault(PRESENT_FAULT)
                : used(at, pte, 4, (pte & 0xffff_f000L) | (linear & 0xfff));
    }

    /// [SDM Vol. 3 "Determination of Access Rights"]
    private boolean allowed() {
        boolean userPage = (granted & USER) != 0;
        boolean writable = (granted & WRITE) != 0;
        boolean write = (access & WRITE) != 0;
        boolean fetch = (access & FETCH) != 0;
        if (fetch && noExecute) {
            return false;
        }
        if ((access & USER) != 0) {
            return userPage && (!write || writable);
        }
        if (userPage && fetch && (registers.cr4 & Cr4.SMEP) != 0) {
            return false;
        }
        if (userPage && !fetch && (registers.cr4 & Cr4.SMAP) != 0 && (registers.rflags & Rflags.AC) == 0) {
            return false;
        }
        return !write || writable || (registers.cr0 & Cr0.WP) == 0;
    }

    /// Sets the accessed flag of an entry, and the dirty flag of the last one when the access writes.
    private long used(long at, long entry, int bytes, long result) {
        long flags = ACCESSED | (result != NO_LEAF && (access & WRITE) != 0 ? DIRTY : 0);
        if ((entry & flags) != flags && memory.isWritable(at)) {
            memory.write(vcpu, at, 1, (entry | flags) & 0xff);
        }
        return result;
    }
}
