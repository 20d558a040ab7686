package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.cpu.fpu.FpuState;
import cloister.kvm.Kvm;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmVm;
import cloister.kvm.TestHost;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.dev.DevKvm;
import cloister.kvm.emulate.EmulatedMachine;
import cloister.kvm.emulate.InstructionEmulator;
import cloister.kvm.host.HostCpu;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.Arrays;

/// A vCPU of an ordinary VM whose current instruction is executed either by the processor or by KVM's emulator.
final class EmulatorRig implements AutoCloseable {
    static final int PAGE = 0x1000;
    static final int DATA_PAGES = 8;
    /// Guest-physical; the data pages begin at 0.
    static final int TABLES = 0x10000, PT = 0x13000, GDT = 0x14000, IDT = 0x15000, CODE = 0x16000, MEMORY = 0x17000;
    private static final VmcsField[] SYSTEM = {GUEST_GDTR_BASE, GUEST_GDTR_LIMIT, GUEST_IDTR_BASE, GUEST_IDTR_LIMIT, GUEST_RIP,
        GUEST_RFLAGS, GUEST_DR7, GUEST_INTERRUPTIBILITY_STATE};
    private static final int SEGMENT_PARTS = 4;
    private static final int MOST_ROUNDS = 40;

    /// Everything that an instruction can change. Compared as a whole. The page of code stands behind the tables.
    static final class State {
        final long[] gprs = new long[16];
        final long[] segments = new long[8 * SEGMENT_PARTS];
        final long[] system = new long[SYSTEM.length];
        final long[] control = new long[6];
        final FpuState fpu = new FpuState();
        final byte[] data = new byte[DATA_PAGES * PAGE];
        final byte[] tables = new byte[CODE + PAGE - TABLES];
        /// Vector, error code and address of the exception, or null.
        long[] fault;

        /// The first difference, or null.
        String difference(State other) {
            if (!Arrays.equals(fault, other.fault)) {
                return "fault " + Arrays.toString(fault) + " and " + Arrays.toString(other.fault);
            }
            String[] names = {"register", "segment part", "system field", "control register", "xmm word", "st", "st exponent"};
            long[][] mine = {gprs, segments, system, control, fpu.xmm, fpu.st, wide(fpu.stExponent)};
            long[][] theirs = {other.gprs, other.segments, other.system, other.control, other.fpu.xmm, other.fpu.st,
                wide(other.fpu.stExponent)};
            for (int n = 0; n < mine.length; n++) {
                int length = n == 4 ? 32 : n >= 5 ? 8 : mine[n].length; // behind them is scratch space
                int at = Arrays.mismatch(mine[n], 0, length, theirs[n], 0, length);
                if (at >= 0) {
                    return names[n] + " " + at + ": " + Long.toHexString(mine[n][at]) + " and " + Long.toHexString(theirs[n][at]);
                }
            }
            long[] control1 = {fpu.fcw, fpu.fsw, fpu.tags, fpu.mxcsr};
            long[] control2 = {other.fpu.fcw, other.fpu.fsw, other.fpu.tags, other.fpu.mxcsr};
            if (!Arrays.equals(control1, control2)) {
                return "FPU control " + Arrays.toString(control1) + " and " + Arrays.toString(control2);
            }
            int at = Arrays.mismatch(data, other.data);
            if (at >= 0) {
                return "memory at 0x" + Integer.toHexString(at) + ": " + data[at] + " and " + other.data[at];
            }
            at = Arrays.mismatch(tables, other.tables);
            return at >= 0 ? "table at 0x" + Integer.toHexString(TABLES + at) + ": " + tables[at] + " and " + other.tables[at] : null;
        }

        private static long[] wide(int[] values) {
            return Arrays.stream(values).asLongStream().toArray();
        }
    }

    private final TestHost host = new TestHost(1);
    private final Kvm kvm = DevKvm.open(host.environment());
    private final KvmVm vm = kvm.createVm(VmType.DEFAULT);
    private final long user = kvm.userMemory().map(MEMORY);
    private final InstructionEmulator emulator;
    private final EmulatedMachine machine;
    final VmxVcpu vcpu;
    final LoadedVmcs vmcs;
    /// A bit for each page that the emulator is to take for MMIO.
    int mmioPages;
    /// What the emulated instruction raised.
    private long[] raised;
    private HostCpu here;
    int exits;

