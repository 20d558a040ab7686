package cloister.vmm;

import cloister.devices.IoApic;
import cloister.devices.SystemControl;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmException;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.MsiRoute;
import cloister.sim.Persistent;
import cloister.sim.Scheduler.IdlePace;
import cloister.sim.StateListing;
import cloister.sim.StateSink;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.observe.MemoryTypes;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.stream.LongStream;

/// A whole machine: platform, hypervisor, devices, guest. One object is one run.
public final class Machine implements AutoCloseable {
    private final MachineConfig config;
    private final Host host;
    private final KvmVm vm;
    private final GuestMemory memory;
    private final Board board;
    private final List<KvmVcpu> vcpus = new ArrayList<>();
    private final Map<Integer, MsiRoute> routes = new TreeMap<>();
    private volatile Outcome outcome;
    private long wallNanos;
    private boolean closed;

    /// Checks the description and builds the machine.
    ///
    /// @throws UserError when it cannot be built as described
    public Machine(MachineConfig config) {
        this(config, image(config), null);
    }

    /// A machine beside others.
    ///
    /// @param shared the host of all of them, or null for one of its own
    Machine(MachineConfig config, Host shared) {
        this(config, image(config), shared);
    }

    private static GuestImage image(MachineConfig config) {
        config.check();
        var layout = new GuestLayout(config.memoryBytes);
        return config.program != null ? GuestImage.program(config.program, layout) : GuestImage.linux(config, layout);
    }

    /// A machine whose memory holds `image`.
    Machine(MachineConfig config, GuestImage image, Host shared) {
        this.config = config;
        var layout = new GuestLayout(config.memoryBytes);
        boolean td = config.vmType == VmType.TDX;
        config.observer.progress("making the platform");
        host = shared != null ? shared : Host.create(config);
        vm = createVm(td);
        enableCapabilities(td);
        board = new Board(config, host.recorder().console(config.console), host.clock(), new Interrupts(), new Ends(),
                seconds -> end(new Outcome.Silent(seconds)));
        memory = new GuestMemory(vm, host.kvm().userMemory(), td);
        if (td) {
            buildTrustDomain(layout, image);
        } else {
            buildOrdinaryVm(layout, image);
        }
        if (config.prefault) {
            config.observer.progress("populating memory");
            memory.populate(vcpus.getFirst());
        }
    }

    /// @throws UserError when KVM was loaded, or the platform made, so that there are no trust domains
    private KvmVm createVm(boolean td) {
        if (!td) {
            return host.kvm().createVm(cloister.spec.kvm.VmType.DEFAULT);
        }
        try {
            return host.kvm().createVm(cloister.spec.kvm.VmType.TDX);
        } catch (KvmException e) {
            if (e.errno() != Errno.EINVAL) {
                throw e;
            }
            host.close();
            throw UserError.usage("KVM makes no trust domain (" + e.getMessage() + "): choose --vm-type default");
        }
    }

