package cloister.kvm.host;

import cloister.kvm.HostEnvironment;
import cloister.kvm.KvmException;
import cloister.memory.HostMemory;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;
import cloister.spec.kvm.Errno;

/// The host kernel's resources in one place.
public final class Host {
    /// The notification vector of posted interrupts. [LINUX arch/x86/include/asm/irq_vectors.h]
    public static final int POSTED_INTR_VECTOR = 0xf2;

    private static final int IA32_VMX_BASIC = 0x480;
    private static final long REVISION_MASK = 0x7fff_ffffL;

    private final HostEnvironment environment;
    private final FrameAllocator frames;
    private final ProcessMemory userMemory;
    private final Lockdep lockdep;
    private final LostRegisters lostRegisters = new LostRegisters();
    private final Cpus cpus;
    private final IdPool vpids = new IdPool(1, 1 << 16);
    private boolean vmxOn;

    /// The resources of `environment`.
    public Host(HostEnvironment environment) {
        this.environment = environment;
        this.frames = new FrameAllocator(environment.memory(), environment.freeStartPa(), environment.freeEndPa());
        this.userMemory = new ProcessMemory(environment.memory(), frames);
        this.lockdep = new Lockdep(environment.scheduler());
        this.cpus = new Cpus(environment.scheduler(), environment.processors(), lostRegisters);
    }

    /// All platform memory.
    public HostMemory memory() {
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

    /// The registers of the host that are not brought back behind guests: none, unless a fault is to be seen.
    public LostRegisters lostRegisters() {
        return lostRegisters;
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
            cpu.vmxonPa = frames.allocate();
            writeRevision(cpu.vmxonPa);
            cpu.enableVirtualization();
        }
        vmxOn = true;
    }

    /// echo 0 or 1 > /sys/devices/system/cpu/cpuN/online.
    ///
    /// @throws cloister.kvm.KvmException EINVAL when there is no such processor, EBUSY when it cannot be missed
    public void processorOnline(int index, boolean online, CpuHotplug users) {
        if (index < 0 || index >= cpus.all().size()) {
            throw new KvmException(Errno.EINVAL, "there is no processor " + index);
        }
        if (online) {
            cpus.bringOnline(cpus.get(index), users);
        } else {
            cpus.takeOffline(cpus.get(index), users);
        }
    }

    /// Gives a frame the revision identifier, for VMXON or VMCLEAR.
    public void writeRevision(long pa) {
        memory().write(pa, 4, cpus.here().lp().rdmsr(IA32_VMX_BASIC) & REVISION_MASK);
    }
}
