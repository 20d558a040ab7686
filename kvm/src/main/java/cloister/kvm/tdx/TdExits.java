package cloister.kvm.tdx;

import cloister.kvm.Defect;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRun;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.mmu.FaultResult;
import cloister.kvm.mmu.VcpuMmu;
import cloister.kvm.vcpu.Hypercalls;
import cloister.sim.Noinstr;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import java.util.Arrays;

/// Handles what TDH.VP.ENTER returns. [LINUX tdx_handle_exit]
final class TdExits implements Persistent {
    private static final long LOW = 0xffff_ffffL;
    private static final long NON_RECOVERABLE = 1L << 62;
    private static final long MAP_GPA_CHUNK = 2L << 20;
    private static final long EXTENDED_TYPE = 0xf;
    private static final long EXTENDED_PENDING = 6;
    private static final long EPT_PROTECTION = ExitQualification.EPT_READABLE | ExitQualification.EPT_WRITABLE
            | ExitQualification.EPT_EXECUTABLE;
    private static final int PAGE = 0x1000;
    private static final int NO_REASON = -1;

    private final TdVcpu vcpu;
    private final TdVm td;
    private final VpEnterRegs args;
    private final KvmRun run;
    /// The exit reason with its flags, or [#NO_REASON].
    private int reason = NO_REASON;
    /// A HLT by TDVMCALL was the last exit; its argument says whether interrupts are blocked.
    private boolean halted;
    /// What the VMM's answer is for, or null.
    private PendingTdExit pending;

    TdExits(TdVcpu vcpu) {
        this.vcpu = vcpu;
        this.td = vcpu.td;
        this.args = vcpu.args;
        this.run = vcpu.run;
    }

    /// Whether the last exit was HLT by TDVMCALL with interrupts allowed.
    boolean haltedWithInterrupts() {
        return halted && args.first() == 0;
    }

    /// Whether the last exit was HLT by TDVMCALL.
    boolean lastWasHalt() {
        return halted;
    }

    boolean isPending() {
        return pending != null;
    }

    /// Finishes the last exit.
    ///
    /// @return a further exit, or null to run on
    KvmExit complete() {
        var exit = pending;
        pending = null;
        return switch (exit) {
            case PendingTdExit.Read(int size) -> {
                args.result(run.item(0, size));
                yield null;
            }
            case PendingTdExit.MapGpa(long nextGpa, long endGpa) -> mapDone(nextGpa, endGpa);
            case PendingTdExit.CallInfo() -> {
                args.result(run.item(0, 8));
                args.results(run.item(8, 8), run.item(16, 8), run.item(24, 8),
                        args.fourth());
                yield finish(run.ret);
            }
            case PendingTdExit.ReadMsr() -> {
                args.result(run.msrError ? args.leaf() : run.ret);
                yield finish(run.msrError ? Tdvmcall.STATUS_INVALID_OPERAND : Tdvmcall.STATUS_SUCCESS);
            }
            case PendingTdExit.WriteMsr() -> finish(run.msrError ? Tdvmcall.STATUS_INVALID_OPERAND : Tdvmcall.STATUS_SUCCESS);
            case PendingTdExit.Status() -> finish(run.ret);
        };
    }

    /// Takes the exit reason from the status of TDH.VP.ENTER.
    @Noinstr void decode(long status) {
        reason = exitReason(status);
    }

    /// Whether an NMI ended the guest's stay.
    @Noinstr boolean isNmi() {
        return reason == ExitReason.EXCEPTION_OR_NMI && Interruption.type(args.interruptionInfo()) == Interruption.NMI;
    }

    /// Whether a machine check did.
    boolean isMachineCheck() {
        return reason == ExitReason.EXCEPTION_OR_NMI && Interruption.vector(args.interruptionInfo()) == ExceptionVector.MC;
    }

    KvmExit handle() {
        long status = vcpu.enterStatus;
        halted = false;
        if (status == ExitReason.EPT_MISCONFIGURATION) {
            td.bug("TDH.VP.ENTER reported an EPT misconfiguration");
            td.requireAlive();
        }
        if (KvmSeam.isSoftwareError(status)) {
            td.bug("SEAMCALL of TDH.VP.ENTER failed: 0x" + Long.toHexString(status));
        }
        if (reason == NO_REASON) {
            return unexpected(status);
        }
        if ((reason & ExitReason.ENTRY_FAILURE) != 0) {
            return new KvmExit.FailEntry(reason & LOW, vcpu.cpu().index());
        }
        vcpu.vm.counters.exit(reason);
        if ((status & ((1L << 63) | NON_RECOVERABLE)) != 0 && reason != ExitReason.TRIPLE_FAULT) {
            return unexpected(status);
        }
        return switch (reason) {
            case ExitReason.TRIPLE_FAULT -> new KvmExit.Shutdown();
            case ExitReason.EXCEPTION_OR_NMI -> exceptionOrNmi();
            case ExitReason.EXTERNAL_INTERRUPT, ExitReason.OTHER_SMI -> null;
            case ExitReason.EPT_VIOLATION -> eptViolation();
            case ExitReason.TDCALL -> tdvmcall();
            default -> unexpected(status);
        };
    }

