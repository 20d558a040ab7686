package cloister.cpu.sys;

import cloister.cpu.core.Cpu;

/// Loads PKRU. Translations carry the rights that PKRU gave, so a change may have to drop them; but a host and its guests differ in
/// the rights of keys that no page uses, at every VM entry and exit.
public final class ProtectionKeys {
    private static final int KEY_0 = 3;

    private ProtectionKeys() {
    }

    /// WRPKRU, XRSTOR, and what hosts do.
    public static void load(Cpu cpu, int value) {
        int changed = cpu.pkru ^ value;
        cpu.pkru = value;
        if ((changed & KEY_0) != 0 || (changed != 0 && cpu.protectionKeysCached)) {
            cpu.protectionKeysCached = false;
            cpu.tlb.flushAll();
        }
    }
}
