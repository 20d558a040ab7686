package cloister.kvm.vcpu;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRun;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.MpState;
import cloister.kvm.MsrEntry;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.host.GuestOnProcessor;
import cloister.kvm.host.Host;
import cloister.kvm.irq.ApicOwner;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.irq.LocalApic;
import cloister.kvm.irq.PostedInterruptDescriptor;
import cloister.kvm.mmu.VcpuMmu;
import cloister.sim.HostThread;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.x86.Msr;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/// What all vCPUs have: the run loop, requests, blocking, INIT and SIPI, the local APIC. [LINUX vcpu_run,
/// vcpu_enter_guest]
public abstract class Vcpu implements KvmVcpu, ApicOwner, GuestMsrs.Machine, GuestOnProcessor, VcpuMmu.Owner {
    public static final int REQUEST_TLB_FLUSH = 1;
    public static final int REQUEST_EVENT = 1 << 1;
    public static final int REQUEST_SCAN_IOAPIC = 1 << 2;
    public static final int REQUEST_IOAPIC_EOI = 1 << 3;
    public static final int REQUEST_TRIPLE_FAULT = 1 << 4;
    /// The loaded root is invalid. (KVM_REQ_MMU_FREE_OBSOLETE_ROOTS)
    public static final int REQUEST_MMU_RELOAD = 1 << 5;
    private static final int EVENT_INIT = 1;
    private static final int EVENT_SIPI = 2;
    private static final KvmExit INTR = new KvmExit.Intr();

    /// Finishes an exit with the VMM's answer.
    @FunctionalInterface
    public interface Completion {
        /// @return a further exit, or null to run on
        KvmExit complete();
    }

    public final Vm vm;
    public final Host host;
    public final LogicalProcessor lp;
    public final LocalApic apic;
    public final GuestCpuid cpuid = new GuestCpuid();
    public final GuestMsrs msrs;
    public final PostedInterruptDescriptor pi;
    public final KvmRun run = new KvmRun();
    public final int[] cpuidResult = new int[4];
    public final VcpuMmu mmu;
    private final int id;
    private final BitSet eoiVectors = new BitSet(256);
    private final ArrayDeque<HostThread> exitWaiters = new ArrayDeque<>();
    public MpState mpState;
    public Completion completion;
    public int nmiPending;
    public boolean hasRun;
    private int requests = REQUEST_SCAN_IOAPIC;
    private int pendingApicEvents;
    private int sipiVector;
    private int eoiVector;
    private HostThread thread;
    private boolean inGuest;
    private boolean blocked;
    private boolean kicked;

    public Vcpu(Vm vm, int id, ApicPage apicPage) {
        this.vm = vm;
        this.id = id;
        this.host = vm.host;
        this.mmu = new VcpuMmu(vm.mmu, this);
        this.lp = host.processorFor(id);
        this.pi = new PostedInterruptDescriptor(host.memory(), host.frames().allocate(), Host.POSTED_INTR_VECTOR,
                lp.index());
        this.apic = new LocalApic(this, vm.bus, host.clock(), apicPage);
        this.msrs = new GuestMsrs(this, apic, cpuid, lp.rdmsr(Msr.IA32_ARCH_CAPABILITIES));
        apic.userspaceIoapic(vm.splitIrqchip);
        apic.busCycleNs(vm.apicBusCycleNs);
        this.mpState = id == 0 ? MpState.RUNNABLE : MpState.UNINITIALIZED;
    }

    // --- what the kinds of vCPU do themselves

    /// Checks before KVM_RUN does anything.
    public abstract void preRun();

    /// Makes the processor the vCPU's: called when the vCPU thread begins to run it.
    public abstract void load();

    /// The vCPU thread leaves KVM_RUN.
    public abstract void put();

    /// Last preparations of an entry that may take switch points.
    public void beforeEntry() {
    }

    /// Prepares events for the next entry. No switch points.
    public abstract void injectEvents();

