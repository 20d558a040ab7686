package cloister.kvm.vmx;

import static cloister.spec.vmx.VmcsField.*;

import cloister.kvm.KvmExit;
import cloister.kvm.emulate.InstructionEmulator;
import cloister.sim.SwitchPoint;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Rflags;

/// A guest whose state a processor without "unrestricted guest" does not take: in real-address mode, or on the way out of it with
/// segment registers of both worlds. Its instructions are emulated until the state is good. [LINUX handle_invalid_guest_state,
/// __vmx_guest_state_valid]
///
/// DEVIATION: Linux runs real-address mode as virtual-8086 mode as long as all segments are what they are there; here it is emulated.
final class InvalidGuestState {
    /// Instructions between two looks at everything else. [LINUX handle_invalid_guest_state]
    private static final int INSTRUCTIONS = 130;
    private static final int CS = 1;
    private static final int SS = 2;
    private static final int LDTR = 6;
    private static final int TR = 7;
    private static final int RPL = 3;
    private static final int TABLE_INDICATOR = 4;
    private static final int TYPE = 0xf;
    private static final int SYSTEM = 1 << 4;
    private static final int PRESENT = 1 << 7;
    private static final int UNUSABLE = 1 << 16;
    private static final int VIRTUAL_8086_RIGHTS = 0xf3;

    private final VmxVcpu vcpu;
    private final LoadedVmcs vmcs;
    private final InstructionEmulator emulator;
    /// The state may have become one that the processor does not take, or has not stopped being one.
    private boolean suspect = true;

    InvalidGuestState(VmxVcpu vcpu, InstructionEmulator emulator) {
        this.vcpu = vcpu;
        this.vmcs = vcpu.vmcs;
        this.emulator = emulator;
    }

    /// KVM has changed segment registers, CR0 or RFLAGS.
    void suspect() {
        suspect = true;
    }

    /// Whether the guest must be emulated. [LINUX vmx_emulation_required]
    boolean required() {
        if (vcpu.ept || !suspect) {
            return false;
        }
        suspect = !valid();
        return suspect;
    }

    /// Delivers what the injection has put into the VMCS, then executes instructions.
    ///
    /// @return an exit to the VMM, or null
    KvmExit run() {
        var exit = deliver();
        for (int n = 0; exit == null && n < INSTRUCTIONS && required() && !somethingElseToDo(); n++) {
            exit = emulator.emulate(InstructionEmulator.Scope.ALL);
            vcpu.host.clock().advance(1);
            takeTrap();
        }
        vcpu.host.scheduler().switchPoint(SwitchPoint.GUEST_SLICE, vcpu, vcpu.cpu().index());
        return exit;
    }

    private boolean somethingElseToDo() {
        return vcpu.events.exceptionPending || vcpu.isHalted() || (vcpu.hasInterrupt() && vcpu.interruptAllowed())
                || (vcpu.events.nmiPending > 0 && vcpu.nmiAllowed());
    }

    /// The trap of single-stepping, which an entry would deliver.
    private void takeTrap() {
        long pending = vmcs.read(GUEST_PENDING_DEBUG_EXCEPTIONS);
        if (pending != 0) {
            vmcs.write(GUEST_PENDING_DEBUG_EXCEPTIONS, 0);
            vcpu.queueDebug(pending);
        }
    }

    private KvmExit deliver() {
        int info = vmcs.readInt(ENTRY_INTERRUPTION_INFO);
        if (!Interruption.valid(info)) {
            return null;
        }
        vmcs.write(ENTRY_INTERRUPTION_INFO, info & ~Interruption.VALID);
        int type = Interruption.type(info);
        boolean software = type >= Interruption.SOFTWARE_INTERRUPT;
        boolean hasErrorCode = (info & Interruption.DELIVER_ERROR_CODE) != 0;
        var exit = emulator.deliver(type, Interruption.vector(info), hasErrorCode,
                hasErrorCode ? vmcs.readInt(ENTRY_EXCEPTION_ERROR_CODE) : 0, software ? vmcs.readInt(ENTRY_INSTRUCTION_LENGTH) : 0);
        vcpu.events.clearInjected();
        if (type == Interruption.NMI) {
            vmcs.write(GUEST_INTERRUPTIBILITY_STATE, vmcs.read(GUEST_INTERRUPTIBILITY_STATE) | GuestActivity.BLOCKING_BY_NMI);
        }
        return exit;
    }

    // --- which states the processor takes

    private boolean valid() {
        if ((vcpu.cr.cr0() & Cr0.PE) == 0) {
            return false;
        }
        if ((vmcs.read(GUEST_RFLAGS) & Rflags.VM) != 0) {
            return virtual8086();
        }
        return (selector(CS) & RPL) == (selector(SS) & RPL) && code() && stack() && data() && tables();
    }

    private boolean virtual8086() {
        for (int i = 0; i < LDTR; i++) {
            if (vmcs.read(VmcsField.ofSegment(GUEST_ES_BASE, i)) != (long) selector(i) << 4
                    || vmcs.readInt(VmcsField.ofSegment(GUEST_ES_LIMIT, i)) != 0xffff || rights(i) != VIRTUAL_8086_RIGHTS) {
                return false;
            }
        }
        return true;
    }

    /// Accessed code, whose DPL is CPL, or at most CPL when it is conforming.
    private boolean code() {
        int rights = rights(CS);
        int rpl = selector(CS) & RPL;
        boolean conforming = (rights & 4) != 0;
        return usable(CS) && (rights & 9) == 9 && (conforming ? dpl(rights) <= rpl : dpl(rights) == rpl);
    }

    /// Accessed writable data, whose DPL is its RPL.
    private boolean stack() {
        int rights = rights(SS);
        return (rights & UNUSABLE) != 0 || (usable(SS) && (rights & 0xb) == 3 && dpl(rights) == (selector(SS) & RPL));
    }

    private boolean data() {
        for (int i : new int[] {0, 3, 4, 5}) {
            int rights = rights(i);
            boolean conforming = (rights & 0xc) == 0xc;
            if ((rights & UNUSABLE) == 0 && !(usable(i) && (rights & 1) != 0 && (rights & 0xa) != 8
                    && (conforming || dpl(rights) >= (selector(i) & RPL)))) {
                return false;
            }
        }
        return true;
    }

    private boolean tables() {
        int tr = rights(TR);
        int ldtr = rights(LDTR);
        boolean task = (tr & UNUSABLE) == 0 && (selector(TR) & TABLE_INDICATOR) == 0 && (tr & PRESENT) != 0
                && ((tr & TYPE) == 3 || (tr & TYPE) == 11);
        boolean local = (ldtr & UNUSABLE) != 0
                || ((selector(LDTR) & TABLE_INDICATOR) == 0 && (ldtr & TYPE) == 2 && (ldtr & PRESENT) != 0);
        return task && local;
    }

    private boolean usable(int segment) {
        return (rights(segment) & (UNUSABLE | SYSTEM | PRESENT)) == (SYSTEM | PRESENT);
    }

    private static int dpl(int rights) {
        return (rights >> 5) & 3;
    }

    private int selector(int segment) {
        return vmcs.readInt(VmcsField.ofSegment(GUEST_ES_SELECTOR, segment));
    }

    private int rights(int segment) {
        return vmcs.readInt(VmcsField.ofSegment(GUEST_ES_ACCESS_RIGHTS, segment));
    }
}
