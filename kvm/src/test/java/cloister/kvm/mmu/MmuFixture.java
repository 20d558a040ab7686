package cloister.kvm.mmu;

import cloister.kvm.UserMemoryRegion;
import cloister.kvm.host.FrameAllocator;
import cloister.kvm.host.Lockdep;
import cloister.kvm.host.ProcessMemory;
import cloister.memory.HostMemory;
import cloister.memory.PhysicalMemory;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.sim.SchedulingStrategy;
import cloister.sim.VirtualClock;
import cloister.spec.vmx.Ept;
import java.util.ArrayList;
import java.util.List;

/// An MMU without processors: a VM that only counts what it is asked for, and the walk that a processor would do.
class MmuFixture implements MmuVm, VcpuMmu.Owner, AutoCloseable {
    static final long MIB = 1L << 20;
    static final long GIB = 1L << 30;
    final PhysicalMemory memory;
    final FrameAllocator frames;
    final Scheduler scheduler;
    final ProcessMemory user;
    final SpteMasks masks;
    final MmuModule module;
    final Mmu mmu;
    final List<VcpuMmu> vcpus = new ArrayList<>();
    final VcpuMmu vcpu;
    int flushes;
    int reloads;
    boolean bugged;
    boolean signal;
    boolean cachesDisabled;
    boolean hasMtrrs = true;
    final GuestMtrrs mtrrs = new GuestMtrrs();

    MmuFixture() {
        this(64 * MIB, MmuParameters.DEFAULT, false, new RoundRobin());
    }

    MmuFixture(long bytes, MmuParameters parameters, boolean privateMemory, SchedulingStrategy strategy) {
        this(bytes, parameters, privateMemory, strategy, true);
    }

    MmuFixture(long bytes, MmuParameters parameters, boolean privateMemory, SchedulingStrategy strategy, boolean accessedDirty) {
        this(bytes, parameters, privateMemory, strategy, accessedDirty, 52);
    }

    /// A processor without EPT: guests' own tables are shadowed.
    static MmuFixture withoutEpt() {
        return new MmuFixture(64 * MIB, MmuParameters.DEFAULT, false, new RoundRobin(), true, 52, false);
    }

    MmuFixture(long bytes, MmuParameters parameters, boolean privateMemory, SchedulingStrategy strategy, boolean accessedDirty,
            int maxPhyAddr) {
        this(bytes, parameters, privateMemory, strategy, accessedDirty, maxPhyAddr, true);
    }

    private MmuFixture(long bytes, MmuParameters parameters, boolean privateMemory, SchedulingStrategy strategy, boolean accessedDirty,
            int maxPhyAddr, boolean ept) {
        memory = new PhysicalMemory(bytes, 32);
        frames = new FrameAllocator(new HostMemory(memory), MIB, bytes);
        scheduler = new Scheduler(new VirtualClock(1000), strategy, Scheduler.IdlePace.SKIP);
        user = new ProcessMemory(new HostMemory(memory), frames);
        masks = new SpteMasks(maxPhyAddr, true);
        if (ept) {
            masks.useEpt(accessedDirty);
        } else {
            masks.usePaging();
        }
        module = new MmuModule(new HostMemory(memory), frames, user, scheduler, new Lockdep(scheduler), masks, parameters);
        mmu = new Mmu(module, this, "test", privateMemory);
        vcpu = privateMemory ? null : newVcpu();
    }

    VcpuMmu newVcpu() {
        var made = new VcpuMmu(mmu, this);
        made.reload();
        vcpus.add(made);
        return made;
    }

    void slot(int slot, long gpa, long size, long address) {
        mmu.setMemoryRegion(UserMemoryRegion.of(slot, gpa, size, address));
    }

    void slot(int slot, int flags, long gpa, long size, long address) {
        mmu.setMemoryRegion(new UserMemoryRegion(slot, flags, gpa, size, address, null, 0));
    }

    /// The processor's walk: the leaf entry and its level, from the EPT pointer down.
    long[] walk(long eptp, long gpa) {
        long table = eptp & Ept.ADDRESS;
        for (int level = Ept.levels(eptp);; level--) {
            long entry = memory.read(table + (8 * ((gpa >>> (12 + (9 * (level - 1)))) & 511)), 8);
            if ((entry & Ept.PERMISSIONS) == 0 || level == 1 || (entry & Ept.LARGE) != 0
                    || (entry & (Ept.READ | Ept.WRITE)) == Ept.WRITE) {
                return new long[] {entry, level};
            }
            table = entry & Ept.ADDRESS;
        }
    }

    /// The same with the first vCPU's root.
    long[] walk(long gpa) {
        return walk(vcpus.getFirst().eptp(), gpa);
    }

    @Override public GuestMtrrs mtrrs() {
        return mtrrs;
    }

    @Override public boolean hasMtrrs() {
        return hasMtrrs;
    }

    @Override public boolean cachesDisabled() {
        return cachesDisabled;
    }

    @Override public void flushRemoteTlbs() {
        flushes++;
    }

    @Override public void reloadRoots() {
        reloads++;
    }

    @Override public void kickVcpus() {
    }

    @Override public void bug() {
        bugged = true;
    }

    @Override public boolean signalPending() {
        return signal;
    }

    @Override public boolean vmDead() {
        return bugged;
    }

    @Override public void close() {
        memory.close();
    }
}