    private void enableCapabilities(boolean td) {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, IoApic.PINS);
        vm.enableCap(KvmCap.X2APIC_API, KvmAbi.X2APIC_API_USE_32BIT_IDS | KvmAbi.X2APIC_API_DISABLE_BROADCAST_QUIRK);
        config.policies.forEach((policy, choice) -> {
            if (!policy.isOfModule()) {
                vm.choose(policy, choice);
            }
        });
        if (td && config.cpus > config.processors() && !config.policies.containsKey(KvmPolicy.TD_VCPU_LIMIT)) {
            vm.choose(KvmPolicy.TD_VCPU_LIMIT, "module"); // the user asked for more vCPUs than processors
        }
        if (td) {
            vm.enableCap(KvmCap.EXIT_HYPERCALL, 1L << KvmAbi.HC_MAP_GPA_RANGE);
        }
    }

    private void addRam(GuestLayout layout) {
        memory.add(0, layout.lowEnd());
        if (layout.highBytes() > 0) {
            memory.add(GuestLayout.HIGH_RAM_START, layout.highBytes());
        }
    }

    private void buildOrdinaryVm(GuestLayout layout, GuestImage image) {
        addRam(layout);
        for (var chunk : image.chunks()) {
            memory.write(chunk);
        }
        for (int id = 0; id < config.cpus; id++) {
            var vcpu = vm.createVcpu(id);
            vcpu.setCpuid2(GuestCpuid.forVcpu(host.kvm().supportedCpuid(), id, config.cpus));
            OrdinaryVm.enableMtrrs(vcpu);
            vcpus.add(vcpu);
        }
        OrdinaryVm.prepare(memory, vcpus.getFirst(), image.entryGpa());
    }

    private void buildTrustDomain(GuestLayout layout, GuestImage image) {
        config.observer.progress("building the trust domain");
        TrustDomain.init(host.kvm(), vm, config.cpus, config.septVeDisable);
        for (int id = 0; id < config.cpus; id++) {
            var vcpu = vm.createVcpu(id);
            TrustDomain.initVcpu(host.kvm(), vcpu, config.cpus);
            vcpus.add(vcpu);
        }
        addRam(layout);
        memory.add(TdFirmware.BASE_GPA, TdFirmware.BYTES);
        if (!image.hasOwnReset()) {
            TdFirmware.addTo(image, layout);
        }
        config.observer.progress("measuring the initial image");
        TrustDomain.load(vcpus.getFirst(), host.kvm().userMemory(), image, config.measured);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
    }

    /// Runs the guest until it ends. Called once, by an ordinary thread.
    public Outcome run() {
        config.observer.progress("starting the guest");
        long started = System.nanoTime();
        var scheduler = host.scheduler();
        spawnVcpus();
        scheduler.expectOutside(config.interactive);
        try {
            scheduler.run();
        } finally {
            wallNanos = System.nanoTime() - started;
            host.recorder().finish();
        }
        if (outcome == null) {
            outcome = scheduler.stalled() ? new Outcome.Stalled()
                    : new Outcome.InternalError("the host threads ended without a reason");
        }
        return outcome;
    }

    /// Makes the vCPU threads; they run when the scheduler does.
    void spawnVcpus() {
        for (var vcpu : vcpus) {
            host.scheduler().spawn("vcpu" + vcpu.id(), new VcpuThread(this, vcpu, board, memory, config.observer));
        }
    }

    /// How the machine ended, or null.
    Outcome outcome() {
        return outcome;
    }

    /// Runs the guest's only vCPU on the host thread that calls, until it ends.
    Outcome runHere() {
        new VcpuThread(this, vcpus.getFirst(), board, memory, config.observer).run();
        return outcome;
    }

    KvmVm vm() {
        return vm;
    }

    /// The first vCPU, to be prepared before it runs.
    KvmVcpu firstVcpu() {
        return vcpus.getFirst();
    }

    /// Ends the run as [Outcome.TimedOut] at the next opportunity. Any thread may call it.
    public void requestStop() {
        requestStop(new Outcome.TimedOut());
    }

    /// Ends the run as `reason` at the next opportunity, if it has not ended by then. Any thread may call it.
    public void requestStop(Outcome reason) {
        host.scheduler().post(() -> end(reason));
    }

    /// Says that there is input. Any thread may call it.
    public void inputArrived() {
        host.scheduler().post(board::inputReady);
    }

    /// Says that nothing will come from outside any more: a guest that waits for ever from now on has stalled. Any thread may call it.
    public void inputEnded() {
        host.scheduler().post(() -> {
            board.inputReady();
            host.scheduler().expectOutside(false);
        });
    }

    /// Changes how time passes while every vCPU waits. Any thread may call it.
    public void pace(IdlePace value) {
        host.scheduler().pace(value);
    }

    /// What the TDX module knows: its state, the PAMT, every trust domain down to its Secure EPT. Call before or after [#run], not
    /// while it runs; before [#tearDown] to see the trust domain whole.
    public ModuleSnapshot inspect() {
        return host.inspectTdxModule();
    }

    /// With which memory types the processors use memory. Call like [#inspect].
    public MemoryTypes memoryTypes() {
        return host.memoryTypes();
    }

    /// All state that software can see, by name: processors, memory and its owners, VMCSs, time and timers, the TDX module; what the
    /// hypervisor keeps of the guest; the devices. Call like [#inspect]; the hypervisor brings vCPUs to the first processor for it, as
    /// ioctls do.
    public StateListing state() {
        return StateListing.of(new Persistent() {
            @Override public String stateName() {
                return "machine";
            }

            @Override public void describe(StateSink out) {
                out.part((Persistent) vm); // first: what is in a VMCS, KVM reads on a processor
                out.part(board);
                out.part(host.platform());
                out.words("routes", routes.values().stream().flatMapToLong(route
                        -> LongStream.of(route.gsi(), route.address(), route.data())).toArray());
            }
        });
    }

    /// Takes [#inspect] of the running machine at the next opportunity. Any thread may call it; nothing happens once the run has
    /// ended.
    ///
    /// @param sink gets the snapshot, on a thread of the run, which waits
    public void inspectSoon(Consumer<ModuleSnapshot> sink) {
        host.scheduler().post(() -> sink.accept(inspect()));
    }

    /// Takes [#inspect] at the first switch point at or after the virtual time `nanos`. Call before [#run]; nothing happens if that
    /// ends earlier. The run does not change by it.
    ///
    /// @param sink gets the snapshot, on a thread of the run, which waits
    public void inspectAt(long nanos, Consumer<ModuleSnapshot> sink) {
        host.scheduler().lookAt(host.clock().ticksOfNanos(nanos), () -> sink.accept(inspect()));
    }

    /// Tells `sink` where the guest is at the first slice end, about 30,000 instructions apart, after every `period` instructions that
    /// it retires on a vCPU, 1 or more. Call before [#run], which is the same with it.
    public void sample(long period, ProfileSink sink) {
        host.sample(period, sink);
    }

    /// What the run cost so far; complete after [#run].
    public MachineStats stats() {
        var kvm = vm.stats();
        var meter = host.recorder().meter();
        return new MachineStats(host.instructions(), host.clock().nanos(), wallNanos, config.timed, meter.exits(), meter.seamcalls(),
                meter.module(), meter.threads(), kvm.pagesAugmented(), kvm.pagesPopulated(), kvm.pagesConverted(),
                kvm.busyRetries(), kvm.leakedPages(), host.recorder().hash());
    }

    /// Tears the guest down; for a trust domain every page goes back from the TDX module to the host. Call after [#run].
    ///
    /// @return 4-KiB pages that could not be reclaimed
    public long tearDown() {
        vm.close();
        return vm.stats().leakedPages();
    }

    /// What the TDX module still holds for the guest, and the VMM's side of the guest's memory goes: for a host that lives on.
    ///
    /// @return pages of the TDX module
    long release() {
        memory.release();
        return vm.stats().tdxPages();
    }

    /// Frees the platform's memory.
    @Override public void close() {
        if (!closed) {
            closed = true;
            host.close();
        }
    }

    /// Virtual time in nanoseconds.
    long nanos() {
        return host.clock().nanos();
    }

    boolean isTrustDomain() {
        return config.vmType == VmType.TDX;
    }

    /// Whether the trust domain's software called the VMM, but for what waiting firmware does.
    boolean spoke() {
        return vm.stats().exits().keySet().stream().anyMatch(name -> name.startsWith("TDVMCALL.")
                && !name.equals("TDVMCALL.WRMSR") && !name.equals("TDVMCALL.HLT"));
    }

    boolean ended() {
        return outcome != null;
    }

    /// Ends the run; the first reason counts.
    void end(Outcome reason) {
        if (outcome == null) {
            outcome = reason;
            vcpus.forEach(KvmVcpu::kick);
        }
    }

    private final class Ends implements SystemControl {
        @Override public void powerOff() {
            end(new Outcome.PowerOff());
        }

        @Override public void reset(String mechanism) {
            end(new Outcome.Reset(mechanism));
        }
    }

    /// The IOAPIC's messages go straight to the local APICs; KVM learns the routes to know which EOIs to report.
    private final class Interrupts implements IoApic.Messages {
        @Override public void send(int pin, long address, int data) {
            vm.signalMsi(address, data);
        }

        @Override public void routed(int pin, long address, int data, boolean enabled) {
            if (enabled) {
                routes.put(pin, new MsiRoute(pin, address, data));
            } else {
                routes.remove(pin);
            }
            vm.setGsiRouting(List.copyOf(routes.values()));
        }
    }
}
