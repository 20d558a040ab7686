package cloister.kvm;

/// What the module is loaded with.
///
/// @param mmioCaching   mmio_caching: whether accesses to MMIO are recognised by an entry of their own. Without it there are no TDs.
///                      [LINUX arch/x86/kvm/mmu/spte.c]
/// @param mmioParameter a choice of [KvmPolicy#MMIO_PARAMETER]
public record KvmParameters(boolean mmioCaching, String mmioParameter) {
    /// As upstream.
    public static final KvmParameters DEFAULT = new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst());
}