    /// Enters the guest and returns after its exit.
    public abstract void enter();

    /// Handles the exit.
    ///
    /// @return null to run on
    public abstract KvmExit handleExit();

    /// Whether the guest would take an interrupt that its local APIC offers.
    public abstract boolean interruptAllowed();

    /// Whether an interrupt waits that the guest would take, wherever it is kept.
    public abstract boolean hasInterrupt();

    /// The processor gets the root that [VcpuMmu] has loaded, and forgets the translations of this vCPU. [LINUX load_mmu_pgd]
    public abstract void loadRoot();

    /// Drops translations of this vCPU on its processor.
    public abstract void flushTlb();

    /// Resets registers, as INIT does.
    public abstract void reset(boolean init);

    /// The VMM wants to hear of other EOIs than before.
    public void eoiVectorsChanged(BitSet vectors) {
    }

    /// Starts at `vector` in real mode.
    public abstract void startAt(int vector);

    /// INIT and SIPI wait while this is false.
    public boolean initSipiAllowed() {
        return true;
    }

    // --- KVM_RUN

    @Override public final KvmExit run() {
        vm.requireAlive();
        preRun();
        thread = host.scheduler().current();
        host.pin(lp);
        host.awaitReturned(lp);
        host.loadedOn(lp, this);
        load();
        try {
            var exit = runLoaded();
            run.exit(exit);
            return exit;
        } finally {
            put();
        }
    }

    private KvmExit runLoaded() {
        if (completion != null) {
            var finish = completion;
            completion = null;
            var exit = finish.complete();
            if (exit != null) {
                return exit;
            }
        }
        if (run.immediateExit) {
            return INTR;
        }
        hasRun = true;
        while (true) {
            if (kicked) {
                kicked = false;
                return INTR;
            }
            if (vm.isDead()) {
                throw new KvmException(Errno.EIO, "the VM is dead");
            }
            apic.injectPendingTimer();
            if (pendingApicEvents != 0 && initSipiAllowed()) {
                acceptApicEvents();
            }
            if (mpState == MpState.RUNNABLE) {
                var exit = enterGuest();
                if (exit != null) {
                    return exit;
                }
            } else {
                block();
            }
        }
    }

    private KvmExit enterGuest() {
        var exit = handleRequests();
        if (exit != null) {
            return exit;
        }
        beforeEntry();
        host.awaitReturned(lp);
        if (requests != 0 || kicked || vm.isDead() || apic.timerPending() || (pendingApicEvents != 0 && initSipiAllowed())) {
            requests &= ~REQUEST_EVENT;
            return null;
        }
        injectEvents();
        inGuest = true;
        enter();
        inGuest = false;
        for (var waiter = exitWaiters.poll(); waiter != null; waiter = exitWaiters.poll()) {
            host.scheduler().unpark(waiter);
        }
        while (lp.takeInterrupt() >= 0) {
            // Kicks have done their work by causing the exit.
        }
        return handleExit();
    }

    private KvmExit handleRequests() {
        mmu.reload();
        int now = requests;
        requests = 0;
        if (mmu.takeRootChange()) {
            loadRoot();
        }
        var ring = mmu.dirtyRing();
        if (ring != null && ring.isSoftFull()) {
            requests = now;
            return new KvmExit.DirtyRingFull();
        }
        if ((now & REQUEST_TLB_FLUSH) != 0) {
            flushTlb();
        }
        if ((now & REQUEST_SCAN_IOAPIC) != 0) {
            vm.bus.scanIoapicRoutes(apic, eoiVectors);
            eoiVectorsChanged(eoiVectors);
        }
        if ((now & REQUEST_IOAPIC_EOI) != 0) {
            return new KvmExit.IoapicEoi(eoiVector);
        }
        if ((now & REQUEST_TRIPLE_FAULT) != 0) {
            return new KvmExit.Shutdown();
        }
        return null;
    }

