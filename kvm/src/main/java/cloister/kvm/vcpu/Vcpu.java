package cloister.kvm.vcpu;

import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRun;
import cloister.kvm.MpState;
import cloister.kvm.host.Cpus;
import cloister.kvm.host.Host;
import cloister.kvm.host.HostCpu;
import cloister.kvm.host.Mutex;
import cloister.kvm.host.PreemptNotifier;
import cloister.kvm.irq.ApicOwner;
import cloister.kvm.irq.ApicPage;
import cloister.kvm.irq.LocalApic;
import cloister.kvm.irq.PostedInterruptDescriptor;
import cloister.kvm.mmu.GuestMtrrs;
import cloister.kvm.mmu.VcpuMmu;
import cloister.sim.HostThread;
import cloister.sim.Persistent;
import cloister.sim.Scheduler;
import cloister.sim.StateSink;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Msr;
import java.util.BitSet;

/// What all vCPUs have: the run loop, requests, blocking, INIT and SIPI, the local APIC. [LINUX vcpu_run, vcpu_enter_guest]
///
/// A vCPU runs on whatever processor its thread gets: [#schedIn] and [#schedOut] move its state there and back.
public abstract class Vcpu implements Persistent, ApicOwner, GuestMsrs.Machine, PreemptNotifier, VcpuMmu.Owner {
    private static final int EVENT_INIT = 1;
    private static final int EVENT_SIPI = 2;
    private static final KvmExit INTR = new KvmExit.Intr();

    /// Whether the vCPU executes guest code, as others see it. [LINUX Documentation/virt/kvm/vcpu-requests.rst]
    enum Mode { OUTSIDE_GUEST_MODE, IN_GUEST_MODE, EXITING_GUEST_MODE }

    public final Vm vm;
    public final Host host;
    public final Cpus cpus;
    protected final Scheduler scheduler;
    public final LocalApic apic;
    public final GuestCpuid cpuid = new GuestCpuid();
    public final GuestMsrs msrs;
    public final PostedInterruptDescriptor pi;
    public final KvmRun run = new KvmRun();
    public final int[] cpuidResult = new int[4];
    public final QueuedEvents events = new QueuedEvents();
    public final VcpuMmu mmu;
    /// vcpu->mutex: one ioctl at a time.
    protected final Mutex mutex;
    private final int id;
    private final BitSet eoiVectors = new BitSet(256);
    protected MpState mpState;
    boolean hasRun;
    /// Where the vCPU is loaded or was last; null when nothing of it is on any processor. [LINUX vcpu->cpu]
    private HostCpu cpu;
    private RunState state = RunState.LEAVING;
    private KvmExit exit;
    private Mode mode = Mode.OUTSIDE_GUEST_MODE;
    private int requests = Request.SCAN_IOAPIC;
    private int pendingApicEvents;
    private int sipiVector;
    private int eoiVector;
    private HostThread thread;
    private boolean blocked;
    /// Somebody woke the blocked vCPU since it last looked.
    private boolean woken;
    private boolean signalPending;
    /// KVM_HC_KICK_CPU came: the next HLT, or the present one, ends at once. [LINUX pv_unhalted]
    private boolean unhalted;

    /// @param piPa a frame for the posted-interrupt descriptor, which is the vCPU's from now on
    protected Vcpu(Vm vm, int id, long piPa, ApicPage apicPage) {
        this.vm = vm;
        this.id = id;
        this.host = vm.host;
        this.cpus = host.cpus();
        this.scheduler = host.scheduler();
        this.mmu = new VcpuMmu(vm.mmu, this);
        this.mutex = vm.vcpuMutex(id);
        this.pi = new PostedInterruptDescriptor(host.memory(), piPa, Host.POSTED_INTR_VECTOR);
        this.apic = new LocalApic(this, vm.bus, host.clock(), apicPage);
        this.msrs = new GuestMsrs(this, apic, cpuid, cpus.here().lp().rdmsr(Msr.IA32_ARCH_CAPABILITIES));
        apic.userspaceIoapic(vm.splitIrqchip);
        apic.busCycleNs(vm.apicBusCycleNs);
        this.mpState = id == 0 || !vm.splitIrqchip ? MpState.RUNNABLE : MpState.UNINITIALIZED;
    }

