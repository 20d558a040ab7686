package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.emulate.GuestGp;
import cloister.kvm.emulate.InstructionEmulator;
import cloister.kvm.emulate.InstructionEmulator.Scope;
import cloister.kvm.mmu.FaultResult;
import cloister.kvm.mmu.VcpuMmu;
import cloister.kvm.vcpu.Hypercalls;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;

/// Handles the VM exits of an ordinary VM's vCPU. [LINUX kvm_vmx_exit_handlers]
final class VmxExits implements Persistent {
    private static final int RAX = 0;
    private static final int RCX = 1;
    private static final int RDX = 2;
    private static final int RBX = 3;
    private static final int RSI = 6;
    private static final long LOW = 0xffff_ffffL;
    private static final int TASK_GATE = 3;
    private static final int PAGE = 0x1000;
    private static final PendingVmxExit READ_MSR = new PendingVmxExit.ReadMsr();
    private static final PendingVmxExit WRITE_MSR = new PendingVmxExit.WriteMsr();
    private static final PendingVmxExit HYPERCALL = new PendingVmxExit.Hypercall();
    private static final PendingVmxExit PORT_WRITE = new PendingVmxExit.PortWrite();
    private static final PendingVmxExit EMULATION = new PendingVmxExit.Emulation();

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;
    private final long[] gprs;
    private final InstructionEmulator emulator;
    private final PagingExits paging;
    private final InvalidGuestState invalidState;
    /// What the VMM's answer is for, or null.
    private PendingVmxExit pending;
    /// Where the instruction is whose port access the VMM answers: when the VMM has moved RIP meanwhile, the instruction is given up.
    private long portRip;

