package cloister.tdx.exits;

import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.LpState;
import cloister.tdx.core.VirtualVmx;
import cloister.tdx.core.VmcsInit;

/// Writes of CR0 and CR4 by a TD that change what it does not own. [TDX-BASE "CR0 Handling", "CR4 Handling"]
final class CrAccess {
    private static final int MOV_TO_CR = 0;
    private static final int LMSW = 3;
    private static final long LMSW_BITS = 0xe;
    private static final long WP = 1 << 16;
    private static final long CR4_CET = 1 << 23;
    private static final long CR0_IGNORED = 0x1ffa_ffc0L;
    private static final long CR0_NW_CD = 3L << 29;

    private enum Outcome { DONE, GP, VE }

    private CrAccess() {
    }

    /// @return false when the TD does not cause such an exit
    static boolean handle(LpState lp, long qualification) {
        int type = (int) (qualification >>> 4) & 3;
        if (type == LMSW) {
            long cr0 = lp.vmcs.read(VmcsField.GUEST_CR0);
            lp.vmcs.write(VmcsField.GUEST_CR0, ((qualification >>> 16) & LMSW_BITS) | (cr0 & ~LMSW_BITS));
            return true;
        }
        if (type != MOV_TO_CR) {
            return false;
        }
        int gpr = (int) (qualification >>> 8) & 0xf;
        long value = gpr == LpState.RSP ? lp.vmcs.read(VmcsField.GUEST_RSP) : lp.vcpu.gpr(gpr);
        Outcome outcome;
        switch ((int) qualification & 0xf) {
            case 0 -> outcome = writeCr0(lp, value);
            case 4 -> outcome = writeCr4(lp, value);
            default -> {
                return false;
            }
        }
        switch (outcome) {
            case DONE -> {
            }
            case GP -> Inject.gp(lp);
            case VE -> Inject.ve(lp, ExitReason.CR_ACCESS, qualification, 0, 0);
        }
        return true;
    }

    private static Outcome writeCr0(LpState lp, long value) {
        var config = lp.module.config;
        long required = config.vmxCr0Fixed0 & ~VmcsInit.CR0_PE_PG;
        boolean pe = (value & VmcsInit.CR0_PE) != 0;
        if ((~value & required) != 0 || (value & ~config.vmxCr0Fixed1) != 0 || (!pe && (value & VmcsInit.CR0_PG) != 0)) {
            return Outcome.GP;
        }
        if ((lp.vmcs.read(VmcsField.GUEST_CR4) & CR4_CET) != 0 && (value & WP) == 0) {
            return Outcome.GP;
        }
        if (!pe || (value & VmcsInit.CR0_NE) == 0 || (value & CR0_NW_CD) != 0 || value >>> 32 != 0) {
            return Outcome.VE;
        }
        long old = lp.vmcs.read(VmcsField.GUEST_CR0);
        lp.vmcs.write(VmcsField.GUEST_CR0, (value & ~CR0_IGNORED) | (old & CR0_IGNORED));
        return Outcome.DONE;
    }

    /// A legal write of CR4 does not exit: this one is a #GP or a #VE.
    private static Outcome writeCr4(LpState lp, long value) {
        var config = lp.module.config;
        long required = config.vmxCr4Fixed0 & ~VmcsInit.CR4_VMXE;
        boolean invalid = (~value & required) != 0 || (value & ~config.vmxCr4Fixed1) != 0
                || (value & VirtualVmx.hiddenCr4(lp.tdcs)) != 0
                || ((value & CR4_CET) != 0 && (lp.vmcs.read(VmcsField.GUEST_CR0) & WP) == 0);
        return invalid ? Outcome.GP : Outcome.VE;
    }
}
