package cloister.kvm;

/// What the module is loaded with.
///
/// @param mmioCaching   mmio_caching: whether accesses to MMIO are recognised by an entry of their own. Without it there are no TDs.
///                      [LINUX arch/x86/kvm/mmu/spte.c]
/// @param mmioParameter a choice of [KvmPolicy#MMIO_PARAMETER]
/// @param ept           ept: whether guests' memory is mapped by EPT. Without it their own tables are shadowed, and there are no TDs.
///                      [LINUX arch/x86/kvm/vmx/vmx.c]
public record KvmParameters(boolean mmioCaching, String mmioParameter, boolean ept) {
    /// As upstream.
    public static final KvmParameters DEFAULT = new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst());

    /// With EPT.
    public KvmParameters(boolean mmioCaching, String mmioParameter) {
        this(mmioCaching, mmioParameter, true);
    }
}
