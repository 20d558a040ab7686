package cloister.tdx.seamcall;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.HostState;
import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.core.Association;
import cloister.tdx.core.LeafFailure;
import cloister.tdx.core.LockMode;
import cloister.tdx.core.LpState;
import cloister.tdx.core.ModuleState;
import cloister.tdx.core.SpecCtrl;
import cloister.tdx.core.TdAccess;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdvps;
import cloister.tdx.core.VirtualVmx;
import cloister.tdx.core.VmcsInit;
import cloister.tdx.core.VmcsSetup;
import cloister.tdx.core.Xbuff;
import cloister.tdx.port.Vmcs;

/// TDH.VP.INIT, leaf 22: the initial state of a VCPU. [TDX-ABI "TDH.VP.INIT"]
final class VpInit implements HostLeaf {
    private static final int MAX_VERSION = 1;
    private static final int RSI = 6;
    private static final long DR6_RESET = 0xffff_0ff0L;
    private static final int XFAM_LBR = 15;

    @Override public void call(LpState lp, int version) throws LeafFailure {
        var module = lp.module;
        if (version > MAX_VERSION) {
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.RAX);
        }
        // Version 1 looks through the x2APIC IDs of the other VCPUs.
        var mode = version > 0 ? LockMode.EXCLUSIVE : LockMode.SHARED;
        try (var tdvpr = module.lockTdvpr(lp, lp.reg(RCX), LockMode.EXCLUSIVE, OperandId.RCX);
                var tdrPage = module.lockOwner(lp, tdvpr, mode);
                var td = TdAccess.open(lp, module.tdr(tdrPage.pa()), LockMode.SHARED, SeamcallLeaf.VP_INIT)) {
            var vcpu = Tdvps.whole(module.memory, tdvpr.pa(), td.tdr().keyId(), td.tdcs().numL2Vms());
            if (vcpu == null) {
                throw new LeafFailure(TdxStatus.TDCX_NUM_INCORRECT);
            }
            if (vcpu.state() != Tdvps.UNINITIALIZED) {
                throw new LeafFailure(TdxStatus.VCPU_STATE_INCORRECT);
            }
            enumerate(lp, version, td.tdcs(), vcpu);
            if (lp.cpu.rdmsr(Msr.IA32_TSC_ADJUST) != module.config.tscAdjust) {
                throw new LeafFailure(TdxStatus.INCONSISTENT_MSR, Msr.IA32_TSC_ADJUST);
            }
            // All checks passed; nothing below may fail.
            vcpu.u64(Tdvps.LAST_EXIT_TSC, lp.cpu.tsc());
            registers(lp, td.tdcs(), vcpu);
            vcpu.u8(Tdvps.STATE, Tdvps.READY);
            vcpu.u8(Tdvps.LAST_TD_EXIT, Tdvps.ASYNC_FAULT);
            controls(lp, td.tdcs(), vcpu);
            Association.begin(lp, td.tdcs(), vcpu);
            createVmcses(lp, td, vcpu);
        }
    }

    /// Takes the next VCPU index. Only too many VCPUs and a bad R8 give it back: the later failures leave the VCPU counted.
    private static void enumerate(LpState lp, int version, Tdcs tdcs, Tdvps vcpu) throws LeafFailure {
        int index = tdcs.u32(Tdcs.NUM_VCPUS);
        tdcs.u32(Tdcs.NUM_VCPUS, index + 1); // first, as XADD does it: version 0 holds the TDR shared
        if (index >= tdcs.u32(Tdcs.MAX_VCPUS)) {
            tdcs.u32(Tdcs.NUM_VCPUS, tdcs.u32(Tdcs.NUM_VCPUS) - 1);
            throw new LeafFailure(TdxStatus.MAX_VCPUS_EXCEEDED);
        }
        vcpu.u32(Tdvps.VCPU_INDEX, index);
        if (version == 0) {
            tdcs.flag(Tdcs.TOPOLOGY_ENUM_CONFIGURED, false);
            return;
        }
        long id = lp.reg(R8);
        if (id >>> 32 != 0) {
            tdcs.u32(Tdcs.NUM_VCPUS, tdcs.u32(Tdcs.NUM_VCPUS) - 1);
            throw new LeafFailure(TdxStatus.OPERAND_INVALID, OperandId.R8);
        }
        for (int i = 0; i < index; i++) {
            if (tdcs.u32(Tdcs.X2APIC_IDS + 4 * i) == (int) id) {
                throw new LeafFailure(TdxStatus.X2APIC_ID_NOT_UNIQUE, id);
            }
        }
        tdcs.u32(Tdcs.X2APIC_IDS + 4 * index, (int) id);
    }

    /// Everything that is not in the VMCS; what is not named here starts as 0. [TDX-ABI "Initial State of TD VCPU"]
    private static void registers(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        var config = lp.module.config;
        vcpu.u64(Tdvps.XFAM, tdcs.xfam());
        vcpu.gpr(LpState.RBX, tdcs.gpaw() ? 52 : 48);
        vcpu.gpr(RCX, lp.reg(RDX));
        vcpu.gpr(R8, lp.reg(RDX));
        vcpu.gpr(RDX, config.cpuid[CpuidTable.find(1, 0)][0] & 0xffff_ffffL);
        vcpu.gpr(RSI, vcpu.index());
        vcpu.u64(Tdvps.XCR0, 1);
        vcpu.u64(Tdvps.DR6, DR6_RESET);
        vcpu.u64(Tdvps.FMASK, HostState.FMASK);
        new Xbuff(vcpu).initialise();
        if (tdcs.xfam(XFAM_LBR)) {
            vcpu.u64(Tdvps.LBR_DEPTH, config.maxLbrDepth);
        }
        vcpu.u64(Tdvps.SPEC_CTRL, SpecCtrl.real(config, tdcs, 0));
    }

    private static void controls(LpState lp, Tdcs tdcs, Tdvps vcpu) {
        var config = lp.module.config;
        vcpu.u64(Tdvps.SHADOW_PID_HPA, ModuleState.NULL_PA);
        vcpu.u32(Tdvps.SHADOW_PINBASED_EXEC_CTLS, config.td.pinbased);
        vcpu.u16(Tdvps.SHADOW_POSTED_INT_NOTIFICATION_VECTOR, VmcsInit.NO_NOTIFICATION_VECTOR);
        for (int vm = 0; vm <= tdcs.numL2Vms(); vm++) {
            vcpu.u32(Tdvps.SHADOW_PROCBASED_EXEC_CTLS2 + 4 * vm, vm == 0 ? config.td.procbased2 : config.l2.procbased2);
            vcpu.u64(Tdvps.SHADOW_SHARED_EPTP + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_GPA + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.L2_ENTER_GUEST_STATE_HPA + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.L2_VAPIC_GPA + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.L2_VAPIC_HPA + 8 * vm, ModuleState.NULL_PA);
            vcpu.u64(Tdvps.TSC_DEADLINE + 8 * vm, -1L);
        }
        long cr0Fixed0 = config.vmxCr0Fixed0 & ~VmcsInit.CR0_PE_PG;
        vcpu.u64(Tdvps.BASE_L2_CR0_GUEST_HOST_MASK, cr0Fixed0 | (~config.vmxCr0Fixed1 & ~VmcsInit.CR0_PE_PG)
                | VmcsInit.CR0_HIDDEN);
        vcpu.u64(Tdvps.BASE_L2_CR0_READ_SHADOW, cr0Fixed0 | VmcsInit.CR0_NE);
        vcpu.u64(Tdvps.BASE_L2_CR4_GUEST_HOST_MASK, ~VirtualVmx.l2Cr4Writable(config, tdcs));
        vcpu.u64(Tdvps.BASE_L2_CR4_READ_SHADOW, config.vmxCr4Fixed0 | VmcsInit.CR4);
    }

    private static void createVmcses(LpState lp, TdAccess td, Tdvps vcpu) {
        var module = lp.module;
        var vmcs = new Vmcs[td.tdcs().numL2Vms() + 1];
        for (int vm = 0; vm < vmcs.length; vm++) {
            vmcs[vm] = lp.cpu.newVmcs(PhysicalMemory.pa(vcpu.pages[Tdvps.vmcsPage(vm)]));
            new VmcsSetup(lp, td.tdr(), td.tdcs(), vcpu, vmcs[vm], vm).run();
        }
        module.vcpu(vcpu.tdvprPa, new ModuleState.VcpuObjects(vmcs));
    }
}
