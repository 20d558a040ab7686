package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;
import java.util.Arrays;

/// Translates guest-physical addresses through the EPT in force. [SDM Vol. 3 "The Extended Page Table Mechanism (EPT)"]
///
/// For a TD, a guest-physical address with the SHARED bit goes through the shared EPT, whose entries carry KeyIDs of the host; any
/// other goes through the Secure EPT, which lies in memory of the TD's KeyID and maps memory of that KeyID. [TDX-CPU "Secure
/// EPT", "Shared EPT"]
///
/// Finished translations are kept as guest-physical mappings until INVEPT, as the SDM allows. [SDM Vol. 3 "Caching Translation
/// Information"]
final class EptWalker {
    /// What the guest-physical address was for: the translation of a linear address,
    public static final int TRANSLATED = 0;
    /// an entry of the guest's paging structures,
    public static final int STRUCTURE = 1;
    /// or something without linear address, such as loading PDPTEs.
    public static final int NO_LINEAR = 2;
    /// The translation of a linear address for a shadow-stack access.
    public static final int SHADOW_STACK = 3;

    /// Tertiary control of a TD's VMCS: guest-physical addresses are 52 bits wide and SHARED is bit 51, else bit 47.
    static final long PROC3_GPAW = 1 << 5;
    private static final int CACHED = 512;
    private static final int NO_PERMISSION = 0;
    /// No address and no entry: an entry was not any more what the walk had read, so the walk begins again.
    private static final long CHANGED = Long.MIN_VALUE;

    private final Vmx vmx;
    private final Cpu cpu;

    // Guest-physical mappings: page, root it was found under, frame with KeyID, rights and page size.
    private final long[] cachedPage = new long[CACHED];
    private final long[] cachedRoot = new long[CACHED];
    private final long[] cachedFrame = new long[CACHED];
    private final byte[] cachedRights = new byte[CACHED];
    private final byte[] cachedShift = new byte[CACHED];
    private final short[] cachedType = new short[CACHED];

    // Loaded at VM entry.
    private boolean td;
    private int hkid;
    private long sharedBit;
    private long privateRoot;
    private long sharedRoot;
    private int levels;
    private boolean accessedDirty;

    /// log2 of the size of the EPT page of the last translation.
    public int pageShift;
    /// Whether the last translation may be written without another walk: permitted, and its dirty flag set where there is one.
    public boolean writable;
    /// What EPT says of the memory type of the last translation, as [Translation#typeIngredients].
    int type;
    private int rights;

    EptWalker(Vmx vmx) {
        this.vmx = vmx;
        this.cpu = vmx.cpu;
        flush();
    }

    /// Takes over the EPT pointers of the VMCS that is entered.
    void load(Vmcs vmcs) {
        long eptp = vmcs.read(EPTP);
        hkid = vmcs.readInt(GUEST_TD_HKID);
        td = hkid != 0;
        sharedBit = td ? 1L << ((vmcs.read(TERTIARY_PROC_BASED_CONTROLS) & PROC3_GPAW) != 0 ? 51 : 47) : 0;
        privateRoot = td ? PhysicalMemory.hpa(PhysicalMemory.pa(eptp & Ept.ADDRESS), hkid) : eptp & Ept.ADDRESS;
        sharedRoot = vmcs.read(SHARED_EPTP) & Ept.ADDRESS;
        levels = Ept.levels(eptp);
        accessedDirty = (eptp & Ept.EPTP_ACCESSED_DIRTY) != 0;
    }

    /// Drops all guest-physical mappings.
    void flush() {
        Arrays.fill(cachedPage, -1);
    }

