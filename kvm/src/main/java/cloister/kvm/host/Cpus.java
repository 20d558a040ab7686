package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.KvmException;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.sim.TimerOwner;
import cloister.sim.VirtualClock;
import cloister.spec.kvm.Errno;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.List;

/// Which task runs on which processor, and how processors call each other. [LINUX kernel/sched/core.c, kernel/smp.c]
///
/// The baton says which host thread's program goes on; this class says whose processor state is loaded where. A task needs a
/// processor for a VM entry, a SEAMCALL or a VMREAD, and keeps the one it has until another task takes it. A processor can be
/// taken at any time but while its task is in a pinned section; then it is asked for, and a guest there leaves when its time slice
/// is used up.
public final class Cpus implements TimerOwner<Cpus.CpuTimer> {
    /// The timers of the scheduler.
    public enum CpuTimer {
        /// A task has used up its time slice while another one waits.
        TICK
    }

    /// The vector that makes a processor look whether another task waits for it. [LINUX arch/x86/include/asm/irq_vectors.h]
    public static final int RESCHEDULE_VECTOR = 0xfd;
    /// The vector that makes a processor execute what others ask of it.
    public static final int CALL_FUNCTION_VECTOR = 0xfc;
    /// How long a task keeps a processor that others wait for, in nanoseconds. [LINUX sysctl_sched_base_slice]
    private static final long SLICE_NS = 3_000_000;

    private final Scheduler scheduler;
    private final List<HostCpu> cpus = new ArrayList<>();
    /// By the id of the host thread, plus one; the program itself is the first.
    private final ArrayList<Task> tasks = new ArrayList<>();
    private final ArrayDeque<Task> runQueue = new ArrayDeque<>();
    private VirtualClock.Timer tick;

    /// All `processors` are online.
    ///
    /// @param lost what processors do not get back behind guests
    public Cpus(Scheduler scheduler, List<LogicalProcessor> processors, LostRegisters lost) {
        this.scheduler = scheduler;
        for (var lp : processors) {
            cpus.add(new HostCpu(cpus.size(), lp, lost));
        }
        tasks.add(new Task(null));
    }

    /// The processors by index.
    public List<HostCpu> all() {
        return cpus;
    }

    /// From now on the host's registers are compared before and behind each vCPU.
    public void checkHostState() {
        cpus.forEach(HostCpu::checkHostState);
    }

    /// The processor with `index`.
    public HostCpu get(int index) {
        return cpus.get(index);
    }

    /// The first processor of each package that is online.
    public List<HostCpu> onePerPackage() {
        var result = new ArrayList<HostCpu>();
        for (var cpu : cpus) {
            if (cpu.isOnline() && result.stream().noneMatch(other -> other.packageId() == cpu.packageId())) {
                result.add(cpu);
            }
        }
        return result;
    }

    /// The task of the current host thread.
    public Task current() {
        var thread = scheduler.current();
        int i = thread == null ? 0 : thread.id() + 1;
        while (tasks.size() <= i) {
            tasks.add(null);
        }
        var task = tasks.get(i);
        if (task == null || task.thread != thread) {
            task = new Task(thread);
            tasks.set(i, task);
        }
        return task;
    }

    // --- which task runs where

    /// Gives the current task a processor, if it has none, and keeps it there until [#unpin]. Nests. [LINUX get_cpu]
    public HostCpu pin() {
        var task = current();
        if (task.pins == 0) {
            acquire(task);
        }
        task.pins++;
        return task.cpu;
    }

    /// Ends what [#pin] began: executes what other processors asked for, and gives the processor away when somebody waits. [LINUX
    /// put_cpu]
    public void unpin() {
        var task = current();
        if (--task.pins == 0) {
            release(task.cpu);
        }
    }

    /// The processor on which the current task runs, which it may lose at the next switch point. [LINUX smp_processor_id]
    public HostCpu here() {
        var task = current();
        if (task.pins != 0 || (task.cpu != null && task.cpu.holder == null)) {
            return task.cpu;
        }
        var cpu = pin();
        unpin();
        return cpu;
    }

    private void acquire(Task task) {
        var cpu = wanted(task);
        while (cpu == null || (cpu.holder != null && cpu.holder != task)) {
            requireThread(task, "every processor is in use and nobody can leave one");
            if (cpu == null) {
                enqueue(task);
            } else {
                cpu.interruptWaiters.add(task); // it executes an interrupt
                scheduler.park();
            }
            cpu = wanted(task);
        }
        boolean comes = cpu.occupant != task;
        if (comes) {
            move(task, cpu);
        }
        hold(cpu, task);
        if (comes && task.notifier != null) {
            task.pins++;
            boolean done = false;
            try {
                task.notifier.schedIn(cpu);
                done = true;
            } finally {
                task.pins--;
                if (!done) {
                    release(cpu);
                }
            }
        }
    }

