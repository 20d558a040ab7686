package cloister.vmm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.PlatformObserver;
import cloister.cpu.vmx.Vmcs;
import cloister.devices.ByteSink;
import cloister.sim.HostThread;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.vmm.observe.CostMeter;
import cloister.vmm.observe.LivelockWatch;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceEvent.LockStep;
import cloister.vmm.observe.TraceKind;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.EnumSet;

/// Hashes all VM exits and SEAMCALLs of a run, so that two runs can be compared by one number (FNV-1a over words), counts them, and
/// hands the events on that the observer asked for. Nothing is allocated for an event that nobody wants.
final class RunRecorder implements PlatformObserver {
    private static final long PRIME = 0x100000001b3L;
    private static final int LEAF_MASK = 0xffff;
    private static final int LONGEST_LINE = 4096;

    private final MachineObserver observer;
    private final Scheduler scheduler;
    private final CostMeter meter;
    private final boolean seamcalls;
    private final boolean sept;
    private final boolean tdcalls;
    private final boolean vmcalls;
    private final boolean exits;
    private final Pending[] pending;
    private final LivelockWatch livelocks;
    private int thread = CostMeter.BUILDING;
    private long hash = 0xcbf29ce484222325L;

    /// What has begun on a logical processor and not ended.
    private static final class Pending {
        long[] seamcall;
        long seamcallBegan;
        boolean tdcall;
        final long[] tdcallIn = new long[SeamRegs.COUNT];
        long tdcallBegan;
        long tdcallRip;
        int vcpu;
        long guestBegan;
    }

    RunRecorder(MachineObserver observer, Scheduler scheduler, int processors, boolean timed) {
        this.observer = observer;
        this.scheduler = scheduler;
        meter = new CostMeter(timed);
        pending = new Pending[processors];
        Arrays.setAll(pending, i -> new Pending());
        var wanted = EnumSet.noneOf(TraceKind.class);
        for (var kind : TraceKind.values()) {
            if (observer.wants(kind)) {
                wanted.add(kind);
            }
        }
        seamcalls = wanted.contains(TraceKind.SEAMCALL);
        sept = wanted.contains(TraceKind.SEPT);
        tdcalls = wanted.contains(TraceKind.TDCALL);
        vmcalls = wanted.contains(TraceKind.VMCALL);
        exits = wanted.contains(TraceKind.EXITS);
        boolean baton = wanted.contains(TraceKind.SCHED);
        if (baton || timed) {
            scheduler.batonObserver((from, to, waits) -> passed(from, to, waits, baton));
        }
        livelocks = new LivelockWatch(scheduler.clock(), wanted.contains(TraceKind.LOCK) ? this::lock : null,
                LivelockWatch.LIMIT);
        scheduler.observer(livelocks);
    }

    CostMeter meter() {
        return meter;
    }

    long hash() {
        return hash;
    }

    // The guest

    @Override public void vmEntry(LogicalProcessor lp, Vmcs vmcs) {
        follow();
        long now = now();
        meter.guestEntered(now, lp.retired());
        var p = pending[lp.index()];
        if (p.tdcall) {
            p.tdcall = false;
            boolean again = vmcs.read(VmcsField.GUEST_RIP) == p.tdcallRip;
            observer.event(new TraceEvent.TdcallReturn(now, p.tdcallBegan, lp.index(), p.vcpu, p.tdcallIn.clone(),
                    again ? null : registers(lp), again));
        }
        p.guestBegan = now;
        if (exits) {
            observer.event(new TraceEvent.GuestEntry(now, lp.index(), vcpu()));
        }
    }

    @Override public void vmExit(LogicalProcessor lp, Vmcs vmcs) {
        int reason = vmcs.readInt(VmcsField.EXIT_REASON);
        long qualification = vmcs.read(VmcsField.EXIT_QUALIFICATION);
        long rip = vmcs.read(VmcsField.GUEST_RIP);
        add(lp.index());
        add(lp.retired());
        add(reason);
        add(qualification);
        add(rip);
        follow();
        long now = now();
        meter.guestLeft(now, lp.retired(), reason, lp.gprs());
        var p = pending[lp.index()];
        if (exits) {
            observer.event(new TraceEvent.GuestExit(now, p.guestBegan, lp.index(), vcpu(), reason, qualification, rip,
                    vmcs.read(VmcsField.GUEST_PHYSICAL_ADDRESS), meter.inSeamcall()));
        }
        if ((tdcalls || vmcalls) && ExitReason.basic(reason) == ExitReason.TDCALL) {
            tdcall(lp, p, now, rip);
        }
    }

