package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.vcpu.GuestCpuid;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Msr;
import java.util.Arrays;

/// The control-flow enforcement MSRs of an ordinary VM's vCPU. Those that XSAVES manages are switched with the vCPU, the others by
/// VMX. The guest accesses them without exits when its CPUID has the features, all but IA32_INTERRUPT_SSP_TABLE_ADDR.
/// [LINUX __kvm_set_msr, is_xstate_managed_msr, vmx_recalc_msr_intercepts]
final class ControlFlowMsrs implements Persistent {
    private static final int SHSTK = 1 << 7;
    private static final int IBT = 1 << 20;
    private static final int[] SWITCHED = {Msr.IA32_U_CET, Msr.IA32_PL0_SSP, Msr.IA32_PL1_SSP, Msr.IA32_PL2_SSP, Msr.IA32_PL3_SSP};

    private final LoadedVmcs vmcs;
    private final GuestCpuid cpuid;
    private final long[] values = new long[SWITCHED.length];
    /// Where the switched ones are now; null: here.
    private LogicalProcessor lp;

    ControlFlowMsrs(LoadedVmcs vmcs, GuestCpuid cpuid) {
        this.vmcs = vmcs;
        this.cpuid = cpuid;
    }

    static boolean handles(int msr) {
        return msr == Msr.IA32_U_CET || msr == Msr.IA32_S_CET
                || (msr >= Msr.IA32_PL0_SSP && msr <= Msr.IA32_INTERRUPT_SSP_TABLE_ADDR);
    }

    static boolean hasShadowStacks(GuestCpuid cpuid) {
        return (cpuid.featuresEcx() & SHSTK) != 0;
    }

    /// Whether the guest has control-flow enforcement of either kind.
    static boolean has(GuestCpuid cpuid) {
        return hasShadowStacks(cpuid) || (cpuid.featuresEdx() & IBT) != 0;
    }

    void load(LogicalProcessor to) {
        for (int i = 0; i < SWITCHED.length; i++) {
            to.wrmsr(SWITCHED[i], values[i]);
        }
        lp = to;
    }

    void put() {
        for (int i = 0; i < SWITCHED.length; i++) {
            values[i] = lp.rdmsr(SWITCHED[i]);
        }
        lp = null;
    }

    /// RESET and INIT.
    void reset() {
        vmcs.write(GUEST_S_CET, 0);
        vmcs.write(GUEST_SSP, 0);
        vmcs.write(GUEST_INTERRUPT_SSP_TABLE, 0);
        Arrays.fill(values, 0);
        if (lp != null) {
            load(lp);
        }
    }

    private void require(int msr) {
        boolean control = msr == Msr.IA32_U_CET || msr == Msr.IA32_S_CET;
        if (control ? !has(cpuid) : !hasShadowStacks(cpuid)) {
            throw GuestGp.INSTANCE;
        }
    }

    /// @throws GuestGp when the guest has no such MSR
    long read(int msr) {
        require(msr);
        return switch (msr) {
            case Msr.IA32_S_CET -> vmcs.read(GUEST_S_CET);
            case Msr.IA32_INTERRUPT_SSP_TABLE_ADDR -> vmcs.read(GUEST_INTERRUPT_SSP_TABLE);
            default -> lp != null ? lp.rdmsr(msr) : values[slot(msr)];
        };
    }

    /// @param value canonical
    /// @throws GuestGp when the guest has no such MSR, or it cannot hold `value`
    void write(int msr, long value) {
        require(msr);
        boolean control = msr == Msr.IA32_U_CET || msr == Msr.IA32_S_CET;
        boolean legal = control ? Cet.legalControl(value) : msr == Msr.IA32_INTERRUPT_SSP_TABLE_ADDR || (value & 3) == 0;
        if (!legal) {
            throw GuestGp.INSTANCE;
        }
        switch (msr) {
            case Msr.IA32_S_CET -> vmcs.write(GUEST_S_CET, value);
            case Msr.IA32_INTERRUPT_SSP_TABLE_ADDR -> vmcs.write(GUEST_INTERRUPT_SSP_TABLE, value);
            default -> {
                values[slot(msr)] = value;
                if (lp != null) {
                    lp.wrmsr(msr, value);
                }
            }
        }
    }

    private static int slot(int msr) {
        return msr == Msr.IA32_U_CET ? 0 : 1 + msr - Msr.IA32_PL0_SSP;
    }

    @Override public String stateName() {
        return "controlFlow";
    }

    @Override public void describe(StateSink to) {
        to.words("values", values);
    }
}
