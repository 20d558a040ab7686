package cloister.kvm.vmx;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.vmx.VmxStatus;
import cloister.kvm.host.Cpus;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.sim.Noinstr;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.vmx.VmcsField;
import java.util.Arrays;

/// The VMCS of a vCPU, which software reaches by VMREAD and VMWRITE of the processor on which it is current. [LINUX struct
/// loaded_vmcs]
final class LoadedVmcs implements Persistent {
    private final Cpus cpus;
    private final long pa;
    /// The processor that may hold parts of it: VMCLEAR must run there before it is loaded elsewhere.
    private HostCpu activeOn;
    /// The processor on which it is current while the vCPU's task runs there.
    private LogicalProcessor lp;
    private boolean launched;

    /// @param pa a frame
    LoadedVmcs(Host host, long pa) {
        this.cpus = host.cpus();
        this.pa = pa;
        host.writeRevision(pa);
    }

    long pa() {
        return pa;
    }

    /// VMPTRLD on `cpu`, which is held, and VMCLEAR where it was.
    void load(HostCpu cpu) {
        if (activeOn != cpu) {
            clear();
            require(cpu.lp().vmclear(pa), "VMCLEAR");
        }
        if (cpu.lp().vmptrst() != pa) {
            require(cpu.lp().vmptrld(pa), "VMPTRLD");
        }
        activeOn = cpu;
        lp = cpu.lp();
    }

    /// The task does not run there any more.
    void unload() {
        lp = null;
    }

    /// VMCLEAR on the processor that may hold parts of it. [LINUX loaded_vmcs_clear]
    void clear() {
        if (activeOn != null) {
            cpus.call(activeOn, cpu -> {
                require(cpu.lp().vmclear(pa), "VMCLEAR");
                return 0;
            });
            activeOn = null;
            launched = false;
        }
        lp = null;
    }

    /// The same, on `cpu`, which is held, if it is active there.
    void clearOn(HostCpu cpu) {
        if (activeOn == cpu) {
            clear();
        }
    }

    private void require(VmxStatus status, String what) {
        if (status != VmxStatus.SUCCEED) {
            throw new IllegalStateException(what + " of 0x" + Long.toHexString(pa) + " failed: " + status);
        }
    }

    /// The processor on which it is current. Gets one for the task if it was preempted.
    LogicalProcessor lp() {
        if (lp == null) {
            cpus.here();
            if (lp == null) {
                throw new IllegalStateException("the VMCS is not loaded");
            }
        }
        return lp;
    }

    long read(VmcsField field) {
        return lp().vmread(field);
    }

    int readInt(VmcsField field) {
        return (int) lp().vmread(field);
    }

    void write(VmcsField field, long value) {
        lp().vmwrite(field, value);
    }

    /// VMLAUNCH or VMRESUME.
    @Noinstr VmxStatus enter() {
        var status = launched ? lp.vmresume() : lp.vmlaunch();
        launched |= status == VmxStatus.SUCCEED;
        return status;
    }

    @Override public String stateName() {
        return "vmcs";
    }

    @Override public void describe(StateSink to) {
        to.words("pa", Arrays.stream(VmcsField.values())
                .filter(field -> field.name().startsWith("GUEST_") || field.name().startsWith("ENTRY_"))
                .mapToLong(this::read).toArray());
    }
}
