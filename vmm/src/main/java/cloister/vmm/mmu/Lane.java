package cloister.vmm.mmu;

import cloister.kvm.GpaRange;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmVcpu;
import cloister.kvm.UserMemory;
import cloister.sim.HostThread;
import cloister.sim.Scheduler;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// A vCPU with its thread. Between commands the guest waits in its ring, and whoever holds the lane may run it: the driver for an access
/// alone, the lane's own thread for one that goes on while the driver does something else.
final class Lane implements Runnable {
    /// What came of an access.
    enum Outcome { DONE, VE, MMIO, FAULT, PRIVATE_FAULT, REFUSED }

    /// What a vCPU needs the VMM for.
    interface Vmm {
        /// A guest wants pages to be private or shared.
        void convert(long gpa, long pages, boolean toPrivate);

        /// A dirty ring is full.
        void harvest();

        /// KVM_PRE_FAULT_MEMORY was refused.
        void refused(Errno errno);

        /// KVM_RUN returned.
        void left(String reason);
    }

    /// Exits without an end of the access: the guest is lost.
    private static final int MAX_EXITS = 2000;

    final int id;
    final KvmVcpu vcpu;
    private final UserMemory user;
    private final long mailbox;
    private final Scheduler scheduler;
    private final Vmm vmm;
    private HostThread thread;
    private HostThread driver;
    private boolean stop;
    private MmuStep.Access access;
    private long address;
    private boolean operationGoesOn;
    private boolean signalled;
    /// Whose signals the vCPU's are.
    private HostThread lastRunner;
    private RuntimeException failure;

    Outcome outcome;
    long value;

    Lane(int id, KvmVcpu vcpu, UserMemory user, long mailbox, Scheduler scheduler, Vmm vmm) {
        this.id = id;
        this.vcpu = vcpu;
        this.user = user;
        this.mailbox = mailbox;
        this.scheduler = scheduler;
        this.vmm = vmm;
    }

    void threads(HostThread own, HostThread driverThread) {
        thread = own;
        driver = driverThread;
    }

    // --- the thread

    @Override public void run() {
        while (!stop) {
            if (access == null) {
                scheduler.park();
                continue;
            }
            try {
                perform(access, address, value);
            } catch (RuntimeException e) {
                failure = e;
            }
            access = null;
            scheduler.unpark(driver);
        }
    }

    /// Starts an access on the lane's thread; [#isBusy] tells when it has ended.
    void start(MmuStep.Access newAccess, long newAddress, long newValue) {
        operationGoesOn = true;
        access = newAccess;
        address = newAddress;
        value = newValue;
        scheduler.unpark(thread);
    }

    boolean isBusy() {
        return access != null;
    }

    /// The operation during which the access was started has ended: what cannot be reached now is not reached.
    void operationEnded() {
        operationGoesOn = false;
    }

    /// @throws RuntimeException what ended the access, if it did not end by itself
    void rethrow() {
        if (failure != null) {
            throw failure;
        }
    }

    void stop() {
        stop = true;
        scheduler.unpark(thread);
    }

    // --- accesses

    /// Runs to the first ring.
    void boot() {
        runToRing();
        if (outcome != Outcome.DONE) {
            throw new MmuFinding("the guest does not start: " + outcome);
        }
    }

    /// Makes an access and leaves its outcome and what was read.
    void perform(MmuStep.Access wanted, long at, long newValue) {
        if (wanted.operation() == MmuStep.Operation.POPULATE) {
            populate(wanted.page(), wanted.touched());
            return;
        }
        command(wanted.operation(), at, newValue);
        if (outcome == Outcome.DONE && user.read(mailbox + AccessGuest.STATUS, 8) == AccessGuest.STATUS_VE) {
            outcome = Outcome.VE;
        }
        if (wanted.operation() != MmuStep.Operation.WRITE) {
            value = user.read(mailbox + AccessGuest.RESULT, 8);
        }
    }

    private void command(MmuStep.Operation operation, long at, long newValue) {
        user.write(mailbox + AccessGuest.OPERATION, 8, operation.ordinal());
        user.write(mailbox + AccessGuest.ADDRESS, 8, at);
        user.write(mailbox + AccessGuest.VALUE, 8, newValue);
        user.write(mailbox + AccessGuest.RESULT, 8, 0);
        runToRing();
    }

