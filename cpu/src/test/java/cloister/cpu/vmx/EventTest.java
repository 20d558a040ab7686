package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Op;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.PostedInterrupts;
import cloister.spec.x86.ExceptionVector;
import org.junit.jupiter.api.Test;

class EventTest {
    private enum Kind { ONLY }

    private static final long IF = 1 << 9;

    private static VmxGuest spins() {
        var guest = new VmxGuest().code(a -> a.db(0xeb, 0xfe));
        guest.vmcs.write(GUEST_RFLAGS, 2 | IF);
        return guest;
    }

    private static VmxGuest virtualApic(VmxGuest guest) {
        guest.set(PROC_BASED_CONTROLS, Controls.PROC_TPR_SHADOW).set(PIN_BASED_CONTROLS, Controls.PIN_POSTED_INTERRUPTS);
        return guest.set(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_VIRTUAL_INTERRUPT_DELIVERY
                | Controls.PROC2_VIRTUALIZE_X2APIC_MODE | Controls.PROC2_APIC_REGISTER_VIRTUALIZATION);
    }

    private static void inject(VmxGuest guest, int type, int vector, boolean code) {
        guest.vmcs.write(ENTRY_INTERRUPTION_INFO, vector | (type << 8) | (code ? Interruption.DELIVER_ERROR_CODE : 0)
                | Interruption.VALID);
    }

