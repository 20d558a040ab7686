package cloister.tdx.exits;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.core.LpState;
import cloister.tdx.core.PlatformCheck;
import cloister.tdx.core.PlatformConfig;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;

/// CPUID executed by a TD. [TDX-BASE "CPUID Virtualization"]
final class CpuidExit {
    private static final int LAST_BASE_LEAF = 0x23;
    private static final int EBX = 1;
    private static final int ECX = 2;
    private static final int EDX = 3;
    private static final long CR4_OSXSAVE = 1 << 18;
    private static final long CR4_PKE = 1 << 22;
    private static final int SUPERVISOR_VE = 1;
    private static final int USER_VE = 2;

    private CpuidExit() {
    }

    static void handle(LpState lp) {
        var vcpu = lp.vcpu;
        int leaf = effectiveLeaf(lp.module.config, (int) vcpu.gpr(LpState.RAX));
        int subleaf = (int) vcpu.gpr(LpState.RCX);
        int index = CpuidTable.find(leaf, subleaf);
        if (index < 0 || CpuidTable.rows().get(index).faulting() || guestWantsVe(lp, index)) {
            Inject.ve(lp, ExitReason.CPUID, 0, 0, 0);
            return;
        }
        var value = new int[4];
        for (int r = 0; r < 4; r++) {
            value[r] = lp.tdcs.u32(Tdcs.CPUID_VALUES + 16 * index + 4 * r);
        }
        if (!dynamic(lp, leaf, subleaf, value)) {
            Inject.ve(lp, ExitReason.CPUID, 0, 0, 0);
            return;
        }
        vcpu.gpr(LpState.RAX, value[0] & 0xffff_ffffL);
        vcpu.gpr(LpState.RBX, value[EBX] & 0xffff_ffffL);
        vcpu.gpr(LpState.RCX, value[ECX] & 0xffff_ffffL);
        vcpu.gpr(LpState.RDX, value[EDX] & 0xffff_ffffL);
    }

    /// A leaf beyond the last one of its range counts as the last basic leaf; the hypervisor range 40000000H to 4FFFFFFFH
    /// is never enumerated.
    private static int effectiveLeaf(PlatformConfig config, int leaf) {
        boolean hypervisor = leaf >>> 28 == 4;
        boolean tooHigh = Integer.compareUnsigned(leaf, config.lastExtendedLeaf) > 0
                || (Integer.compareUnsigned(leaf, LAST_BASE_LEAF) > 0 && leaf >= 0);
        return !hypervisor && tooHigh ? LAST_BASE_LEAF : leaf;
    }

    private static boolean guestWantsVe(LpState lp, int index) {
        int control = lp.vcpu.u8(Tdvps.CPUID_CONTROL + index);
        return GuestMode.cpl(lp) == 0 ? lp.vcpu.flag(Tdvps.CPUID_SUPERVISOR_VE) || (control & SUPERVISOR_VE) != 0
                : lp.vcpu.flag(Tdvps.CPUID_USER_VE) || (control & USER_VE) != 0;
    }

    /// @return false for a #VE
    private static boolean dynamic(LpState lp, int leaf, int subleaf, int[] value) {
        var tdcs = lp.tdcs;
        boolean topology = tdcs.tdCtl(Tdcs.ENUM_TOPOLOGY);
        int x2apicId = tdcs.u32(Tdcs.X2APIC_IDS + 4 * lp.vcpu.index());
        long cr4 = lp.vmcs.read(VmcsField.GUEST_CR4);
        switch (leaf) {
            case 1 -> {
                int id = topology ? x2apicId : lp.vcpu.index();
                value[EBX] = (value[EBX] & 0xff_ffff) | (id << 24);
                value[ECX] = (value[ECX] & ~(1 << 27)) | ((cr4 & CR4_OSXSAVE) != 0 ? 1 << 27 : 0);
            }
            case 2 -> {
                return tdcs.tdCtl(Tdcs.VIRT_CPUID2);
            }
            case 7 -> {
                if (subleaf == 0) {
                    if (tdcs.cpuidFlag(Tdcs.TSX)
                            && (lp.cpu.rdmsr(Msr.IA32_TSX_CTRL) & PlatformCheck.TSX_CPUID_CLEAR) != 0) {
                        value[EBX] &= ~((1 << 4) | (1 << 11));
                    }
                    value[ECX] = (value[ECX] & ~(1 << 4)) | ((cr4 & CR4_PKE) != 0 ? 1 << 4 : 0);
                }
            }
            case 0xb, 0x1f -> {
                value[EDX] = x2apicId;
                return topology;
            }
            case 0xd -> {
                if (Integer.compareUnsigned(subleaf, 1) <= 0) {
                    var live = new int[4];
                    lp.cpu.cpuid(leaf, subleaf, live);
                    value[EBX] = live[EBX];
                }
            }
            case 0x8000_0001 -> value[EDX] = (value[EDX] & ~(1 << 11)) | (GuestMode.is64Bit(lp) ? 1 << 11 : 0);
            default -> {
            }
        }
        return true;
    }
}