    /// Waits until something happens for a vCPU that does not run. [LINUX vcpu_block]
    ///
    /// Who wakes the vCPU must find it blocked from before the conditions are looked at: looking can take switch points.
    private void block() {
        blocked = true;
        while (!kicked && !vm.isDead() && !isRunnable()) {
            host.scheduler().park();
        }
        blocked = false;
    }

    private boolean isRunnable() {
        apic.injectPendingTimer();
        if (pendingApicEvents != 0 && initSipiAllowed()) {
            return true;
        }
        if (mpState == MpState.HALTED && hasEvents()) {
            mpState = MpState.RUNNABLE;
        }
        return mpState == MpState.RUNNABLE;
    }

    /// Whether a halted vCPU has a reason to go on. [LINUX kvm_vcpu_has_events]
    public boolean hasEvents() {
        return nmiPending > 0 || (hasInterrupt() && interruptAllowed());
    }

    /// HLT was executed: the vCPU waits.
    public void halt() {
        mpState = MpState.HALTED;
    }

    private void acceptApicEvents() {
        int events = pendingApicEvents;
        if ((events & EVENT_INIT) != 0) {
            pendingApicEvents &= ~EVENT_INIT;
            apic.reset(true);
            nmiPending = 0;
            reset(true);
            mpState = id == 0 ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
        }
        if ((events & EVENT_SIPI) != 0) {
            pendingApicEvents &= ~EVENT_SIPI;
            if (mpState == MpState.INIT_RECEIVED) {
                startAt(sipiVector);
                mpState = MpState.RUNNABLE;
            }
        }
    }

    // --- requests and kicks

    public void request(int bits) {
        requests |= bits;
    }

    /// Makes the vCPU thread look at its requests.
    public void wake() {
        if (inGuest) {
            lp.sendInterrupt(Host.RESCHEDULE_VECTOR);
        } else if (blocked) {
            host.scheduler().unpark(thread);
        }
    }

    public boolean isKicked() {
        return kicked;
    }

    public boolean isInGuest() {
        return inGuest;
    }

    @Override public final void kickOutOfGuest() {
        if (inGuest) {
            lp.sendInterrupt(Host.RESCHEDULE_VECTOR);
        }
    }

    /// Waits until it has left guest mode.
    public final void awaitOutsideGuest() {
        var self = host.scheduler().current();
        while (inGuest && self != null && self != thread) {
            exitWaiters.add(self);
            host.scheduler().park();
        }
    }

    @Override public final void kick() {
        kicked = true;
        wake();
    }

    // --- ApicOwner

    @Override public final int id() {
        return id;
    }

    /// Other IOAPIC routes may reach this vCPU now.
    @Override public void apicModeChanged() {
        request(REQUEST_SCAN_IOAPIC);
    }

    @Override public final void apicEvent() {
        requests |= REQUEST_EVENT;
        wake();
    }

    /// [LINUX __vmx_deliver_posted_interrupt]
    @Override public final void postInterrupt(int vector) {
        pi.post(vector);
        if (pi.testAndSetOutstanding()) {
            return;
        }
        if (inGuest) {
            lp.sendInterrupt(Host.POSTED_INTR_VECTOR);
        } else {
            wake();
        }
    }

    @Override public final void nmi() {
        nmiPending = Math.min(2, nmiPending + 1);
        apicEvent();
    }

    @Override public final void init() {
        pendingApicEvents = (pendingApicEvents & ~EVENT_SIPI) | EVENT_INIT;
        apicEvent();
    }

    @Override public final void startup(int vector) {
        sipiVector = vector;
        pendingApicEvents |= EVENT_SIPI;
        apicEvent();
    }

    @Override public final void levelEoi(int vector) {
        if (eoiVectors.get(vector)) {
            eoiVector = vector;
            request(REQUEST_IOAPIC_EOI);
        }
    }

    // --- ioctls that all kinds share

