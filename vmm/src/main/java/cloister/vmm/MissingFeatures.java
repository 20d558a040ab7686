package cloister.vmm;

import java.util.List;

/// The features that a guest can reach and that Cloister lacks, as their messages begin. The guest fuzzer accepts no others.
final class MissingFeatures {
    private static final List<String> NAMED = List.of(
        "KVM cannot emulate ",
        "KVM cannot deliver vector ",
        "KVM has no service TDs",
        "general-purpose performance counter enabled",
        "architectural last-branch recording enabled",
        "branch trace store enabled",
        "an unmasked x87 exception with CR0.NE = 0",
        "XRSTORS of CET state");

    private MissingFeatures() {
    }

    static boolean isNamed(String message) {
        return NAMED.stream().anyMatch(message::startsWith);
    }
}
