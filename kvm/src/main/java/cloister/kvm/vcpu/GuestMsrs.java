package cloister.kvm.vcpu;

import cloister.kvm.emulate.GuestGp;
import cloister.kvm.irq.LocalApic;
import cloister.kvm.mmu.GuestMtrrs;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.Msr;
import java.util.List;

/// The MSRs that KVM emulates for ordinary VMs and, as far as [TdMsrs] lets them, for TDs: storage with the checks that
/// matter, and the local APIC's. [LINUX kvm_set_msr_common, kvm_get_msr_common]
public final class GuestMsrs implements Persistent {
    public static final int MC_BANKS = 32;
    public static final int IA32_POWER_CTL = 0x1fc;
    /// Whether the host may poll before a vCPU's thread waits. [LINUX Documentation/virt/kvm/x86/msr.rst]
    public static final int KVM_POLL_CONTROL = 0x4b56_4d05;
    private static final int BBL_CR_CTL3 = 0x11e;
    private static final int EBL_CR_POWERON = 0x2a;
    private static final int IA32_MC0_LAST = Msr.IA32_MC0_CTL + 4 * MC_BANKS - 1;
    private static final long PAT_DEFAULT = 0x0007_0406_0007_0406L;
    /// IBRS, STIBP, SSBD, IPRED_DIS, RRSBA_DIS, DDPD_U, BHI_DIS_S: the controls of leaf 7.
    private static final long SPEC_CTRL_ALLOWED = 0x57fL;
    /// KVM_SUPPORTED_ARCH_CAP: capabilities that mean the same in a guest. Those with MSRs that KVM does not emulate are out.
    private static final long ARCH_CAPABILITIES_SUPPORTED = 0x4000_0000_1d1a_e1ffL;
    private static final int ARCH_CAPABILITIES_FEATURE = 1 << 29;
    private static final long TSX_CTRL = 1 << 7;

    /// What depends on the kind of vCPU.
    public interface Machine {
        /// The guest's TSC.
        long tsc();

        /// WRMSR IA32_TIME_STAMP_COUNTER.
        void tsc(long value);

        /// Reads an MSR that the vCPU's hardware state holds, such as IA32_EFER.
        ///
        /// @throws GuestGp when there is none
        long readHardware(int msr);

        /// Writes one.
        void writeHardware(int msr, long value, boolean byHost);

        /// The MTRRs say something else of guest-physical addresses `[first, end)` than before; `end` is unsigned.
        void guestTypesChanged(long first, long end);
    }

    private final Machine machine;
    private final LocalApic apic;
    private final GuestCpuid cpuid;
    private final long archCapabilities;
    private final GuestMtrrs mtrrs = new GuestMtrrs();
    private final long[] mcBanks = new long[4 * MC_BANKS];
    private long miscEnable = 1L | (1 << 11) | (1 << 12);
    private long miscFeatures;
    private long featureControl;
    private long tscAdjust;
    private long mcgStatus;
    private long mcgCtl = -1;
    private long powerCtl;
    private long pollControl = 1;
    private long biosSignId = 1L << 32;
    private long specCtrl;
    private long pat = PAT_DEFAULT;

    public GuestMsrs(Machine machine, LocalApic apic, GuestCpuid cpuid, long archCapabilities) {
        this.machine = machine;
        this.apic = apic;
        this.cpuid = cpuid;
        this.archCapabilities = archCapabilities & ARCH_CAPABILITIES_SUPPORTED;
    }

    /// KVM_GET_MSR_INDEX_LIST.
    public static List<Integer> indexList() {
        return List.of(Msr.IA32_TIME_STAMP_COUNTER, Msr.IA32_APIC_BASE, Msr.IA32_FEATURE_CONTROL, Msr.IA32_TSC_ADJUST,
                Msr.IA32_SPEC_CTRL, Msr.IA32_TSX_CTRL, Msr.IA32_UMWAIT_CONTROL,
                Msr.IA32_BIOS_SIGN_ID, Msr.IA32_ARCH_CAPABILITIES, Msr.IA32_SYSENTER_CS,
                Msr.IA32_SYSENTER_ESP, Msr.IA32_SYSENTER_EIP, Msr.IA32_MCG_STATUS, Msr.IA32_MCG_CTL,
                Msr.IA32_MISC_ENABLE, Msr.IA32_PAT, Msr.IA32_MTRR_DEF_TYPE, Msr.IA32_TSC_DEADLINE, Msr.IA32_XSS,
                Msr.IA32_EFER, Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_CSTAR, Msr.IA32_FMASK, Msr.IA32_FS_BASE,
                Msr.IA32_GS_BASE, Msr.IA32_KERNEL_GS_BASE, Msr.IA32_TSC_AUX, Msr.IA32_U_CET, Msr.IA32_S_CET, Msr.IA32_PL0_SSP,
                Msr.IA32_PL1_SSP, Msr.IA32_PL2_SSP, Msr.IA32_PL3_SSP, Msr.IA32_INTERRUPT_SSP_TABLE_ADDR,
                KVM_POLL_CONTROL);
    }

