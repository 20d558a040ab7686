package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.VmcsField;

/// Checks of values that a metadata write puts into a VMCS, of the TD or of an L2 VM. [TDX-ABI "TD VMCS"]
record VmcsValueCheck(LpState lp, Tdcs tdcs) {
    private static final long TR = 1 << 6;
    private static final long BTS = 1 << 7;
    private static final long UNCORE_PMI = 1 << 13;
    private static final long CR3_RESERVED = (0x1ffL << 52) | (1L << 63);
    private static final long LAM = 3L << 61;

    static LeafFailure invalid() {
        return new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
    }

    /// CR0 or CR4 as a guest would write it: bits in `mask` it must leave as it sees them, and they stay what they are.
    static long guestOwned(long value, long old, long mask, long shadow) throws LeafFailure {
        if ((value & mask) != (shadow & mask)) {
            throw invalid();
        }
        return (old & mask) | (value & ~mask);
    }

    /// Checks the written bits of a control field against its capability MSR: bits 31:0 must be 1, bits 63:32 may be 1.
    static void requireAllowed(long value, long written, long capability) throws LeafFailure {
        if ((written & ((~value & capability) | (value & ~(capability >>> 32))) & 0xffff_ffffL) != 0) {
            throw invalid();
        }
    }

    void requireCr3(long value) throws LeafFailure {
        long address = lp.module.config.lam ? value & ~LAM : value;
        if ((value & CR3_RESERVED) != 0 || !Gpa.isValid(address, tdcs, true)) {
            throw invalid();
        }
    }

    /// IA32_DEBUGCTL with the VMM's uncore PMI bit; branch trace messages that go to no store are for debug TDs.
    long debugctl(long value) throws LeafFailure {
        if ((value & (TR | BTS)) == TR && !tdcs.debug()) {
            throw invalid();
        }
        return (value & ~UNCORE_PMI) | (lp.cpu.seamVmcs().read(VmcsField.GUEST_DEBUGCTL) & UNCORE_PMI);
    }
}
