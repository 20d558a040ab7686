package cloister.vmm.observe;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.vmx.ExitReason;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/// Counts the exits and calls of a run and adds up their times, by name. Wall time is measured only on demand, by one reading of the
/// machine's clock at each event: what lies between two events belongs to whatever the thread was doing. As one host thread runs at a
/// time, nothing is counted twice. Times of threads are [#BUILDING] or the number of the thread plus one.
public final class CostMeter {
    /// Who acts before there are host threads.
    public static final int BUILDING = 0;

    private static final int REASONS = 128;
    private static final int VMCALLS = REASONS;
    private static final int VMCALL_OTHER = 5;
    private static final int HYPERCALL = VMCALL_OTHER + 1;
    private static final int GHCI_CALLS = VMCALLS + REASONS;
    private static final int LEAVES = 128;
    private static final int NOTHING = -1;

    private final boolean timed;
    private final Table exits = new Table(GHCI_CALLS + HYPERCALL + 1);
    private final Table seamcalls = new Table(LEAVES);
    private final Table module = new Table(REASONS + LEAVES);
    private final List<Thread> threads = new ArrayList<>();
    private Thread running;
    private long last;

    /// Sums by slot.
    private static final class Table {
        final long[] count;
        final long[] failed;
        final long[] busy;
        final long[] virtual;
        final long[] host;

        Table(int slots) {
            count = new long[slots];
            failed = new long[slots];
            busy = new long[slots];
            virtual = new long[slots];
            host = new long[slots];
        }
    }

    /// What a host thread is doing: handling an exit, inside a SEAMCALL, inside the guest, inside the module on behalf of the guest.
    private static final class Thread {
        final String name;
        int exit = NOTHING;
        long exitBegan;
        int leaf = NOTHING;
        long leafBegan;
        int inner = NOTHING;
        long innerBegan;
        long innerHost;
        boolean guest;
        long guestBegan;
        long retiredBefore;
        long instructions;
        long exits;
        long seamcalls;
        long guestVirtual;
        long guestHost;
        long host;

        Thread(String name) {
            this.name = name;
        }
    }

    /// @param timed whether wall time is measured
    public CostMeter(boolean timed) {
        this.timed = timed;
        thread(BUILDING, "build");
        last = timed ? System.nanoTime() : 0;
    }

    /// Makes a thread known.
    public void thread(int index, String name) {
        while (threads.size() <= index) {
            threads.add(new Thread(name));
        }
        if (running == null) {
            running = threads.getFirst();
        }
    }

    /// From now on `index` runs.
    public void running(int index) {
        charge();
        running = threads.get(index);
    }

    /// The guest begins to run.
    public void guestEntered(long now, long retired) {
        charge();
        var t = running;
        endExit(t, now);
        if (t.inner != NOTHING) {
            module.count[t.inner]++;
            module.virtual[t.inner] += now - t.innerBegan;
            module.host[t.inner] += t.innerHost;
            t.inner = NOTHING;
        }
        t.guest = true;
        t.guestBegan = now;
        t.retiredBefore = retired;
    }

    /// The guest stops running.
    ///
    /// @param regs the guest's registers
    public void guestLeft(long now, long retired, int reason, long[] regs) {
        charge();
        var t = running;
        t.guest = false;
        t.guestVirtual += now - t.guestBegan;
        t.instructions += retired - t.retiredBefore;
        int basic = ExitReason.basic(reason) & (REASONS - 1);
        if (t.leaf == NOTHING) {
            beginExit(t, now, basic);
        } else {
            t.inner = basic == ExitReason.TDCALL ? REASONS + Math.min((int) regs[SeamRegs.RAX] & 0xffff, LEAVES - 1) : basic;
            t.innerBegan = now;
            t.innerHost = 0;
        }
    }

    /// SEAMCALL begins.
    public void seamcallEntered(long now, long rax) {
        charge();
        var t = running;
        t.leaf = slot(rax);
        t.leafBegan = now;
        t.seamcalls++;
        if (t.leaf == SeamcallLeaf.VP_ENTER.number()) {
            endExit(t, now);
        }
    }

    /// SEAMCALL ends.
    public void seamcallLeft(long now, long leaf, SeamRegs regs) {
        charge();
        var t = running;
        int slot = slot(leaf);
        long status = regs.get(SeamRegs.RAX);
        seamcalls.count[slot]++;
        seamcalls.virtual[slot] += now - t.leafBegan;
        if (TdxStatus.isError(status)) {
            seamcalls.failed[slot]++;
            if (TraceEvent.isBusy(status)) {
                seamcalls.busy[slot]++;
            }
        }
        t.leaf = NOTHING;
        if (t.inner != NOTHING) { // the module passed the exit on
            seamcalls.host[slot] += t.innerHost;
            t.inner = NOTHING;
        }
        if (slot == SeamcallLeaf.VP_ENTER.number() && !TdxStatus.isError(status)) {
            int basic = ExitReason.basic((int) status) & (REASONS - 1);
            beginExit(t, now, basic == ExitReason.TDCALL ? vmcallSlot(regs.get(SeamRegs.R10), regs.get(SeamRegs.R11)) : basic);
        }
    }

