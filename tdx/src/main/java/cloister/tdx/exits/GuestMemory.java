package cloister.tdx.exits;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Transition;

/// Memory operands of guest-side functions: the module walks the EPT as the processor would. [TDX-BASE "Guest-Side
/// Function Memory Operands"]
public final class GuestMemory {
    public static final long READ = SeptEntry.R;
    public static final long WRITE = SeptEntry.R | SeptEntry.W;
    private static final long MEMORY_TYPES_RESERVED = (1 << 2) | (1 << 3) | (1 << 7);
    private static final int EEQ_PENDING = 6;

    /// How a walk ended.
    public enum Kind { SUCCESS, VIOLATION, CONVERTIBLE, MISCONFIGURED }

    /// @param hpa     the translation
    /// @param entry   the last entry read
    /// @param allowed R, W and X of all entries on the way
    public record Walk(Kind kind, long hpa, long entry, long allowed) {
    }

    private GuestMemory() {
    }

    /// Translates a GPA for an access of the guest; an access that faults leaves by a TD exit or a #VE.
    ///
    /// @return the HPA with KeyID
    /// @throws LeafFailure OPERAND_INVALID without operand
    public static long translate(LpState lp, long gpa, long wanted, boolean privateOnly) throws LeafFailure {
        var tdcs = lp.tdcs;
        if (!Gpa.isValid(gpa, tdcs, privateOnly)) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID);
        }
        boolean shared = Gpa.isShared(gpa, tdcs.gpaw());
        var walk = shared ? walk(lp.module, tdcs.memory, sharedRoot(lp), tdcs.rootLevel(), -1, gpa, wanted)
                : walkPrivate(lp.tdr, tdcs, gpa, wanted);
        if (walk.kind == Kind.SUCCESS) {
            return shared ? walk.hpa : lp.tdr.withKey(walk.hpa);
        }
        long qualification = EptExits.qualification(wanted, walk.allowed);
        if (!shared) {
            if (!SeptState.of(walk.entry).guestAcceptable()) {
                throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, 0, gpa);
            }
            if (tdcs.tdCtl(Tdcs.PENDING_VE_DISABLE)) {
                throw EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, EEQ_PENDING, gpa);
            }
            throw veAndResume(lp, gpa, qualification);
        }
        throw switch (walk.kind) {
            case MISCONFIGURED -> TdExit.async(lp, TdxStatus.SUCCESS, ExitReason.EPT_MISCONFIGURATION, 0, 0, gpa & -4096L, 0);
            case CONVERTIBLE -> veAndResume(lp, gpa, qualification);
            default -> EptExits.violationToHost(lp, ExitReason.EPT_VIOLATION, qualification, 0, gpa);
        };
    }

    /// [#translate] for the operand `operand`.
    public static long operand(LpState lp, long gpa, long access, boolean privateOnly, int operand) throws LeafFailure {
        try {
            return translate(lp, gpa, access, privateOnly);
        } catch (LeafFailure failure) {
            throw new LeafFailure(failure.status() | operand);
        }
    }

    /// The first `length` bytes of a translated operand.
    public static byte[] bytes(LpState lp, long hpa, int length) {
        var result = new byte[length];
        lp.tdcs.memory.read(hpa, result, 0, length);
        return result;
    }

    private static Transition veAndResume(LpState lp, long gpa, long qualification) {
        Inject.ve(lp, ExitReason.EPT_VIOLATION, qualification, gpa, 0);
        VmExit.leaveForBusLock(lp);
        Debugger.intercept(lp);
        return Transition.TO_GUEST;
    }

    private static long sharedRoot(LpState lp) {
        return lp.vmcs.read(VmcsField.SHARED_EPTP) & SeptEntry.HPA;
    }

    public static Walk walkPrivate(Tdr tdr, Tdcs tdcs, long gpa, long wanted) {
        return walk(null, tdcs.memory, tdcs.eptp() & SeptEntry.HPA, tdcs.rootLevel(), tdr.keyId(), gpa, wanted);
    }

    /// @param keyId -1 for a shared EPT, whose addresses carry their own KeyIDs
    private static Walk walk(ModuleState module, PhysicalMemory memory, long root, int rootLevel, int keyId, long gpa,
            long wanted) {
        long table = root;
        long allowed = SeptEntry.RWX;
        for (int level = rootLevel;; level--) {
            long base = keyId < 0 ? table : PhysicalMemory.hpa(PhysicalMemory.pa(table), keyId);
            long entry = memory.read(base + 8 * ((gpa >>> (12 + 9 * level)) & 0x1ff), 8);
            boolean leaf = keyId < 0 ? level == 0 || (level <= 2 && SeptEntry.isLeaf(entry)) : SeptEntry.isLeaf(entry);
            allowed &= entry;
            if (keyId < 0 && isMisconfigured(module, entry, level, leaf)) {
                return new Walk(Kind.MISCONFIGURED, 0, entry, allowed);
            }
            if (!SeptEntry.isPresent(entry) || (wanted & ~entry) != 0) {
                boolean convertible = (!SeptEntry.isPresent(entry) || leaf) && (entry & SeptEntry.SUPPRESS_VE) == 0;
                return new Walk(convertible ? Kind.CONVERTIBLE : Kind.VIOLATION, 0, entry, allowed);
            }
            if (leaf) {
                long hpa = SeptEntry.leafPa(entry, gpa, level);
                boolean bad = keyId < 0 && !module.isSharedHpa(hpa, PhysicalMemory.FRAME_SIZE);
                return new Walk(bad ? Kind.MISCONFIGURED : Kind.SUCCESS, hpa, entry, allowed);
            }
            table = entry & SeptEntry.HPA;
        }
    }

    /// [SDM Vol. 3 "EPT Misconfigurations"]
    private static boolean isMisconfigured(ModuleState module, long entry, int level, boolean leaf) {
        if ((entry & SeptEntry.WRITE_ONLY_MASK) == SeptEntry.W) {
            return true;
        }
        if (!SeptEntry.isPresent(entry)) {
            return false;
        }
        long hpa = entry & SeptEntry.HPA;
        if (!leaf) {
            return (entry & 0x78) != 0 || (level > 2 && SeptEntry.isLeaf(entry))
                    || !module.isSharedHpa(hpa, PhysicalMemory.FRAME_SIZE);
        }
        // A leaf's HPA is checked last, and only that of the 4 KiB that are accessed.
        return ((MEMORY_TYPES_RESERVED >>> ((entry >>> 3) & 7)) & 1) != 0 || (hpa & ((1L << (12 + 9 * level)) - 1)) != 0;
    }
}
