package cloister.tdx.core;

import static cloister.tdx.core.LpState.R8;
import static cloister.tdx.core.LpState.RCX;
import static cloister.tdx.core.LpState.RDX;

import cloister.spec.tdx.CpuidTable;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import cloister.tdx.port.Processor;

/// TDH.SYS.LP.INIT's comparison of an LP with what TDH.SYS.INIT sampled.
public final class PlatformConsistency {
    private final LpState lp;
    private final Processor cpu;
    private final PlatformConfig config;

    public PlatformConsistency(LpState lp) {
        this.lp = lp;
        this.cpu = lp.cpu;
        this.config = lp.module.config;
    }

    public void run() throws LeafFailure {
        same(Msr.IA32_CORE_CAPABILITIES, config.coreCapabilities);
        same(Msr.IA32_ARCH_CAPABILITIES, config.archCapabilities);
        same(Msr.IA32_MISC_PACKAGE_CTLS, config.miscPackageCtls);
        same(Msr.IA32_XAPIC_DISABLE_STATUS, config.xapicDisableStatus);
        compareCpuid();
        compareSmrr();
        compareVmx();
        same(Msr.IA32_PERF_CAPABILITIES, config.perfCapabilities);
        same(Msr.IA32_TME_CAPABILITY, config.tmeCapability);
        same(Msr.IA32_TME_ACTIVATE, config.tmeActivate);
        same(Msr.IA32_MKTME_KEYID_PARTITIONING, config.keyIdPartitioning);
        same(Msr.IA32_WBINVDP, config.cacheSubBlocks);
        same(Msr.IA32_WBNOINVDP, config.cacheSubBlocks);
    }

    private void same(int msr, long expected) throws LeafFailure {
        if (cpu.rdmsr(msr) != expected) {
            throw new LeafFailure(TdxStatus.INCONSISTENT_MSR, msr);
        }
    }

    private void compareCpuid() throws LeafFailure {
        long tsxCtrl = (config.archCapabilities & PlatformCheck.ARCH_CAP_TSX_CTRL) != 0 ? cpu.rdmsr(Msr.IA32_TSX_CTRL) : 0;
        boolean cleared = (tsxCtrl & PlatformCheck.TSX_CPUID_CLEAR) != 0;
        if (cleared) {
            cpu.wrmsr(Msr.IA32_TSX_CTRL, tsxCtrl & ~PlatformCheck.TSX_CPUID_CLEAR);
        }
        try {
            if ((cpu.rdmsr(Msr.IA32_MISC_ENABLE) & PlatformCheck.LIMIT_CPUID_MAXVAL) != 0) {
                throw new LeafFailure(TdxStatus.LIMIT_CPUID_MAXVAL_SET);
            }
            compareRows();
            same(Msr.IA32_TSC_ADJUST, config.tscAdjust);
        } finally {
            if (cleared) {
                cpu.wrmsr(Msr.IA32_TSX_CTRL, tsxCtrl);
            }
        }
    }

    private void compareRows() throws LeafFailure {
        var value = new int[4];
        cpu.cpuid(0, 0, value);
        int lastBase = value[0];
        cpu.cpuid(0x8000_0000, 0, value);
        int lastExtended = value[0];
        var rows = CpuidTable.rows();
        for (int i = 0; i < rows.size(); i++) {
            var row = rows.get(i);
            boolean present = row.leaf() >= 0 ? Integer.compareUnsigned(row.leaf(), lastBase) <= 0
                    : Integer.compareUnsigned(row.leaf(), lastExtended) <= 0;
            if (!row.valid() || !present) {
                continue;
            }
            cpu.cpuid(row.leaf(), row.subleaf() == CpuidTable.ANY ? 0 : row.subleaf(), value);
            for (int r = 0; r < 4; r++) {
                if (((value[r] ^ config.cpuid[i][r]) & row.verifySame()[r]) != 0) {
                    lp.reg(RCX, row.leafSubleaf());
                    lp.reg(RDX, PlatformCheck.pair(row.verifySame(), 0));
                    lp.reg(R8, PlatformCheck.pair(row.verifySame(), 2));
                    throw new LeafFailure(TdxStatus.INCONSISTENT_CPUID_FIELD);
                }
            }
            if (row.leaf() == 0x1f && row.subleaf() == 0) {
                lp.packageId = value[3] >>> config.packageIdShift;
                if (lp.packageId >= ModuleState.MAX_PACKAGES) {
                    throw new LeafFailure(TdxStatus.INVALID_PKG_ID, lp.packageId);
                }
            }
        }
    }

    private void compareSmrr() throws LeafFailure {
        same(Msr.IA32_MTRRCAP, config.mtrrcap);
        same(Msr.IA32_SMRR_BASE, config.smrrBase[0]);
        same(Msr.IA32_SMRR_MASK, config.smrrMask[0]);
        if (PlatformCheck.hasSmrr2(lp.module)) {
            same(Msr.IA32_SMRR2_BASE, config.smrrBase[1]);
            same(Msr.IA32_SMRR2_MASK, config.smrrMask[1]);
        }
    }

    private void compareVmx() throws LeafFailure {
        same(PlatformCheck.VMX_BASIC, config.vmxBasic);
        same(PlatformCheck.VMX_TRUE_PINBASED_CTLS, config.vmxTruePinbased);
        same(PlatformCheck.VMX_TRUE_PROCBASED_CTLS, config.vmxTrueProcbased);
        same(PlatformCheck.VMX_PROCBASED_CTLS2, config.vmxProcbased2);
        same(PlatformCheck.VMX_PROCBASED_CTLS3, config.vmxProcbased3);
        same(PlatformCheck.VMX_TRUE_EXIT_CTLS, config.vmxTrueExit);
        same(PlatformCheck.VMX_TRUE_ENTRY_CTLS, config.vmxTrueEntry);
        same(PlatformCheck.VMX_MISC, config.vmxMisc);
        same(PlatformCheck.VMX_EPT_VPID_CAP, config.vmxEptVpidCap);
        same(PlatformCheck.VMX_CR0_FIXED0, config.vmxCr0Fixed0);
        same(PlatformCheck.VMX_CR0_FIXED1, config.vmxCr0Fixed1);
        same(PlatformCheck.VMX_CR4_FIXED0, config.vmxCr4Fixed0);
        same(PlatformCheck.VMX_CR4_FIXED1, config.vmxCr4Fixed1);
    }
}
