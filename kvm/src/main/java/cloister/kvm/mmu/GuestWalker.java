package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.Ept;
import cloister.spec.x86.PageFaultCode;

/// Walks a guest's own tables as its processor would: checks, permissions, accessed and dirty flags. What was found stays until the next
/// walk. [LINUX struct guest_walker, FNAME(walk_addr_generic)]
final class GuestWalker {
    private static final int LEVELS = 5;

    private enum Outcome { TRANSLATED, REFUSED, CHANGED }

    private final GuestMemory memory;
    private final long[] entries = new long[LEVELS + 1];
    private final long[] entryGpas = new long[LEVELS + 1];
    private final long[] tableGfns = new long[LEVELS + 1];
    private final int[] tableAccess = new int[LEVELS + 1];
    /// The level of the entry at which the walk ended.
    int level;
    /// What the tables allow; without writing while the dirty flag is not set.
    int access;
    /// The guest frame behind the address.
    long gfn;
    /// Of a refused access: the error code for the guest. A misconfiguration of guest EPT has the bit of reserved ones.
    int errorCode;
    /// Of a violation of guest EPT: the exit qualification, without what only the exit itself tells.
    long exitQualification;

    GuestWalker(GuestMemory memory) {
        this.memory = memory;
    }

    /// Translates `address`.
    ///
    /// @param root  CR3 or the EPT pointer
    /// @param error ERROR_ bits of [PageFault]
    /// @return false when the guest's tables refuse
    boolean walk(VcpuMmu vcpu, GuestPaging paging, long root, long[] pdptes, long address, long error, int pkru) {
        while (true) {
            switch (descend(vcpu, paging, root, pdptes, address, error, pkru)) {
                case TRANSLATED -> {
                    return true;
                }
                case REFUSED -> {
                    return false;
                }
                case CHANGED -> {
                    // An entry is not what was read: once more from the root.
                }
            }
        }
    }

    private Outcome descend(VcpuMmu vcpu, GuestPaging paging, long root, long[] pdptes, long address, long error, int pkru) {
        long link = root;
        if (paging.isPae()) {
            link = pdptes[(int) (address >>> 30) & 3];
            if ((link & 1) == 0) {
                return refuse(paging, error, 0, 0);
            }
        }
        int above = Spte.ACCESS_ALL;
        for (level = paging.topLevel();; level--) {
            tableGfns[level] = paging.tableGfn(link);
            tableAccess[level] = above;
            entryGpas[level] = (tableGfns[level] << 12) + ((long) paging.index(address, level) * paging.entryBytes());
            long entry;
            try {
                entry = memory.read(entryGpas[level], paging.entryBytes());
            } catch (KvmException outsideMemory) {
                return refuse(paging, error, 0, above);
            }
            if (!paging.isPresent(entry)) {
                return refuse(paging, error, 0, 0);
            }
            if (paging.isReserved(entry, level)) {
                return refuse(paging, error, PageFaultCode.P | PageFaultCode.RSVD, above);
            }
            entries[level] = entry;
            above &= paging.access(entry);
            if (paging.isLast(entry, level)) {
                break;
            }
            link = entry;
        }
        int refused = paging.refuses(above, entries[level], error, pkru);
        if (refused != 0) {
            return refuse(paging, error, refused, above);
        }
        gfn = paging.pageGfn(entries[level], level, address);
        boolean write = (error & PageFault.ERROR_WRITE) != 0;
        if (!setFlags(vcpu, paging, write)) {
            return Outcome.CHANGED;
        }
        access = paging.withoutCleanWrites(above, entries[level]);
        return Outcome.TRANSLATED;
    }

    /// Sets accessed flags, and the dirty flag for a write. Tables in read-only slots stay as they are. [LINUX
    /// FNAME(update_accessed_dirty_bits)]
    private boolean setFlags(VcpuMmu vcpu, GuestPaging paging, boolean write) {
        for (int at = paging.topLevel(); at >= level; at--) {
            long wanted = entries[at] | paging.accessedBit() | (at == level && write ? paging.dirtyBit() : 0);
            if (wanted == entries[at] || !memory.isWritable(entryGpas[at])) {
                continue;
            }
            if (!memory.compareAndSet(vcpu, entryGpas[at], paging.entryBytes(), entries[at], wanted)) {
                return false;
            }
            entries[at] = wanted;
        }
        return true;
    }

    private Outcome refuse(GuestPaging paging, long error, int cause, int rights) {
        errorCode = cause | (int) (error & (PageFault.ERROR_WRITE | PageFault.ERROR_USER))
                | ((error & PageFault.ERROR_FETCH) != 0 && paging.tellsFetches() ? PageFaultCode.I : 0);
        boolean write = (error & PageFault.ERROR_WRITE) != 0;
        boolean fetch = (error & PageFault.ERROR_FETCH) != 0;
        long allowed = ((rights & Spte.ACCESS_READ) != 0 ? Ept.READ : 0) | ((rights & Spte.ACCESS_WRITE) != 0 ? Ept.WRITE : 0)
                | ((rights & Spte.ACCESS_EXECUTE) != 0 ? Ept.EXECUTE : 0);
        exitQualification = (write ? ExitQualification.EPT_WRITE : fetch ? ExitQualification.EPT_FETCH : ExitQualification.EPT_READ)
                | (allowed << 3);
        return Outcome.REFUSED;
    }

    /// The frame of the table with the entry of `ofLevel`.
    long tableGfn(int ofLevel) {
        return tableGfns[ofLevel];
    }

    /// What the tables above the one of `ofLevel` allow.
    int tableAccess(int ofLevel) {
        return tableAccess[ofLevel];
    }

    /// Whether the guest's entry is not what the walk read. [LINUX FNAME(gpte_changed)]
    boolean changed(GuestPaging paging, int ofLevel) {
        try {
            return memory.read(entryGpas[ofLevel], paging.entryBytes()) != entries[ofLevel];
        } catch (KvmException outsideMemory) {
            return true;
        }
    }
}
