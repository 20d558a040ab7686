package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TDR, the root control structure of a TD, in a page of the module's global KeyID. [TDX-ABI "TDR"]
final class Tdr extends Structure {
    static final int FATAL = 0x0;
    static final int NUM_TDCX = 0x4;
    static final int CHLDCNT = 0x8;
    static final int LIFECYCLE_STATE = 0x10;
    static final int TDCX_PA = 0x18;
    static final int TD_UUID = 0x60;
    static final int HKID = 0x100;
    static final int PKG_CONFIG_BITMAP = 0x108;
    static final int HANDOFF_VERSION = 0x140;
    static final int SEAMDB_INDEX = 0x148;
    static final int SEAMDB_NONCE = 0x150;

    // Life cycle states. [TDX-BASE "TD Life Cycle State Machine"]
    static final int HKID_ASSIGNED = 0;
    static final int KEYS_CONFIGURED = 1;
    static final int BLOCKED = 2;
    static final int TEARDOWN = 3;

    final long pa;

    Tdr(PhysicalMemory memory, long pa, int globalKeyId) {
        super(memory, PhysicalMemory.hpa(pa, globalKeyId));
        this.pa = pa;
    }

    boolean fatal() {
        return flag(FATAL);
    }

    int numTdcx() {
        return u32(NUM_TDCX);
    }

    long tdcxHpa(int index) {
        return u64(TDCX_PA + 8 * index);
    }

    int keyId() {
        return u16(HKID);
    }

    int lifecycleState() {
        return u32(LIFECYCLE_STATE);
    }

    void addChildren(long count) {
        u64(CHLDCNT, u64(CHLDCNT) + count);
    }

    /// `pa` with the TD's KeyID.
    long withKey(long pa) {
        return PhysicalMemory.hpa(pa, keyId());
    }
}
