package cloister.kvm.vcpu;

import cloister.cpu.LogicalProcessor;
import cloister.spec.kvm.CpuidEntry;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/// KVM_GET_SUPPORTED_CPUID: the silicon's features, less what an ordinary VM does not get. [LINUX kvm_initialize_cpu_caps]
public final class SupportedCpuid {
    private static final int GUEST_PHYSICAL_BITS = 46;
    // Leaf 1 ECX: no MONITOR, DTES64, DS-CPL, VMX, SMX, EIST, TM2, PDCM; with x2APIC, TSC deadline, hypervisor.
    private static final int LEAF1_ECX_OFF = (1 << 3) | (1 << 2) | (1 << 4) | (1 << 5) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 15);
    private static final int LEAF1_ECX_ON = (1 << 21) | (1 << 24) | (1 << 31);
    // Leaf 1 EDX: no DS, ACPI, TM, PBE.
    private static final int LEAF1_EDX_OFF = (1 << 21) | (1 << 22) | (1 << 29) | (1 << 31);
    // Leaf 7 ECX: no TME, bus-lock detect, ENQCMD, PKS.
    private static final int LEAF7_ECX_OFF = (1 << 13) | (1 << 24) | (1 << 29) | (1 << 31);
    // Leaf 7 EDX: no UINTR, ARCH_LBR, PCONFIG, core capabilities.
    private static final int LEAF7_EDX_OFF = (1 << 5) | (1 << 18) | (1 << 19) | (1 << 30);

    // What shadow paging cannot do, in leaf 7 ECX: PKU, shadow stacks.
    private static final int LEAF7_ECX_NEEDS_EPT = (1 << 3) | (1 << 7);
    private static final int PKRU_STATE = 1 << 9;

    /// CET_U and CET_S.
    private static final int SUPPORTED_XSS = 0x1800;
    private static final int XSAVE_LEGACY_AND_HEADER = 576;

    private SupportedCpuid() {
    }

    /// @param ept whether guests' memory is mapped by EPT
    public static List<CpuidEntry> of(LogicalProcessor lp, boolean ept) {
        var result = new ArrayList<CpuidEntry>();
        int[] r = new int[4];
        lp.cpuid(0, 0, r);
        int last = Math.min(r[0], 0x1f);
        for (int leaf = 0; leaf <= last; leaf++) {
            switch (leaf) {
                case 3, 5, 8, 9, 0xa, 0xc, 0xe, 0xf, 0x10, 0x11, 0x12, 0x13, 0x14, 0x17, 0x18, 0x19, 0x1a, 0x1b, 0x1c,
                     0x1d, 0x1e -> {
                }
                case 4 -> subLeaves(lp, leaf, 0, 8, result);
                case 7 -> subLeaves(lp, leaf, 0, 2, result);
                case 0xb, 0x1f -> subLeaves(lp, leaf, 0, 1, result);
                case 0xd -> extendedState(lp, result);
                default -> {
                    lp.cpuid(leaf, 0, r);
                    result.add(CpuidEntry.leaf(leaf, r[0], r[1], r[2], r[3]));
                }
            }
        }
        result.add(signature());
        result.add(CpuidEntry.leaf(0x4000_0001, 0, 0, 0, 0));
        for (int leaf = 0x8000_0000; leaf <= 0x8000_0008; leaf++) {
            lp.cpuid(leaf, 0, r);
            result.add(CpuidEntry.leaf(leaf, r[0], r[1], r[2], r[3]));
        }
        result.replaceAll(SupportedCpuid::restrict);
        if (!ept) {
            result.replaceAll(SupportedCpuid::withoutEpt);
            result.removeIf(e -> e.function() == 0xd && e.index() == 9);
        }
        return result;
    }

    private static void subLeaves(LogicalProcessor lp, int leaf, int first, int last, List<CpuidEntry> result) {
        int[] r = new int[4];
        for (int sub = first; sub <= last; sub++) {
            lp.cpuid(leaf, sub, r);
            if (leaf == 4 && (r[0] & 0x1f) == 0) {
                result.add(CpuidEntry.subLeaf(leaf, sub, 0, 0, 0, 0));
                return;
            }
            result.add(CpuidEntry.subLeaf(leaf, sub, r[0], r[1], r[2], r[3]));
        }
    }

    /// Of the supervisor components an ordinary VM has those of CET (KVM_SUPPORTED_XSS).
    private static void extendedState(LogicalProcessor lp, List<CpuidEntry> result) {
        int[] r = new int[4];
        lp.cpuid(0xd, 0, r);
        long xcr0 = (r[0] & 0xffff_ffffL) | ((long) r[3] << 32);
        result.add(CpuidEntry.subLeaf(0xd, 0, r[0], r[2], r[2], r[3]));
        lp.cpuid(0xd, 1, r);
        long xss = r[2] & SUPPORTED_XSS;
        int features = r[0] & 0xf;
        int at = result.size();
        int size = XSAVE_LEGACY_AND_HEADER;
        for (int component = 2; component < 63; component++) {
            if (((xcr0 | xss) & (1L << component)) != 0) {
                lp.cpuid(0xd, component, r);
                result.add(CpuidEntry.subLeaf(0xd, component, r[0], r[1], r[2], 0));
                size = ((r[2] & 2) != 0 ? (size + 63) & -64 : size) + r[0];
            }
        }
        result.add(at, CpuidEntry.subLeaf(0xd, 1, features, size, (int) xss, 0));
    }

    private static CpuidEntry signature() {
        var name = ByteBuffer.wrap("KVMKVMKVM\0\0\0".getBytes(StandardCharsets.US_ASCII)).order(ByteOrder.LITTLE_ENDIAN);
        return CpuidEntry.leaf(0x4000_0000, 0x4000_0001, name.getInt(), name.getInt(), name.getInt());
    }

    private static CpuidEntry withoutEpt(CpuidEntry e) {
        if (e.function() == 7 && e.index() == 0) {
            return CpuidEntry.subLeaf(7, 0, e.eax(), e.ebx(), e.ecx() & ~LEAF7_ECX_NEEDS_EPT, e.edx());
        }
        return e.function() == 0xd && e.index() == 0
                ? CpuidEntry.subLeaf(0xd, 0, e.eax() & ~PKRU_STATE, e.ebx(), e.ecx(), e.edx()) : e;
    }

    private static CpuidEntry restrict(CpuidEntry e) {
        return switch (e.function()) {
            case 1 -> CpuidEntry.leaf(1, e.eax(), e.ebx(), (e.ecx() & ~LEAF1_ECX_OFF & ~(1 << 27)) | LEAF1_ECX_ON,
                    (e.edx() & ~LEAF1_EDX_OFF) | (1 << 9));
            case 7 -> e.index() == 0
                    ? CpuidEntry.subLeaf(7, 0, e.eax(), e.ebx() & ~((1 << 2) | (1 << 25)), e.ecx() & ~LEAF7_ECX_OFF & ~(1 << 4),
                            e.edx() & ~LEAF7_EDX_OFF)
                    : e;
            case 0x8000_0001 -> CpuidEntry.leaf(e.function(), e.eax(), e.ebx(), e.ecx(), e.edx() | (1 << 11));
            case 0x8000_0008 -> CpuidEntry.leaf(e.function(), (e.eax() & ~0xff00ff) | GUEST_PHYSICAL_BITS, e.ebx(), e.ecx(),
                    e.edx());
            default -> e;
        };
    }
}