    /// The platform address, KeyID included, of `gpa`.
    ///
    /// Throws for EPT violations (an exit, or #VE when the entry and the controls say so) and EPT misconfigurations.
    ///
    /// @param access [Walker#READ], [Walker#WRITE] or [Walker#FETCH]
    /// @param linear the linear address that is being accessed, or whose translation needs the paging structure
    /// @param stage  [#TRANSLATED], [#STRUCTURE], [#NO_LINEAR] or [#SHADOW_STACK]
    public long translate(long gpa, int access, long linear, int stage) {
        long root = (gpa & sharedBit) != 0 ? sharedRoot : privateRoot;
        long page = gpa >>> PhysicalMemory.FRAME_SHIFT;
        int slot = (int) (page ^ (page >>> 9)) & (CACHED - 1);
        // With A/D flags, accesses to the guest's paging structures count as writes.
        int needed = stage == STRUCTURE && accessedDirty ? Walker.WRITE : access;
        if (cachedPage[slot] == page && cachedRoot[slot] == root && permits(cachedRights[slot], needed)) {
            rights = cachedRights[slot];
            pageShift = cachedShift[slot];
            type = cachedType[slot];
            writable = (rights & Ept.WRITE) != 0;
            return cachedFrame[slot] | (gpa & (PhysicalMemory.FRAME_SIZE - 1));
        }
        long hpa = walk(gpa, root, access, needed, linear, stage);
        cachedPage[slot] = page;
        cachedRoot[slot] = root;
        cachedFrame[slot] = hpa & -PhysicalMemory.FRAME_SIZE;
        cachedRights[slot] = (byte) rights;
        cachedShift[slot] = (byte) pageShift;
        cachedType[slot] = (short) type;
        writable = (rights & Ept.WRITE) != 0;
        return hpa;
    }

    private static boolean permits(int rights, int access) {
        return (rights & required(access)) != 0;
    }

    private static int required(int access) {
        return (int) (access == Walker.WRITE ? Ept.WRITE : access == Walker.FETCH ? Ept.EXECUTE : Ept.READ);
    }

    /// [SDM Vol. 3 "EPT Translation Mechanism"] Sets [#rights] (WRITE only once the dirty flag allows) and [#pageShift].
    private long walk(long gpa, long root, int access, int needed, long linear, int stage) {
        while (true) {
            long hpa = walkOnce(gpa, root, access, needed, linear, stage);
            if (hpa != CHANGED) {
                return hpa;
            }
        }
    }

    /// @return [#CHANGED] when an entry changed before its flags were set
    private long walkOnce(long gpa, long root, int access, int needed, long linear, int stage) {
        if (gpa >>> (levels == 4 ? 48 : 52) != 0) {
            throw violation(gpa, linear, access, needed, stage, NO_PERMISSION, Ept.SUPPRESS_VE);
        }
        boolean secure = td && (gpa & sharedBit) == 0;
        long table = root;
        int allowed = (int) Ept.PERMISSIONS;
        for (int level = levels;; level--) {
            int shift = 12 + 9 * (level - 1);
            long at = table + ((gpa >>> shift) & 0x1ff) * 8;
            long entry = cpu.readPhysical(at, 8);
            if ((entry & Ept.PERMISSIONS) == 0) {
                throw violation(gpa, linear, access, needed, stage, NO_PERMISSION, entry);
            }
            boolean leaf = level == 1 || ((entry & Ept.LARGE) != 0 && level <= 3);
            if (misconfigured(entry, level, leaf) || (!secure && cpu.memory.isPrivate(entry & Ept.ADDRESS))) {
                throw misconfiguration(gpa);
            }
            allowed &= (int) entry;
            long target = entry & Ept.ADDRESS;
            if (secure) {
                target = PhysicalMemory.hpa(PhysicalMemory.pa(target), hkid);
            }
            if (leaf) {
                if ((allowed & required(needed)) == 0) {
                    throw violation(gpa, linear, access, needed, stage, allowed, entry);
                }
                long flagged = markUsed(at, entry, needed, true);
                if (flagged == CHANGED) {
                    return CHANGED;
                }
                rights = accessedDirty && (flagged & Ept.DIRTY) == 0 ? allowed & ~(int) Ept.WRITE : allowed;
                pageShift = shift;
                type = Translation.EPT | (Ept.memoryType(entry) << Translation.EPT_TYPE_SHIFT)
                        | ((entry & Ept.IGNORE_PAT) != 0 ? Translation.IGNORE_PAT : 0);
                long offsetMask = (1L << shift) - 1;
                return (target & ~offsetMask) | (gpa & offsetMask);
            }
            if (markUsed(at, entry, needed, false) == CHANGED) {
                return CHANGED;
            }
            table = target;
        }
    }

    /// Sets the flags as a locked operation on the entry that was read. [SDM Vol. 3 "Accessed and Dirty Flags for EPT"]
    private long markUsed(long at, long entry, int needed, boolean leaf) {
        if (!accessedDirty) {
            return entry;
        }
        long wanted = entry | Ept.ACCESSED | (leaf && needed == Walker.WRITE ? Ept.DIRTY : 0);
        return wanted == entry || cpu.compareAndSetPhysical(at, 8, entry, wanted) ? wanted : CHANGED;
    }