    /// The guest asks for pages to be private or shared.
    ///
    /// @return what it was answered
    long convert(long gpa, long bytes, boolean toPrivate) {
        user.write(mailbox + AccessGuest.ATTRIBUTES, 8, toPrivate ? KvmAbi.MAP_GPA_RANGE_ENCRYPTED : 0);
        return told(MmuStep.Operation.CONVERT, gpa, bytes);
    }

    /// The guest carries out something that is no access.
    ///
    /// @return its result
    long told(MmuStep.Operation operation, long at, long newValue) {
        command(operation, at, newValue);
        if (outcome != Outcome.DONE) {
            throw new MmuFinding(operation + " of vCPU " + id + " ended as " + outcome);
        }
        return user.read(mailbox + AccessGuest.RESULT, 8);
    }

    /// A signal for the vCPU's thread, which ends the next KVM_RUN or this one.
    void signal() {
        signalled = true;
        vcpu.kick();
    }

    /// The current thread comes back to its program: what signals it has for the vCPU are handled.
    void handleSignals() {
        if (signalled && lastRunner == scheduler.current() && !isBusy()) {
            var exit = vcpu.run();
            if (!(exit instanceof KvmExit.Intr)) {
                throw new MmuFinding("a signal for vCPU " + id + " did not end KVM_RUN but " + exit);
            }
            signalled = false;
        }
    }

    /// Whether a signal waits.
    boolean isSignalled() {
        return signalled;
    }

    /// Goes on with an access that faulted.
    ///
    /// @return its result
    long goOn() {
        runToRing();
        return user.read(mailbox + AccessGuest.RESULT, 8);
    }

    private void populate(int page, int pages) {
        outcome = Outcome.DONE;
        try {
            vcpu.preFaultMemory(new GpaRange(MmuRig.REGION_GPA + (page * MmuRig.PAGE), pages * MmuRig.PAGE));
        } catch (KvmException e) {
            vmm.refused(e.errno());
            outcome = switch (e.errno()) {
                case ENOENT -> Outcome.MMIO;
                case EAGAIN, EFAULT, EINTR, EOPNOTSUPP -> Outcome.REFUSED;
                default -> throw e;
            };
        }
    }

    /// What a read of MMIO at `gpa` gives.
    static long mmioValue(long gpa) {
        return (gpa * 0x9e3779b97f4a7c15L) | 1;
    }

    private void runToRing() {
        outcome = Outcome.DONE;
        lastRunner = scheduler.current();
        for (int exits = 0; exits < MAX_EXITS;) {
            boolean late = !operationGoesOn;
            var exit = vcpu.run();
            vmm.left(exit.getClass().getSimpleName());
            exits += exit instanceof KvmExit.MemoryFault ? 0 : 1; // it lasts as long as the operation
            switch (exit) {
                case KvmExit.Io io when io.out() && io.port() == AccessGuest.PORT -> {
                    return;
                }
                case KvmExit.Mmio mmio -> {
                    outcome = Outcome.MMIO;
                    if (!mmio.write()) {
                        ByteBuffer.wrap(vcpu.kvmRun().data).order(ByteOrder.LITTLE_ENDIAN).putLong(0, mmioValue(mmio.gpa()));
                    }
                }
                case KvmExit.MemoryFault fault when late -> {
                    outcome = fault.flags() == 0 ? Outcome.FAULT : Outcome.PRIVATE_FAULT;
                    return;
                }
                case KvmExit.MemoryFault fault -> scheduler.switchPoint(SwitchPoint.YIELD);
                case KvmExit.Intr intr -> {
                    signalled = false;
                    scheduler.switchPoint(SwitchPoint.YIELD);
                }
                case KvmExit.MapGpaRange map -> {
                    vmm.convert(map.gpa(), map.pages(), map.toPrivate());
                    vcpu.kvmRun().ret = 0;
                }
                case KvmExit.DirtyRingFull full -> vmm.harvest();
                case KvmExit other -> throw new MmuFinding("vCPU " + id + " ended with " + other);
            }
        }
        throw new MmuFinding("vCPU " + id + " does not end its access");
    }
}
