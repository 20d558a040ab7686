package cloister.vmm.mmu;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.kvm.Defect;
import cloister.kvm.GuestMemfd;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmPolicy;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.UserMemory;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.Scheduler;
import cloister.sim.SchedulingStrategy;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.vmm.observe.LivelockWatch;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;

/// A TD on a platform with the TDX module, whose guests do what a test tells them, each on its vCPU; the test's host threads do the
/// rest. Every SEAMCALL is written down.
public final class ContendedTd implements AutoCloseable {
    public static final long PAGE = 0x1000;
    /// Private memory with nothing in it at the start.
    public static final long REGION_GPA = 0x4000_0000L;
    public static final int PAGES = 1024;
    private static final long MEMORY = 96L << 20;
    private static final int SLOT = 2;
    private static final int PASS_R10_TO_R13 = 0x3c00;
    /// Beside the vCPUs' host threads.
    private static final int MORE_PROCESSORS = 2;

    /// A livelock is told after so many vain attempts; the tests' waits take a few.
    private static final int SOON = 3000;

    public final Platform platform;
    public final KvmVm vm;
    public final List<KvmVcpu> vcpus = new ArrayList<>();
    public final List<Call> calls = new ArrayList<>();
    public final GuestMemfd file;
    private final Kvm kvm;
    private final TdStart start;
    private final UserMemory user;
    private final long mailbox;
    private final int[] faults;
    private final boolean[] started;
    private final BitSet accepted = new BitSet();

    /// A SEAMCALL that has returned.
    ///
    /// @param thread by whom, or "" before the run
    public record Call(String thread, SeamcallLeaf leaf, long status) {
        public boolean isBusy() {
            return TdxStatus.OPERAND_BUSY.matches(status);
        }

        /// The leaf, and which operand was busy.
        @Override public String toString() {
            return leaf + (status == 0 || !TdxStatus.isError(status) ? "" : isBusy() ? " BUSY " + (int) status
                    : " 0x" + Long.toHexString(status));
        }
    }