    VmxExits(VmxVcpu vcpu) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
        this.gprs = vcpu.gprs;
        var machine = new EmulatedGuest(vcpu);
        this.emulator = new InstructionEmulator(machine, vcpu.vm.host.clock());
        this.paging = new PagingExits(vcpu, this, emulator);
        this.invalidState = new InvalidGuestState(vcpu, emulator);
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
            case PendingVmxExit.PortRead(int size) -> {
                if (linearRip() != portRip) {
                    yield null;
                }
                long kept = size == 4 ? 0 : gprs[RAX] & -(1L << (8 * size));
                gprs[RAX] = kept | vcpu.run.item(0, size);
                yield skip();
            }
            case PendingVmxExit.PortWrite() -> linearRip() == portRip ? skip() : null;
            case PendingVmxExit.ReadMsr() -> vcpu.run.msrError ? refuse() : msrRead(vcpu.run.ret);
            case PendingVmxExit.WriteMsr() -> vcpu.run.msrError ? refuse() : skip();
            case PendingVmxExit.Hypercall() -> answer(vcpu.run.ret);
            case PendingVmxExit.Emulation() -> afterEmulation(emulator.answered());
        };
    }

    InvalidGuestState invalidState() {
        return invalidState;
    }

    /// Emulates the guest, whose state the processor does not take.
    KvmExit emulateInvalidState() {
        return afterEmulation(invalidState.run());
    }

    /// [LINUX __vmx_handle_exit]
    KvmExit handle() {
        int full = vmcs.readInt(EXIT_REASON);
        int reason = ExitReason.basic(full);
        vcpu.vm.counters.exit(reason);
        if ((full & ExitReason.ENTRY_FAILURE) != 0) {
            return new KvmExit.FailEntry(full & LOW, vcpu.cpu().index());
        }
        vcpu.injection.complete();
        if (Interruption.valid(vmcs.readInt(IDT_VECTORING_INFO)) && !mayBreakOffDelivery(reason)) {
            return undeliverable("VM exit " + ExitReason.name(reason), -1);
        }
        return dispatch(reason);
    }

    /// Whether KVM knows how to go on when such an exit comes in the middle of an event's delivery.
    private static boolean mayBreakOffDelivery(int reason) {
        return switch (reason) {
            case ExitReason.EXCEPTION_OR_NMI, ExitReason.EPT_VIOLATION, ExitReason.PML_FULL, ExitReason.APIC_ACCESS,
                 ExitReason.TASK_SWITCH, ExitReason.EPT_MISCONFIGURATION -> true;
            default -> false;
        };
    }

    /// [LINUX kvm_prepare_event_vectoring_exit]
    private KvmExit undeliverable(String because, long gpa) {
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_DELIVERY_EV, "cannot deliver vector "
                + Interruption.vector(vmcs.readInt(IDT_VECTORING_INFO)) + ": " + because + ", RIP 0x"
                + Long.toHexString(vmcs.read(GUEST_RIP)), FailureData.delivery(vmcs, gpa, vcpu.cpu().index()));
    }

    private KvmExit dispatch(int reason) {
        return switch (reason) {
            case ExitReason.EXTERNAL_INTERRUPT -> null;
            case ExitReason.IO_INSTRUCTION -> ioInstruction();
            case ExitReason.WRMSR -> writeMsr();
            case ExitReason.RDMSR -> readMsr();
            case ExitReason.HLT -> halt();
            case ExitReason.CPUID -> cpuid();
            case ExitReason.EPT_VIOLATION -> eptViolation();
            case ExitReason.EPT_MISCONFIGURATION -> eptMisconfiguration();
            case ExitReason.INTERRUPT_WINDOW -> windowOpen(Controls.PROC_INTERRUPT_WINDOW);
            case ExitReason.NMI_WINDOW -> windowOpen(Controls.PROC_NMI_WINDOW);
            case ExitReason.PREEMPTION_TIMER -> null;
            case ExitReason.CR_ACCESS -> controlRegister();
            case ExitReason.EXCEPTION_OR_NMI -> exceptionOrNmi();
            case ExitReason.TRIPLE_FAULT -> new KvmExit.Shutdown();
            case ExitReason.XSETBV -> xsetbv();
            case ExitReason.VMCALL -> hypercall();
            case ExitReason.INVD, ExitReason.WBINVD, ExitReason.MWAIT, ExitReason.MONITOR, ExitReason.PAUSE -> skip();
            case ExitReason.INVLPG -> {
                vcpu.flushAddress(vmcs.read(EXIT_QUALIFICATION));
                yield skip();
            }
            case ExitReason.INVPCID -> paging.invpcid();
            case ExitReason.VIRTUALIZED_EOI -> {
                vcpu.apic.broadcastEoi((int) vmcs.read(EXIT_QUALIFICATION) & 0xff);
                yield null;
            }
            case ExitReason.APIC_WRITE -> {
                vcpu.apic.wrote((int) vmcs.read(EXIT_QUALIFICATION) & 0xff0);
                yield null;
            }
            case ExitReason.RDPMC -> {
                vcpu.queueGp();
                yield null;
            }
            case ExitReason.VMCLEAR, ExitReason.VMLAUNCH, ExitReason.VMPTRLD, ExitReason.VMPTRST, ExitReason.VMREAD,
                 ExitReason.VMRESUME, ExitReason.VMWRITE, ExitReason.VMXOFF, ExitReason.VMXON, ExitReason.INVEPT,
                 ExitReason.INVVPID, ExitReason.VMFUNC, ExitReason.ENCLS, ExitReason.ENCLV, ExitReason.GETSEC,
                 ExitReason.SEAMCALL, ExitReason.TDCALL, ExitReason.UMWAIT, ExitReason.TPAUSE -> {
                vcpu.queueUd();
                yield null;
            }
            case ExitReason.TASK_SWITCH -> taskSwitch();
            default -> new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
                    "VM exit " + ExitReason.name(reason) + " is not handled, RIP 0x"
                            + Long.toHexString(vmcs.read(GUEST_RIP)), FailureData.unexpected(vmcs, vcpu.cpu().index()));
        };
    }

    KvmExit skip() {
        vcpu.skipInstruction();
        return null;
    }

    private KvmExit halt() {
        vcpu.skipInstruction();
        vcpu.halt();
        return null;
    }

    private KvmExit windowOpen(int control) {
        vcpu.injection.window(control, false);
        return null;
    }

    private KvmExit exceptionOrNmi() {
        vcpu.injection.recoverNmiMask();
        int info = vmcs.readInt(EXIT_INTERRUPTION_INFO);
        if (Interruption.type(info) == Interruption.NMI) {
            return null; // handled before others could run on the processor
        }
        if (Interruption.vector(info) == ExceptionVector.MC) {
            return null;
        }
        if (Interruption.vector(info) == ExceptionVector.PF && !vcpu.ept) {
            return paging.pageFault();
        }
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_UNEXPECTED_EXIT_REASON,
                "exception " + Interruption.vector(info) + " was intercepted");
    }

    private KvmExit cpuid() {
        int[] r = vcpu.cpuidResult;
        vcpu.queryCpuid((int) gprs[RAX], (int) gprs[RCX], r);
        gprs[RAX] = r[0] & LOW;
        gprs[RBX] = r[1] & LOW;
        gprs[RCX] = r[2] & LOW;
        gprs[RDX] = r[3] & LOW;
        return skip();
    }

    private KvmExit readMsr() {
        int msr = (int) gprs[RCX];
        try {
            return msrRead(vcpu.msrs.read(msr));
        } catch (GuestGp refused) {
            return vcpu.vm.asksVmmFor(refused) ? ask(READ_MSR, new KvmExit.Rdmsr(msr, refused.msrReason())) : refuse();
        }
    }

    private KvmExit msrRead(long value) {
        gprs[RAX] = value & LOW;
        gprs[RDX] = value >>> 32;
        return skip();
    }

    private KvmExit refuse() {
        vcpu.queueGp();
        return null;
    }

    private KvmExit ask(PendingVmxExit answer, KvmExit exit) {
        vcpu.run.ret = 0;
        vcpu.run.msrError = false;
        pending = answer;
        return exit;
    }

    private KvmExit writeMsr() {
        int msr = (int) gprs[RCX];
        long value = (gprs[RAX] & LOW) | (gprs[RDX] << 32);
        try {
            vcpu.msrs.write(msr, value, false);
            return skip();
        } catch (GuestGp refused) {
            return vcpu.vm.asksVmmFor(refused) ? ask(WRITE_MSR, new KvmExit.Wrmsr(msr, value, refused.msrReason())) : refuse();
        }
    }

    private KvmExit xsetbv() {
        return finish(vcpu.cpl() == 0 && vcpu.writeXcr((int) gprs[RCX], (gprs[RAX] & LOW) | (gprs[RDX] << 32)));
    }

    /// [LINUX handle_task_switch]
    private KvmExit taskSwitch() {
        long qualification = vmcs.read(EXIT_QUALIFICATION);
        int source = ExitQualification.taskSwitchSource(qualification);
        int info = vmcs.readInt(IDT_VECTORING_INFO);
        int type = Interruption.valid(info) ? Interruption.type(info) : Interruption.SOFTWARE_INTERRUPT;
        boolean byEvent = type < Interruption.SOFTWARE_INTERRUPT;
        long errorCode = -1;
        if (source == TASK_GATE && Interruption.valid(info)) { // the switch is the delivery
            vcpu.events.clearInjected();
            if (type == Interruption.NMI) {
                vcpu.injection.maskNmis(true);
            } else if (type == Interruption.HARDWARE_EXCEPTION && (info & Interruption.DELIVER_ERROR_CODE) != 0) {
                errorCode = vmcs.read(IDT_VECTORING_ERROR_CODE) & LOW;
            }
        }
        return afterEmulation(emulator.switchTask((int) qualification & 0xffff, source,
                byEvent ? 0 : vmcs.readInt(EXIT_INSTRUCTION_LENGTH), errorCode));
    }

    // --- hypercalls [LINUX kvm_emulate_hypercall]

    private KvmExit hypercall() {
        var exit = Hypercalls.call(vcpu, vcpu.cpl(), vcpu.is64Bit(), hypercallArgument(RAX), hypercallArgument(RBX), hypercallArgument(RCX),
                hypercallArgument(RDX), hypercallArgument(RSI));
        if (exit == null) {
            return answer(vcpu.run.ret);
        }
        pending = HYPERCALL;
        return exit;
    }

    private long hypercallArgument(int register) {
        return vcpu.is64Bit() ? gprs[register] : gprs[register] & LOW;
    }

    private KvmExit answer(long value) {
        gprs[RAX] = vcpu.is64Bit() ? value : value & LOW;
        return skip();
    }

    // --- control registers [LINUX handle_cr]

    private KvmExit controlRegister() {
        long qualification = vmcs.read(EXIT_QUALIFICATION);
        int register = ExitQualification.controlRegister(qualification);
        int gpr = ExitQualification.generalRegister(qualification);
        return switch (ExitQualification.controlRegisterAccess(qualification)) {
            case ExitQualification.CR_MOV_TO -> moveToControlRegister(register, vcpu.is64Bit() ? gprs[gpr] : gprs[gpr] & LOW);
            case ExitQualification.CR_MOV_FROM -> {
                gprs[gpr] = register == 8 ? vcpu.apic.tpr() >> 4 : vcpu.cr.cr3();
                if (gpr == VmxVcpu.RSP) {
                    vmcs.write(GUEST_RSP, gprs[gpr]);
                }
                yield skip();
            }
            case ExitQualification.CR_CLTS -> finish(vcpu.cr.writeCr0(vcpu.cr.cr0() & ~Cr0.TS));
            // LMSW loads bits 3:0 but cannot clear PE. [SDM Vol. 2 LMSW]
            default -> finish(vcpu.cr.writeCr0((vcpu.cr.cr0() & ~0xeL) | (ExitQualification.lmswSource(qualification) & 0xf)));
        };
    }

    private KvmExit moveToControlRegister(int register, long value) {
        return finish(vcpu.writeControl(register, value));
    }

    private KvmExit finish(boolean allowed) {
        if (!allowed) {
            vcpu.queueGp();
            return null;
        }
        return skip();
    }

    // --- memory

    private KvmExit eptViolation() {
        long qualification = vmcs.read(EXIT_QUALIFICATION);
        long gpa = vmcs.read(GUEST_PHYSICAL_ADDRESS);
        if ((qualification & ExitQualification.EPT_NMI_UNBLOCKING) != 0) {
            vcpu.injection.remaskNmis();
        }
        long error = (qualification & ExitQualification.EPT_WRITE) != 0 ? VcpuMmu.ERROR_WRITE
                : (qualification & ExitQualification.EPT_FETCH) != 0 ? VcpuMmu.ERROR_FETCH : 0;
        if ((qualification & ExitQualification.EPT_RIGHTS) != 0) {
            error |= VcpuMmu.ERROR_PRESENT;
        }
        return afterFault(vcpu.mmu.fault(gpa, error), gpa);
    }

    KvmExit emulate(long gpa) {
        if (Interruption.valid(vmcs.readInt(IDT_VECTORING_INFO))) { // [LINUX kvm_check_emulate_during_vectoring]
            return undeliverable("MMIO at 0x" + Long.toHexString(gpa), gpa);
        }
        return afterEmulation(emulator.emulate(Scope.UPSTREAM));
    }

    private KvmExit afterEmulation(KvmExit exit) {
        if (exit != null && emulator.isPending()) {
            pending = EMULATION;
        }
        return exit;
    }

    private KvmExit eptMisconfiguration() {
        long gpa = vmcs.read(GUEST_PHYSICAL_ADDRESS);
        return afterFault(vcpu.mmu.misconfiguration(gpa), gpa);
    }

    KvmExit afterFault(FaultResult result, long gpa) {
        return switch (result) {
            case FIXED, SPURIOUS -> null;
            case RETRY -> {
                vcpu.host.scheduler().switchPoint(SwitchPoint.YIELD); // the guest will be here again before it has executed anything
                yield null;
            }
            case EMULATE, WRITE_PROTECTED -> emulate(gpa);
            case MEMORY_FAULT, FAULT, INVALID_SLOT, REFLECT -> new KvmExit.MemoryFault(
                    vcpu.mmu.lastFaultWasPrivate() ? KvmAbi.MEMORY_EXIT_FLAG_PRIVATE : 0, gpa & -PAGE, PAGE);
            case NO_MEMORY -> throw new KvmException(Errno.ENOMEM, "no free platform memory; give the platform more");
            case BUGGED -> throw new KvmException(Errno.EIO, "the VM is dead");
        };
    }

    // --- port I/O

    private KvmExit ioInstruction() {
        long qualification = vmcs.read(EXIT_QUALIFICATION);
        int size = ExitQualification.ioSize(qualification);
        int port = ExitQualification.ioPort(qualification);
        boolean in = (qualification & ExitQualification.IO_IN) != 0;
        if ((qualification & ExitQualification.IO_STRING) != 0) {
            return afterEmulation(emulator.emulate(Scope.UPSTREAM));
        }
        portRip = linearRip();
        if (in) {
            pending = new PendingVmxExit.PortRead(size);
        } else {
            vcpu.run.item(0, size, gprs[RAX]);
            pending = PORT_WRITE;
        }
        return new KvmExit.Io(!in, size, port, 1);
    }

    /// [LINUX kvm_get_linear_rip]
    private long linearRip() {
        long rip = vmcs.read(GUEST_RIP);
        return vcpu.is64Bit() ? rip : (vmcs.read(GUEST_CS_BASE) + rip) & LOW;
    }

    @Override public String stateName() {
        return "exits";
    }

    @Override public void describe(StateSink to) {
        to.text("pending", pending);
        to.field("portRip", portRip);
        to.part(emulator);
    }
}