    // --- what the kinds of vCPU do themselves

    /// Checks of KVM_RUN behind those that all share. [LINUX kvm_x86_ops.vcpu_pre_run]
    protected abstract void preRun();

    /// Makes `target` the vCPU's processor. May take switch points; the processor is held. [LINUX kvm_x86_ops.vcpu_load]
    ///
    /// @param moved whether the vCPU was elsewhere before
    protected abstract void vcpuLoad(HostCpu target, boolean moved);

    /// Takes the vCPU's state from `from` and gives the host's back. No switch points. [LINUX kvm_x86_ops.vcpu_put]
    protected abstract void vcpuPut(HostCpu from);

    /// Last preparations of an entry that may take switch points.
    protected void beforeEntry() {
    }

    /// Prepares events for the next entry. No switch points.
    protected abstract void injectEvents(HostCpu target);

    /// Enters the guest on `target`, which is held, and returns after its exit. [LINUX kvm_x86_ops.vcpu_run]
    protected abstract void enter(HostCpu target);

    /// Handles the exit.
    ///
    /// @return null to run on
    protected abstract KvmExit handleExit();

    /// Whether the last exit still waits for the VMM's answer.
    protected abstract boolean exitPending();

    /// Finishes the last exit with the VMM's answer. [LINUX vcpu->arch.complete_userspace_io]
    ///
    /// @return a further exit, or null to run on
    protected abstract KvmExit completeExit();

    /// Whether the guest would take an interrupt that its local APIC offers.
    protected abstract boolean interruptAllowed();

    /// Whether the guest would take an NMI.
    protected abstract boolean nmiAllowed();

    /// Whether the guest is in the handler of an NMI.
    protected abstract boolean nmiMasked();

    /// Whether an interrupt waits that the guest would take, wherever it is kept.
    protected abstract boolean hasInterrupt();

    /// The processor gets the root that [VcpuMmu] has loaded, and forgets the translations of this vCPU. [LINUX load_mmu_pgd]
    protected abstract void loadRoot();

    /// Drops translations of this vCPU on its processor.
    protected abstract void flushTlb();

    /// Resets registers, as INIT does.
    protected abstract void reset(boolean init);

    /// The VMM wants to hear of other EOIs than before.
    protected void eoiVectorsChanged(BitSet vectors) {
    }

    /// Starts at `vector` in real mode.
    protected abstract void startAt(int vector);

    /// INIT and SIPI wait while this is false.
    protected boolean initSipiAllowed() {
        return true;
    }

    // --- processors

    @Override public final void schedIn(HostCpu target) {
        boolean moved = cpu != target;
        target.guestComes();
        vcpuLoad(target, moved);
        cpu = target;
        pi.load(target.lp().apicId());
    }

    @Override public final void schedOut(HostCpu from) {
        vcpuPut(from);
        from.guestHasLeft(vm.type() == VmType.TDX);
    }

    /// Where the vCPU is loaded or was last, or null.
    public final HostCpu cpu() {
        return cpu;
    }

    /// Nothing of the vCPU is on any processor any more.
    protected final void forgetCpu() {
        cpu = null;
    }

    // --- KVM_RUN

    /// The run loop. The caller holds the mutex.
    final KvmExit runLoop() {
        thread = host.scheduler().current();
        cpus.load(this);
        try {
            state = mpState == MpState.UNINITIALIZED ? awaitInit() : exitPending() ? RunState.COMPLETING : begin();
            while (state != RunState.LEAVING) {
                state = switch (state) {
                    // COMPLETING -- the exit is finished --> CHECKING, or LEAVING with a further exit
                    case COMPLETING -> complete();
                    // CHECKING -- runnable --> ENTERING, -- not --> BLOCKED, -- signal --> LEAVING
                    case CHECKING -> check();
                    // BLOCKED -- an event came --> CHECKING
                    case BLOCKED -> block();
                    // ENTERING -- the guest ran --> EXITED, -- something came up --> CHECKING
                    case ENTERING -> enterGuest();
                    // EXITED -- KVM has handled it --> CHECKING, -- the VMM must --> LEAVING
                    case EXITED -> leaveWith(handleExit());
                    case LEAVING -> RunState.LEAVING;
                };
            }
            return exit;
        } finally {
            state = RunState.LEAVING;
            mode = Mode.OUTSIDE_GUEST_MODE;
            cpus.put();
            cpus.returnToUser();
        }
    }

