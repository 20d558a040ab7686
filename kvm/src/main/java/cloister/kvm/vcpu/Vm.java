package cloister.kvm.vcpu;

import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.kvm.KvmDevice;
import cloister.kvm.KvmException;
import cloister.kvm.KvmInspection;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmStats;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.MsiRoute;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.GuestMemFile;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.host.LockClass;
import cloister.kvm.host.Mutex;
import cloister.kvm.irq.ApicBus;
import cloister.kvm.mmu.GuestMemory;
import cloister.kvm.mmu.MemoryTypePolicy;
import cloister.kvm.mmu.Mmu;
import cloister.kvm.mmu.MmuModule;
import cloister.kvm.mmu.MmuVm;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/// What all VMs have: memory slots, vCPUs, interrupt routing, capabilities.
public abstract class Vm implements Persistent, KvmVm, MmuVm {
    public static final int MAX_VCPUS = 1024;
    /// KVM_MAX_VCPU_IDS.
    static final int MAX_VCPU_IDS = 4 * MAX_VCPUS;
    /// The longest APIC timer period counts 2^32 - 1 times the largest divider.
    private static final long MSR_EXIT_REASONS = KvmAbi.MSR_EXIT_REASON_INVAL | KvmAbi.MSR_EXIT_REASON_UNKNOWN
            | KvmAbi.MSR_EXIT_REASON_FILTER;
    private static final long LONGEST_APIC_COUNT = 0xffff_ffffL * 128;
    private static final int MAX_IOAPIC_PINS = 4096;

    public final Host host;
    private final Extensions extensions;
    public final GuestMemory memory;
    public final Mmu mmu;
    public final ApicBus bus = new ApicBus();
    public final ExitCounters counters = new ExitCounters();
    public final List<VcpuFile> vcpus = new ArrayList<>();
    private final List<GuestMemFile> files = new ArrayList<>();
    public boolean splitIrqchip;
    public long exitHypercalls;
    /// For which MSR_EXIT_REASON_ bits of [KvmAbi] the VMM is asked instead of the guest faulting.
    private int userSpaceMsrs;
    public long apicBusCycleNs = 1;
    /// kvm->lock: creation of vCPUs and what must not change meanwhile.
    public final Mutex lock;
    private final LockClass vcpuMutexes;
    private final int maxVcpus;
    private int maxVcpuIds;
    private int createdVcpus;
    private VfioDevice vfio;
    private final Map<KvmPolicy, String> policies = new EnumMap<>(KvmPolicy.class);
    /// Where the VM is listed; null for one that nobody lists.
    private VmList list;
    private boolean dead;
    private boolean closed;

    protected Vm(Host host, Extensions extensions, MmuModule mmuModule, boolean privateMemory, int maxVcpus) {
        this.host = host;
        this.extensions = extensions;
        this.maxVcpus = maxVcpus;
        var lockdep = host.lockdep();
        this.lock = new Mutex(lockdep, lockdep.sleeping("kvm->lock"), "");
        this.vcpuMutexes = lockdep.sleeping("vcpu->mutex");
        this.mmu = new Mmu(mmuModule, this, "VM", privateMemory);
        this.memory = new GuestMemory(mmu);
    }

    void enlisted(VmList where) {
        list = where;
    }

    /// Makes the vCPU object; the checks are done.
    public abstract VcpuFile newVcpu(int id);

    /// Ends the machine: vCPUs have left, slots are still there.
    public abstract void destroy();

    /// Whether slots may have private memory.
    public abstract boolean hasPrivateMemory();

    // --- failures

