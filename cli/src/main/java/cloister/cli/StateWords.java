package cloister.cli;

import java.util.Map;

/// What the states of Secure-EPT entries and the types of pages mean, for people. [TDX-BASE "Secure EPT Entry State", "Physical Page
/// Metadata"]
final class StateWords {
    private static final Map<String, String> ENTRIES = Map.of(
            "FREE", "nothing is mapped",
            "MAPPED", "the TD can use the page",
            "PENDING", "the host has given the page, the TD has not accepted it yet",
            "BLOCKED", "the host has blocked a mapped page, to remove or change it",
            "PENDING_BLOCKED", "the host has blocked a page that was not accepted",
            "NL_MAPPED", "a table below",
            "NL_BLOCKED", "a table below that the host has blocked",
            "REMOVED", "the page was removed while the TD was migrated");
    private static final Map<String, String> PAGES = Map.of(
            "PT_NDA", "not in use by the module",
            "PT_RSVD", "reserved: not for the module",
            "PT_REG", "private memory of trust domains",
            "PT_TDR", "roots of trust domains",
            "PT_TDCX", "control structures of trust domains and vCPUs",
            "PT_TDVPR", "roots of vCPUs",
            "PT_EPT", "Secure EPT");

    private StateWords() {
    }

    /// The meaning of the state of an entry; empty when we have no words for it.
    static String ofEntry(String state) {
        return ENTRIES.getOrDefault(state, "");
    }

    /// The meaning of a page type.
    static String ofPage(String type) {
        return PAGES.getOrDefault(type, "");
    }
}
