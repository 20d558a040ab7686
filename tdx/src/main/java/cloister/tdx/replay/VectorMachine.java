package cloister.tdx.replay;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.vmx.VmcsField;
import cloister.tdx.core.Sept;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.dispatch.SeamCore;
import cloister.tdx.port.Vmcs;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// The module on a platform of recorded processors, from power-on.
public final class VectorMachine {
    public final VectorPlatform platform;
    public final PhysicalMemory memory;
    public final SeamCore core;
    public final RecordedProcessor[] cpus;
    public final RecordedProcessor.Clock clock = new RecordedProcessor.Clock();
    /// Bits of CPUID to invert, or null.
    public VectorPlatform.CpuidFlip cpuidFlip;
    /// What the vectors do not know of the registers of each virtual processor: they were `*` and have not been listed since.
    private final Map<Long, boolean[]> unknown = new HashMap<>();
    /// RCX of the last TDH.VP.ENTER on each LP.
    final long[] lastEnter;
    /// Locks that another LP holds.
    final List<String> held = new ArrayList<>();
    private final boolean[] inGuest;
    private final SeamRegs[] host;
    private long tdr;
    private long tdvpr;

    /// @param window the memory of machines before this one, switched off
    public VectorMachine(VectorPlatform platform, RecordedMemory window) {
        this.platform = platform;
        this.memory = window.powerOn();
        this.core = new SeamCore(memory, platform.info);
        this.cpus = new RecordedProcessor[platform.logicalProcessors];
        this.inGuest = new boolean[cpus.length];
        this.host = new SeamRegs[cpus.length];
        this.lastEnter = new long[cpus.length];
        clock.tsc = platform.tscStart;
        clock.step = platform.tscStep;
        for (int i = 0; i < cpus.length; i++) {
            cpus[i] = new RecordedProcessor(i, clock, this::cpuid, platform.report, platform.msrs);
            cpus[i].xcr0(platform.hostXcr0);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR0, platform.hostCr0);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR3, platform.hostCr3);
            cpus[i].seamVmcs().write(VmcsField.HOST_CR4, platform.hostCr4);
        }
    }

    private void cpuid(int lp, int leaf, int subleaf, int[] out) {
        platform.cpuid(lp, leaf, subleaf, cpuidFlip, out);
    }

    /// Whether an LP runs a guest.
    public boolean inGuest(int lp) {
        return inGuest[lp];
    }

    /// SEAMCALL; returns whether the guest runs now.
    public boolean seamcall(int lp, SeamRegs regs) {
        host[lp] = regs;
        int leaf = (int) regs.get(SeamRegs.RAX) & 0xffff;
        long rcx = regs.get(SeamRegs.RCX);
        if (leaf == SeamcallLeaf.VP_ENTER.number()) {
            lastEnter[lp] = rcx;
        }
        inGuest[lp] = core.call(cpus[lp], regs);
        if (regs.get(SeamRegs.RAX) == 0 && leaf == SeamcallLeaf.MNG_CREATE.number()) {
            tdr = rcx;
        } else if (regs.get(SeamRegs.RAX) == 0 && leaf == SeamcallLeaf.VP_CREATE.number()) {
            tdvpr = rcx;
        }
        return inGuest[lp];
    }

    /// The registers of the SEAMCALL that the guest of an LP runs in.
    public SeamRegs hostRegisters(int lp) {
        return host[lp];
    }

    /// A VM exit whose information is in the VMCS.
    public boolean vmExit(int lp) {
        vmcs(lp).write(VmcsField.ENTRY_INTERRUPTION_INFO, 0);
        inGuest[lp] = core.vmExit(cpus[lp]);
        return inGuest[lp];
    }

    /// The VMCS of the guest that an LP runs.
    Vmcs vmcs(int lp) {
        return core.vmcs(cpus[lp]);
    }

    /// The registers of the guest that an LP runs.
    long[] guest(int lp) {
        return cpus[lp].registers();
    }

    /// Which registers of the guest that an LP runs the vectors do not know.
    boolean[] unknown(int lp) {
        return unknown.computeIfAbsent(lastEnter[lp] & SeptEntry.HPA, tdvpr -> new boolean[Registers.COUNT]);
    }

    /// The LP of a step.
    int lp(Step step) {
        return step.count("lp", 0, 0, cpus.length - 1);
    }

    /// The LP of a step of a guest.
    int guestLp(Step step) {
        int lp = lp(step);
        if (!inGuest[lp]) {
            throw new VectorMismatch("LP " + lp, "runs a guest", "runs none", "");
        }
        return lp;
    }

    /// The TDR page of the scenario's TD: of the one created last, should there be several.
    long tdr() {
        if (tdr == 0) {
            throw new Step.Malformed("the step needs a TD, and TDH.MNG.CREATE has made none");
        }
        return tdr;
    }

    /// The TDVPR page of the virtual processor created last.
    long tdvpr() {
        if (tdvpr == 0) {
            throw new Step.Malformed("the step needs a virtual processor, and TDH.VP.CREATE has made none");
        }
        return tdvpr;
    }

    /// The TDCS of the scenario's TD.
    Tdcs tdcs() {
        return new Tdcs(memory, tdrFields());
    }

    private Tdr tdrFields() {
        return new Tdr(memory, tdr(), core.module.globalKeyId);
    }

    /// The Secure EPT entry of a page of the scenario's TD.
    ///
    /// @param smallOnly the entry must be that of a 4 KiB page
    Sept.Slot entry(long gpa, boolean smallOnly) {
        var tdcs = tdcs();
        var slot = new Sept(memory, tdrFields().keyId()).walk(tdcs.eptp(), gpa, 0);
        if ((smallOnly && slot.level() != 0) || (!smallOnly && !SeptEntry.isLeaf(slot.value()))) {
            throw new VectorMismatch("GPA " + VectorWords.hex(gpa), "a Secure EPT entry of a " + (smallOnly ? "4K " : "") + "page",
                    "no more than " + VectorWords.entry(slot.value()) + " at level " + slot.level(), "");
        }
        return slot;
    }

    /// Where a guest-physical address of the scenario's TD is in memory, with its KeyID.
    long hpaOf(long gpa) {
        var slot = entry(gpa, false);
        return tdrFields().withKey(SeptEntry.leafPa(slot.value(), gpa, slot.level()));
    }
}
