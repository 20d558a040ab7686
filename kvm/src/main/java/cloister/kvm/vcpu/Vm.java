package cloister.kvm.vcpu;

import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmException;
import cloister.kvm.KvmStats;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.MsiRoute;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.GuestMemFile;
import cloister.kvm.host.Host;
import cloister.kvm.irq.ApicBus;
import cloister.kvm.mmu.GuestMemory;
import cloister.kvm.mmu.Mmu;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.mmu.MmuVm;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import java.util.ArrayList;
import java.util.List;

/// What all VMs have: memory slots, vCPUs, interrupt routing, capabilities.
public abstract class Vm implements KvmVm, MmuVm {
    public static final int MAX_VCPUS = 1024;
    private static final int MAX_IOAPIC_PINS = 4096;

    public final Host host;
    public final GuestMemory memory;
    public final Mmu mmu;
    public final ApicBus bus = new ApicBus();
    public final ExitCounters counters = new ExitCounters();
    public final List<Vcpu> vcpus = new ArrayList<>();
    private final List<GuestMemFile> files = new ArrayList<>();
    public boolean splitIrqchip;
    public long exitHypercalls;
    public long apicBusCycleNs = 1;
    private int maxVcpus;
    private boolean dead;
    private boolean closed;

    public Vm(Host host, MmuModule mmuModule, boolean privateMemory, int maxVcpus) {
        this.host = host;
        this.maxVcpus = maxVcpus;
        this.mmu = new Mmu(mmuModule, this, "VM", privateMemory);
        this.memory = new GuestMemory(mmu);
    }

    /// Makes the vCPU object; the checks are done.
    public abstract Vcpu newVcpu(int id);

    /// Ends the machine: vCPUs have left, slots are still there.
    public abstract void destroy();

    /// Whether slots may have private memory.
    public abstract boolean hasPrivateMemory();

    // --- failures

    /// KVM_BUG_ON: the VM is dead.
    @Override public void bug() {
        dead = true;
        for (var vcpu : vcpus) {
            vcpu.wake();
        }
    }

    public boolean isDead() {
        return dead;
    }

    public void requireAlive() {
        if (dead || closed) {
            throw new KvmException(Errno.EIO, "the VM is dead");
        }
    }

    public static void require(boolean condition, Errno errno, String text) {
        if (!condition) {
            throw new KvmException(errno, text);
        }
    }

    // --- ioctls

    @Override public long checkExtension(KvmCap cap) {
        return switch (cap) {
            case MAX_VCPUS, MAX_VCPU_ID -> maxVcpus;
            case MULTI_ADDRESS_SPACE -> mmu.slots().addressSpaces();
            case READONLY_MEM -> mmu.allowsReadOnlySlots() ? 1 : 0;
            case GUEST_MEMFD_FLAGS -> mmu.guestMemfdFlags();
            case MEMORY_ATTRIBUTES -> hasPrivateMemory() ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0;
            default -> Extensions.of(cap);
        };
    }

    @Override public void enableCap(KvmCap cap, long... args) {
        requireAlive();
        long arg = args.length > 0 ? args[0] : 0;
        switch (cap) {
            case SPLIT_IRQCHIP -> {
                require(arg >= 0 && arg <= MAX_IOAPIC_PINS, Errno.EINVAL, "IOAPIC pins: " + arg);
                require(!splitIrqchip, Errno.EEXIST, "there is an irqchip already");
                require(vcpus.isEmpty(), Errno.EINVAL, "vCPUs exist");
                splitIrqchip = true;
                bus.ioapicPins((int) arg);
            }
            case EXIT_HYPERCALL -> {
                require((arg & ~(1L << KvmAbi.HC_MAP_GPA_RANGE)) == 0, Errno.EINVAL, "hypercall mask");
                exitHypercalls = arg;
            }
            case X2APIC_API -> {
                require((arg & ~3L) == 0, Errno.EINVAL, "x2APIC flags");
                bus.x2apicApi((arg & KvmAbi.X2APIC_API_USE_32BIT_IDS) != 0,
                        (arg & KvmAbi.X2APIC_API_DISABLE_BROADCAST_QUIRK) != 0);
            }
            case MAX_VCPUS, MAX_VCPU_ID -> {
                require(arg >= 1 && arg <= maxVcpus, Errno.EINVAL, "vCPU limit " + arg);
                maxVcpus = (int) arg;
            }
            case X86_APIC_BUS_CYCLES_NS -> {
                require(arg > 0 && arg <= 1_000_000_000L, Errno.EINVAL, "APIC bus cycle");
                require(vcpus.isEmpty(), Errno.EINVAL, "vCPUs exist");
                apicBusCycleNs = arg;
            }
            case MANUAL_DIRTY_LOG_PROTECT2 -> mmu.dirtyLog().enableManualProtect(arg);
            case DIRTY_LOG_RING, DIRTY_LOG_RING_ACQ_REL -> mmu.dirtyLog().enableRings(arg, !vcpus.isEmpty());
            default -> throw new KvmException(Errno.EINVAL, cap + " cannot be enabled");
        }
    }

