package cloister.vmm.observe;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.vmx.ExitReason;
import java.util.Locale;

/// Something that happened in a run. Times are virtual, in nanoseconds since power-on; register arrays have the order of [SeamRegs] and
/// belong to the event. What begins and ends is two events, so that a stream of events is in order of time.
public sealed interface TraceEvent {
    /// The number of no logical processor, no thread, no vCPU.
    int NONE = -1;

    /// When it happened.
    long nanos();

    /// What kind it is. A TDG.VP.VMCALL is of kind VMCALL, and a lock that a SEAMCALL found taken is told by the SEAMCALL.
    TraceKind kind();

    /// What it is called: the leaf, the sub-function, the exit reason.
    String name();

    /// SEAMCALL begins.
    ///
    /// @param lp     the logical processor
    /// @param thread the host thread; [#NONE] while the machine is built
    /// @param in     the registers
    record SeamcallEntry(long nanos, int lp, int thread, long[] in) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.SEAMCALL;
        }

        @Override public String name() {
            return nameOfSeamcall(in[SeamRegs.RAX]);
        }
    }

    /// SEAMCALL ends.
    ///
    /// @param began when it began
    /// @param in    the registers at its beginning
    /// @param out   the registers at its end
    record SeamcallReturn(long nanos, long began, int lp, int thread, long[] in, long[] out) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.SEAMCALL;
        }

        @Override public String name() {
            return nameOfSeamcall(in[SeamRegs.RAX]);
        }

        /// Whether it found a lock taken.
        public boolean busy() {
            return isBusy(out[SeamRegs.RAX]);
        }
    }

    /// A trust domain executes TDCALL.
    ///
    /// @param vcpu the number of the vCPU
    /// @param in   the guest's registers
    record TdcallEntry(long nanos, int lp, int vcpu, long[] in) implements TraceEvent {
        @Override public TraceKind kind() {
            return isVmcall(in) ? TraceKind.VMCALL : TraceKind.TDCALL;
        }

        @Override public String name() {
            return nameOfTdcall(in);
        }
    }

    /// TDCALL ends: its guest goes on.
    ///
    /// @param began when it began
    /// @param in    the guest's registers at its beginning
    /// @param out   the guest's registers at its end; null when it has none
    /// @param again whether it has none because the guest executes it again: the host had to give a page first
    record TdcallReturn(long nanos, long began, int lp, int vcpu, long[] in, long[] out, boolean again) implements TraceEvent {
        @Override public TraceKind kind() {
            return isVmcall(in) ? TraceKind.VMCALL : TraceKind.TDCALL;
        }

        @Override public String name() {
            return nameOfTdcall(in);
        }
    }

    /// A guest begins to run.
    record GuestEntry(long nanos, int lp, int vcpu) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.EXITS;
        }

        @Override public String name() {
            return "guest";
        }
    }

    /// A guest stops running: a VM exit.
    ///
    /// @param began         when it began to run
    /// @param reason        the exit reason with its flags
    /// @param qualification the exit qualification
    /// @param rip           the guest's RIP
    /// @param gpa           the guest-physical address; only for the reasons that have one
    /// @param toModule      whether the TDX module gets the exit
    record GuestExit(long nanos, long began, int lp, int vcpu, int reason, long qualification, long rip, long gpa, boolean toModule)
            implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.EXITS;
        }

        @Override public String name() {
            return ExitReason.name(reason);
        }

        /// Whether [#gpa] says something.
        public boolean hasGpa() {
            int basic = ExitReason.basic(reason);
            return basic == ExitReason.EPT_VIOLATION || basic == ExitReason.EPT_MISCONFIGURATION;
        }
    }

    /// Another host thread goes on.
    ///
    /// @param from     the thread that ran; [#NONE] at the start
    /// @param fromName its name
    /// @param to       the thread that goes on
    /// @param toName   its name
    /// @param waits    whether `from` waits or has ended
    record Baton(long nanos, int from, String fromName, int to, String toName, boolean waits) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.SCHED;
        }

        @Override public String name() {
            return toName;
        }
    }

    /// What a host thread does with a lock.
    enum LockStep {
        /// The TDX module tries a lock; it never waits.
        TRY,
        /// The TDX module has it. Only in runs whose schedule explores.
        HOLD,
        /// A lock of the host kernel is about to be taken.
        TAKE,
        /// It is held by somebody else: the thread waits.
        WAIT,
        /// It was released.
        RELEASE
    }

    /// A lock.
    ///
    /// @param thread the host thread
    /// @param step   what it does
    /// @param lock   what the lock calls itself
    /// @param where  the physical address of a lock of the TDX module; 0 when it has none
    record LockPoint(long nanos, int thread, LockStep step, String lock, long where) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.LOCK;
        }

        @Override public String name() {
            return step.name().toLowerCase(Locale.ROOT);
        }
    }

    /// The guest has ended a line on its console.
    ///
    /// @param text the line without its end
    record ConsoleLine(long nanos, String text) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.CONSOLE;
        }

        @Override public String name() {
            return "line";
        }
    }

    /// KVM_RUN returned.
    ///
    /// @param vcpu   the number of the vCPU
    /// @param reason the exit reason of the KVM API
    /// @param detail more about it, for people
    record UserExit(long nanos, int vcpu, String reason, String detail) implements TraceEvent {
        @Override public TraceKind kind() {
            return TraceKind.USER;
        }

        @Override public String name() {
            return reason;
        }
    }

    private static String nameOfSeamcall(long rax) {
        var leaf = SeamcallLeaf.of((int) rax & 0xffff);
        return leaf == null ? "SEAMCALL " + (rax & 0xffff) : leaf.specificationName();
    }

    /// Whether a status says that a lock was taken.
    static boolean isBusy(long status) {
        return TdxStatus.OPERAND_BUSY.matches(status) || TdxStatus.OPERAND_BUSY_HOST_PRIORITY.matches(status)
                || TdxStatus.SYS_BUSY.matches(status);
    }

    private static boolean isVmcall(long[] in) {
        return ((int) in[SeamRegs.RAX] & 0xffff) == TdcallLeaf.VP_VMCALL.number();
    }

    private static String nameOfTdcall(long[] in) {
        if (isVmcall(in)) {
            return in[SeamRegs.R10] == 0 ? Tdvmcall.name(in[SeamRegs.R11]) : "VMCALL";
        }
        var leaf = TdcallLeaf.of((int) in[SeamRegs.RAX] & 0xffff);
        return leaf == null ? "TDCALL " + (in[SeamRegs.RAX] & 0xffff) : leaf.specificationName();
    }
}