    @Override public final KvmRun kvmRun() {
        return run;
    }

    @Override public void setCpuid2(List<CpuidEntry> entries) {
        vm.requireAlive();
        Vm.require(entries.size() <= GuestCpuid.MAX_ENTRIES, Errno.E2BIG, entries.size() + " CPUID entries");
        Vm.require(!hasRun || entries.equals(cpuid.entries()), Errno.EINVAL, "the vCPU has run");
        cpuid.replace(entries);
        cpuidChanged();
    }

    /// The guest's CPUID is another one.
    public void cpuidChanged() {
    }

    @Override public boolean signalPending() {
        return kicked;
    }

    @Override public boolean vmDead() {
        return vm.isDead();
    }

    @Override public final List<CpuidEntry> getCpuid2() {
        return cpuid.entries();
    }

    /// Whether the VMM may access `msr` of this vCPU.
    public boolean hostMayAccess(int msr) {
        return true;
    }

    @Override public final List<MsrEntry> getMsrs(int... indices) {
        vm.requireAlive();
        var result = new ArrayList<MsrEntry>();
        try {
            for (int index : indices) {
                if (!hostMayAccess(index)) {
                    break;
                }
                result.add(new MsrEntry(index, msrs.read(index)));
            }
        } catch (GuestGp refused) {
            return result;
        }
        return result;
    }

    @Override public final int setMsrs(List<MsrEntry> entries) {
        vm.requireAlive();
        int done = 0;
        try {
            for (var entry : entries) {
                if (!hostMayAccess(entry.index())) {
                    break;
                }
                msrs.write(entry.index(), entry.data(), true);
                done++;
            }
        } catch (GuestGp refused) {
            return done;
        }
        return done;
    }

    @Override public byte[] getLapic() {
        Vm.require(vm.splitIrqchip, Errno.EINVAL, "no in-kernel local APIC");
        return apic.save();
    }

    @Override public void setLapic(byte[] registers) {
        Vm.require(vm.splitIrqchip && registers.length == 1024, Errno.EINVAL, "no in-kernel local APIC");
        apic.restore(registers);
    }

    @Override public final MpState getMpState() {
        return mpState;
    }

    @Override public void setMpState(MpState state) {
        mpState = state;
    }

    @Override public void memoryEncryptOp(KvmTdxCmd cmd) {
        throw new KvmException(Errno.ENOTTY, "not a TD");
    }

    /// How KVM_PRE_FAULT_MEMORY goes through the tables; throws what makes it impossible.
    public abstract boolean preFaultIsPrivate(long gpa);

    @Override public final void preFaultMemory(GpaRange range) {
        vm.requireAlive();
        Vm.require(((range.gpa | range.size) & 0xfff) == 0 && range.size > 0 && range.gpa + range.size > range.gpa,
                Errno.EINVAL, "range is not whole pages");
        boolean any = false;
        while (range.size != 0) {
            int level = preFaultPage(range.gpa);
            if (level < 0) {
                if (!any) {
                    throw new KvmException(Errno.of(-level), "cannot populate 0x" + Long.toHexString(range.gpa));
                }
                return;
            }
            any = true;
            // A large page covers what is before the address too.
            long page = 0x1000L << (9 * (level - 1));
            long done = Math.min(range.size, (range.gpa & -page) + page - range.gpa);
            range.gpa += done;
            range.size -= done;
        }
    }

    /// [LINUX kvm_arch_vcpu_pre_fault_memory]
    private int preFaultPage(long gpa) {
        boolean isPrivate = preFaultIsPrivate(gpa);
        try {
            mmu.reload();
        } catch (KvmException noMemory) {
            return -noMemory.errno().number();
        }
        return isPrivate ? mmu.mapPage(gpa, VcpuMmu.ERROR_PRIVATE) : mmu.mapPage(gpa | vm.mmu.sharedBit(), 0);
    }
}