    EmulatorRig() {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, DATA_PAGES * PAGE, user));
        vm.setUserMemoryRegion2(UserMemoryRegion.of(1, TABLES, MEMORY - TABLES, user + TABLES));
        vcpu = (VmxVcpu) vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        vmcs = vcpu.vmcs;
        machine = watched(new EmulatedGuest(vcpu));
        emulator = new InstructionEmulator(machine, host.scheduler().clock());
    }

    private EmulatedMachine watched(EmulatedMachine guest) {
        return (EmulatedMachine) Proxy.newProxyInstance(EmulatedMachine.class.getClassLoader(), new Class<?>[] {EmulatedMachine.class},
                (_, method, args) -> switch (method.getName()) {
                    case "isMemory", "isWritable" -> {
                        long gpa = (long) args[0];
                        yield gpa >= TABLES ? gpa < MEMORY : gpa < DATA_PAGES * PAGE && (mmioPages & (1 << (gpa / PAGE))) == 0;
                    }
                    case "raise" -> {
                        int vector = (int) args[0];
                        raised = new long[] {vector, ExceptionVector.hasErrorCode(vector) ? (int) args[1] : 0, (long) args[2]};
                        yield null;
                    }
                    default -> {
                        try {
                            yield method.invoke(guest, args);
                        } catch (InvocationTargetException e) {
                            throw e.getCause();
                        }
                    }
                });
    }

    /// Runs `test` on a host thread that has the processor with the vCPU's VMCS.
    void run(Runnable test) {
        host.scheduler().spawn("rig", () -> {
            vcpu.host.cpus().load(vcpu);
            here = vcpu.host.cpus().pin();
            try {
                vcpu.mmu.reload();
                vcpu.loadRoot();
                test.run();
            } finally {
                vcpu.host.cpus().unpin();
                vcpu.host.cpus().put();
            }
        });
        host.scheduler().run();
    }

    void load(long gpa, byte[] bytes) {
        kvm.userMemory().write(user + gpa, bytes, 0, bytes.length);
    }

    private void read(long gpa, byte[] to) {
        kvm.userMemory().read(user + gpa, to, 0, to.length);
    }

    // --- state

    void restore(State s) {
        System.arraycopy(s.gprs, 0, vcpu.gprs, 0, 16);
        vmcs.write(GUEST_RSP, s.gprs[4]);
        vcpu.cr.restore(s.control[0], s.control[1], s.control[2], s.control[3]);
        vcpu.cr2(s.control[4]);
        for (int i = 0; i < 8; i++) {
            vcpu.segment(i, (int) s.segments[SEGMENT_PARTS * i], s.segments[(SEGMENT_PARTS * i) + 1],
                    (int) s.segments[(SEGMENT_PARTS * i) + 2], (int) s.segments[(SEGMENT_PARTS * i) + 3]);
        }
        for (int i = 0; i < SYSTEM.length; i++) {
            vmcs.write(SYSTEM[i], s.system[i]);
        }
        vmcs.write(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
        vmcs.write(GUEST_ACTIVITY_STATE, 0);
        vmcs.write(ENTRY_INTERRUPTION_INFO, 0);
        vcpu.fpu().copyFrom(s.fpu);
        load(0, s.data);
        load(TABLES, s.tables);
        vcpu.events.clearInjected();
        vcpu.flushGuestTlb();
    }

    State capture(long[] fault) {
        var s = new State();
        System.arraycopy(vcpu.gprs, 0, s.gprs, 0, 16);
        s.control[0] = vcpu.cr.cr0();
        s.control[1] = vcpu.cr.cr3();
        s.control[2] = vcpu.cr.cr4();
        s.control[3] = vcpu.cr.efer();
        s.control[4] = vcpu.cr2();
        s.control[5] = vcpu.apic.tpr();
        for (int i = 0; i < 8; i++) {
            s.segments[SEGMENT_PARTS * i] = vmcs.read(VmcsField.ofSegment(GUEST_ES_SELECTOR, i));
            s.segments[(SEGMENT_PARTS * i) + 1] = vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, i));
            s.segments[(SEGMENT_PARTS * i) + 2] = vmcs.readInt(VmcsField.ofSegment(GUEST_ES_LIMIT, i));
            s.segments[(SEGMENT_PARTS * i) + 3] = vmcs.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, i));
        }
        for (int i = 0; i < SYSTEM.length; i++) {
            s.system[i] = vmcs.read(SYSTEM[i]);
        }
        s.fpu.copyFrom(vcpu.fpu());
        read(0, s.data);
        read(TABLES, s.tables);
        s.fault = fault;
        if (fault != null) { // the exit sets RF; for a fault that KVM raises its injection does
            s.system[5] &= ~Rflags.RF;
        }
        return s;
    }

    // --- the processor

    /// The processor executes the instruction at RIP.
    ///
    /// @param alone by a single step; else in a run of instructions, which ends at HLT, of which the code page is full
    /// @return null when the guest does not get that far
    State execute(State from, boolean alone) {
        restore(from);
        vmcs.write(EXCEPTION_BITMAP, 0xffff_ffffL);
        long rip = from.system[4];
        for (int round = 0; round < MOST_ROUNDS; round++) {
            int controls = vmcs.readInt(PROC_BASED_CONTROLS) & ~Controls.PROC_MONITOR_TRAP_FLAG;
            vmcs.write(PROC_BASED_CONTROLS, alone ? controls | Controls.PROC_MONITOR_TRAP_FLAG : controls);
            vcpu.enter(here);
            int reason = vmcs.readInt(EXIT_REASON);
            if ((reason & ExitReason.ENTRY_FAILURE) != 0) {
                throw new AssertionError("the processor does not take the state: " + Integer.toHexString(reason));
            }
            boolean away = vmcs.read(GUEST_RIP) != rip;
            switch (reason) {
                case ExitReason.EPT_VIOLATION, ExitReason.EPT_MISCONFIGURATION -> {
                    if (vcpu.handleExit() != null) {
                        return null;
                    }
                }
                case ExitReason.MONITOR_TRAP_FLAG -> {
                    if (away) {
                        return capture(null);
                    }
                }
                case ExitReason.HLT -> {
                    return away ? capture(null) : null;
                }
                case ExitReason.EXCEPTION_OR_NMI -> {
                    vmcs.write(GUEST_RFLAGS, vmcs.read(GUEST_RFLAGS) & ~Rflags.RF);
                    return capture(away ? null : fault());
                }
                case ExitReason.EXTERNAL_INTERRUPT, ExitReason.PREEMPTION_TIMER -> {
                }
                default -> {
                    if (away || vcpu.handleExit() != null) {
                        return away ? capture(null) : null;
                    }
                    return capture(vcpu.events.exceptionPending ? new long[] {vcpu.events.vector, vcpu.events.errorCode, 0} : null);
                }
            }
        }
        return null;
    }

    private long[] fault() {
        int info = vmcs.readInt(EXIT_INTERRUPTION_INFO);
        int vector = Interruption.vector(info);
        boolean hasAddress = vector == ExceptionVector.PF || vector == ExceptionVector.DB;
        return new long[] {vector, (info & Interruption.DELIVER_ERROR_CODE) != 0 ? vmcs.read(EXIT_INTERRUPTION_ERROR_CODE) : 0,
            hasAddress ? vmcs.read(EXIT_QUALIFICATION) : 0};
    }

    // --- the emulator

    /// The emulator executes it.
    ///
    /// @return null when it refuses to
    State emulate(State from, InstructionEmulator.Scope scope) {
        restore(from);
        raised = null;
        long rip = from.system[4];
        for (int round = 0; round < MOST_ROUNDS; round++) {
            var exit = emulator.emulate(scope);
            while (exit != null) {
                exits++;
                if (!(exit instanceof KvmExit.Mmio mmio) || mmio.gpa() >= DATA_PAGES * PAGE) {
                    return null;
                }
                byte[] bytes = new byte[mmio.length()];
                if (mmio.write()) {
                    System.arraycopy(vcpu.run.data, 0, bytes, 0, bytes.length);
                    load(mmio.gpa(), bytes);
                } else {
                    read(mmio.gpa(), bytes);
                    System.arraycopy(bytes, 0, vcpu.run.data, 0, bytes.length);
                }
                exit = emulator.answered();
            }
            if (raised != null || vmcs.read(GUEST_RIP) != rip) {
                return capture(raised);
            }
        }
        return null;
    }

    @Override public void close() {
        host.close();
    }
}
