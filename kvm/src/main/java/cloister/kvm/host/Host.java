package cloister.kvm.host;

import cloister.cpu.vmx.Vmcs;
import cloister.cpu.vmx.VmxStatus;
import cloister.kvm.HostEnvironment;
import cloister.memory.PhysicalMemory;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;

/// The host kernel's resources in one place.
public final class Host {
    /// The notification vector of posted interrupts. [LINUX arch/x86/include/asm/irq_vectors.h]
    public static final int POSTED_INTR_VECTOR = 0xf2;

    private final HostEnvironment environment;
    private final FrameAllocator frames;
    private final ProcessMemory userMemory;
    private final Lockdep lockdep;
    private final Cpus cpus;
    private final IdPool vpids = new IdPool(1, 1 << 16);
    private boolean vmxOn;

    /// The resources of `environment`.
    public Host(HostEnvironment environment) {
        this.environment = environment;
        this.frames = new FrameAllocator(environment.memory(), environment.freeStartPa(), environment.freeEndPa());
        this.userMemory = new ProcessMemory(environment.memory(), frames);
        this.lockdep = new Lockdep(environment.scheduler());
        this.cpus = new Cpus(environment.scheduler(), environment.processors());
    }

    /// All platform memory.
    public PhysicalMemory memory() {
        return environment.memory();
    }

    /// The scheduler of host threads.
    public Scheduler scheduler() {
        return environment.scheduler();
    }

    /// The order of the host's locks, and who holds them.
    public Lockdep lockdep() {
        return lockdep;
    }

    /// The only time.
    public VirtualClock clock() {
        return environment.scheduler().clock();
    }

    /// The page allocator.
    public FrameAllocator frames() {
        return frames;
    }

    /// The VMM's memory.
    public ProcessMemory userMemory() {
        return userMemory;
    }

    /// The processors, and who runs on them.
    public Cpus cpus() {
        return cpus;
    }

    /// Virtual-processor identifiers.
    public IdPool vpids() {
        return vpids;
    }

    /// VMXON on every processor, once.
    public void enableVirtualization() {
        if (vmxOn) {
            return;
        }
        for (var cpu : cpus.all()) {
            var status = cpu.lp().vmxon(allocateVmcsRegion());
            if (status != VmxStatus.SUCCEED) {
                throw new IllegalStateException("VMXON failed on " + cpu + ": " + status);
            }
            cpu.userReturnMsrs.online();
        }
        vmxOn = true;
    }

    /// A frame with the revision identifier, for VMXON or VMCLEAR.
    public long allocateVmcsRegion() {
        long pa = frames.allocate();
        memory().write(pa, 4, Vmcs.REVISION);
        return pa;
    }
}
