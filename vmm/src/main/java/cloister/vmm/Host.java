package cloister.vmm;

import cloister.cpu.PlatformObserver;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.Scheduler;
import cloister.sim.VirtualClock;
import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.observe.MemoryTypes;

/// The host below the VMM: the platform with KVM loaded.
final class Host implements AutoCloseable {
    /// Beside the guest: SEAM range, page tables, images on their way into the guest.
    private static final long HOST_BYTES = 256L << 20;
    /// PAMT, page tables and allocation slack grow with the guest: one 64th is plenty.
    private static final int OVERHEAD_SHIFT = 6;

    private final Platform platform;
    private final RunRecorder recorder;
    private final Kvm kvm;

    private Host(MachineConfig config, int machines, long hostBytes) {
        long guests = config.memoryBytes * machines;
        long bytes = guests + (guests >> OVERHEAD_SHIFT) + hostBytes;
        platform = new Platform(new PlatformOptions(config.processors(), config.packages, bytes, config.seed,
                config.strategy.apply(config.seed), config.pace, config.selfSnoop));
        recorder = new RunRecorder(config.observer, platform.scheduler(), config.processors(), config.timed);
        platform.observer(recorder);
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(),
                platform.freeStartPa(), platform.freeEndPa()), config.kvmParameters());
    }

    static Host create(MachineConfig config) {
        return new Host(config, 1, HOST_BYTES);
    }

    /// A host with memory for several machines like `config`.
    static Host create(MachineConfig config, int machines) {
        return new Host(config, machines, HOST_BYTES);
    }

    /// A host with `hostBytes` beside its guest, of which the SEAM range takes 32 MiB.
    static Host createSmall(MachineConfig config, long hostBytes) {
        return new Host(config, 1, hostBytes);
    }

    Platform platform() {
        return platform;
    }

    Scheduler scheduler() {
        return platform.scheduler();
    }

    VirtualClock clock() {
        return platform.clock();
    }

    Kvm kvm() {
        return kvm;
    }

    /// Tells `sink` where guests are, by the number of the vCPU that runs there.
    void sample(long period, ProfileSink sink) {
        platform.sample(period, (rip, cpl, lstar, instructions)
                -> sink.sampled(recorder.vcpu(), rip, cpl != 0, lstar, instructions));
    }

    MemoryTypes memoryTypes() {
        return MemoryTypes.of(platform.translations(), platform.mixedTypes());
    }

    ModuleSnapshot inspectTdxModule() {
        return platform.inspectTdxModule();
    }

    /// Instructions retired by all LPs.
    long instructions() {
        return platform.retired();
    }

    /// What sees and counts the run.
    RunRecorder recorder() {
        return recorder;
    }

    /// Tells `observer` what happens on the processors, instead of [#recorder].
    void observer(PlatformObserver observer) {
        platform.observer(observer);
    }

    @Override public void close() {
        platform.close();
    }
}
