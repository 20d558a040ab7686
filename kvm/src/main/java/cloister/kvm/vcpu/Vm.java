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
import cloister.kvm.host.InvalidationListener;
import cloister.kvm.irq.ApicBus;
import cloister.kvm.mmu.GuestMemory;
import cloister.kvm.mmu.MemSlots;
import cloister.kvm.mmu.MemoryAttributes;
import cloister.kvm.mmu.TdpMmu;
import cloister.memory.PhysicalMemory;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import java.util.ArrayList;
import java.util.List;

/// What all VMs have: memory slots, vCPUs, interrupt routing, capabilities.
public abstract class Vm implements KvmVm {
    public static final int MAX_VCPUS = 1024;
    private static final int MAX_IOAPIC_PINS = 4096;

    public final Host host;
    public final MemSlots slots;
    public final GuestMemory memory;
    public final MemoryAttributes attributes = new MemoryAttributes();
    public final TdpMmu mmu;
    public final ApicBus bus = new ApicBus();
    public final ExitCounters counters = new ExitCounters();
    public final List<Vcpu> vcpus = new ArrayList<>();
    private final List<GuestMemFile> files = new ArrayList<>();
    private final InvalidationListener invalidation = this::invalidateUserMemory;
    public boolean splitIrqchip;
    public long exitHypercalls;
    public long apicBusCycleNs = 1;
    private int maxVcpus;
    private boolean dead;
    private boolean closed;

    public Vm(Host host, boolean privateMemory, int maxVcpus) {
        this.host = host;
        this.maxVcpus = maxVcpus;
        this.slots = new MemSlots(host.userMemory(), privateMemory);
        this.memory = new GuestMemory(slots, host.userMemory());
        this.mmu = new TdpMmu(host.memory(), host.frames(), host.userMemory(), host.scheduler(), host.lockdep(), slots, attributes,
                this::flushRemoteTlbs);
        host.userMemory().addListener(invalidation);
    }

    /// Makes the vCPU object; the checks are done.
    public abstract Vcpu newVcpu(int id);

    /// Ends the machine: vCPUs have left, slots are still there.
    public abstract void destroy();

    /// Whether slots may have private memory.
    public abstract boolean hasPrivateMemory();

    // --- failures

    /// KVM_BUG_ON: the VM is dead.
    public void bug() {
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
            case MEMORY_ATTRIBUTES -> hasPrivateMemory() ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0;
            case GUEST_MEMFD -> hasPrivateMemory() ? 1 : 0;
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
        require(hasPrivateMemory() && flags == 0, Errno.EINVAL, "guest_memfd flags");
        require(size > 0 && size % PhysicalMemory.FRAME_SIZE == 0, Errno.EINVAL, "guest_memfd size");
        var file = new GuestMemFile(host.frames(), size, this::invalidatePrivate);
        files.add(file);
        return file;
    }

    @Override public void setUserMemoryRegion2(UserMemoryRegion region) {
        requireAlive();
        var replacement = slots.check(region);
        var old = slots.byId(region.slot());
        slots.commit(region.slot(), replacement);
        if (old != null) {
            mmu.zapDirect(old.baseGfn(), old.baseGfn() + old.npages());
            if (old.gmem() != null) {
                mmu.zapMirror(old.baseGfn(), old.baseGfn() + old.npages(), gfn -> old.gmem().leak(old.gmemIndex(gfn)));
            }
        }
    }

    @Override public void setMemoryAttributes(long gpa, long size, long newAttributes) {
        requireAlive();
        require(hasPrivateMemory(), Errno.EINVAL, "the VM type has no memory attributes");
        require((newAttributes & ~KvmAbi.MEMORY_ATTRIBUTE_PRIVATE) == 0, Errno.EINVAL, "attributes");
        require(size > 0 && gpa >= 0 && gpa + size > gpa && ((gpa | size) & 0xfff) == 0, Errno.EINVAL, "range");
        boolean isPrivate = newAttributes != 0;
        long first = gpa >>> 12;
        long end = (gpa + size) >>> 12;
        long changed = attributes.set(first, end, isPrivate);
        if (vcpus.stream().anyMatch(vcpu -> vcpu.hasRun)) {
            counters.pagesConverted += changed; // before that the VMM lays out memory
        }
        if (isPrivate) {
            mmu.zapDirect(first, end);
        } else {
            zapPrivate(first, end);
        }
    }

    private void zapPrivate(long first, long end) {
        mmu.zapMirror(first, end, gfn -> {
            var slot = slots.find(gfn);
            if (slot != null && slot.gmem() != null) {
                slot.gmem().leak(slot.gmemIndex(gfn));
            }
        });
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
        host.userMemory().removeListener(invalidation);
        vcpus.clear();
        closed = true;
    }

    /// Releases the guest_memfd files: their pages are zapped and freed.
    public void closeFiles() {
        for (var file : files) {
            file.close();
        }
    }

    // --- memory

    private void invalidateUserMemory(long start, long end) {
        for (var slot : slots.all()) {
            long slotEnd = slot.userspaceAddr() + (slot.npages() << 12);
            long from = Math.max(start, slot.userspaceAddr());
            long to = Math.min(end, slotEnd);
            if (from < to) {
                long first = slot.baseGfn() + ((from - slot.userspaceAddr()) >>> 12);
                mmu.zapDirect(first, first + ((to - from) >>> 12));
            }
        }
    }

    private void invalidatePrivate(GuestMemFile file, long first, long end) {
        for (var slot : slots.all()) {
            if (slot.gmem() != file) {
                continue;
            }
            long from = Math.max(first, slot.gmemPgoff());
            long to = Math.min(end, slot.gmemPgoff() + slot.npages());
            if (from < to) {
                long gfn = slot.baseGfn() + from - slot.gmemPgoff();
                zapPrivate(gfn, gfn + to - from);
            }
        }
    }

    // --- vCPU requests

    /// [LINUX kvm_flush_remote_tlbs]
    public void flushRemoteTlbs() {
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
