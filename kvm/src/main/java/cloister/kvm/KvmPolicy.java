package cloister.kvm;

import cloister.spec.kvm.VmType;
import java.util.List;

/// Where KVM's developers weighed several designs, a VM may be given another than the one that upstream Linux kept. The names are those of
/// `cloister run --policy`.
public enum KvmPolicy {
    /// How a zap in a TD meets OPERAND_BUSY. `kick-and-exclude`: the vCPUs are kicked and kept out, and one retry must succeed (upstream).
    /// `retry-forever`: the call is repeated until it succeeds, with the vCPUs running. `retry-n`: so, but [#RETRIES] times at most; then
    /// the TD is dead.
    ZAP_CONTENTION("zap", "kick-and-exclude", "retry-forever", "retry-n"),
    /// How many vCPUs a TD may have. `processors`: as many as the platform has logical processors (upstream). `module`: as many as the
    /// TDX module allows (MAX_VCPUS_PER_TD).
    TD_VCPU_LIMIT("td-vcpus", "processors", "module"),
    /// What KVM_PRE_FAULT_MEMORY populates. `current-mmu`: the tables that the vCPU uses now (upstream). `map-memory-v1`: those that it
    /// would use outside system-management mode and nested guests, as in the first form of KVM_MAP_MEMORY, which switched the vCPU's MMU
    /// over and back.
    PRE_FAULT("pre-fault", "current-mmu", "map-memory-v1"),
    /// What marks a TD's entries for MMIO. `per-vm`: a mark of its own, 0, so that an access is a violation that the TDX module makes a
    /// #VE (upstream). `global`: that of ordinary VMs, as when all VMs shared one; the access is a misconfiguration, which KVM can do
    /// nothing about: the TD is dead.
    MMIO_VALUE("mmio-value", "per-vm", "global"),
    /// What becomes of the module's parameter mmio_caching when masks of entries change. `snapshot`: it is kept, and each mark is judged
    /// by it (upstream). `vendor-sets`: only vendor code sets marks. `cleared-for-good`: a mark that does not work clears it, as it was
    /// before upstream took the snapshot. Chosen when the module is loaded, for all VMs: [KvmParameters].
    MMIO_PARAMETER("mmio-parameter", "snapshot", "vendor-sets", "cleared-for-good"),
    /// Which memory type a mapping has. `upstream-7.2`: write-back for memory, and whether the guest's PAT counts is for attached devices
    /// and quirks to say; MTRRs are storage without effect. `mtrr`, for ordinary VMs: with non-coherent DMA the guest's MTRRs and CR0.CD
    /// decide, as before Linux 6.11. `proposed-2023`, for TDs: no MTRR but the default type, which is write-back; the guest's PAT counts
    /// for shared memory when non-coherent DMA is attached.
    MEMORY_TYPE("memory-type", "upstream-7.2", "mtrr", "proposed-2023");

    /// Repetitions of `retry-n`.
    public static final int RETRIES = 16;

    private final String policyName;
    private final List<String> choices;

    KvmPolicy(String policyName, String... choices) {
        this.policyName = policyName;
        this.choices = List.of(choices);
    }

    /// Its name for people.
    public String policyName() {
        return policyName;
    }

    /// Whether it is chosen when the module is loaded, for all VMs.
    public boolean isOfModule() {
        return this == MMIO_PARAMETER;
    }

    /// What it can be; upstream's choice first.
    public List<String> choices() {
        return choices;
    }

    /// Whether `choice`, which is one of [#choices], can matter to a VM of `type`. Upstream's choice is for all.
    public boolean isFor(VmType type, String choice) {
        boolean td = type == VmType.TDX;
        return switch (this) {
            case ZAP_CONTENTION, TD_VCPU_LIMIT, MMIO_VALUE -> td || choice.equals(choices.getFirst());
            case MEMORY_TYPE -> td ? !choice.equals("mtrr") : !choice.equals("proposed-2023");
            case PRE_FAULT, MMIO_PARAMETER -> true;
        };
    }

    /// The policy with that name, in capitals or not, or null.
    public static KvmPolicy of(String policyName) {
        for (var policy : KvmPolicy.values()) {
            if (policy.policyName.equalsIgnoreCase(policyName)) {
                return policy;
            }
        }
        return null;
    }
}
