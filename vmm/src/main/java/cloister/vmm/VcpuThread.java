package cloister.vmm;

import cloister.cpu.MissingFeature;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmVcpu;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.tdx.Tdvmcall;
import cloister.vmm.observe.Livelock;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceKind;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import java.util.Optional;

/// The loop of one vCPU's host thread: runs it and answers its exits.
final class VcpuThread implements Runnable {
    private static final int[] FATAL_MESSAGE_REGISTERS = {14, 15, 3, 7, 6, 8, 9, 2}; // R14 R15 RBX RDI RSI R8 R9 RDX

    /// How the TDX module's names of such states begin.
    private static final String UNRECOVERABLE = "NON_RECOVERABLE_";
    /// TDG.SERVTD.RD and TDG.SERVTD.WR end so when the TD that they name is none.
    private static final String CROSS_TD = "(CROSS_TD_";

    private final Machine machine;
    private final KvmVcpu vcpu;
    private final Board board;
    private final GuestMemory memory;
    private final MachineObserver observer;
    private final GuestFaults faults;
    private final boolean td;
    private final boolean traced;

    VcpuThread(Machine machine, KvmVcpu vcpu, Board board, GuestMemory memory, MachineObserver observer) {
        this.machine = machine;
        this.vcpu = vcpu;
        this.board = board;
        this.memory = memory;
        this.observer = observer;
        this.faults = new GuestFaults(machine, memory);
        this.td = machine.isTrustDomain();
        this.traced = observer.wants(TraceKind.USER);
    }

    @Override public void run() {
        try {
            while (!machine.ended()) {
                runOnce();
            }
        } catch (KvmException e) {
            machine.end(failed(e));
        } catch (Livelock e) {
            machine.end(new Outcome.Livelock(e.getMessage()));
        } catch (MissingFeature e) {
            machine.end(new Outcome.MissingFeature(e.getMessage()));
        } catch (RuntimeException | Error e) {
            machine.end(new Outcome.InternalError(Failures.describe(e, vcpu)));
        }
    }

    private void runOnce() {
        KvmExit exit;
        try {
            exit = vcpu.run();
        } catch (KvmException e) {
            if (e.errno() == Errno.EAGAIN) {
                return; // the vCPU got the INIT for which it waited
            }
            throw e;
        }
        handle(exit);
    }

    private Outcome failed(KvmException e) {
        return (td && e.errno() == Errno.EIO ? faults.unaccepted(vcpu, e.getMessage()) : Optional.<Outcome>empty())
                .orElseGet(() -> new Outcome.InternalError("KVM_RUN of vCPU " + vcpu.id() + " failed: " + e.getMessage() + "\n"
                        + RegisterDump.of(vcpu)));
    }

    /// KVM_EXIT_INTERNAL_ERROR: what its emulator lacks, a guest can reach in Linux's KVM too; the rest is a defect.
    private Outcome kvmGaveUp(int suberror, String text) {
        String where = " (KVM internal error, suberror " + suberror + ", on vCPU " + vcpu.id() + ")\n" + RegisterDump.of(vcpu);
        return switch (suberror) {
            case KvmAbi.INTERNAL_ERROR_EMULATION, KvmAbi.INTERNAL_ERROR_DELIVERY_EV -> new Outcome.MissingFeature("KVM " + text + where);
            default -> td && text.contains(UNRECOVERABLE) ? faults.unrecoverable(vcpu, text)
                    : td && text.contains(CROSS_TD) ? new Outcome.MissingFeature("KVM has no service TDs, and the guest acts as one: "
                            + text + where)
                    : new Outcome.InternalError("KVM " + text + where);
        };
    }

    private Outcome entryFailed(long reason, int processor) {
        return (td ? faults.tdUnenterable(vcpu, reason) : faults.unenterable(vcpu, reason)).orElseGet(() -> new Outcome.InternalError(
                String.format(Locale.ROOT, "VM entry of vCPU %d failed on LP %d: 0x%x\n%s", vcpu.id(), processor, reason,
                        RegisterDump.of(vcpu))));
    }

    private void handle(KvmExit exit) {
        switch (exit) {
            case KvmExit.Io io -> io(io);
            case KvmExit.Mmio mmio -> mmio(mmio);
            case KvmExit.IoapicEoi(int vector) -> board.ioApic.endOfInterrupt(vector);
            case KvmExit.MapGpaRange map -> map(map);
            case KvmExit.MemoryFault fault -> memoryFault(fault);
            case KvmExit.SystemEvent event -> systemEvent(event);
            case KvmExit.Shutdown() -> {
                trace("SHUTDOWN", "triple fault");
                machine.end(new Outcome.TripleFault(faults.tripleFault(vcpu, td, machine.spoke())));
            }
            case KvmExit.InternalError(int suberror, String text, var _) -> machine.end(kvmGaveUp(suberror, text));
            case KvmExit.Exception(int vector, int errorCode) -> machine.end(new Outcome.InternalError(
                    String.format(Locale.ROOT, "exception %d of vCPU %d reached the host\n%s", vector, vcpu.id(), RegisterDump.of(vcpu))));
            case KvmExit.FailEntry(long reason, int processor) -> machine.end(entryFailed(reason, processor));
            case KvmExit.TdxGetQuote quote -> vcpu.kvmRun().ret = Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED;
            case KvmExit.TdxSetupEventNotify notify -> vcpu.kvmRun().ret = Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED;
            case KvmExit.TdxGetTdVmCallInfo info -> {
                Arrays.fill(vcpu.kvmRun().data, 0, 32, (byte) 0);
                vcpu.kvmRun().ret = 0;
            }
            // User-space MSR exits are not enabled, so the guest must see a fault if one comes.
            case KvmExit.Rdmsr rdmsr -> vcpu.kvmRun().msrError = true;
            case KvmExit.Wrmsr wrmsr -> vcpu.kvmRun().msrError = true;
            case KvmExit.DirtyRingFull() -> throw new IllegalStateException("a dirty ring is full, and none was asked for");
            case KvmExit.Intr() -> { } // the loop looks whether the machine ended
        }
    }

