package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.ModelLimit;
import cloister.cpu.core.VmExitSignal;
import cloister.cpu.sys.EventDelivery;
import cloister.cpu.sys.NonRoot;
import cloister.cpu.sys.RunLoop;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmInstructionError;

/// VM entry, the guest, VM exit: one VMLAUNCH or VMRESUME from beginning to end. [SDM Vol. 3 "VM Entries", "VM Exits"]
public final class VmxOperation {
    /// Told about the transitions of one logical processor.
    public interface Transitions {
        /// The checks passed; the guest is about to run.
        void entered(Vmcs vmcs);

        /// The exit is complete: guest state saved, host state loaded.
        void exited(Vmcs vmcs);
    }

    private static final int MSR_FS_BASE = 0xc000_0100;
    private static final int MSR_GS_BASE = 0xc000_0101;
    private static final int MSR_SMM_MONITOR_CTL = 0x9b;

    private final Cpu cpu;
    private final RunLoop loop;
    private final Transitions transitions;
    private final Vmx vmx;

    public VmxOperation(Cpu cpu, RunLoop loop, Transitions transitions) {
        this.cpu = cpu;
        this.loop = loop;
        this.transitions = transitions;
        this.vmx = new Vmx(cpu);
    }

    /// VMLAUNCH (`launch`) or VMRESUME of `vmcs`. Returns [VmxStatus#SUCCEED] after a VM exit, entry-failure exits included.
    public VmxStatus enter(Vmcs vmcs, boolean launch) {
        if (launch == vmcs.launched) {
            return fail(vmcs, launch ? VmInstructionError.VMLAUNCH_NON_CLEAR : VmInstructionError.VMRESUME_NON_LAUNCHED);
        }
        var checks = new ControlChecks(vmcs, cpu);
        if (!checks.controls()) {
            return fail(vmcs, VmInstructionError.ENTRY_INVALID_CONTROLS);
        }
        if (!checks.hostState()) {
            return fail(vmcs, VmInstructionError.ENTRY_INVALID_HOST_STATE);
        }
        int failure = new GuestStateChecks(vmcs, cpu).check();
        if (failure != GuestStateChecks.PASSED) {
            return entryFailure(vmcs, ExitReason.INVALID_GUEST_STATE, failure);
        }
        vmx.load(vmcs);
        GuestState.load(cpu, vmcs);
        int failedMsr = loadMsrs(vmcs.read(ENTRY_MSR_LOAD_ADDRESS), vmcs.readInt(ENTRY_MSR_LOAD_COUNT));
        if (failedMsr != 0) {
            return entryFailure(vmcs, ExitReason.MSR_LOADING, failedMsr);
        }
        vmcs.launched = true;
        run(vmcs);
        return VmxStatus.SUCCEED;
    }

    private static VmxStatus fail(Vmcs vmcs, int error) {
        vmcs.write(VM_INSTRUCTION_ERROR, error);
        return VmxStatus.FAIL_VALID;
    }

    /// [SDM Vol. 3 "VM-Entry Failures During or After Loading Guest State"]
    private VmxStatus entryFailure(Vmcs vmcs, int reason, long qualification) {
        vmcs.write(EXIT_REASON, reason | ExitReason.ENTRY_FAILURE);
        vmcs.write(EXIT_QUALIFICATION, qualification);
        HostState.load(cpu, vmcs);
        exitLoadMsrs(vmcs);
        transitions.exited(vmcs);
        return VmxStatus.SUCCEED;
    }

    private void run(Vmcs vmcs) {
        transitions.entered(vmcs);
        cpu.vmx = vmx;
        long before = cpu.retired;
        try {
            begin(vmcs);
            while (true) {
                runLoop();
            }
        } catch (VmExitSignal exit) {
            finish(vmcs);
        } finally {
            cpu.vmx = NonRoot.OUTSIDE;
        }
        if (cpu.retired == before) {
            cpu.spendTick(); // else no time passes where a guest does nothing but exit, and whoever waits for time to pass waits for ever
        }
        cpu.advanceClock();
        transitions.exited(vmcs);
    }

    private void runLoop() {
        try {
            var stop = loop.run();
            if (stop != RunLoop.Stop.REQUESTED) {
                throw new IllegalStateException("run loop stopped inside a guest: " + stop);
            }
        } catch (StepAgain again) {
            vmx.stepAt = cpu.retired;
        }
    }