    @Test void injectsInterruptExceptionAndNmi() {
        var guest = spins();
        inject(guest, Interruption.EXTERNAL, 0x41, false);
        guest.run();
        assertThat(guest.inHandler(0x41)).isTrue();
        assertThat(guest.read(ENTRY_INTERRUPTION_INFO) >>> 31).isZero();

        guest = spins();
        inject(guest, Interruption.HARDWARE_EXCEPTION, ExceptionVector.GP, true);
        guest.vmcs.write(ENTRY_EXCEPTION_ERROR_CODE, 0x18);
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.GP)).isTrue();
        assertThat(guest.read(guest.read(GUEST_RSP), 8)).isEqualTo(0x18);

        guest = spins();
        inject(guest, Interruption.NMI, 2, false);
        guest.run();
        assertThat(guest.inHandler(2)).isTrue();
    }

    @Test void faultOfADeliveryAsksTheBitmapBeforeItDoubles() {
        var guest = spins().set(EXCEPTION_BITMAP, 1 << ExceptionVector.PF);
        guest.vmcs.write(GUEST_IDTR_BASE, 0x7fff_0000_0000L); // not mapped by the guest's tables
        inject(guest, Interruption.HARDWARE_EXCEPTION, ExceptionVector.PF, true);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(Interruption.vector((int) guest.read(EXIT_INTERRUPTION_INFO))).isEqualTo(ExceptionVector.PF);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(0x7fff_0000_0000L + (16 * ExceptionVector.PF));
        int vectoring = (int) guest.read(IDT_VECTORING_INFO);
        assertThat(Interruption.valid(vectoring)).isTrue();
        assertThat(Interruption.vector(vectoring)).isEqualTo(ExceptionVector.PF);
        guest = spins();
        guest.vmcs.write(GUEST_IDTR_BASE, 0x7fff_0000_0000L);
        inject(guest, Interruption.HARDWARE_EXCEPTION, ExceptionVector.PF, true);
        assertThat(guest.run()).as("not intercepted, they make a triple fault").isEqualTo(ExitReason.TRIPLE_FAULT);
    }

    @Test void injectedSoftwareInterruptReturnsAfterTheInstruction() {
        var guest = spins();
        inject(guest, Interruption.SOFTWARE_INTERRUPT, 0x80, false);
        guest.vmcs.write(ENTRY_INSTRUCTION_LENGTH, 2);
        guest.run();
        assertThat(guest.inHandler(0x80)).isTrue();
        assertThat(guest.read(guest.read(GUEST_RSP), 8)).isEqualTo(VmxGuest.CODE + 2);
    }

    @Test void injectedNmiBlocksVirtualNmis() {
        var guest = spins().set(PIN_BASED_CONTROLS, Controls.PIN_VIRTUAL_NMIS).set(PROC_BASED_CONTROLS, Controls.PROC_NMI_WINDOW);
        inject(guest, Interruption.NMI, 2, false);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.read(GUEST_INTERRUPTIBILITY_STATE)).isEqualTo(GuestActivity.BLOCKING_BY_NMI);
        // IRET opens the window.
        guest.write(VmxGuest.HANDLERS + 32, 2, 0xcf48);
        guest.vmcs.write(GUEST_ACTIVITY_STATE, 0);
        assertThat(guest.run()).isEqualTo(ExitReason.NMI_WINDOW);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE);
    }

    @Test void externalInterruptExitsWithItsVector() {
        var guest = spins();
        guest.vmcs.write(GUEST_RFLAGS, 2); // IF does not matter
        guest.lp.sendInterrupt(0x55);
        assertThat(guest.run()).isEqualTo(ExitReason.EXTERNAL_INTERRUPT);
        assertThat((int) guest.read(EXIT_INTERRUPTION_INFO)).isEqualTo(0x8000_0055);
        assertThat(guest.lp.interruptPending()).isFalse();
    }

    @Test void nmiExits() {
        var guest = spins();
        guest.lp.sendNmi();
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat((int) guest.read(EXIT_INTERRUPTION_INFO)).isEqualTo(0x8000_0202);
    }

    @Test void interruptWindowOpensAfterTheStiShadow() {
        var guest = new VmxGuest().set(PROC_BASED_CONTROLS, Controls.PROC_INTERRUPT_WINDOW)
                .code(a -> a.op(Op.STI).op(Op.NOP).op(Op.NOP).hlt());
        assertThat(guest.run()).isEqualTo(ExitReason.INTERRUPT_WINDOW);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE + 2);
    }

    @Test void timerInterruptsTheGuest() {
        var guest = spins();
        guest.scheduler.clock().schedule(50_000, _ -> guest.lp.sendInterrupt(0x30), Kind.ONLY);
        assertThat(guest.run()).isEqualTo(ExitReason.EXTERNAL_INTERRUPT);
        assertThat(guest.lp.rdtsc()).isBetween(50_000L, 51_000L);
    }

    @Test void virtualInterruptIsDeliveredWhenPriorityAllows() {
        var guest = virtualApic(spins());
        guest.vmcs.write(GUEST_INTERRUPT_STATUS, 0x51);
        guest.memory.write(VmxGuest.VAPIC_PA + 0x200 + 0x20, 4, 1 << 0x11);
        guest.run();
        assertThat(guest.inHandler(0x51)).isTrue();
        assertThat(guest.read(GUEST_INTERRUPT_STATUS)).isEqualTo(0x5100);
        assertThat(guest.memory.read(VmxGuest.VAPIC_PA + 0xa0, 4)).isEqualTo(0x50);
        assertThat(guest.memory.read(VmxGuest.VAPIC_PA + 0x100 + 0x20, 4)).isEqualTo(1 << 0x11);
        assertThat(guest.memory.read(VmxGuest.VAPIC_PA + 0x200 + 0x20, 4)).isZero();
    }

    @Test void postedInterruptReachesARunningGuestWithoutExit() {
        var guest = virtualApic(spins());
        guest.scheduler.clock().schedule(10_000, _ -> {
            guest.memory.write(VmxGuest.POSTED_PA + 4, 4, 1 << 3); // vector 0x23
            guest.memory.write(VmxGuest.POSTED_PA + PostedInterrupts.CONTROL, 8, PostedInterrupts.OUTSTANDING);
            guest.lp.sendInterrupt(VmxGuest.NOTIFICATION);
        }, Kind.ONLY);
        guest.run();
        assertThat(guest.inHandler(0x23)).isTrue();
        assertThat(guest.memory.read(VmxGuest.POSTED_PA + 4, 4)).isZero();
        assertThat(guest.memory.read(VmxGuest.POSTED_PA + PostedInterrupts.CONTROL, 8)).isZero();
    }

    @Test void postedInterruptWakesAHaltedGuest() {
        var guest = virtualApic(spins()).clear(PROC_BASED_CONTROLS, Controls.PROC_HLT_EXITING).code(a -> a.op(Op.STI).hlt());
        guest.write(VmxGuest.HANDLERS + 0x23 * 16, 4, 0xc1010f); // VMCALL in the handler
        guest.scheduler.clock().schedule(1_000_000, _ -> {
            guest.memory.write(VmxGuest.POSTED_PA + 4, 4, 1 << 3);
            guest.lp.sendInterrupt(VmxGuest.NOTIFICATION);
        }, Kind.ONLY);
        assertThat(guest.run()).isEqualTo(ExitReason.VMCALL);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.HANDLERS + 0x23 * 16);
        assertThat(guest.lp.rdtsc()).isGreaterThanOrEqualTo(1_000_000);
    }

    @Test void eoiThroughX2apicEndsServiceAndExitsByBitmap() {
        var guest = virtualApic(spins()).code(a -> a.mov(ECX, imm(0x80b)).op(Op.XOR, EAX, EAX).op(Op.XOR, EDX, EDX)
                .op(Op.WRMSR).hlt());
        guest.vmcs.write(GUEST_INTERRUPT_STATUS, 0x5100);
        guest.memory.write(VmxGuest.VAPIC_PA + 0x100 + 0x20, 4, 1 << 0x11);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.read(GUEST_INTERRUPT_STATUS)).isZero();

        guest.vmcs.write(GUEST_INTERRUPT_STATUS, 0x5100);
        guest.vmcs.write(GUEST_RIP, VmxGuest.CODE);
        guest.vmcs.write(EOI_EXIT_BITMAP_1, 1L << 0x11);
        assertThat(guest.run()).isEqualTo(ExitReason.VIRTUALIZED_EOI);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(0x51);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE + 11);
    }

    @Test void tprShadowAndThreshold() {
        // MOV CR8, RAX
        var guest = new VmxGuest().set(PROC_BASED_CONTROLS, Controls.PROC_TPR_SHADOW).code(a -> a.db(0x44, 0x0f, 0x22, 0xc0).hlt());
        guest.lp.gprs()[0] = 3;
        guest.vmcs.write(TPR_THRESHOLD, 4);
        guest.memory.write(VmxGuest.VAPIC_PA + 0x80, 4, 0x50);
        assertThat(guest.run()).isEqualTo(ExitReason.TPR_BELOW_THRESHOLD);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE + 4);
        assertThat(guest.memory.read(VmxGuest.VAPIC_PA + 0x80, 4)).isEqualTo(0x30);
    }

    @Test void apicAccessPageIsVirtualised() {
        var guest = virtualApic(spins()).clear(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_VIRTUALIZE_X2APIC_MODE)
                .set(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_VIRTUALIZE_APIC_ACCESSES)
                .code(a -> a.mov(EAX, mem(RBX, 0x20)).mov(mem(RBX, 0xf0), EAX).mov(EAX, mem(RBX, 0x3f0)));
        guest.vmcs.write(APIC_ACCESS_ADDRESS, VmxGuest.FRAMES + VmxGuest.DATA);
        guest.lp.gprs()[3] = VmxGuest.DATA;
        guest.memory.write(VmxGuest.VAPIC_PA + 0x20, 4, 0x0300_0000);
        assertThat(guest.run()).isEqualTo(ExitReason.APIC_WRITE);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(0xf0);
        assertThat(guest.memory.read(VmxGuest.VAPIC_PA + 0xf0, 4)).isEqualTo(0x0300_0000);
        assertThat(guest.run()).isEqualTo(ExitReason.APIC_ACCESS);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(0x3f0);
    }
}
