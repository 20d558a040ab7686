package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.memory.PhysicalMemory;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.MemoryType;
import cloister.spec.x86.PageFaultCode;
import cloister.spec.x86.Pte;

/// Walks the paging structures of one logical processor: 32-bit, PAE, 4-level and 5-level paging. [SDM Vol. 3 "Paging"]
///
/// Accessed and dirty flags are written only when the access is allowed, so that a faulting access leaves the structures as
/// they were. Every entry is reached through second-level translation when that is on.
///
/// Reserved bits: our MAXPHYADDR is 52, so no address bit of a 64-bit entry is reserved as such; but without second-level
/// translation, an entry that names a private KeyID is, as TDX keeps those for the TDX module.
/// [TDX-BASE "Memory Encryption Keys"]
public final class PageWalker implements Walker {
    private static final long ADDRESS = 0x000f_ffff_ffff_f000L;
    private static final int MAX_LEVELS = 5;
    private static final int PWT_SHIFT = 3;
    private static final int WB = MemoryType.WB.encoding();
    private static final long KEY_MASK = 0xfL;
    /// Bits 62:52 are ignored by 4-level paging but reserved by PAE paging.
    private static final long PAE_RESERVED = 0x7ff0_0000_0000_0000L;

    private final long[] entryGpa = new long[MAX_LEVELS];
    private final long[] entryValue = new long[MAX_LEVELS];
    private int depth;
    private int pageShift;
    private long allowAnd;
    /// [#allowAnd] without the leaf.
    private long upperAnd;
    private long denyOr;
    private long leaf;

    @Override public void walk(Cpu cpu, long linear, int access, int right, Translation out) {
        if ((cpu.cr0 & Cr0.PG) == 0) {
            out.pageShift = 12;
            out.writable = true;
            out.global = false;
            out.typeIngredients = WB | cacheDisabled(cpu);
            cpu.vmx.secondLevel(cpu, linear & 0xffff_ffffL, linear, access, out);
            return;
        }
        while (!translate(cpu, linear, access, right, out)) {
            // An entry changed between the walk and the setting of its flags: the walk begins again.
        }
    }

    private boolean translate(Cpu cpu, long linear, int access, int right, Translation out) {
        boolean wide = (cpu.cr4 & Cr4.PAE) != 0;
        if (!wide) {
            descend32(cpu, linear, access, right);
        } else if ((cpu.efer & Efer.LMA) != 0) {
            descend(cpu, linear, access, right, (cpu.cr4 & Cr4.LA57) != 0 ? 5 : 4, cpu.cr3 & ADDRESS, true);
        } else {
            descendPae(cpu, linear, access, right);
        }
        boolean mayWrite = access >= SHADOW_READ ? checkShadowStack(cpu, linear, access, right) : check(cpu, linear, access, right);
        if (!touch(cpu, linear, access, wide ? 8 : 4)) {
            return false;
        }
        out.pageShift = pageShift;
        out.writable = mayWrite && (leaf & Pte.D) != 0;
        out.global = (leaf & Pte.G) != 0 && (cpu.cr4 & Cr4.PGE) != 0;
        out.typeIngredients = patType(cpu) | cacheDisabled(cpu);
        long offsetMask = (1L << pageShift) - 1;
        long gpa = (leafAddress(wide) & ~offsetMask) | (linear & offsetMask);
        cpu.vmx.secondLevel(cpu, gpa, linear, access, out);
        return true;
    }

    /// The type in the PAT entry that PAT, PCD and PWT of the leaf select. [SDM Vol. 3 "Determining the Memory Type Used for a Memory
    /// Access"]
    private int patType(Cpu cpu) {
        int index = (int) (leaf >>> PWT_SHIFT) & 3;
        if ((leaf & (pageShift == PhysicalMemory.FRAME_SHIFT ? Pte.PAT : Pte.PAT_LARGE)) != 0) {
            index |= 4;
        }
        return (int) (cpu.pat >>> (8 * index)) & Translation.TYPE_MASK;
    }

    private static int cacheDisabled(Cpu cpu) {
        return (cpu.cr0 & Cr0.CD) != 0 ? Translation.CACHE_DISABLED : 0;
    }

    private void start() {
        depth = 0;
        allowAnd = upperAnd = Pte.W | Pte.U;
        denyOr = 0;
    }