    private void trace(String reason, String detail) {
        if (traced) {
            observer.event(new TraceEvent.UserExit(machine.nanos(), vcpu.id(), reason, detail));
        }
    }

    private void io(KvmExit.Io io) {
        var run = vcpu.kvmRun();
        for (int i = 0; i < io.count(); i++) {
            int at = i * io.size();
            if (io.out()) {
                board.ports.write(io.port(), io.size(), (int) run.item(at, io.size()));
            } else {
                run.item(at, io.size(), board.ports.read(io.port(), io.size()));
            }
        }
        if (traced) {
            trace("IO", String.format(Locale.ROOT, "%s 0x%x size %d count %d value 0x%x", io.out() ? "out" : "in",
                    io.port(), io.size(), io.count(), run.item(0, io.size())));
        }
    }

    private void mmio(KvmExit.Mmio mmio) {
        var run = vcpu.kvmRun();
        if (mmio.write()) {
            board.mmio.write(mmio.gpa(), mmio.length(), run.item(0, mmio.length()));
        } else {
            run.item(0, mmio.length(), board.mmio.read(mmio.gpa(), mmio.length()));
        }
        if (traced) {
            trace("MMIO", String.format(Locale.ROOT, "%s 0x%x length %d value 0x%x", mmio.write() ? "write" : "read",
                    mmio.gpa(), mmio.length(), run.item(0, mmio.length())));
        }
    }

    private void map(KvmExit.MapGpaRange map) {
        if (traced) {
            trace("HYPERCALL", String.format(Locale.ROOT, "map 0x%x pages %d %s", map.gpa(), map.pages(),
                    map.toPrivate() ? "private" : "shared"));
        }
        boolean done = memory.convert(map.gpa(), map.pages() * GuestLayout.PAGE, map.toPrivate());
        vcpu.kvmRun().ret = done ? 0 : Errno.EINVAL.number();
    }

    /// The guest used a page as what it is not. As QEMU does, take the access as an implicit conversion.
    private void memoryFault(KvmExit.MemoryFault fault) {
        boolean wantsPrivate = (fault.flags() & KvmAbi.MEMORY_EXIT_FLAG_PRIVATE) != 0;
        trace("MEMORY_FAULT", String.format(Locale.ROOT, "0x%x size 0x%x %s", fault.gpa(), fault.size(),
                wantsPrivate ? "private" : "shared"));
        if (memory.convert(fault.gpa(), fault.size(), wantsPrivate)) {
            memory.wasImplicit(fault.gpa(), vcpu.id(), wantsPrivate);
        } else {
            machine.end(faults.privateDevice(vcpu, fault.gpa()));
        }
    }

    private void systemEvent(KvmExit.SystemEvent event) {
        trace("SYSTEM_EVENT", "type " + event.type());
        machine.end(switch (event.type()) {
            case KvmAbi.SYSTEM_EVENT_SHUTDOWN -> new Outcome.PowerOff();
            case KvmAbi.SYSTEM_EVENT_RESET -> new Outcome.Reset("system event");
            case KvmAbi.SYSTEM_EVENT_TDX_FATAL -> new Outcome.GuestPanic(fatalError(event.data()));
            case KvmAbi.SYSTEM_EVENT_CRASH -> new Outcome.GuestPanic("crash event");
            default -> new Outcome.InternalError("unknown system event " + event.type());
        });
    }

    /// [GHCI "TDG.VP.VMCALL<ReportFatalError>"]: R12 holds a code; the text is in up to eight registers.
    static String fatalError(long[] registers) {
        var text = new StringBuilder();
        for (int register : FATAL_MESSAGE_REGISTERS) {
            byte[] letters = new byte[Long.BYTES];
            for (int i = 0; i < letters.length; i++) {
                letters[i] = (byte) (registers[register] >>> (8 * i));
            }
            text.append(new String(letters, StandardCharsets.ISO_8859_1));
        }
        String message = text.toString().replaceAll("[^\\x20-\\x7e]", " ").strip();
        return String.format(Locale.ROOT, "fatal error 0x%x reported by the TD%s", registers[12], message.isEmpty() ? ""
                : ": " + message);
    }
}
