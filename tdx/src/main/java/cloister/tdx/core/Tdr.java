package cloister.tdx.core;

import cloister.memory.PhysicalMemory;

/// TDR, the root control structure of a TD, in a page of the module's global KeyID. [TDX-ABI "TDR"]
public final class Tdr extends Structure {
    public static final int FATAL = 0x0;
    public static final int NUM_TDCX = 0x4;
    public static final int CHLDCNT = 0x8;
    public static final int LIFECYCLE_STATE = 0x10;
    public static final int TDCX_PA = 0x18;
    public static final int TD_UUID = 0x60;
    public static final int HKID = 0x100;
    public static final int PKG_CONFIG_BITMAP = 0x108;
    public static final int HANDOFF_VERSION = 0x140;
    public static final int SEAMDB_INDEX = 0x148;
    public static final int SEAMDB_NONCE = 0x150;

    // Life cycle states. [TDX-BASE "TD Life Cycle State Machine"]
    public static final int HKID_ASSIGNED = 0;
    public static final int KEYS_CONFIGURED = 1;
    public static final int BLOCKED = 2;
    public static final int TEARDOWN = 3;

    public final long pa;

    public Tdr(PhysicalMemory memory, long pa, int globalKeyId) {
        super(memory, PhysicalMemory.hpa(pa, globalKeyId));
        this.pa = pa;
    }

    public boolean fatal() {
        return flag(FATAL);
    }

    public int numTdcx() {
        return u32(NUM_TDCX);
    }

    public long tdcxHpa(int index) {
        return u64(TDCX_PA + 8 * index);
    }

    public int keyId() {
        return u16(HKID);
    }

    public int lifecycleState() {
        return u32(LIFECYCLE_STATE);
    }

    public void addChildren(long count) {
        u64(CHLDCNT, u64(CHLDCNT) + count);
    }

    /// `pa` with the TD's KeyID.
    public long withKey(long pa) {
        return PhysicalMemory.hpa(pa, keyId());
    }
}