    /// A vCPU that waits for INIT does nothing else in this KVM_RUN; the next one looks what it may do.
    private RunState awaitInit() {
        if (run.immediateExit) {
            return leaveWith(INTR);
        }
        block();
        acceptApicEvents();
        if (signalPending) {
            signalPending = false;
            return leaveWith(INTR);
        }
        vm.requireAlive();
        throw new KvmException(Errno.EAGAIN, "the vCPU was woken before it was to run");
    }

    private RunState leaveWith(KvmExit newExit) {
        exit = newExit;
        return newExit == null ? RunState.CHECKING : RunState.LEAVING;
    }

    private RunState complete() {
        var further = leaveWith(completeExit());
        return further == RunState.LEAVING ? further : begin();
    }

    private RunState begin() {
        if (run.immediateExit) {
            return leaveWith(INTR);
        }
        preRun();
        hasRun = true;
        return RunState.CHECKING;
    }

    private RunState check() {
        if (signalPending) {
            signalPending = false;
            return leaveWith(INTR);
        }
        if (vm.isDead()) {
            throw new KvmException(Errno.EIO, "the VM is dead");
        }
        apic.injectPendingTimer();
        acceptApicEvents();
        return mpState == MpState.RUNNABLE ? RunState.ENTERING : RunState.BLOCKED;
    }

    private RunState enterGuest() {
        exit = serveRequests();
        if (exit != null) {
            return RunState.LEAVING;
        }
        beforeEntry();
        var here = cpus.pin();
        boolean back = false;
        try {
            mode = Mode.IN_GUEST_MODE;
            if (exitRequested(here)) {
                requests &= ~(Request.EVENT | Request.OUTSIDE_GUEST_MODE);
                back = true;
                return RunState.CHECKING;
            }
            injectEvents(here);
            enter(here);
            back = true;
            return RunState.EXITED;
        } finally {
            if (!back) {
                here.guestIsLost();
            }
            mode = Mode.OUTSIDE_GUEST_MODE;
            cpus.unpin();
        }
    }

    /// [LINUX kvm_vcpu_exit_request]
    private boolean exitRequested(HostCpu here) {
        return mode == Mode.EXITING_GUEST_MODE || requests != 0 || signalPending || vm.isDead() || here.needResched()
                || apic.timerPending() || (pendingApicEvents != 0 && initSipiAllowed());
    }

    private KvmExit serveRequests() {
        reloadMmu();
        if (requests == 0 && mmu.dirtyRing() == null) {
            return null;
        }
        if (take(Request.VM_DEAD)) {
            throw new KvmException(Errno.EIO, "the VM is dead");
        }
        if (mmu.dirtyRing() != null && mmu.dirtyRing().isSoftFull()) {
            return new KvmExit.DirtyRingFull();
        }
        if (take(Request.TLB_FLUSH)) {
            flushTlb();
        }
        if (take(Request.TRIPLE_FAULT)) {
            return new KvmExit.Shutdown();
        }
        if (take(Request.NMI)) {
            events.takeNmis(nmiMasked());
        }
        if (take(Request.IOAPIC_EOI_EXIT)) {
            return new KvmExit.IoapicEoi(eoiVector);
        }
        if (take(Request.SCAN_IOAPIC)) {
            vm.bus.scanIoapicRoutes(apic, eoiVectors);
            eoiVectorsChanged(eoiVectors);
        }
        requests &= ~(Request.EVENT | Request.OUTSIDE_GUEST_MODE);
        return null;
    }

    /// Loads a root if none is loaded or the one that is has become invalid. [LINUX kvm_mmu_reload]
    protected final void reloadMmu() {
        requests &= ~Request.MMU_RELOAD;
        mmu.reload();
        if (mmu.takeRootChange()) {
            loadRoot();
        }
    }