    /// IA32_FEATURE_CONTROL is as firmware has left it: nothing is on, and nothing can be turned on. [LINUX tdx_get_msr]
    public void lockFeatures() {
        featureControl = 1;
    }

    /// @throws GuestGp when the MSR does not exist
    public long read(int msr) {
        if (msr >= Msr.IA32_X2APIC_FIRST && msr <= Msr.IA32_X2APIC_LAST) {
            return apic.readMsr(msr);
        }
        if (GuestMtrrs.handles(msr)) {
            require(mtrrs.has(msr));
            return mtrrs.read(msr);
        }
        if (msr >= Msr.IA32_MC0_CTL && msr <= IA32_MC0_LAST) {
            return mcBanks[msr - Msr.IA32_MC0_CTL];
        }
        return switch (msr) {
            case Msr.IA32_TIME_STAMP_COUNTER -> machine.tsc();
            case Msr.IA32_TSC_ADJUST -> tscAdjust;
            case Msr.IA32_TSC_DEADLINE -> apic.tscDeadline();
            case Msr.IA32_APIC_BASE -> apic.baseMsr();
            case Msr.IA32_FEATURE_CONTROL -> featureControl;
            case Msr.IA32_PLATFORM_ID, EBL_CR_POWERON, Msr.IA32_PERF_CAPABILITIES, Msr.IA32_DEBUGCTL,
                 Msr.IA32_P5_MC_ADDR, Msr.IA32_P5_MC_TYPE, Msr.IA32_PERF_CTL, 0x1db, 0x1dc, 0x1dd, 0x1de -> 0;
            case Msr.IA32_BIOS_SIGN_ID -> biosSignId;
            case Msr.MSR_PLATFORM_INFO -> 1L << 31;
            case Msr.MISC_FEATURE_ENABLES -> miscFeatures;
            case Msr.IA32_PAT -> pat;
            case Msr.IA32_ARCH_CAPABILITIES -> requireFeature(ARCH_CAPABILITIES_FEATURE, archCapabilities);
            case BBL_CR_CTL3 -> 0xbe702111L;
            case Msr.IA32_MCG_CAP -> (1L << 8) | MC_BANKS;
            case Msr.IA32_MCG_STATUS -> mcgStatus;
            case Msr.IA32_MCG_CTL -> mcgCtl;
            case Msr.IA32_PERF_STATUS -> 1000L | (4L << 40);
            case Msr.IA32_MISC_ENABLE -> miscEnable;
            case Msr.IA32_SPEC_CTRL -> requireFeature(1 << 26, specCtrl);
            case IA32_POWER_CTL -> powerCtl;
            case KVM_POLL_CONTROL -> pollControl;
            default -> machine.readHardware(msr);
        };
    }

