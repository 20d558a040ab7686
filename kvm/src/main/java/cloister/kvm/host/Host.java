package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.vmx.Vmcs;
import cloister.cpu.vmx.VmxStatus;
import cloister.kvm.HostEnvironment;
import cloister.memory.PhysicalMemory;
import cloister.sim.Scheduler;
import cloister.sim.HostThread;
import cloister.sim.VirtualClock;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToLongFunction;

/// The host kernel's resources in one place.
public final class Host {
    /// The vector that makes a processor look at its requests. [LINUX arch/x86/include/asm/irq_vectors.h]
    public static final int RESCHEDULE_VECTOR = 0xfd;
    /// The notification vector of posted interrupts.
    public static final int POSTED_INTR_VECTOR = 0xf2;

    private final HostEnvironment environment;
    private final FrameAllocator frames;
    private final ProcessMemory userMemory;
    private final Map<HostThread, LogicalProcessor> pinned = new HashMap<>();
    /// The guest that was loaded last on each processor.
    private final GuestOnProcessor[] guests;
    /// Held while a processor executes an instruction that takes switch points: a VM entry or a SEAMCALL.
    private final Mutex[] executing;
    private final Lockdep lockdep;
    private final boolean[] borrowed;
    private final ArrayDeque<HostThread> borrowedWaiters = new ArrayDeque<>();
    private boolean vmxOn;

    /// The resources of `environment`.
    public Host(HostEnvironment environment) {
        this.environment = environment;
        this.frames = new FrameAllocator(environment.memory(), environment.freeStartPa(), environment.freeEndPa());
        this.userMemory = new ProcessMemory(environment.memory(), frames);
        this.guests = new GuestOnProcessor[environment.processors().size()];
        this.borrowed = new boolean[guests.length];
        this.lockdep = new Lockdep(environment.scheduler());
        this.executing = new Mutex[guests.length];
        for (int i = 0; i < executing.length; i++) {
            executing[i] = new Mutex(lockdep, lockdep.spinning("processor"), Integer.toString(i));
        }
    }

    /// All platform memory.
    public PhysicalMemory memory() {
        return environment.memory();
    }

    /// The scheduler of host threads.
    public Scheduler scheduler() {
        return environment.scheduler();
    }

    /// The order of the host's locks, and who holds them.
    public Lockdep lockdep() {
        return lockdep;
    }

    /// The only time.
    public VirtualClock clock() {
        return environment.scheduler().clock();
    }

    /// The page allocator.
    public FrameAllocator frames() {
        return frames;
    }

    /// The VMM's memory.
    public ProcessMemory userMemory() {
        return userMemory;
    }

    /// The logical processors by index.
    public List<LogicalProcessor> processors() {
        return environment.processors();
    }

    /// The processor of vCPU `id`.
    public LogicalProcessor processorFor(int id) {
        return processors().get(id % processors().size());
    }

    /// The current host thread runs on `lp` from now on.
    public void pin(LogicalProcessor lp) {
        var self = scheduler().current();
        if (self != null) {
            pinned.put(self, lp);
        }
    }

    /// The processor on which the current host thread runs: where it was pinned, else the first that is free, else the first,
    /// whose guest will have to leave.
    public LogicalProcessor currentProcessor() {
        var self = scheduler().current();
        var lp = self == null ? null : pinned.get(self);
        if (lp != null) {
            return lp;
        }
        for (int i = 0; i < executing.length; i++) {
            if (!executing[i].isLocked()) {
                return processors().get(i);
            }
        }
        return processors().getFirst();
    }

    /// `guest` is what runs on `lp` from now on.
    public void loadedOn(LogicalProcessor lp, GuestOnProcessor guest) {
        guests[lp.index()] = guest;
    }

    /// Runs `function` on `lp`, whose guest leaves it meanwhile. [LINUX smp_call_function_single]
    public long callOn(LogicalProcessor lp, ToLongFunction<LogicalProcessor> function) {
        if (lp == currentProcessor()) {
            return function.applyAsLong(lp);
        }
        int i = lp.index();
        awaitReturned(lp);
        borrowed[i] = true;
        try {
            if (guests[i] != null) {
                guests[i].kickOutOfGuest();
            }
            return function.applyAsLong(lp);
        } finally {
            returnProcessor(i);
        }
    }

    private void returnProcessor(int i) {
        borrowed[i] = false;
        for (var waiter = borrowedWaiters.poll(); waiter != null; waiter = borrowedWaiters.poll()) {
            scheduler().unpark(waiter);
        }
    }

    /// Before a VM entry or SEAMCALL on `lp`: waits while another host thread has the processor execute one. A guest that
    /// runs there is kicked out and stays out meanwhile.
    public void beginInstruction(LogicalProcessor lp) {
        int i = lp.index();
        if (!executing[i].isLocked()) {
            executing[i].lock();
            return;
        }
        boolean wasBorrowed = borrowed[i];
        borrowed[i] = true;
        if (guests[i] != null) {
            guests[i].kickOutOfGuest();
        }
        executing[i].lock();
        if (!wasBorrowed) {
            returnProcessor(i);
        }
    }

    /// After it.
    public void endInstruction(LogicalProcessor lp) {
        executing[lp.index()].unlock();
    }

    /// Whether another host thread uses `lp` just now.
    public boolean isBorrowed(LogicalProcessor lp) {
        return borrowed[lp.index()];
    }

    /// Waits until no other host thread uses `lp`.
    public void awaitReturned(LogicalProcessor lp) {
        while (isBorrowed(lp)) {
            borrowedWaiters.add(scheduler().current());
            scheduler().park();
        }
    }

    /// VMXON on every processor, once.
    public void enableVirtualization() {
        if (vmxOn) {
            return;
        }
        for (var lp : processors()) {
            var status = lp.vmxon(allocateVmcsRegion());
            if (status != VmxStatus.SUCCEED) {
                throw new IllegalStateException("VMXON failed on processor " + lp.index() + ": " + status);
            }
        }
        vmxOn = true;
    }

    /// A frame with the revision identifier, for VMXON or VMCLEAR.
    public long allocateVmcsRegion() {
        long pa = frames.allocate();
        memory().write(pa, 4, Vmcs.REVISION);
        return pa;
    }
}