    /// [SDM Vol. 3 "EPT Misconfigurations"] Besides, no entry of the host's may have a private KeyID.
    private static boolean misconfigured(long entry, int level, boolean leaf) {
        if ((entry & (Ept.READ | Ept.WRITE)) == Ept.WRITE) {
            return true;
        }
        if (!leaf) {
            return (entry & (level >= 4 ? 0xf8 : 0x78)) != 0;
        }
        int type = Ept.memoryType(entry);
        if (type == 2 || type == 3 || type == 7) {
            return true;
        }
        return level > 1 && (entry & ((1L << (12 + 9 * (level - 1))) - 1) & Ept.ADDRESS) != 0;
    }

    private RuntimeException misconfiguration(long gpa) {
        vmx.vmcs.write(GUEST_PHYSICAL_ADDRESS, gpa);
        return vmx.exit(ExitReason.EPT_MISCONFIGURATION, 0);
    }

    /// @param entry the entry that decides whether the violation is convertible: the one that is not present, or the leaf
    private RuntimeException violation(long gpa, long linear, int access, int needed, int stage, int allowed, long entry) {
        long qualification = access == Walker.WRITE ? ExitQualification.EPT_WRITE
                : access == Walker.FETCH ? ExitQualification.EPT_FETCH : ExitQualification.EPT_READ;
        if (needed != access) {
            qualification |= ExitQualification.EPT_WRITE;
        }
        qualification |= (long) allowed << 3;
        if (stage != NO_LINEAR) {
            qualification |= ExitQualification.EPT_LINEAR_VALID;
        }
        if (stage == TRANSLATED || stage == SHADOW_STACK) {
            qualification |= ExitQualification.EPT_TRANSLATED;
        }
        if (stage == SHADOW_STACK) {
            qualification |= ExitQualification.EPT_SHADOW_STACK;
        }
        forget(gpa);
        if (convertible(entry)) {
            return virtualizationException(qualification, linear, gpa);
        }
        if (!vmx.delivering() && vmx.unblockedNmiByIret()) {
            qualification |= ExitQualification.EPT_NMI_UNBLOCKING;
        }
        vmx.vmcs.write(GUEST_PHYSICAL_ADDRESS, gpa);
        if (stage != NO_LINEAR) {
            vmx.vmcs.write(GUEST_LINEAR_ADDRESS, linear);
        }
        return vmx.exit(ExitReason.EPT_VIOLATION, qualification);
    }

    /// An EPT violation invalidates the mappings of the address that caused it.
    private void forget(long gpa) {
        long page = gpa >>> PhysicalMemory.FRAME_SHIFT;
        cachedPage[(int) (page ^ (page >>> 9)) & (CACHED - 1)] = -1;
    }

    /// [SDM Vol. 3 "Convertible EPT Violations"]
    private boolean convertible(long entry) {
        return (entry & Ept.SUPPRESS_VE) == 0 && vmx.proc2(Controls.PROC2_EPT_VIOLATION_VE) && (cpu.cr0 & Cr0.PE) != 0
                && !vmx.delivering() && cpu.readPhysical(vmx.structure(VE_INFORMATION_ADDRESS) + Ept.VE_BUSY, 4) == 0;
    }

    /// [SDM Vol. 3 "Virtualization-Exception Information"]
    private RuntimeException virtualizationException(long qualification, long linear, long gpa) {
        long area = vmx.structure(VE_INFORMATION_ADDRESS);
        cpu.writePhysical(area + Ept.VE_REASON, 4, ExitReason.EPT_VIOLATION);
        cpu.writePhysical(area + Ept.VE_BUSY, 4, 0xffff_ffffL);
        cpu.writePhysical(area + Ept.VE_QUALIFICATION, 8, qualification);
        cpu.writePhysical(area + Ept.VE_LINEAR_ADDRESS, 8, linear);
        cpu.writePhysical(area + Ept.VE_PHYSICAL_ADDRESS, 8, gpa);
        cpu.writePhysical(area + Ept.VE_EPTP_INDEX, 2, vmx.vmcs.read(EPTP_INDEX));
        return cpu.fault(ExceptionVector.VE, 0);
    }
}
