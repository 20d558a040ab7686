package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.vmx.VmxStatus;
import cloister.sim.Noinstr;
import cloister.spec.x86.Msr;
import java.util.ArrayDeque;

/// A logical processor as the host kernel knows it: who runs on it, what other processors ask of it.
///
/// While [#holder] is set the processor executes something that cannot be interrupted: a guest, a SEAMCALL, an interrupt handler.
/// At other times whoever needs the processor takes it, and its task goes on elsewhere or later.
public final class HostCpu {
    private static final int LEVEL_TYPE = 0xff00;
    private final int index;
    private final LogicalProcessor lp;
    private final int packageId;
    final UserReturnMsrs userReturnMsrs;
    long vmxonPa;
    final ArrayDeque<CrossCall> calls = new ArrayDeque<>();
    final ArrayDeque<Task> interruptWaiters = new ArrayDeque<>();
    /// The task that runs here, in the sense that its state is loaded.
    Task occupant;
    /// The task that executes here now and cannot be preempted.
    Task holder;
    int holds;
    /// The task to which the processor was given and which has not come yet.
    Task promisedTo;
    boolean online = true;
    boolean needResched;
    /// When the occupant came, in ticks.
    long since;
    /// Null when the host's state is not checked.
    private HostStateCheck hostStateCheck;

    HostCpu(int index, LogicalProcessor lp, LostRegisters lost) {
        this.index = index;
        this.lp = lp;
        this.packageId = packageOf(lp);
        this.userReturnMsrs = new UserReturnMsrs(lp, lost);
        if (HostCpu.class.desiredAssertionStatus()) {
            checkHostState();
        }
    }

    /// The processor's number, from 0.
    public int index() {
        return index;
    }

    /// The processor itself. Only who holds it may use it.
    @Noinstr public LogicalProcessor lp() {
        return lp;
    }

    /// The package that it is part of.
    public int packageId() {
        return packageId;
    }

    /// The x2APIC id without the bits that number what is inside a package. [SDM Vol. 3 "Detecting Hardware Multi-threading Support
    /// and Topology"]
    private static int packageOf(LogicalProcessor lp) {
        int[] r = new int[4];
        for (int leaf : new int[] {0x1f, 0xb}) {
            int shift = 0;
            lp.cpuid(leaf, 0, r);
            for (int level = 0; (r[2] & LEVEL_TYPE) != 0; level++) {
                shift = r[0] & 0x1f;
                lp.cpuid(leaf, level + 1, r);
            }
            if (shift != 0) {
                return r[3] >>> shift;
            }
        }
        return 0;
    }

    /// VMXON, with the region that the processor got at its first one. [LINUX kvm_cpu_vmxon]
    void enableVirtualization() {
        var status = lp.vmxon(vmxonPa);
        if (status != VmxStatus.SUCCEED) {
            throw new IllegalStateException("VMXON failed on " + this + ": " + status);
        }
        userReturnMsrs.online();
    }

    /// Whether the kernel uses it.
    public boolean isOnline() {
        return online;
    }

    /// Whether another task waits for it: who runs here gives it up soon. [LINUX need_resched]
    public boolean needResched() {
        return needResched;
    }

    /// MSRs that matter to user programs only, and may hold a guest's values until one runs.
    public UserReturnMsrs userReturnMsrs() {
        return userReturnMsrs;
    }

    // --- NMIs and machine checks of the host

    /// The host's handler of an NMI that ended a guest's stay, and with it the blocking of others. [LINUX vmx_handle_nmi]
    @Noinstr public void handleNmi() {
        lp.takeNmi();
    }

    /// The host's handler of a machine check in a guest: it clears MCIP, so that another one is no shutdown. The banks hold nothing here.
    /// [LINUX kvm_machine_check]
    public void handleMachineCheck() {
        lp.wrmsr(Msr.IA32_MCG_STATUS, 0);
    }

    // --- the host's state

    /// From now on the host's registers are compared before and behind each vCPU that is here.
    void checkHostState() {
        if (hostStateCheck == null) {
            hostStateCheck = new HostStateCheck(lp);
        }
    }

    /// A vCPU is about to put its state on the processor.
    public void guestComes() {
        if (hostStateCheck != null) {
            hostStateCheck.guestComes();
        }
    }

    /// An entry ended with an exception.
    public void guestIsLost() {
        if (hostStateCheck != null) {
            hostStateCheck.giveUp();
        }
    }

    /// A vCPU has taken its state from the processor.
    ///
    /// @param td whether it is a TD's
    /// @throws IllegalStateException when the check is on and something of the host's is lost
    public void guestHasLeft(boolean td) {
        if (hostStateCheck != null) {
            hostStateCheck.guestHasLeft(td);
        }
    }

    /// The processor goes back to a user program.
    void userProgramGoesOn() {
        userReturnMsrs.onUserReturn();
        if (hostStateCheck != null) {
            hostStateCheck.userProgramGoesOn();
        }
    }

    /// Whether a task may take it: nothing uninterruptible is executed, and it is not given to anybody.
    boolean isFree() {
        return online && promisedTo == null && holder == null;
    }

    /// A function that another processor wants executed here. [LINUX call_single_data_t]
    static final class CrossCall {
        final Task caller;
        /// Null: the interrupt is all there is to it.
        final CpuFunction function;
        boolean done;
        long result;

        CrossCall(Task caller, CpuFunction function) {
            this.caller = caller;
            this.function = function;
        }
    }

    @Override public String toString() {
        return "CPU " + index;
    }
}