    /// The processor that the task has or was given, else where it was, else one that nobody uses, else one that can be taken from
    /// its task, else null.
    private HostCpu wanted(Task task) {
        if (task.cpu != null) {
            return task.cpu;
        }
        HostCpu unused = null;
        HostCpu other = null;
        for (int i = 0; i < cpus.size(); i++) {
            var cpu = cpus.get(i);
            if (cpu.promisedTo == task) {
                return cpu;
            }
            if (cpu.isFree() && (cpu.occupant == null || cpu.occupant.thread == null) && unused == null) {
                unused = cpu;
            } else if (cpu.isFree() && other == null) {
                other = cpu;
            }
        }
        if (task.last != null && task.last.isFree()) {
            return task.last;
        }
        return unused != null ? unused : other;
    }

    private void move(Task task, HostCpu cpu) {
        evict(cpu);
        cpu.occupant = task;
        cpu.promisedTo = null;
        cpu.needResched = false;
        cpu.since = scheduler.clock().now();
        task.cpu = cpu;
        task.last = cpu;
    }

    private static void evict(HostCpu cpu) {
        var old = cpu.occupant;
        if (old == null) {
            return;
        }
        if (old.notifier != null) {
            old.notifier.schedOut(cpu);
        }
        cpu.occupant = null;
        old.cpu = null;
    }

    private static void hold(HostCpu cpu, Task task) {
        cpu.holder = task;
        cpu.holds++;
    }

    private void release(HostCpu cpu) {
        if (cpu.holds > 1) {
            cpu.holds--;
            return;
        }
        executeCalls(cpu); // interrupts are taken before anybody else comes
        cpu.holds = 0;
        cpu.holder = null;
        for (var waiter = cpu.interruptWaiters.poll(); waiter != null; waiter = cpu.interruptWaiters.poll()) {
            scheduler.unpark(waiter.thread);
        }
        if (cpu.needResched) {
            giveAway(cpu);
        } else if (!runQueue.isEmpty()) {
            scheduler.unpark(runQueue.peek().thread); // it takes the processor unless the task here goes on first
        }
    }

    /// Before the current task waits for something: its processor goes to the task that waits for one. [LINUX schedule]
    public void idle() {
        var cpu = current().cpu;
        if (cpu != null && !runQueue.isEmpty() && cpu.isFree()) {
            giveAway(cpu);
        }
    }

    /// Gives the processor to the task that waits longest.
    private void giveAway(HostCpu cpu) {
        cpu.needResched = false;
        var next = cpu.promisedTo == null && cpu.online ? runQueue.poll() : null;
        if (next != null) {
            evict(cpu);
            cpu.promisedTo = next;
            scheduler.unpark(next.thread);
        }
    }

    private void enqueue(Task task) {
        runQueue.add(task);
        askForProcessor();
        while (runQueue.contains(task)) {
            scheduler.park();
            if (wanted(task) != null) {
                runQueue.remove(task);
            }
        }
    }

    /// Somebody waits: the task that has run longest leaves its processor, now or when its time slice is used up.
    private void askForProcessor() {
        HostCpu victim = null;
        for (int i = 0; i < cpus.size(); i++) {
            var cpu = cpus.get(i);
            if (cpu.online && !cpu.needResched && cpu.promisedTo == null && (victim == null || cpu.since < victim.since)) {
                victim = cpu;
            }
        }
        long now = scheduler.clock().now();
        long slice = scheduler.clock().ticksOfNanos(SLICE_NS);
        if (victim != null && now >= victim.since + slice) {
            victim.needResched = true;
            victim.lp().sendInterrupt(RESCHEDULE_VECTOR);
        }
        if (tick == null) {
            tick = scheduler.clock().schedule(victim == null ? now + slice : Math.max(now + 1, victim.since + slice), this, CpuTimer.TICK);
        }
    }

    /// The timer interrupt. [LINUX sched_tick]
    @Override public void timerFired(CpuTimer kind) {
        tick = null;
        for (int i = 0; i < cpus.size(); i++) {
            if (cpus.get(i).isFree()) {
                giveAway(cpus.get(i));
            }
        }
        if (!runQueue.isEmpty()) {
            askForProcessor();
        }
    }

    private static void requireThread(Task task, String otherwise) {
        if (task.thread == null) {
            throw new IllegalStateException(otherwise);
        }
    }

    // --- hot-plug

    /// Takes `cpu` out of use: its task goes elsewhere, `users` leave nothing there, VMX operation ends. [LINUX cpu_device_down]
    ///
    /// @throws KvmException EBUSY for the last one, and what `users` forbid
    void takeOffline(HostCpu cpu, CpuHotplug users) {
        if (!cpu.online) {
            return;
        }
        if (cpus.stream().filter(HostCpu::isOnline).count() == 1) {
            throw new KvmException(Errno.EBUSY, cpu + " is the last one online");
        }
        users.requireRemovable(cpu);
        call(cpu, here -> {
            here.online = false;
            here.promisedTo = null; // who was to come looks for another one
            evict(here);
            users.offline(here);
            here.lp().vmxoff();
            return 0;
        });
    }