    private boolean take(int request) {
        boolean made = (requests & request) != 0;
        requests &= ~request;
        return made;
    }

    /// Waits until something happens for a vCPU that does not run. [LINUX vcpu_block]
    ///
    /// Who wakes the vCPU must find it blocked from before the conditions are looked at: looking can take switch points, and may even
    /// wait for a processor, so that the wake-up itself is used up there. What came meanwhile is remembered in [#woken].
    private RunState block() {
        blocked = true;
        try {
            while (!signalPending && !vm.isDead()) {
                woken = false;
                if (isRunnable()) {
                    break;
                }
                if (!woken) {
                    cpus.idle();
                    host.scheduler().park();
                }
            }
        } finally {
            blocked = false;
        }
        return RunState.CHECKING;
    }

    private boolean isRunnable() {
        apic.injectPendingTimer();
        if (pendingApicEvents != 0 && initSipiAllowed()) {
            return true;
        }
        if (mpState == MpState.HALTED && hasEvents()) {
            unhalted = false;
            mpState = MpState.RUNNABLE;
        }
        return mpState == MpState.RUNNABLE;
    }

    /// Whether a halted vCPU has a reason to go on. [LINUX kvm_vcpu_has_events]
    public final boolean hasEvents() {
        return unhalted || events.exceptionPending || (requests & Request.NMI) != 0 || (events.nmiPending > 0 && nmiAllowed())
                || (hasInterrupt() && interruptAllowed());
    }

    /// Whether it waits because of HLT.
    public final boolean isHalted() {
        return mpState == MpState.HALTED;
    }

    /// HLT was executed: the vCPU waits.
    public final void halt() {
        mpState = MpState.HALTED;
    }

    /// [LINUX kvm_apic_accept_events]
    private void acceptApicEvents() {
        if (!initSipiAllowed()) {
            pendingApicEvents &= ~EVENT_SIPI; // INIT waits, a start-up message is lost
            return;
        }
        int come = pendingApicEvents;
        if ((come & EVENT_INIT) != 0) {
            pendingApicEvents &= ~EVENT_INIT;
            apic.reset(true);
            events.reset();
            reset(true);
            mpState = id == 0 ? MpState.RUNNABLE : MpState.INIT_RECEIVED;
        }
        if ((come & EVENT_SIPI) != 0) {
            pendingApicEvents &= ~EVENT_SIPI;
            if (mpState == MpState.INIT_RECEIVED) {
                startAt(sipiVector);
                mpState = MpState.RUNNABLE;
            }
        }
    }

    /// KVM_GET_MP_STATE.
    final MpState readMpState() {
        acceptApicEvents();
        return mpState;
    }

    /// KVM_SET_MP_STATE. A vCPU that is to have received a start-up message takes it when it runs. [LINUX
    /// kvm_arch_vcpu_ioctl_set_mpstate]
    final void writeMpState(MpState newState) {
        Vm.require(vm.splitIrqchip || newState == MpState.RUNNABLE, Errno.EINVAL, "no in-kernel local APIC");
        boolean start = newState == MpState.SIPI_RECEIVED;
        Vm.require(initSipiAllowed() || !(start || newState == MpState.INIT_RECEIVED), Errno.EINVAL, "INIT and SIPI are blocked");
        if (start) {
            mpState = MpState.INIT_RECEIVED;
            pendingApicEvents |= EVENT_SIPI;
        } else {
            mpState = newState;
        }
        request(Request.EVENT);
    }

    // --- events

    /// Queues an exception; one too many is a triple fault. `payload` is what CR2 gets by a page fault, DR6 by a debug exception.
    protected final void raise(int vector, boolean withErrorCode, int errorCode, boolean withPayload, long payload) {
        boolean deliverable = events.raise(vector, withErrorCode, errorCode, withPayload, payload);
        request(deliverable ? Request.EVENT : Request.TRIPLE_FAULT);
    }

    // --- requests and kicks

    /// Makes a request; whoever needs it served soon also kicks.
    public final void request(int bits) {
        requests |= bits;
    }