    private void descendPae(Cpu cpu, long linear, int access, int right) {
        long pdpte = cpu.pdpte[(int) (linear >>> 30) & 3];
        if ((pdpte & Pte.P) == 0) {
            throw fault(cpu, linear, access, right, 0);
        }
        descend(cpu, linear & 0xffff_ffffL, access, right, 2, pdpte & ADDRESS, false);
    }

    private void descend(Cpu cpu, long linear, int access, int right, int levels, long root, boolean longMode) {
        start();
        long table = root;
        long reservedAlways = longMode ? 0 : PAE_RESERVED;
        if ((cpu.efer & Efer.NXE) == 0) {
            reservedAlways |= Pte.XD;
        }
        for (int level = levels;; level--) {
            int shift = 12 + 9 * (level - 1);
            long gpa = table + ((linear >>> shift) & 0x1ff) * 8;
            long entry = cpu.vmx.readEntry(cpu, gpa, linear, 8);
            entryGpa[depth] = gpa;
            entryValue[depth++] = entry;
            if ((entry & Pte.P) == 0) {
                throw fault(cpu, linear, access, right, 0);
            }
            boolean large = level > 1 && (entry & Pte.PS) != 0;
            if ((entry & (reservedAlways | reservedAt(level, large))) != 0 || privateKey(cpu, entry)) {
                throw fault(cpu, linear, access, right, PageFaultCode.P | PageFaultCode.RSVD);
            }
            upperAnd = allowAnd;
            allowAnd &= entry;
            denyOr |= entry & Pte.XD;
            if (level == 1 || large) {
                leaf = entry;
                pageShift = shift;
                return;
            }
            table = entry & ADDRESS;
        }
    }

    /// The bits that must be zero in an entry of `level` (1: maps 4 KiB pages).
    private static long reservedAt(int level, boolean large) {
        return switch (level) {
            case 4, 5 -> Pte.PS;
            case 3 -> large ? 0x3fff_e000L : 0;
            case 2 -> large ? 0x1f_e000L : 0;
            default -> 0;
        };
    }

    /// Whether the address in `entry`, or in CR3, is a platform address that only SEAM mode can use.
    static boolean privateKey(Cpu cpu, long entry) {
        return cpu.memory.isPrivate(entry & ADDRESS) && !cpu.vmx.secondLevelActive();
    }

    private void descend32(Cpu cpu, long linear, int access, int right) {
        start();
        long gpa = (cpu.cr3 & 0xffff_f000L) + ((linear >>> 22) & 0x3ff) * 4;
        long entry = cpu.vmx.readEntry(cpu, gpa, linear, 4);
        record32(cpu, linear, access, right, gpa, entry);
        if ((entry & Pte.PS) != 0 && (cpu.cr4 & Cr4.PSE) != 0) {
            if ((entry & (1L << 21)) != 0) {
                throw fault(cpu, linear, access, right, PageFaultCode.P | PageFaultCode.RSVD);
            }
            leaf = entry;
            pageShift = 22;
            return;
        }
        gpa = (entry & 0xffff_f000L) + ((linear >>> 12) & 0x3ff) * 4;
        leaf = cpu.vmx.readEntry(cpu, gpa, linear, 4);
        record32(cpu, linear, access, right, gpa, leaf);
        pageShift = 12;
    }

    private void record32(Cpu cpu, long linear, int access, int right, long gpa, long entry) {
        entryGpa[depth] = gpa;
        entryValue[depth++] = entry;
        if ((entry & Pte.P) == 0) {
            throw fault(cpu, linear, access, right, 0);
        }
        upperAnd = allowAnd;
        allowAnd &= entry;
    }

    private long leafAddress(boolean wide) {
        if (wide) {
            return leaf & ADDRESS;
        }
        // A 4 MiB page carries address bits 39:32 in bits 20:13 (PSE-36).
        return pageShift == 22 ? (leaf & 0xffc0_0000L) | ((leaf & 0x1f_e000L) << 19) : leaf & 0xffff_f000L;
    }

