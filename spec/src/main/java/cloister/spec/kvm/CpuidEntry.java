package cloister.spec.kvm;

/// `struct kvm_cpuid_entry2`: one CPUID leaf or sub-leaf of a guest. [LINUX "KVM_SET_CPUID2"]
///
/// @param function leaf (EAX)
/// @param index    sub-leaf (ECX), meaningful when `flags` has [#SIGNIFICANT_INDEX]
/// @param flags    flag bits
public record CpuidEntry(int function, int index, int flags, int eax, int ebx, int ecx, int edx) {
    /// The leaf has sub-leaves: `index` must match.
    public static final int SIGNIFICANT_INDEX = 1;

    /// An entry for a leaf without sub-leaves.
    public static CpuidEntry leaf(int function, int eax, int ebx, int ecx, int edx) {
        return new CpuidEntry(function, 0, 0, eax, ebx, ecx, edx);
    }

    /// An entry for one sub-leaf.
    public static CpuidEntry subLeaf(int function, int index, int eax, int ebx, int ecx, int edx) {
        return new CpuidEntry(function, index, SIGNIFICANT_INDEX, eax, ebx, ecx, edx);
    }

    /// Whether this entry answers CPUID with EAX = `leaf`, ECX = `subLeaf`.
    public boolean matches(int leaf, int subLeaf) {
        return function == leaf && ((flags & SIGNIFICANT_INDEX) == 0 || index == subLeaf);
    }
}