    @Override public KvmVcpu createVcpu(int id) {
        requireAlive();
        require(id >= 0 && id < MAX_VCPUS, Errno.EINVAL, "vCPU id " + id);
        require(vcpus.size() < maxVcpus, Errno.EINVAL, "more than " + maxVcpus + " vCPUs");
        for (var other : vcpus) {
            require(other.id() != id, Errno.EEXIST, "vCPU " + id + " exists");
        }
        var vcpu = newVcpu(id);
        vcpus.add(vcpu);
        bus.add(vcpu.apic);
        return vcpu;
    }

    @Override public GuestMemfd createGuestMemfd(long size, long flags) {
        requireAlive();
        var file = mmu.createGuestMemfd(size, flags);
        files.add(file);
        return file;
    }

    @Override public void setUserMemoryRegion2(UserMemoryRegion region) {
        requireAlive();
        mmu.setMemoryRegion(region);
    }

    @Override public void setMemoryAttributes(long gpa, long size, long newAttributes) {
        requireAlive();
        long changed = mmu.setAttributes(gpa, size, newAttributes);
        if (vcpus.stream().anyMatch(vcpu -> vcpu.hasRun)) {
            counters.pagesConverted += changed; // before that the VMM lays out memory
        }
    }

    @Override public long[] getDirtyLog(int slot) {
        requireAlive();
        try (var held = mmu.lockSlots()) {
            return mmu.dirtyLog().get(slot);
        }
    }

    @Override public void clearDirtyLog(int slot, long firstPage, int numPages, long[] bitmap) {
        requireAlive();
        try (var held = mmu.lockSlots()) {
            mmu.dirtyLog().clear(slot, firstPage, numPages, bitmap);
        }
    }

    @Override public int resetDirtyRings() {
        requireAlive();
        try (var held = mmu.lockSlots()) {
            return mmu.dirtyLog().resetRings(vcpus.stream().map(vcpu -> vcpu.mmu).toList(), () -> false);
        }
    }

    @Override public void memoryEncryptOp(KvmTdxCmd cmd) {
        throw new KvmException(Errno.ENOTTY, "not a TD");
    }

    @Override public int signalMsi(long address, int data) {
        requireAlive();
        return bus.signalMsi(address, data);
    }

    @Override public void setGsiRouting(List<MsiRoute> routes) {
        requireAlive();
        bus.routes(routes);
        for (var vcpu : vcpus) {
            vcpu.request(Vcpu.REQUEST_SCAN_IOAPIC);
        }
    }

    @Override public int assertGsi(int gsi) {
        requireAlive();
        return bus.assertGsi(gsi);
    }

    @Override public KvmStats stats() {
        return counters;
    }

    @Override public void close() {
        if (closed) {
            return;
        }
        destroy();
        vcpus.clear();
        closed = true;
    }

    /// Releases the guest_memfd files: their pages are zapped and freed.
    public void closeFiles() {
        for (var file : files) {
            try (var held = mmu.lockSlots()) {
                file.close();
            }
        }
    }

    // --- vCPU requests

    @Override public void reloadRoots() {
        for (var vcpu : vcpus) {
            vcpu.request(Vcpu.REQUEST_MMU_RELOAD);
        }
        awaitOutsideGuest();
    }

    @Override public void kickVcpus() {
        for (var vcpu : vcpus) {
            vcpu.kickOutOfGuest();
        }
    }

    @Override public void flushRemoteTlbs() {
        for (var vcpu : vcpus) {
            vcpu.request(Vcpu.REQUEST_TLB_FLUSH);
        }
        awaitOutsideGuest();
    }

    /// Kicks every vCPU out of the guest and waits until each has left it once. [LINUX kvm_make_all_cpus_request with
    /// KVM_REQUEST_WAIT]
    public void awaitOutsideGuest() {
        for (var vcpu : vcpus) {
            vcpu.kickOutOfGuest();
        }
        host.scheduler().switchPoint(SwitchPoint.IPI, this, 0);
        for (var vcpu : vcpus) {
            vcpu.awaitOutsideGuest();
        }
    }
}