    /// Whether the access right allows writing; faults when it does not allow the access itself.
    /// [SDM Vol. 3 "Determination of Access Rights"]
    private boolean check(Cpu cpu, long linear, int access, int right) {
        boolean userPage = (allowAnd & Pte.U) != 0;
        boolean writeProtect = (cpu.cr0 & Cr0.WP) != 0;
        int keyDenies = keyDenies(cpu, userPage, right == USER || writeProtect);
        boolean write = access == WRITE;
        boolean reach;
        boolean mayWrite;
        if (right == USER) {
            reach = userPage;
            mayWrite = (allowAnd & Pte.W) != 0;
        } else {
            reach = !userPage || access == FETCH || right == SUPERVISOR_AC || (cpu.cr4 & Cr4.SMAP) == 0;
            mayWrite = (allowAnd & Pte.W) != 0 || !writeProtect;
        }
        boolean keyFault = access != FETCH && (keyDenies & (write ? 2 : 1)) != 0;
        boolean denied = !reach || keyFault || (write && !mayWrite);
        if (access == FETCH) {
            denied |= denyOr != 0 || (right != USER && userPage && (cpu.cr4 & Cr4.SMEP) != 0);
        }
        if (denied) {
            throw fault(cpu, linear, access, right, PageFaultCode.P | (keyFault ? PageFaultCode.PK : 0));
        }
        return mayWrite && (keyDenies & 2) == 0;
    }

    /// As [#check], for accesses to shadow stacks: their pages are dirty and not writable by the leaf, writable by every other entry, and
    /// of the accessor's own privilege. [SDM Vol. 3 "Shadow-Stack Pages" of "Determination of Access Rights"]
    private boolean checkShadowStack(Cpu cpu, long linear, int access, int right) {
        boolean userPage = (allowAnd & Pte.U) != 0;
        int keyDenies = keyDenies(cpu, userPage, true);
        boolean shadowStackPage = (upperAnd & Pte.W) != 0 && (leaf & (Pte.W | Pte.D)) == Pte.D;
        boolean keyFault = (keyDenies & (access == SHADOW_WRITE ? 2 : 1)) != 0;
        if (!shadowStackPage || userPage != (right == USER) || keyFault) {
            throw fault(cpu, linear, access, right, PageFaultCode.P | (keyFault ? PageFaultCode.PK : 0));
        }
        return (keyDenies & 2) == 0;
    }

    /// Bit 0: reading denied by the protection key; bit 1: writing. [SDM Vol. 3 "Protection Keys"]
    private int keyDenies(Cpu cpu, boolean userPage, boolean writeDisableCounts) {
        if ((cpu.efer & Efer.LMA) == 0 || (cpu.cr4 & (userPage ? Cr4.PKE : Cr4.PKS)) == 0) {
            return 0;
        }
        int key = (int) ((leaf >>> Pte.PROTECTION_KEY_SHIFT) & KEY_MASK);
        cpu.protectionKeysCached |= key != 0;
        int rights = ((userPage ? cpu.pkru : cpu.pkrs) >>> (2 * key)) & 3;
        if ((rights & 1) != 0) {
            return 3;
        }
        return (rights & 2) != 0 && writeDisableCounts ? 2 : 0;
    }

    /// @return false when an entry is not what the walk read
    private boolean touch(Cpu cpu, long linear, int access, int bytes) {
        for (int i = 0; i < depth; i++) {
            long entry = entryValue[i];
            long wanted = entry | Pte.A;
            if (i == depth - 1 && access == WRITE) {
                wanted |= Pte.D;
            }
            if (wanted != entry && !cpu.vmx.changeEntry(cpu, entryGpa[i], linear, bytes, entry, wanted)) {
                return false;
            }
            if (i == depth - 1) {
                leaf = wanted;
            }
        }
        return true;
    }

    private static RuntimeException fault(Cpu cpu, long linear, int access, int right, int cause) {
        int code = cause;
        if (access == WRITE || access == SHADOW_WRITE) {
            code |= PageFaultCode.W;
        }
        if (access >= SHADOW_READ) {
            code |= PageFaultCode.SS;
        }
        if (right == USER) {
            code |= PageFaultCode.U;
        }
        if (access == FETCH && ((cpu.cr4 & Cr4.SMEP) != 0
                || ((cpu.cr4 & Cr4.PAE) != 0 && (cpu.efer & Efer.NXE) != 0))) {
            code |= PageFaultCode.I;
        }
        return cpu.pageFault(linear, code);
    }
}