    /// @throws GuestGp when the MSR does not exist or the value is not allowed
    public void write(int msr, long value, boolean byHost) {
        if (msr >= Msr.IA32_X2APIC_FIRST && msr <= Msr.IA32_X2APIC_LAST) {
            apic.writeMsr(msr, value);
            return;
        }
        if (GuestMtrrs.handles(msr)) {
            writeMtrr(msr, value);
            return;
        }
        if (writeMachineCheck(msr, value, byHost)) {
            return;
        }
        switch (msr) {
            case Msr.IA32_TIME_STAMP_COUNTER -> {
                tscAdjust += value - machine.tsc();
                machine.tsc(value);
            }
            case Msr.IA32_TSC_ADJUST -> {
                if (!byHost) {
                    machine.tsc(machine.tsc() + value - tscAdjust);
                }
                tscAdjust = value;
            }
            case Msr.IA32_TSC_DEADLINE -> apic.tscDeadline(value);
            case Msr.IA32_APIC_BASE -> apic.writeBaseMsr(value, cpuid.hasX2apic(), byHost);
            case Msr.IA32_FEATURE_CONTROL -> {
                require(byHost || (featureControl & 1) == 0);
                featureControl = value;
            }
            case Msr.IA32_BIOS_SIGN_ID -> {
                if (byHost) {
                    biosSignId = value;
                }
            }
            case Msr.IA32_BIOS_UPDT_TRIG -> {
            }
            case Msr.IA32_PRED_CMD -> require((value & ~1L) == 0);
            case Msr.IA32_FLUSH_CMD -> require((value & ~1L) == 0);
            case Msr.MISC_FEATURE_ENABLES -> {
                require((value & ~1L) == 0);
                miscFeatures = value;
            }
            case Msr.IA32_PAT -> {
                require(isValidPat(value));
                pat = value;
                machine.writeHardware(msr, value, byHost);
            }
            case Msr.IA32_DEBUGCTL -> require((value & ~3L) == 0);
            case Msr.IA32_MISC_ENABLE -> miscEnable = (value & ~((1L << 11) | (1L << 12))) | (1L << 11) | (1L << 12);
            case Msr.IA32_SPEC_CTRL -> {
                requireFeature(1 << 26, 0);
                require((value & ~SPEC_CTRL_ALLOWED) == 0);
                specCtrl = value;
            }
            case IA32_POWER_CTL -> powerCtl = value;
            case KVM_POLL_CONTROL -> {
                require((value & ~1L) == 0);
                pollControl = value;
            }
            case Msr.IA32_ARCH_CAPABILITIES -> require(byHost);
            case Msr.IA32_PERF_CTL -> {
            }
            default -> machine.writeHardware(msr, value, byHost);
        }
    }

    /// Types change where the register spoke before and where it speaks now.
    private void writeMtrr(int msr, long value) {
        int bits = cpuid.physicalAddressBits();
        long first = mtrrs.firstOf(msr, bits);
        long end = mtrrs.endOf(msr, bits);
        require(mtrrs.write(msr, value, bits));
        machine.guestTypesChanged(first, end);
        if (first != mtrrs.firstOf(msr, bits) || end != mtrrs.endOf(msr, bits)) {
            machine.guestTypesChanged(mtrrs.firstOf(msr, bits), mtrrs.endOf(msr, bits));
        }
    }

    private boolean writeMachineCheck(int msr, long value, boolean byHost) {
        if (msr >= Msr.IA32_MC0_CTL && msr <= IA32_MC0_LAST) {
            int kind = (msr - Msr.IA32_MC0_CTL) & 3;
            require(byHost || kind > 1 || value == 0 || (kind == 0 && (value == -1 || value == -1 << 1)));
            mcBanks[msr - Msr.IA32_MC0_CTL] = value;
            return true;
        }
        if (msr == Msr.IA32_MCG_STATUS) {
            mcgStatus = value;
            return true;
        }
        if (msr == Msr.IA32_MCG_CTL) {
            require(value == 0 || value == -1);
            mcgCtl = value;
            return true;
        }
        return false;
    }

    private static boolean isValidPat(long value) {
        for (int i = 0; i < 8; i++) {
            int type = (int) (value >>> (8 * i)) & 0xff;
            if (type >= 8 || type == 2 || type == 3) {
                return false;
            }
        }
        return true;
    }

    /// Whether IA32_ARCH_CAPABILITIES tells the guest of IA32_TSX_CTRL.
    public boolean hasTsxCtrl() {
        return (cpuid.featuresEdx() & ARCH_CAPABILITIES_FEATURE) != 0 && (archCapabilities & TSX_CTRL) != 0;
    }

    /// The guest's MTRRs.
    public GuestMtrrs mtrrs() {
        return mtrrs;
    }

    private long requireFeature(int leaf7Edx, long value) {
        require((cpuid.featuresEdx() & leaf7Edx) != 0);
        return value;
    }

    private static void require(boolean condition) {
        if (!condition) {
            throw GuestGp.INSTANCE;
        }
    }

    @Override public String stateName() {
        return "msrs";
    }

    @Override public void describe(StateSink to) {
        to.words("mcBanks", mcBanks);
        to.field("miscFeatures", miscFeatures);
        to.field("miscEnable", miscEnable);
        to.field("featureControl", featureControl);
        to.field("tscAdjust", tscAdjust);
        to.field("mcgStatus", mcgStatus);
        to.field("mcgCtl", mcgCtl);
        to.field("powerCtl", powerCtl);
        to.field("pollControl", pollControl);
        to.field("biosSignId", biosSignId);
        to.field("specCtrl", specCtrl);
        to.field("pat", pat);
        to.part(mtrrs);
    }
}
