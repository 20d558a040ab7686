package cloister.tdx.replay;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.dispatch.SeamCore;

/// The module on a platform of recorded processors, from power-on.
public final class VectorMachine {
    public final VectorPlatform platform;
    public final PhysicalMemory memory;
    public final SeamCore core;
    public final RecordedProcessor[] cpus;
    public final RecordedProcessor.Clock clock = new RecordedProcessor.Clock();
    /// Bits of CPUID to invert: leaf, sub-leaf, register, mask.
    public int[] cpuidFlip;
    private final boolean[] inGuest;
    private final SeamRegs[] host;

    /// @param window the memory of machines before this one, switched off
    public VectorMachine(VectorPlatform platform, RecordedMemory window) {
        this.platform = platform;
        this.memory = window.powerOn();
        this.core = new SeamCore(memory, platform.info);
        this.cpus = new RecordedProcessor[platform.logicalProcessors];
        this.inGuest = new boolean[cpus.length];
        this.host = new SeamRegs[cpus.length];
        clock.tsc = platform.tscStart;
        clock.step = platform.tscStep;
        for (int i = 0; i < cpus.length; i++) {
            cpus[i] = new RecordedProcessor(i, clock, this::cpuid, platform.report, platform.msrs);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR0, 0x8005_0033L);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR3, 0x1000);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR4, 0x37_26e0L);
        }
    }

    private void cpuid(int lp, int leaf, int subleaf, int[] out) {
        platform.cpuid(lp, leaf, subleaf, out);
        boolean x2apicId = (leaf == 0xb || leaf == 0x1f) && cpuidFlip != null && cpuidFlip[2] == 3; // is each LP's own
        if (cpuidFlip != null && !x2apicId && cpuidFlip[0] == leaf && (cpuidFlip[1] == subleaf || cpuidFlip[1] == -1)) {
            out[cpuidFlip[2]] ^= cpuidFlip[3];
        }
    }

    public boolean inGuest(int lp) {
        return inGuest[lp];
    }

    /// SEAMCALL; returns whether the guest runs now.
    public boolean seamcall(int lp, SeamRegs regs) {
        host[lp] = regs;
        inGuest[lp] = core.call(cpus[lp], regs);
        return inGuest[lp];
    }

    /// The registers of the SEAMCALL that the guest of an LP runs in.
    public SeamRegs hostRegisters(int lp) {
        return host[lp];
    }

    /// A VM exit whose information is in the VMCS.
    public boolean vmExit(int lp) {
        var vmcs = core.vmcs(cpus[lp]);
        vmcs.write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        inGuest[lp] = core.vmExit(cpus[lp]);
        return inGuest[lp];
    }
}
