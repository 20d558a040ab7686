package cloister.kvm.vcpu;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.x86.Cr4;
import java.util.List;

/// A vCPU's CPUID as KVM_SET_CPUID2 gave it, with the bits that follow the vCPU's state. [LINUX arch/x86/kvm/cpuid.c]
public final class GuestCpuid implements Persistent {
    private static final int NO_SIGNATURE = 0x600;
    public static final int MAX_ENTRIES = 256;
    private static final int RTM = 1 << 11;
    private static final int OSXSAVE = 1 << 27;
    private static final int X2APIC = 1 << 21;
    private static final int MTRR = 1 << 12;
    private static final int TSC_DEADLINE = 1 << 24;
    private static final int APIC = 1 << 9;
    private static final int OSPKE = 1 << 4;
    private static final int XSAVE_LEGACY_AND_HEADER = 576;
    private static final long FIRST_EXTENDED_COMPONENTS = ~3L;

    private List<CpuidEntry> entries = List.of();

    public void replace(List<CpuidEntry> table) {
        entries = List.copyOf(table);
    }

    public List<CpuidEntry> entries() {
        return entries;
    }

    private CpuidEntry find(int leaf, int subLeaf) {
        for (int i = 0; i < entries.size(); i++) {
            var entry = entries.get(i);
            if (entry.matches(leaf, subLeaf)) {
                return entry;
            }
        }
        return null;
    }

    private boolean hasLeaf(int leaf) {
        for (int i = 0; i < entries.size(); i++) {
            if (entries.get(i).function() == leaf) {
                return true;
            }
        }
        return false;
    }

    /// What RDX holds after RESET and INIT: family, model and stepping.
    public int signature() {
        var entry = find(1, 0);
        return entry == null ? NO_SIGNATURE : entry.eax();
    }

    public boolean hasX2apic() {
        var entry = find(1, 0);
        return entry != null && (entry.ecx() & X2APIC) != 0;
    }

    public boolean hasMtrrs() {
        var entry = find(1, 0);
        return entry != null && (entry.edx() & MTRR) != 0;
    }

    /// The width of guest-physical addresses.
    public int physicalAddressBits() {
        var entry = find(0x8000_0008, 0);
        return entry == null ? 36 : entry.eax() & 0xff;
    }

    /// The state components that XCR0 may enable.
    public long supportedXcr0() {
        var entry = find(0xd, 0);
        return entry == null ? 0 : (entry.eax() & 0xffff_ffffL) | ((long) entry.edx() << 32);
    }

    /// The state components that IA32_XSS may enable.
    public long supportedXss() {
        var entry = find(0xd, 1);
        return entry == null ? 0 : (entry.ecx() & 0xffff_ffffL) | ((long) entry.edx() << 32);
    }

    /// EDX of leaf 7.
    public int featuresEdx() {
        var entry = find(7, 0);
        return entry == null ? 0 : entry.edx();
    }

    /// Whether leaf 7 has RTM.
    public boolean hasTsx() {
        var entry = find(7, 0);
        return entry != null && (entry.ebx() & RTM) != 0;
    }

    /// ECX of leaf 7.
    public int featuresEcx() {
        var entry = find(7, 0);
        return entry == null ? 0 : entry.ecx();
    }

    /// What CPUID returns to the guest, into `out`: EAX, EBX, ECX, EDX. [LINUX kvm_cpuid]
    public void query(int leaf, int subLeaf, long cr4, long xcr0, long xss, boolean apicEnabled, int[] out) {
        var entry = find(leaf, subLeaf);
        int known = leaf;
        if (entry == null && isOutOfRange(leaf)) {
            var last = find(0, 0);
            if (last != null) {
                known = last.eax();
                entry = find(known, subLeaf);
            }
        }
        if (entry == null) {
            fill(out, 0, 0, 0, 0);
            if ((known == 0xb || known == 0x1f) && find(known, 1) != null) {
                out[2] = subLeaf & 0xff;
                out[3] = find(known, 1).edx();
            }
            return;
        }
        fill(out, entry.eax(), entry.ebx(), entry.ecx(), entry.edx());
        switch (known) {
            case 1 -> {
                out[2] = with(out[2], OSXSAVE, (cr4 & Cr4.OSXSAVE) != 0);
                out[3] = with(out[3], APIC, apicEnabled);
            }
            case 7 -> {
                if (subLeaf == 0) {
                    out[2] = with(out[2], OSPKE, (cr4 & Cr4.PKE) != 0);
                }
            }
            case 0xd -> {
                if (subLeaf == 0) {
                    out[1] = xsaveSize(xcr0, false);
                } else if (subLeaf == 1 && (out[0] & 0xa) != 0) {
                    out[1] = xsaveSize(xcr0 | xss, true);
                }
            }
            default -> {
            }
        }
    }

    private boolean isOutOfRange(int leaf) {
        int base = leaf & 0xc000_0000;
        var last = find(base, 0);
        return last == null || Integer.compareUnsigned(leaf, last.eax()) > 0 || (base == 0 && !hasLeaf(leaf) && leaf < 0);
    }

    private int xsaveSize(long components, boolean compact) {
        int size = XSAVE_LEGACY_AND_HEADER;
        for (long left = components & FIRST_EXTENDED_COMPONENTS; left != 0; left &= left - 1) {
            var component = find(0xd, Long.numberOfTrailingZeros(left));
            if (component == null) {
                continue;
            }
            if (compact) {
                size = ((component.ecx() & 2) != 0 ? (size + 63) & -64 : size) + component.eax();
            } else {
                size = Math.max(size, component.ebx() + component.eax());
            }
        }
        return size;
    }

    private static int with(int word, int bit, boolean value) {
        return value ? word | bit : word & ~bit;
    }

    private static void fill(int[] out, int eax, int ebx, int ecx, int edx) {
        out[0] = eax;
        out[1] = ebx;
        out[2] = ecx;
        out[3] = edx;
    }

    @Override public String stateName() {
        return "cpuid";
    }

    @Override public void describe(StateSink to) {
        to.text("entries", entries);
    }
}