    private void tdcall(LogicalProcessor lp, Pending p, long now, long rip) {
        boolean vmcall = ((int) lp.gprs()[SeamRegs.RAX] & LEAF_MASK) == TdcallLeaf.VP_VMCALL.number();
        if (tdcalls || vmcall) {
            System.arraycopy(lp.gprs(), 0, p.tdcallIn, 0, SeamRegs.COUNT);
            p.tdcall = true;
            p.tdcallBegan = now;
            p.tdcallRip = rip;
            p.vcpu = vcpu();
            observer.event(new TraceEvent.TdcallEntry(now, lp.index(), p.vcpu, p.tdcallIn.clone()));
        }
    }

    // The host

    @Override public void seamcallEntry(LogicalProcessor lp, SeamRegs regs) {
        addAll(regs);
        follow();
        long now = now();
        meter.seamcallEntered(now, regs.get(SeamRegs.RAX));
        if (seamcalls || (sept && concernsSept(regs.get(SeamRegs.RAX)))) {
            var p = pending[lp.index()];
            p.seamcall = regs.array().clone();
            p.seamcallBegan = now;
            observer.event(new TraceEvent.SeamcallEntry(now, lp.index(), vcpu(), p.seamcall));
        }
    }

    @Override public void seamcallExit(LogicalProcessor lp, long leaf, SeamRegs regs) {
        addAll(regs);
        follow();
        long now = now();
        meter.seamcallLeft(now, leaf, regs);
        livelocks.returned(scheduler.current(), leaf, regs);
        var p = pending[lp.index()];
        if (p.seamcall != null) {
            observer.event(new TraceEvent.SeamcallReturn(now, p.seamcallBegan, lp.index(), vcpu(), p.seamcall,
                    regs.array().clone()));
            p.seamcall = null;
        }
    }

    private static boolean concernsSept(long rax) {
        var leaf = SeamcallLeaf.of((int) rax & LEAF_MASK);
        return leaf != null && leaf.name().startsWith("MEM_");
    }

    private void passed(HostThread from, HostThread to, boolean waits, boolean traced) {
        thread = to.id() + 1;
        meter.thread(thread, to.name());
        meter.running(thread);
        if (traced) {
            observer.event(new TraceEvent.Baton(now(), from == null ? TraceEvent.NONE : from.id(), from == null ? "" : from.name(),
                    to.id(), to.name(), waits));
        }
    }

    private void lock(HostThread who, SwitchPoint point, Object owner, long where) {
        var step = switch (point) {
            case TRY_LOCK -> LockStep.TRY;
            case LOCKED -> LockStep.HOLD;
            case LOCK -> LockStep.TAKE;
            case LOCK_WAIT -> LockStep.WAIT;
            case UNLOCK -> LockStep.RELEASE;
            case SEAMCALL_ENTRY, SEAMCALL_EXIT, VM_ENTRY, VM_EXIT, SPTE_CHANGE, ATOMIC, IPI, GUEST_SLICE, YIELD -> null;
        };
        if (step != null) {
            observer.event(new TraceEvent.LockPoint(now(), who == null ? TraceEvent.NONE : who.id(), step, String.valueOf(owner), where));
        }
    }

    /// The run is over: what will never end is told without its end.
    void finish() {
        for (int lp = 0; lp < pending.length; lp++) {
            var p = pending[lp];
            if (p.tdcall) {
                p.tdcall = false;
                observer.event(new TraceEvent.TdcallReturn(now(), p.tdcallBegan, lp, p.vcpu, p.tdcallIn.clone(), null, false));
            }
        }
    }

    /// A console that hands every line to the observer as well, when it wants them.
    ByteSink console(ByteSink console) {
        if (!observer.wants(TraceKind.CONSOLE)) {
            return console;
        }
        var line = new ByteArrayOutputStream();
        return octet -> {
            console.accept(octet);
            if (octet == '\n' || line.size() == LONGEST_LINE) {
                observer.event(new TraceEvent.ConsoleLine(now(), line.toString(StandardCharsets.UTF_8)));
                line.reset();
            } else if (octet != '\r') {
                line.write(octet);
            }
        };
    }

    /// Keeps the meter's thread: without a baton observer this is where a change shows.
    private void follow() {
        var current = scheduler.current();
        int index = current == null ? CostMeter.BUILDING : current.id() + 1;
        if (index != thread) {
            thread = index;
            if (current != null) {
                meter.thread(index, current.name());
            }
            meter.running(index);
        }
    }

    /// The host threads are the vCPUs', in order.
    int vcpu() {
        return thread - 1;
    }

    private long now() {
        return scheduler.clock().nanos();
    }

    private static long[] registers(LogicalProcessor lp) {
        return Arrays.copyOf(lp.gprs(), SeamRegs.COUNT);
    }

    private void addAll(SeamRegs regs) {
        for (int i = 0; i < SeamRegs.COUNT; i++) {
            add(regs.get(i));
        }
    }

    private void add(long word) {
        hash = (hash ^ word) * PRIME;
        hash ^= hash >>> 29;
    }
}
