package cloister.kvm.vmx;

import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.HostCpu;
import cloister.kvm.host.UserReturnMsrs;
import cloister.kvm.vcpu.GuestCpuid;
import cloister.kvm.vcpu.GuestMsrs;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.Msr;

/// An ordinary vCPU's values of the MSRs that only its user programs need: those of [UserReturnMsrs], which stay on the processor, and
/// IA32_UMWAIT_CONTROL, which is stored only, because the host's limit is in force. [LINUX vmx_setup_uret_msrs, vmx_set_msr]
final class UserProgramMsrs implements Persistent {
    private static final int TSX_CTRL = UserReturnMsrs.slotOf(Msr.IA32_TSX_CTRL);
    private static final long RTM_DISABLE = 1;
    private static final long TSX_CTRL_BITS = 3;
    private static final int WAITPKG = 1 << 5;
    /// Bit 1 and the upper half. [SDM Vol. 4 IA32_UMWAIT_CONTROL]
    private static final long UMWAIT_RESERVED = 2 | (0xffff_ffffL << 32);

    private final GuestCpuid cpuid;
    private final GuestMsrs msrs;
    private final long[] values = new long[UserReturnMsrs.SLOTS];
    private long umwaitControl;

    UserProgramMsrs(GuestCpuid cpuid, GuestMsrs msrs) {
        this.cpuid = cpuid;
        this.msrs = msrs;
    }

    static boolean handles(int msr) {
        return msr == Msr.IA32_UMWAIT_CONTROL || UserReturnMsrs.slotOf(msr) >= 0;
    }

    /// Puts the values on `here`.
    void load(HostCpu here) {
        for (int i = 0; i < UserReturnMsrs.SLOTS; i++) {
            here.userReturnMsrs().set(i, values[i]);
        }
    }

    /// A guest without TSX has it turned off.
    void cpuidChanged() {
        values[TSX_CTRL] = cpuid.hasTsx() ? 0 : RTM_DISABLE;
    }

    /// RESET.
    void reset() {
        umwaitControl = 0;
    }

    boolean hasWaitpkg() {
        return (cpuid.featuresEcx() & WAITPKG) != 0;
    }

    /// The guest's IA32_TSX_CTRL.
    long tsxCtrl() {
        return values[TSX_CTRL];
    }

    /// @throws GuestGp when the guest has no such MSR
    long read(int msr) {
        if (msr == Msr.IA32_UMWAIT_CONTROL) {
            require(hasWaitpkg());
            return umwaitControl;
        }
        int slot = UserReturnMsrs.slotOf(msr);
        require(slot != TSX_CTRL || msrs.hasTsxCtrl());
        return values[slot];
    }

    /// @param value   canonical if the MSR holds an address
    /// @param loadedOn the processor that has the guest's values, or null
    /// @throws GuestGp when the guest has no such MSR, or it cannot hold `value`
    void write(int msr, long value, boolean byHost, HostCpu loadedOn) {
        if (msr == Msr.IA32_UMWAIT_CONTROL) {
            require((value & UMWAIT_RESERVED) == 0 && hasWaitpkg());
            umwaitControl = value;
            return;
        }
        require((msr != Msr.IA32_TSC_AUX && msr != Msr.IA32_FMASK) || value >>> 32 == 0);
        int slot = UserReturnMsrs.slotOf(msr);
        require(slot != TSX_CTRL || ((value & ~TSX_CTRL_BITS) == 0 && (byHost || msrs.hasTsxCtrl())));
        values[slot] = value;
        if (loadedOn != null) {
            loadedOn.userReturnMsrs().set(slot, value);
        }
    }

    private static void require(boolean condition) {
        if (!condition) {
            throw GuestGp.INSTANCE;
        }
    }

    @Override public String stateName() {
        return "userMsrs";
    }

    @Override public void describe(StateSink to) {
        to.words("values", values);
        to.field("umwaitControl", umwaitControl);
    }
}