    /// Takes `cpu` into use again. [LINUX cpu_device_up]
    void bringOnline(HostCpu cpu, CpuHotplug users) {
        if (cpu.online) {
            return;
        }
        call(cpu, here -> {
            here.enableVirtualization();
            users.online(here);
            here.online = true;
            return 0;
        });
        giveAway(cpu);
    }

    // --- notifiers

    /// The current task runs on behalf of `notifier` from now on, which is told at once that it has a processor. [LINUX vcpu_load]
    public void load(PreemptNotifier notifier) {
        var cpu = pin();
        try {
            var task = current();
            if (task.notifier != null) {
                throw new IllegalStateException(task + " runs on behalf of somebody already");
            }
            notifier.schedIn(cpu);
            task.notifier = notifier;
        } finally {
            unpin();
        }
    }

    /// Ends it; the notifier is told, unless it has lost the processor already. [LINUX vcpu_put]
    public void put() {
        var task = current();
        awaitInterrupts(task);
        var notifier = task.notifier;
        task.notifier = null;
        if (notifier != null && task.cpu != null) {
            notifier.schedOut(task.cpu);
        }
    }

    /// Nothing of the task goes on while its processor executes an interrupt, such as a call from another processor.
    private void awaitInterrupts(Task task) {
        while (task.cpu != null && task.cpu.holder != null && task.cpu.holder != task) {
            requireThread(task, task.cpu + " is in use and nobody can leave it");
            task.cpu.interruptWaiters.add(task);
            scheduler.park();
        }
    }

    /// The current task goes back to its user program: MSRs that only matter there get the host's values. [LINUX
    /// fire_user_return_notifiers]
    public void returnToUser() {
        awaitInterrupts(current());
        var cpu = current().cpu;
        if (cpu != null) {
            cpu.userProgramGoesOn();
        }
    }

    // --- calls between processors

    /// Executes `function` on `cpu` and waits for its result. [LINUX smp_call_function_single with wait]
    public long call(HostCpu cpu, CpuFunction function) {
        var task = current();
        if (cpu.holder == null || cpu.holder == task) {
            return interrupt(cpu, task, function);
        }
        var call = post(cpu, task, function);
        await(call, task);
        return call.result;
    }

    /// Sends an interrupt to `cpu` that only has to be taken, unless nothing is going on there.
    ///
    /// @return what [#await] takes, or null when nothing must be waited for
    HostCpu.CrossCall sendAck(HostCpu cpu) {
        var task = current();
        return cpu.holder == null || cpu.holder == task ? null : post(cpu, task, null);
    }

    private HostCpu.CrossCall post(HostCpu cpu, Task task, CpuFunction function) {
        requireThread(task, cpu + " is in use and nobody can leave it");
        var call = new HostCpu.CrossCall(task, function);
        cpu.calls.add(call);
        cpu.lp().sendInterrupt(CALL_FUNCTION_VECTOR);
        if (cpu.holder.thread != null) {
            scheduler.unpark(cpu.holder.thread); // if it waits for a call itself, it takes interrupts meanwhile
        }
        scheduler.switchPoint(SwitchPoint.IPI, cpu.lp(), CALL_FUNCTION_VECTOR);
        return call;
    }

    /// Waits until `call` was taken.
    void await(HostCpu.CrossCall call, Task task) {
        while (!call.done) {
            if (task.cpu != null && task.cpu.holder == task) {
                executeCalls(task.cpu);
            }
            if (!call.done) {
                scheduler.park();
            }
        }
    }

    private long interrupt(HostCpu cpu, Task task, CpuFunction function) {
        hold(cpu, task);
        try {
            return function.on(cpu);
        } finally {
            release(cpu);
        }
    }

    /// Interrupts that came while the processor could not take them.
    private void executeCalls(HostCpu cpu) {
        while (cpu.lp().takeInterrupt() >= 0) {
            // What they stand for is in the queue, or was done by leaving the guest.
        }
        for (var call = cpu.calls.poll(); call != null; call = cpu.calls.poll()) {
            call.result = call.function == null ? 0 : call.function.on(cpu);
            call.done = true;
            if (call.caller.thread != null) {
                scheduler.unpark(call.caller.thread);
            }
        }
    }

    /// Makes whatever runs on `cpu` leave guest mode soon. [LINUX smp_send_reschedule]
    public void sendReschedule(HostCpu cpu) {
        cpu.lp().sendInterrupt(RESCHEDULE_VECTOR);
    }

    /// Sends each of the first `count` processors of `targets` an interrupt, and waits until all have taken it. [LINUX
    /// smp_call_function_many with wait]
    public void kickAndWait(HostCpu[] targets, int count) {
        var task = current();
        var pending = new HostCpu.CrossCall[count];
        for (int i = 0; i < count; i++) {
            pending[i] = sendAck(targets[i]);
        }
        for (var call : pending) {
            if (call != null) {
                await(call, task);
            }
        }
    }
}