    /// KVM_BUG_ON: the VM is dead.
    @Override public void bug() {
        dead = true;
        for (var vcpu : vcpus) {
            vcpu.request(Request.VM_DEAD);
            vcpu.kickVcpu();
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
        requireAlive();
        return switch (cap) {
            case MAX_VCPUS -> maxVcpus();
            case MULTI_ADDRESS_SPACE -> mmu.slots().addressSpaces();
            case READONLY_MEM -> mmu.allowsReadOnlySlots() ? 1 : 0;
            case X86_APIC_BUS_CYCLES_NS -> apicBusCycleNs;
            case GUEST_MEMFD_FLAGS -> mmu.guestMemfdFlags();
            case MEMORY_ATTRIBUTES -> hasPrivateMemory() ? KvmAbi.MEMORY_ATTRIBUTE_PRIVATE : 0;
            default -> extensions.of(cap);
        };
    }

    @Override public void enableCap(KvmCap cap, long... args) {
        requireAlive();
        long arg = args.length > 0 ? args[0] : 0;
        switch (cap) {
            case SPLIT_IRQCHIP -> {
                try (var held = lock.lock()) {
                    require(Long.compareUnsigned(arg, MAX_IOAPIC_PINS) <= 0, Errno.EINVAL, "IOAPIC pins: " + arg);
                    require(!splitIrqchip, Errno.EEXIST, "there is an irqchip already");
                    require(createdVcpus == 0, Errno.EEXIST, "vCPUs exist");
                    splitIrqchip = true;
                    bus.ioapicPins((int) arg);
                }
            }
            case EXIT_HYPERCALL -> {
                require((arg & ~(1L << KvmAbi.HC_MAP_GPA_RANGE)) == 0, Errno.EINVAL, "hypercall mask");
                exitHypercalls = arg;
            }
            case X86_USER_SPACE_MSR -> {
                require((arg & ~MSR_EXIT_REASONS) == 0, Errno.EINVAL, "reasons of MSR exits");
                userSpaceMsrs = (int) arg;
            }
            case X2APIC_API -> {
                require((arg & ~3L) == 0, Errno.EINVAL, "x2APIC flags");
                bus.x2apicApi((arg & KvmAbi.X2APIC_API_USE_32BIT_IDS) != 0,
                        (arg & KvmAbi.X2APIC_API_DISABLE_BROADCAST_QUIRK) != 0);
            }
            case MAX_VCPU_ID -> {
                require(Long.compareUnsigned(arg, MAX_VCPU_IDS) <= 0, Errno.EINVAL, "vCPU id limit " + arg);
                try (var held = lock.lock()) {
                    require(maxVcpuIds == arg || maxVcpuIds == 0, Errno.EINVAL, "the limit of vCPU ids is set");
                    maxVcpuIds = (int) arg;
                }
            }
            case X86_APIC_BUS_CYCLES_NS -> {
                require(arg != 0 && Math.unsignedMultiplyHigh(arg, LONGEST_APIC_COUNT) == 0, Errno.EINVAL, "APIC bus cycle");
                try (var held = lock.lock()) {
                    require(splitIrqchip, Errno.ENXIO, "no in-kernel local APIC");
                    require(createdVcpus == 0, Errno.EINVAL, "vCPUs exist");
                    apicBusCycleNs = arg;
                }
            }
            case DISABLE_QUIRKS -> disableQuirks(arg & supportedQuirks());
            case DISABLE_QUIRKS2 -> {
                require((arg & ~supportedQuirks()) == 0, Errno.EINVAL, "unknown quirks");
                disableQuirks(arg);
            }
            case MANUAL_DIRTY_LOG_PROTECT2 -> mmu.dirtyLog().enableManualProtect(arg);
            case DIRTY_LOG_RING, DIRTY_LOG_RING_ACQ_REL -> mmu.dirtyLog().enableRings((int) arg, createdVcpus != 0);
            default -> throw new KvmException(Errno.EINVAL, cap + " cannot be enabled");
        }
    }

    /// What KVM does although the architecture says otherwise, and the VMM may turn off. Guest PAT cannot count on a processor that does
    /// not snoop its own caches. [LINUX kvm_caps.supported_quirks]
    private long supportedQuirks() {
        return extensions.of(KvmCap.DISABLE_QUIRKS2);
    }

    private void disableQuirks(long mask) {
        if ((mask & KvmAbi.QUIRK_IGNORE_GUEST_PAT) != 0) {
            mmu.memoryTypes().ignoreGuestPatQuirk(false);
        }
        if ((mask & KvmAbi.QUIRK_CD_NW_CLEARED) != 0) {
            mmu.memoryTypes().cacheDisableQuirk(false);
        }
        if ((mask & KvmAbi.QUIRK_SLOT_ZAP_ALL) != 0) {
            mmu.slotZapAllQuirk(false);
        }
    }

    /// [LINUX kvm_ioctl_create_device]
    @Override public KvmDevice createDevice(int type) {
        requireAlive();
        require(type == KvmAbi.DEV_TYPE_VFIO, Errno.ENODEV, "no device of type " + type);
        try (var held = lock.lock()) {
            require(vfio == null, Errno.EBUSY, "the VM has a VFIO device");
            vfio = new VfioDevice(this);
        }
        return vfio;
    }

    void released(VfioDevice device) {
        vfio = null;
    }

    /// Whether the VMM answers an access to an MSR that KVM refuses as `refused` says. [LINUX kvm_msr_user_space]
    public final boolean asksVmmFor(GuestGp refused) {
        return (userSpaceMsrs & refused.msrReason()) != 0;
    }

    @Override public void plant(Defect defect) {
        mmu.plant(defect);
    }

    @Override public void choose(KvmPolicy policy, String choice) {
        requireAlive();
        require(policy.choices().contains(choice), Errno.EINVAL,
                "policy " + policy.policyName() + " is one of " + policy.choices() + ", not " + choice);
        require(!policy.isOfModule(), Errno.EINVAL, "policy " + policy.policyName() + " is chosen when the module is loaded");
        try (var held = lock.lock()) {
            require(createdVcpus == 0, Errno.EBUSY, "vCPUs exist");
            policyChosen(policy, choice);
            policies.put(policy, choice);
        }
    }

    /// What was chosen, upstream's choice by default.
    public final String choice(KvmPolicy policy) {
        return policies.getOrDefault(policy, policy.choices().getFirst());
    }

    /// The VM has another policy. What a type of VM does not know is EINVAL.
    protected void policyChosen(KvmPolicy policy, String choice) {
        require(policy.isFor(type(), choice), Errno.EINVAL,
                "policy " + policy.policyName() + "=" + choice + " is not for VMs of type " + type());
        if (policy == KvmPolicy.MEMORY_TYPE) {
            mmu.memoryTypes().policy(MemoryTypePolicy.named(choice));
        } else if (policy == KvmPolicy.PRE_FAULT) {
            mmu.mapsForL1(choice.equals("map-memory-v1"));
        }
    }

    /// How many vCPUs the VM may have.
    protected int maxVcpus() {
        return maxVcpus;
    }

    /// [LINUX kvm_vm_ioctl_create_vcpu]
    @Override public KvmVcpu createVcpu(int id) {
        requireAlive();
        require(id >= 0 && id < MAX_VCPU_IDS, Errno.EINVAL, "vCPU id " + id);
        try (var held = lock.lock()) {
            require(createdVcpus < maxVcpus(), Errno.EINVAL, "more than " + maxVcpus() + " vCPUs");
            if (maxVcpuIds == 0) {
                maxVcpuIds = MAX_VCPU_IDS;
            }
            require(id < maxVcpuIds, Errno.EINVAL, "vCPU id " + id + " is beyond KVM_CAP_MAX_VCPU_ID");
            createdVcpus++;
        }
        VcpuFile vcpu = null;
        boolean done = false;
        try {
            vcpu = newVcpu(id);
            try (var held = lock.lock()) {
                for (var other : vcpus) {
                    require(other.id() != id, Errno.EEXIST, "vCPU " + id + " exists");
                }
                vcpus.add(vcpu);
                bus.add(vcpu.apic);
                done = true;
            }
        } finally {
            if (!done) {
                if (vcpu != null) {
                    destroy(vcpu);
                }
                try (var held = lock.lock()) {
                    createdVcpus--;
                }
            }
        }
        return vcpu;
    }

    /// A vCPU that could not be added is gone again.
    protected abstract void destroy(VcpuFile vcpu);

    /// How many vCPUs exist or are being created.
    protected final int createdVcpus() {
        return createdVcpus;
    }

    /// The mutex of vCPU `id`.
    Mutex vcpuMutex(int id) {
        return new Mutex(host.lockdep(), vcpuMutexes, "vCPU " + id);
    }

    /// [LINUX kvm_lock_all_vcpus]
    protected final void lockAllVcpus() {
        for (var vcpu : vcpus) {
            vcpu.mutex.lockUnder(lock);
        }
    }

    /// [LINUX kvm_unlock_all_vcpus]
    protected final void unlockAllVcpus() {
        for (var vcpu : vcpus) {
            vcpu.mutex.unlock();
        }
    }

    @Override public GuestMemfd createGuestMemfd(long size, long flags) {
        requireAlive();
        var file = mmu.createGuestMemfd(size, flags);
        files.add(file);
        return file;
    }

    /// [LINUX kvm_vm_ioctl, KVM_SET_USER_MEMORY_REGION_V1_FLAGS]
    @Override public void setUserMemoryRegion(int slot, int flags, long gpa, long size, long userspaceAddr) {
        requireAlive();
        require((flags & ~KvmAbi.MEM_V1_FLAGS) == 0, Errno.EINVAL, "flags 0x" + Integer.toHexString(flags));
        setUserMemoryRegion2(new UserMemoryRegion(slot, flags, gpa, size, userspaceAddr, null, 0));
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

    /// [LINUX kvm_vm_ioctl_set_nr_mmu_pages]
    @Override public void setNrMmuPages(long pages) {
        requireAlive();
        require(Long.compareUnsigned(pages, KvmAbi.MIN_ALLOC_MMU_PAGES) >= 0, Errno.EINVAL, "fewer than "
                + KvmAbi.MIN_ALLOC_MMU_PAGES + " pages");
        try (var held = mmu.lockSlots()) {
            mmu.shadowPages(Long.compareUnsigned(pages, Integer.MAX_VALUE) > 0 ? Integer.MAX_VALUE : pages);
        }
    }

    @Override public int resetDirtyRings() {
        requireAlive();
        try (var held = mmu.lockSlots()) {
            return mmu.dirtyLog().resetRings(vcpus.stream().map(vcpu -> vcpu.mmu).toList(), this::signalPendingHere);
        }
    }

    /// Whether a signal waits for the current host thread: signals are sent to vCPUs, whose threads they are for.
    private boolean signalPendingHere() {
        for (var vcpu : vcpus) {
            if (vcpu.signalPending() && vcpu.isOnCurrentThread()) {
                return true;
            }
        }
        return false;
    }

    @Override public void memoryEncryptOp(KvmTdxCmd cmd) {
        throw new KvmException(Errno.ENOTTY, "not a TD");
    }

    @Override public int signalMsi(long address, int data) {
        requireAlive();
        require(splitIrqchip, Errno.EINVAL, "no in-kernel local APIC");
        return bus.signalMsi(address, data);
    }

    @Override public void setGsiRouting(List<MsiRoute> routes) {
        requireAlive();
        require(splitIrqchip, Errno.EINVAL, "no in-kernel local APIC");
        bus.routes(routes);
        for (var vcpu : vcpus) {
            vcpu.request(Request.SCAN_IOAPIC);
        }
    }

    @Override public int assertGsi(int gsi) {
        requireAlive();
        return bus.assertGsi(gsi);
    }

    @Override public KvmInspection inspect() {
        return new VmInspection(this);
    }

    @Override public KvmStats stats() {
        return counters;
    }

    @Override public void close() {
        if (closed) {
            return;
        }
        if (list != null) {
            list.remove(this);
        }
        if (vfio != null) {
            vfio.close();
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

    /// `cpu` goes offline: vCPUs leave nothing there.
    public void cpuOffline(HostCpu cpu) {
    }

    // --- vCPU requests

    @Override public void reloadRoots() {
        makeAllRequest(Request.MMU_RELOAD);
    }

    @Override public void kickVcpus() {
        for (var vcpu : vcpus) {
            vcpu.kickVcpu();
        }
    }

    /// [LINUX kvm_flush_remote_tlbs]
    @Override public void flushRemoteTlbs() {
        makeAllRequest(Request.TLB_FLUSH);
    }

    /// Every vCPU has left guest mode once afterwards. [LINUX kvm_make_all_cpus_request with KVM_REQ_OUTSIDE_GUEST_MODE]
    public void makeAllVcpusLeaveGuest() {
        makeAllRequest(Request.OUTSIDE_GUEST_MODE);
    }

    /// Makes `request` of every vCPU, and waits until each that was in guest mode has seen it. Who is not there sees it before it
    /// enters. [LINUX kvm_make_all_cpus_request with KVM_REQUEST_WAIT]
    private void makeAllRequest(int request) {
        var targets = new HostCpu[vcpus.size()];
        int count = 0;
        for (int i = 0; i < vcpus.size(); i++) {
            var vcpu = vcpus.get(i);
            vcpu.request(request);
            if (vcpu.needsIpi(true)) {
                targets[count++] = vcpu.cpu();
            }
        }
        host.cpus().kickAndWait(targets, count);
    }

    @Override public String stateName() {
        return "vm";
    }

    @Override public void describe(StateSink to) {
        to.flag("splitIrqchip", splitIrqchip);
        to.field("exitHypercalls", exitHypercalls);
        to.field("userSpaceMsrs", userSpaceMsrs);
        to.field("apicBusCycleNs", apicBusCycleNs);
        to.field("maxVcpuIds", maxVcpuIds);
        to.field("createdVcpus", createdVcpus);
        to.flag("vfio", vfio != null);
        to.text("policies", policies);
        to.flag("dead", dead);
        to.flag("closed", closed);
        to.field("files", files.size());
        to.field("vcpus", vcpus.size());
        to.part(bus);
        to.part(mmu);
        for (var vcpu : vcpus) { // what of it is in a VMCS can be read on a processor only
            try (var held = vcpu.mutex.lock()) {
                vcpu.withProcessor(() -> {
                    to.part(vcpu);
                    return null;
                });
            }
        }
    }
}