    /// Whether the thread that runs is inside a SEAMCALL.
    public boolean inSeamcall() {
        return running.leaf != NOTHING;
    }

    private static int slot(long rax) {
        return Math.min((int) rax & 0xffff, LEAVES - 1);
    }

    private static int vmcallSlot(long r10, long r11) {
        if (r10 != 0) {
            return GHCI_CALLS + HYPERCALL;
        }
        if (r11 >= 0 && r11 < REASONS) {
            return VMCALLS + (int) r11;
        }
        long call = r11 - Tdvmcall.GET_TD_VM_CALL_INFO;
        return GHCI_CALLS + (call >= 0 && call < VMCALL_OTHER ? (int) call : VMCALL_OTHER);
    }

    private void beginExit(Thread t, long now, int slot) {
        exits.count[slot]++;
        t.exits++;
        t.exit = slot;
        t.exitBegan = now;
    }

    private void endExit(Thread t, long now) {
        if (t.exit != NOTHING) {
            exits.virtual[t.exit] += now - t.exitBegan;
            t.exit = NOTHING;
        }
    }

    private void charge() {
        if (!timed) {
            return;
        }
        long host = System.nanoTime();
        long spent = host - last;
        last = host;
        var t = running;
        if (t.guest) {
            t.guestHost += spent;
            return;
        }
        t.host += spent;
        if (t.inner != NOTHING) {
            t.innerHost += spent;
        } else if (t.leaf != NOTHING) {
            seamcalls.host[t.leaf] += spent;
        }
        if (t.exit != NOTHING) {
            exits.host[t.exit] += spent;
        }
    }

    // Results

    /// The VM exits that KVM handled, by reason; of a trust domain the exits that TDH.VP.ENTER returned, TDVMCALLs by sub-function. Their
    /// wall time contains that of the SEAMCALLs made for them.
    public List<Cost> exits() {
        return costs(exits, CostMeter::exitName);
    }

    /// SEAMCALLs by leaf. The wall time of TDH.VP.ENTER does not contain the guest's nor that of [#module].
    public List<Cost> seamcalls() {
        return costs(seamcalls, CostMeter::seamcallName);
    }

    /// What the TDX module did for trust domains by itself: TDCALLs by leaf, and VM exits that no host saw.
    public List<Cost> module() {
        return costs(module, CostMeter::moduleName);
    }

    /// What each host thread did.
    public List<VcpuCost> threads() {
        return threads.stream().filter(t -> t.seamcalls + t.exits != 0).map(t -> new VcpuCost(t.name, t.instructions, t.exits, t.seamcalls,
                t.guestVirtual, t.guestHost, t.host)).toList();
    }

    private interface Names {
        String of(int slot);
    }

    private static List<Cost> costs(Table table, Names names) {
        var result = new ArrayList<Cost>();
        for (int i = 0; i < table.count.length; i++) {
            if (table.count[i] != 0) {
                result.add(new Cost(names.of(i), table.count[i], table.failed[i], table.busy[i], table.virtual[i], table.host[i]));
            }
        }
        result.sort(Comparator.comparingLong(Cost::hostNanos).thenComparingLong(Cost::count).reversed()
                .thenComparing(Cost::name));
        return result;
    }

    private static String exitName(int slot) {
        if (slot < VMCALLS) {
            return ExitReason.name(slot);
        }
        return "TDVMCALL." + switch (slot - GHCI_CALLS) {
            case VMCALL_OTHER -> "OTHER";
            case HYPERCALL -> "VMCALL";
            default -> Tdvmcall.name(slot < GHCI_CALLS ? slot - VMCALLS : Tdvmcall.GET_TD_VM_CALL_INFO + slot - GHCI_CALLS);
        };
    }

    private static String seamcallName(int slot) {
        var leaf = SeamcallLeaf.of(slot);
        return leaf == null ? "SEAMCALL other" : leaf.specificationName();
    }

    private static String moduleName(int slot) {
        if (slot < REASONS) {
            return ExitReason.name(slot);
        }
        var leaf = TdcallLeaf.of(slot - REASONS);
        return leaf == null ? "TDCALL other" : leaf.specificationName();
    }
}
