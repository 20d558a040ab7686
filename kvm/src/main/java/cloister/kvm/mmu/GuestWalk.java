package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// Walks a guest's own page tables, for the instruction emulator: translation only, the processor has checked permissions
/// already. [LINUX arch/x86/kvm/mmu/paging_tmpl.h]
public final class GuestWalk {
    /// No translation.
    public static final long NONE = -1;
    private static final long PRESENT = 1;
    private static final long LARGE = 1 << 7;
    private static final long ADDRESS = 0x000f_ffff_ffff_f000L;

    private GuestWalk() {
    }

    /// The guest-physical address of `linear`, or [#NONE].
    public static long translate(GuestMemory memory, long linear, long cr0, long cr3, long cr4, long efer) {
        if ((cr0 & Cr0.PG) == 0) {
            return linear & 0xffff_ffffL;
        }
        try {
            if ((efer & Efer.LMA) != 0) {
                return walk(memory, linear, cr3 & ADDRESS, (cr4 & Cr4.LA57) != 0 ? 5 : 4);
            }
            if ((cr4 & Cr4.PAE) != 0) {
                long pdpte = memory.read((cr3 & 0xffff_ffe0L) + 8 * ((linear >>> 30) & 3), 8);
                return (pdpte & PRESENT) == 0 ? NONE : walk(memory, linear & 0xffff_ffffL, pdpte & ADDRESS, 2);
            }
            return walk32(memory, linear, cr3, (cr4 & Cr4.PSE) != 0);
        } catch (KvmException outsideMemory) {
            return NONE;
        }
    }

    private static long walk(GuestMemory memory, long linear, long root, int levels) {
        long table = root;
        for (int level = levels;; level--) {
            int shift = 12 + 9 * (level - 1);
            long entry = memory.read(table + 8 * ((linear >>> shift) & 511), 8);
            if ((entry & PRESENT) == 0) {
                return NONE;
            }
            if (level == 1 || (level <= 3 && (entry & LARGE) != 0)) {
                long mask = (1L << shift) - 1;
                return (entry & ADDRESS & ~mask) | (linear & mask);
            }
            table = entry & ADDRESS;
        }
    }

    private static long walk32(GuestMemory memory, long linear, long cr3, boolean pse) {
        long pde = memory.read((cr3 & 0xffff_f000L) + 4 * ((linear >>> 22) & 1023), 4);
        if ((pde & PRESENT) == 0) {
            return NONE;
        }
        if (pse && (pde & LARGE) != 0) {
            return (((pde >>> 13) & 0xff) << 32) | (pde & 0xffc0_0000L) | (linear & 0x3f_ffff);
        }
        long pte = memory.read((pde & 0xffff_f000L) + 4 * ((linear >>> 12) & 1023), 4);
        return (pte & PRESENT) == 0 ? NONE : (pte & 0xffff_f000L) | (linear & 0xfff);
    }
}