    /// Makes the vCPU thread look at its requests. [LINUX kvm_vcpu_kick]
    public final void kickVcpu() {
        if (wakeUp()) {
            return;
        }
        if (mode == Mode.IN_GUEST_MODE) {
            mode = Mode.EXITING_GUEST_MODE;
            cpus.sendReschedule(cpu);
        }
    }

    /// Wakes the vCPU thread if it waits for an event. [LINUX kvm_vcpu_wake_up]
    final boolean wakeUp() {
        if (blocked) {
            woken = true;
            host.scheduler().unpark(thread);
        }
        return blocked;
    }

    /// Whether an interrupt must be sent for a request to be seen, or, with `wait`, for its sender to know that the vCPU is outside
    /// guest mode. [LINUX kvm_request_needs_ipi]
    final boolean needsIpi(boolean wait) {
        var before = mode;
        if (before == Mode.IN_GUEST_MODE) {
            mode = Mode.EXITING_GUEST_MODE;
        }
        return wait ? before != Mode.OUTSIDE_GUEST_MODE : before == Mode.IN_GUEST_MODE;
    }

    /// Whether the VMM wants KVM_RUN to return.
    @Override public final boolean signalPending() {
        return signalPending;
    }

    @Override public final void guestTypesChanged(long first, long end) {
        vm.mmu.memoryTypes().guestTypesChanged(first, end);
    }

    @Override public final GuestMtrrs mtrrs() {
        return msrs.mtrrs();
    }

    @Override public final boolean hasMtrrs() {
        return cpuid.hasMtrrs();
    }

    @Override public final boolean vmDead() {
        return vm.isDead();
    }

    /// Whether the current host thread is the one that ran the vCPU last.
    final boolean isOnCurrentThread() {
        return thread != null && thread == host.scheduler().current();
    }

    /// A signal for the vCPU thread.
    final void signal() {
        signalPending = true;
        kickVcpu();
    }

    // --- ApicOwner

    @Override public final int id() {
        return id;
    }

    /// Other IOAPIC routes may reach this vCPU now.
    @Override public void apicModeChanged() {
        request(Request.SCAN_IOAPIC);
    }

    @Override public final void apicEvent() {
        request(Request.EVENT);
        kickVcpu();
    }

    /// [LINUX __vmx_deliver_posted_interrupt]
    @Override public final void postInterrupt(int vector) {
        pi.post(vector);
        if (pi.testAndSetOutstanding()) {
            return;
        }
        if (mode == Mode.IN_GUEST_MODE) {
            cpu.lp().sendInterrupt(Host.POSTED_INTR_VECTOR);
        } else {
            kickVcpu();
        }
    }

    @Override public final void unhalt() {
        unhalted = true;
        apicEvent();
    }

    /// Gives way to the vCPU with `apicId`, if there is one and it is another. [LINUX kvm_sched_yield]
    final void yieldTo(int apicId) {
        if (apicId != apic.apicId() && vm.bus.hasApic(apicId)) {
            giveWay();
        }
    }

    @Override public final void nmiMessage() {
        events.nmiQueued++;
        request(Request.NMI);
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
            request(Request.IOAPIC_EOI_EXIT);
        }
    }

    /// Gives way to whoever is in the way of an entry.
    protected final void giveWay() {
        cpus.idle();
        host.scheduler().switchPoint(SwitchPoint.YIELD);
    }

    @Override public String stateName() {
        return "vcpu" + id;
    }

    @Override public void describe(StateSink to) {
        to.field("id", id);
        to.text("mpState", mpState);
        to.flag("hasRun", hasRun);
        to.field("requests", requests);
        to.field("pendingApicEvents", pendingApicEvents);
        to.field("sipiVector", sipiVector);
        to.field("eoiVector", eoiVector);
        to.text("eoiVectors", eoiVectors);
        to.flag("signalPending", signalPending);
        to.flag("unhalted", unhalted);
        to.part(run);
        to.part(events);
        to.part(apic);
        to.part(cpuid);
        to.part(msrs);
        to.part(pi);
        to.part(mmu);
    }
}