    /// The exit reason in the status of TDH.VP.ENTER, or [#NO_REASON]. [LINUX tdx_to_vmx_exit_reason]
    @Noinstr private static int exitReason(long status) {
        if (KvmSeam.isSoftwareError(status)) {
            return NO_REASON;
        }
        boolean hasReason = TdxStatus.SUCCESS.matches(status) || TdxStatus.NON_RECOVERABLE_VCPU.matches(status)
                || TdxStatus.NON_RECOVERABLE_TD.matches(status)
                || TdxStatus.NON_RECOVERABLE_TD_NON_ACCESSIBLE.matches(status)
                || TdxStatus.NON_RECOVERABLE_TD_WRONG_APIC_MODE.matches(status);
        int reason = (int) status;
        return hasReason && reason != ExitReason.EPT_MISCONFIGURATION ? reason : NO_REASON;
    }

    private KvmExit unexpected(long status) {
        var known = TdxStatus.of(status);
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_UNEXPECTED_EXIT_REASON, "TDH.VP.ENTER returned 0x"
                + Long.toHexString(status) + (known == null ? "" : " (" + known + ")") + ", RCX 0x"
                + Long.toHexString(args.exitQualification()) + ", R8 0x" + Long.toHexString(args.gpa()));
    }

    private KvmExit exceptionOrNmi() {
        if (isNmi() || isMachineCheck()) {
            return null; // handled before others could run on the processor
        }
        return new KvmExit.Exception(Interruption.vector(args.interruptionInfo()), 0);
    }

    // --- memory [LINUX tdx_handle_ept_violation]

    private KvmExit eptViolation() {
        long gpa = args.gpa();
        boolean isPrivate = td.isPrivateGpa(gpa);
        long qualification = args.exitQualification();
        if (!isPrivate) {
            if ((qualification & ExitQualification.EPT_FETCH) != 0) {
                td.bug("vCPU " + vcpu.id() + " fetched an instruction from shared memory at 0x" + Long.toHexString(gpa));
                td.requireAlive();
            }
            long error = (qualification & ExitQualification.EPT_WRITE) != 0 ? VcpuMmu.ERROR_WRITE : 0;
            if ((qualification & ExitQualification.EPT_RIGHTS) != 0) {
                error |= VcpuMmu.ERROR_PRESENT;
            }
            return afterFault(vcpu.mmu.fault(gpa, error), gpa & ~td.mmu.sharedBit(), false);
        }
        if ((args.extendedQualification() & EXTENDED_TYPE) == EXTENDED_PENDING && (qualification & EPT_PROTECTION) == 0) {
            td.bug("vCPU " + vcpu.id() + " touched 0x" + Long.toHexString(gpa) + " before accepting it");
            throw new KvmException(Errno.EIO, "the TD touched private memory before accepting it: 0x"
                    + Long.toHexString(gpa));
        }
        var result = untilFixed(gpa);
        if (result == FaultResult.RETRY) {
            vcpu.host.scheduler().switchPoint(SwitchPoint.YIELD); // the guest will be here again before it has executed anything
        }
        return afterFault(result, gpa, true);
    }

    /// Private memory is retried here, for the TDX module counts the violations at one instruction. Slots stay as they are meanwhile, so
    /// whoever takes one away needs the vCPU to end. [LINUX tdx_handle_ept_violation]
    private FaultResult untilFixed(long gpa) {
        try (var reading = td.mmu.slotReaders().read()) {
            while (true) {
                var result = vcpu.mmu.fault(gpa, VcpuMmu.ERROR_WRITE | VcpuMmu.ERROR_PRIVATE);
                if (result != FaultResult.RETRY || vcpu.hasEvents() || vcpu.signalPending() || td.isDead()
                        || (vcpu.mmu.slotIsGoing(gpa) && !td.mmu.has(Defect.TD_VIOLATION_WAITS_FOR_INVALID_SLOT))) {
                    return result;
                }
                vcpu.host.scheduler().switchPoint(SwitchPoint.YIELD);
            }
        }
    }

    private KvmExit afterFault(FaultResult result, long gpa, boolean isPrivate) {
        return switch (result) {
            // EMULATE: the MMIO entry is there now, and the access, tried again, raises #VE in the guest.
            case FIXED, SPURIOUS, RETRY, INVALID_SLOT, EMULATE, WRITE_PROTECTED -> null;
            case MEMORY_FAULT, FAULT, REFLECT -> new KvmExit.MemoryFault(isPrivate ? KvmAbi.MEMORY_EXIT_FLAG_PRIVATE : 0, gpa & -PAGE,
                    PAGE);
            case NO_MEMORY -> throw new KvmException(Errno.ENOMEM, "no free platform memory; give the platform more");
            case BUGGED -> {
                td.requireAlive();
                throw new KvmException(Errno.EIO, "the Secure EPT refused 0x" + Long.toHexString(gpa));
            }
        };
    }

    // --- TDVMCALL

    private KvmExit tdvmcall() {
        if (args.callType() != 0) {
            td.counters.hypercall();
            var exit = Hypercalls.call(vcpu, 0, true, args.callType(), args.leaf(), args.first(), args.second(), args.third());
            if (exit == null) {
                return finish(run.ret);
            }
            pending = new PendingTdExit.Status();
            return exit;
        }
        long leaf = args.leaf();
        td.counters.tdvmcall(leaf);
        return leaf >= 0 && leaf < Tdvmcall.GET_TD_VM_CALL_INFO ? instruction((int) leaf) : call(leaf);
    }

    private KvmExit instruction(int leaf) {
        return switch (leaf) {
            case ExitReason.CPUID -> cpuid();
            case ExitReason.HLT -> {
                halted = true;
                vcpu.halt();
                yield finish(Tdvmcall.STATUS_SUCCESS);
            }
            case ExitReason.IO_INSTRUCTION -> io();
            case ExitReason.RDMSR -> readMsr();
            case ExitReason.WRMSR -> writeMsr();
            case ExitReason.EPT_VIOLATION -> mmio();
            default -> finish(Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED);
        };
    }

    private KvmExit call(long leaf) {
        if (leaf == Tdvmcall.MAP_GPA) {
            return mapGpa();
        }
        if (leaf == Tdvmcall.REPORT_FATAL_ERROR) {
            return fatalError();
        }
        if (leaf == Tdvmcall.GET_TD_VM_CALL_INFO) {
            return callInfo();
        }
        if (leaf == Tdvmcall.GET_QUOTE) {
            return quote();
        }
        if (leaf == Tdvmcall.SETUP_EVENT_NOTIFY_INTERRUPT) {
            return eventNotify();
        }
        return finish(Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED);
    }

    /// Sets R10, the status.
    private KvmExit finish(long status) {
        args.status(status);
        return null;
    }

    private KvmExit cpuid() {
        int[] r = vcpu.cpuidResult;
        vcpu.cpuid.query((int) args.first(), (int) args.second(), 0, 0, 0, true, r);
        args.results(r[0] & LOW, r[1] & LOW, r[2] & LOW, r[3] & LOW);
        return null;
    }

    private KvmExit readMsr() {
        int msr = (int) args.first();
        try {
            if (!TdMsrs.isEmulated(msr)) {
                throw GuestGp.INSTANCE;
            }
            args.result(vcpu.msrs.read(msr));
            return null;
        } catch (GuestGp refused) {
            return refused(refused, new PendingTdExit.ReadMsr(), new KvmExit.Rdmsr(msr, refused.msrReason()));
        }
    }

    private KvmExit refused(GuestGp refused, PendingTdExit answer, KvmExit exit) {
        if (!td.asksVmmFor(refused)) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        run.ret = 0;
        run.msrError = false;
        pending = answer;
        return exit;
    }

    private KvmExit writeMsr() {
        int msr = (int) args.first();
        try {
            if (!TdMsrs.isEmulated(msr) || TdMsrs.isReadOnly(msr)) {
                throw GuestGp.INSTANCE;
            }
            vcpu.msrs.write(msr, args.second(), false);
            return null;
        } catch (GuestGp refused) {
            return refused(refused, new PendingTdExit.WriteMsr(), new KvmExit.Wrmsr(msr, args.second(), refused.msrReason()));
        }
    }

    private KvmExit io() {
        long size = args.first();
        long write = args.second();
        int port = (int) args.third() & 0xffff;
        if ((write != 0 && write != 1) || (size != 1 && size != 2 && size != 4)) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        int bytes = (int) size;
        if (write == 1) {
            run.item(0, bytes, args.fourth());
        } else {
            pending = new PendingTdExit.Read(bytes);
        }
        return new KvmExit.Io(write == 1, bytes, port, 1);
    }

    private KvmExit mmio() {
        int size = (int) args.first(); // Linux has them in 32 bits
        int write = (int) args.second();
        long gpa = args.third();
        if ((size != 1 && size != 2 && size != 4 && size != 8) || (write != 0 && write != 1) || td.isPrivateGpa(gpa)
                || td.isPrivateGpa(gpa + size - 1)) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        if (write == 1) {
            run.item(0, size, args.fourth());
        } else {
            pending = new PendingTdExit.Read(size);
        }
        return new KvmExit.Mmio(gpa & ~td.mmu.sharedBit(), size, write == 1);
    }

    // --- MapGPA [LINUX tdx_map_gpa]

    private KvmExit mapGpa() {
        long gpa = args.first();
        long size = args.second();
        if ((td.exitHypercalls & (1L << KvmAbi.HC_MAP_GPA_RANGE)) == 0) {
            return mapFailed(Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED, gpa);
        }
        long last = gpa + size - 1;
        if (Long.compareUnsigned(gpa + size, gpa) <= 0 || !isLegal(gpa) || !isLegal(last)
                || td.isPrivateGpa(gpa) != td.isPrivateGpa(last)) {
            return mapFailed(Tdvmcall.STATUS_INVALID_OPERAND, gpa);
        }
        if (((gpa | size) & (PAGE - 1)) != 0) {
            return mapFailed(Tdvmcall.STATUS_ALIGN_ERROR, gpa);
        }
        return mapChunk(gpa, gpa + size);
    }

    private boolean isLegal(long gpa) {
        return gpa >= 0 && gpa < td.mmu.sharedBit() << 1;
    }

    private KvmExit mapFailed(long status, long gpa) {
        args.result(gpa);
        return finish(status);
    }

    private KvmExit mapChunk(long nextGpa, long endGpa) {
        long bytes = Math.min(endGpa - nextGpa, MAP_GPA_CHUNK);
        run.ret = 0;
        pending = new PendingTdExit.MapGpa(nextGpa, endGpa);
        return new KvmExit.MapGpaRange(nextGpa & ~td.mmu.sharedBit(), bytes >>> 12, td.isPrivateGpa(nextGpa));
    }

    private KvmExit mapDone(long nextGpa, long endGpa) {
        if (run.ret == Errno.EAGAIN.number()) {
            return mapFailed(Tdvmcall.STATUS_RETRY, nextGpa);
        }
        if (run.ret == Errno.EINVAL.number()) {
            return mapFailed(Tdvmcall.STATUS_INVALID_OPERAND, nextGpa);
        }
        if (run.ret != 0) {
            throw new KvmException(Errno.EINVAL, "MapGPA answered with " + run.ret);
        }
        long next = nextGpa + MAP_GPA_CHUNK;
        if (Long.compareUnsigned(next, endGpa) >= 0) {
            return finish(Tdvmcall.STATUS_SUCCESS);
        }
        return vcpu.hasEvents() ? mapFailed(Tdvmcall.STATUS_RETRY, next) : mapChunk(next, endGpa);
    }

    // --- what the VMM answers

    private KvmExit fatalError() {
        return new KvmExit.SystemEvent(KvmAbi.SYSTEM_EVENT_TDX_FATAL, args.fatalErrorData(vcpu.enterStatus));
    }

    private KvmExit callInfo() {
        long leaf = args.first();
        if (leaf == 0) {
            args.result(0);
            args.results(0, 0, 0, args.fourth());
            return finish(Tdvmcall.STATUS_SUCCESS);
        }
        if (leaf != 1) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        run.ret = Tdvmcall.STATUS_SUCCESS;
        Arrays.fill(run.data, 0, 32, (byte) 0);
        pending = new PendingTdExit.CallInfo();
        return new KvmExit.TdxGetTdVmCallInfo(leaf);
    }

    private KvmExit quote() {
        long gpa = args.first();
        if (td.isPrivateGpa(gpa)) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        run.ret = Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED;
        pending = new PendingTdExit.Status();
        return new KvmExit.TdxGetQuote(gpa & ~td.mmu.sharedBit(), args.second());
    }

    private KvmExit eventNotify() {
        long vector = args.first();
        if (vector < 32 || vector > 255) {
            return finish(Tdvmcall.STATUS_INVALID_OPERAND);
        }
        run.ret = Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED;
        pending = new PendingTdExit.Status();
        return new KvmExit.TdxSetupEventNotify((int) vector);
    }

    @Override public String stateName() {
        return "exits";
    }

    @Override public void describe(StateSink to) {
        to.field("reason", reason);
        to.flag("halted", halted);
        to.text("pending", pending);
    }
}
