package cloister.kvm;

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
    TD_VCPU_LIMIT("td-vcpus", "processors", "module");

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

    /// What it can be; upstream's choice first.
    public List<String> choices() {
        return choices;
    }

    /// The policy with that name, or null.
    public static KvmPolicy of(String policyName) {
        for (var policy : KvmPolicy.values()) {
            if (policy.policyName.equals(policyName)) {
                return policy;
            }
        }
        return null;
    }
}