    /// The TD with its first vCPU initialised and nothing in it.
    public ContendedTd(TdStart start, int cpus, SchedulingStrategy strategy, long seed, Defect... defects) {
        this.start = start;
        platform = new Platform(new PlatformOptions(cpus + MORE_PROCESSORS, MEMORY, seed, strategy, Scheduler.IdlePace.SKIP));
        var livelocks = new LivelockWatch(platform.clock(), null, SOON);
        platform.scheduler().observer(livelocks);
        platform.observer(new PlatformObserver() {
            @Override public void seamcallExit(LogicalProcessor lp, long leaf, SeamRegs regs) {
                var thread = platform.scheduler().current();
                livelocks.returned(thread, leaf, regs);
                calls.add(new Call(thread == null ? "" : thread.name(), SeamcallLeaf.of((int) leaf & 0xffff), regs.get(SeamRegs.RAX)));
            }
        });
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()));
        user = kvm.userMemory();
        vm = kvm.createVm(VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        for (var defect : defects) {
            vm.plant(defect);
        }
        start.initVm(kvm, vm, cpus);
        mailbox = user.map(cpus * PAGE);
        faults = new int[cpus];
        started = new boolean[cpus];
        vm.setUserMemoryRegion2(UserMemoryRegion.of(1, AccessGuest.MAILBOX_GPA, cpus * PAGE, mailbox));
        file = vm.createGuestMemfd(PAGES * PAGE, 0);
        vm.setUserMemoryRegion2(region(PAGES));
        vm.setMemoryAttributes(REGION_GPA, PAGES * PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
    }

    private UserMemoryRegion region(int pages) {
        return new UserMemoryRegion(SLOT, KvmAbi.MEM_GUEST_MEMFD, REGION_GPA, pages * PAGE, user.map(PAGES * PAGE), file, 0);
    }

    /// Deletes the region's slot.
    public void deleteRegion() {
        vm.setUserMemoryRegion2(new UserMemoryRegion(SLOT, KvmAbi.MEM_GUEST_MEMFD, REGION_GPA, 0, 0, file, 0));
    }

    /// Brings the slot back.
    public void restoreRegion() {
        vm.setUserMemoryRegion2(region(PAGES));
    }

    // --- before the guests run

    public void createVcpu() {
        vcpus.add(vm.createVcpu(vcpus.size()));
    }

    public void initVcpu(int id) {
        start.initVcpu(kvm, vcpus.get(id), faults.length);
    }

    /// KVM_SET_CPUID2 with what vCPU 0 has, and later KVM_TDX_INIT_VCPU alone.
    public void prepareVcpu(int id) {
        vcpus.get(id).setCpuid2(vcpus.getFirst().getCpuid2());
    }

    public void initPreparedVcpu(int id) {
        vcpus.get(id).memoryEncryptOp(KvmTdxCmd.initVcpu(0));
    }

    /// Adds zeros as initial pages of the region, measured.
    public void addPages(int first, int count) {
        long source = user.map(count * PAGE);
        vcpus.getFirst().memoryEncryptOp(KvmTdxCmd.initMemRegion(KvmAbi.TDX_MEASURE_MEMORY_REGION,
                new KvmTdxCmd.MemRegion(source, gpa(first), count)));
        user.unmap(source);
    }

    /// Adds the guests' program and makes the TD runnable; every vCPU runs until it waits for what to do.
    public ContendedTd boot(KvmPolicy policy, String choice) {
        if (policy != null) {
            vm.choose(policy, choice);
        }
        while (vcpus.size() < faults.length) {
            createVcpu();
            initVcpu(vcpus.size() - 1);
        }
        long unused = user.map(AccessGuest.BYTES);
        var memfd = vm.createGuestMemfd(AccessGuest.BYTES, 0);
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, AccessGuest.BASE_GPA, AccessGuest.BYTES, unused, memfd,
                0));
        vm.setMemoryAttributes(AccessGuest.BASE_GPA, AccessGuest.BYTES, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        long source = user.map(AccessGuest.BYTES);
        user.write(source, AccessGuest.image(true), 0, AccessGuest.BYTES);
        vcpus.getFirst().memoryEncryptOp(KvmTdxCmd.initMemRegion(0,
                new KvmTdxCmd.MemRegion(source, AccessGuest.BASE_GPA, AccessGuest.BYTES / PAGE)));
        user.unmap(source);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        return this;
    }

    // --- host threads

    public Scheduler scheduler() {
        return platform.scheduler();
    }

    /// What a host thread of the test does; it may throw what KVM throws.
    public void spawn(String name, Runnable body) {
        scheduler().spawn(name, body);
    }

    /// Runs the host threads until all have ended. A run that waits for ever fails.
    public void run() {
        scheduler().run();
        if (scheduler().stalled()) {
            throw new AssertionError("everybody waits");
        }
    }

    /// Waits, giving way, until `condition` holds.
    public void await(java.util.function.BooleanSupplier condition) {
        while (!condition.getAsBoolean()) {
            scheduler().switchPoint(SwitchPoint.YIELD);
        }
    }

    // --- guests

    public static long gpa(int page) {
        return REGION_GPA + (page * PAGE);
    }

    /// How often vCPU `cpu` touched a page that is not as it took it to be.
    public int faults(int cpu) {
        return faults[cpu];
    }

    /// TDG.MEM.PAGE.ACCEPT of a small page.
    ///
    /// @return its status
    public long accept(int cpu, int page) {
        long status = call(cpu, TdcallLeaf.MEM_PAGE_ACCEPT, gpa(page), 0, 0);
        if (status == 0) {
            accepted.set(page);
        }
        return status;
    }

    /// Whether [#accept] of the page has succeeded.
    public boolean accepted(int page) {
        return accepted.get(page);
    }

    /// A TDCALL of the guest on vCPU `cpu`.
    ///
    /// @return RAX
    public long call(int cpu, TdcallLeaf leaf, long rcx, long rdx, long r8) {
        tell(cpu, AccessGuest.CALL, rcx, rdx);
        user.write(at(cpu) + AccessGuest.THIRD, 8, r8);
        user.write(at(cpu) + AccessGuest.LEAF, 8, leaf.number());
        runToRing(cpu);
        return result(cpu);
    }

    /// TDG.VP.VMCALL: an instruction of which the TDX module makes a #VE.
    public void wrmsr(int cpu, int msr, long value) {
        user.write(at(cpu) + AccessGuest.MORE, 8, ExitReason.WRMSR);
        user.write(at(cpu) + AccessGuest.MORE + 8, 8, msr);
        user.write(at(cpu) + AccessGuest.MORE + 16, 8, value);
        call(cpu, TdcallLeaf.VP_VMCALL, PASS_R10_TO_R13, 0, 0);
    }

    public void write(int cpu, int page, long value) {
        tell(cpu, MmuStep.Operation.WRITE.ordinal(), gpa(page), value);
        runToRing(cpu);
    }

    public long read(int cpu, int page) {
        tell(cpu, MmuStep.Operation.READ.ordinal(), gpa(page), 0);
        runToRing(cpu);
        return result(cpu);
    }

    /// Tells the guest to read a page when its vCPU runs.
    public void prepareRead(int cpu, int page) {
        tell(cpu, MmuStep.Operation.READ.ordinal(), gpa(page), 0);
    }

    /// Tells the guest to accept a page when its vCPU runs.
    public void prepareAccept(int cpu, int page) {
        tell(cpu, AccessGuest.CALL, gpa(page), 0);
        user.write(at(cpu) + AccessGuest.THIRD, 8, 0);
        user.write(at(cpu) + AccessGuest.LEAF, 8, TdcallLeaf.MEM_PAGE_ACCEPT.number());
    }

    private long at(int cpu) {
        return mailbox + (cpu * PAGE);
    }

    private void tell(int cpu, int operation, long address, long value) {
        if (!started[cpu]) {
            started[cpu] = true;
            runToRing(cpu);
        }
        user.write(at(cpu) + AccessGuest.OPERATION, 8, operation);
        user.write(at(cpu) + AccessGuest.ADDRESS, 8, address);
        user.write(at(cpu) + AccessGuest.VALUE, 8, value);
    }

    /// RAX of the last TDCALL, or what was read.
    public long result(int cpu) {
        return user.read(at(cpu) + AccessGuest.RESULT, 8);
    }

    /// Runs a vCPU until its guest waits for the next thing to do. What the guest cannot reach it tries again.
    public void runToRing(int cpu) {
        while (!runOnce(cpu)) {
            scheduler().switchPoint(SwitchPoint.YIELD);
        }
    }

    /// One KVM_RUN.
    ///
    /// @return whether the guest waits for the next thing to do
    public boolean runOnce(int cpu) {
        return switch (vcpus.get(cpu).run()) {
            case KvmExit.Io io when io.out() && io.port() == AccessGuest.PORT -> true;
            case KvmExit.MemoryFault fault -> {
                faults[cpu]++;
                yield false;
            }
            case KvmExit.Intr intr -> false;
            case KvmExit exit -> throw new AssertionError("vCPU " + cpu + " ended with " + exit);
        };
    }

    // --- what came of it

    /// The SEAMCALLs of a host thread that concern memory, or TDs and vCPUs, in order; not those that only enter a guest or read.
    public List<String> callsOf(String thread) {
        return calls.stream().filter(c -> c.thread().equals(thread) && c.leaf() != SeamcallLeaf.VP_ENTER && c.leaf() != SeamcallLeaf.VP_RD
                && c.leaf() != SeamcallLeaf.VP_WR && c.leaf() != SeamcallLeaf.VP_FLUSH).map(Call::toString).toList();
    }

    /// How often a leaf was busy.
    public long busy(SeamcallLeaf leaf) {
        return calls.stream().filter(c -> c.leaf() == leaf && c.isBusy()).count();
    }

    /// Closes the VM; every page must come back.
    public void tearDown() {
        vm.close();
        if (vm.stats().leakedPages() != 0 || vm.stats().tdxPages() != 0) {
            throw new AssertionError(vm.stats().leakedPages() + " pages leaked, " + vm.stats().tdxPages() + " are the TDX module's");
        }
    }

    /// What KVM says of the TD's end, or null while it lives.
    public String death() {
        try {
            vcpus.getFirst().getMpState();
            return null;
        } catch (KvmException dead) {
            return dead.getMessage();
        }
    }

    @Override public void close() {
        platform.close();
    }
}
