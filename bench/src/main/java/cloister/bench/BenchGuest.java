package cloister.bench;

import cloister.isa.Assembler;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmParameters;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// An ordinary VM with one vCPU that runs a program of the benchmark's, until it writes to [#DONE]. Writes to other ports are answered.
final class BenchGuest implements AutoCloseable {
    static final int CODE = 0x1000;
    /// The port that ends a run.
    static final int DONE = 0xf1;
    static final long LARGE = 2L << 20;
    private static final long MIB = 1L << 20;
    private static final long PAGE = 4096;
    private static final int ROOT = 0x10_000;
    private static final int PRESENT_WRITABLE = 3;
    private static final int PAGE_SIZE_BIT = 1 << 7;
    private static final int ENTRIES = 512;

    private final Platform platform;
    private final Kvm kvm;
    private final KvmVcpu vcpu;
    private final long user;

    /// @param bytes memory from address 0
    /// @param ept   whether KVM maps it by EPT, or shadows the guest's own tables
    BenchGuest(long bytes, boolean ept) {
        platform = new Platform(new PlatformOptions(1, (bytes + (bytes >> 5) + (256 * MIB)) & -MIB, 1, new RoundRobin(),
                Scheduler.IdlePace.SKIP));
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()), new KvmParameters(true, KvmPolicy.MMIO_PARAMETER.choices().getFirst(), ept));
        KvmVm vm = kvm.createVm(VmType.DEFAULT);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        user = kvm.userMemory().map(bytes + PAGE) + PAGE; // addresses that keep large pages away
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, bytes, user));
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        sregs.ss = KvmSegment.realMode(0, 3);
        sregs.ds = KvmSegment.realMode(0, 3);
        vcpu.setSregs(sregs);
    }

    /// Puts a program at [#CODE].
    void load(Assembler code) {
        byte[] bytes = code.assemble();
        kvm.userMemory().write(user + CODE, bytes, 0, bytes.length);
    }

    void write(long gpa, int bytes, long value) {
        kvm.userMemory().write(user + gpa, bytes, value);
    }

    /// Turns on long mode, with the first `gib` GiB mapped by large pages of the guest's.
    void longMode(int gib) {
        write(ROOT, 8, (ROOT + PAGE) | PRESENT_WRITABLE);
        for (int i = 0; i < gib; i++) {
            long directory = ROOT + ((2L + i) * PAGE);
            write(ROOT + PAGE + (8L * i), 8, directory | PRESENT_WRITABLE);
            for (int j = 0; j < ENTRIES; j++) {
                write(directory + (8L * j), 8, ((((long) i * ENTRIES) + j) * LARGE) | PRESENT_WRITABLE | PAGE_SIZE_BIT);
            }
        }
        var sregs = vcpu.getSregs();
        sregs.cs = new KvmSegment(0, -1, 0x10, 0xb, true, 0, false, true, true, true, false, false);
        sregs.ds = KvmSegment.flat(0x18, 3);
        sregs.ss = KvmSegment.flat(0x18, 3);
        sregs.cr0 = Cr0.PE | Cr0.PG | Cr0.WP | Cr0.ET | Cr0.NE;
        sregs.cr3 = ROOT;
        sregs.cr4 = Cr4.PAE;
        sregs.efer = Efer.LME | Efer.LMA;
        vcpu.setSregs(sregs);
    }

    /// Runs the program from its beginning, outside of every host thread: it must not wait.
    void runHere() {
        begin();
        play();
    }

    /// Runs the program on a host thread, where it can wait. Once: the scheduler ends with its threads.
    void runOnce() {
        begin();
        boolean[] done = {false};
        platform.scheduler().spawn("vcpu0", () -> {
            play();
            done[0] = true;
        });
        platform.scheduler().run();
        if (!done[0]) {
            throw new IllegalStateException("the guest did not run to its end");
        }
    }

    private void begin() {
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        regs.rsp = ROOT;
        regs.rflags = 2;
        vcpu.setRegs(regs);
    }

    private void play() {
        while (true) {
            var exit = vcpu.run();
            if (!(exit instanceof KvmExit.Io(boolean out, int size, int port, int count))) {
                throw new IllegalStateException(exit.toString());
            }
            if (port == DONE) {
                return;
            }
        }
    }

    @Override public void close() {
        platform.close();
    }
}