    /// Everything of VM entry that acts like the guest itself: virtual interrupts, timer, event injection.
    private void begin(Vmcs vmcs) {
        cpu.updateMode();
        if (!vmx.proc2(Controls.PROC2_ENABLE_VPID)) {
            cpu.tlb.flushVpid(0);
        }
        boolean virtualNmis = vmx.pin(Controls.PIN_VIRTUAL_NMIS);
        boolean nmiBlocked = (vmcs.readInt(GUEST_INTERRUPTIBILITY_STATE) & 8) != 0;
        vmx.boundary.virtualNmiBlocked = virtualNmis && nmiBlocked;
        cpu.events.nmiBlocked = !virtualNmis && nmiBlocked;
        vmx.boundary.load();
        vmx.apic.load();
        int info = vmcs.readInt(ENTRY_INTERRUPTION_INFO);
        if (Interruption.valid(info)) {
            inject(vmcs, info);
        }
    }

    /// [SDM Vol. 3 "Event Injection"]
    private void inject(Vmcs vmcs, int info) {
        int type = Interruption.type(info);
        if (type == Interruption.OTHER_EVENT) {
            vmx.boundary.monitorTrapNow();
            return;
        }
        if (type == Interruption.NMI) {
            vmx.boundary.virtualNmiBlocked = vmx.pin(Controls.PIN_VIRTUAL_NMIS);
            cpu.events.nmiBlocked = !vmx.pin(Controls.PIN_VIRTUAL_NMIS);
        }
        boolean software = type >= Interruption.SOFTWARE_INTERRUPT && type <= Interruption.SOFTWARE_EXCEPTION;
        long returnRip = cpu.rip + (software ? vmcs.readInt(ENTRY_INSTRUCTION_LENGTH) : 0);
        boolean hasCode = (info & Interruption.DELIVER_ERROR_CODE) != 0;
        EventDelivery.deliver(cpu, type, Interruption.vector(info), vmcs.readInt(ENTRY_EXCEPTION_ERROR_CODE), hasCode, returnRip,
                0, true);
        if (vmx.proc(Controls.PROC_MONITOR_TRAP_FLAG)) {
            vmx.boundary.monitorTrapNow();
        }
    }

    private void finish(Vmcs vmcs) {
        vmcs.write(ENTRY_INTERRUPTION_INFO, vmcs.read(ENTRY_INTERRUPTION_INFO) & 0x7fff_ffffL);
        GuestState.save(cpu, vmcs, vmx);
        vmx.boundary.unload();
        cpu.events.nmiBlocked = false;
        storeMsrs(vmcs.read(EXIT_MSR_STORE_ADDRESS), vmcs.readInt(EXIT_MSR_STORE_COUNT));
        HostState.load(cpu, vmcs);
        exitLoadMsrs(vmcs);
    }

    // --- MSR areas [SDM Vol. 3 "Loading MSRs", "Saving MSRs"]

    /// Returns 0, or the number (from 1) of the entry that failed.
    private int loadMsrs(long address, int count) {
        for (int i = 0; i < count; i++) {
            long at = address + 16L * i;
            long index = cpu.readPhysical(at, 8);
            int msr = (int) index;
            if (index >>> 32 != 0 || msr == MSR_FS_BASE || msr == MSR_GS_BASE || msr == MSR_SMM_MONITOR_CTL
                    || msr >>> 8 == 8) {
                return i + 1;
            }
            try {
                cpu.msrs.write(msr, cpu.readPhysical(at + 8, 8));
            } catch (GuestFault f) {
                return i + 1;
            }
        }
        return 0;
    }

    private void storeMsrs(long address, int count) {
        for (int i = 0; i < count; i++) {
            long at = address + 16L * i;
            try {
                cpu.writePhysical(at + 8, 8, cpu.msrs.read((int) cpu.readPhysical(at, 8)));
            } catch (GuestFault f) {
                throw new ModelLimit("VMX abort: MSR-store area entry " + i + " names no MSR");
            }
        }
    }

    private void exitLoadMsrs(Vmcs vmcs) {
        if (loadMsrs(vmcs.read(EXIT_MSR_LOAD_ADDRESS), vmcs.readInt(EXIT_MSR_LOAD_COUNT)) != 0) {
            throw new ModelLimit("VMX abort: MSR-load area of VM exit");
        }
    }

    // --- translations

    /// INVEPT: guest-physical and combined mappings. Single-context drops more than it must.
    public void invept(boolean single, long eptp) {
        vmx.ept.flush();
        if (single) {
            cpu.tlb.flushEpt(eptp);
        } else {
            cpu.tlb.flushEptAll();
        }
    }

    /// INVVPID of everything that `vpid` tags, or of all VPIDs with -1.
    public void invvpid(int vpid) {
        if (vpid < 0) {
            cpu.tlb.flushAll();
        } else {
            cpu.tlb.flushVpid(vpid);
        }
    }

    /// INVVPID of one address.
    public void invvpid(int vpid, long linear) {
        cpu.tlb.flushPage(linear);
    }
}
