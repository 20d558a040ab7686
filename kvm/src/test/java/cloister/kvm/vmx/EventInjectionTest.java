package cloister.kvm.vmx;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.KvmExit;
import cloister.kvm.ProtectedGuest;
import cloister.spec.vmx.GuestActivity;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ApicRegister;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// Events on their way into an ordinary VM's guest. [LINUX kvm_check_and_inject_events, __vmx_complete_interrupts]
final class EventInjectionTest {
    private static final int RF = 1;
    private static final int UNKNOWN_MSR = 0x1234;

    private enum Alarm { KICK }

    private final ProtectedGuest guest = new ProtectedGuest();
    private final VmxVcpu vcpu = (VmxVcpu) guest.vcpu;

    @AfterEach void release() {
        guest.close();
    }

    private void load(Assembler a) {
        guest.load(ProtectedGuest.CODE, a.assemble());
    }

    private static Assembler code() {
        return ProtectedGuest.code();
    }

    /// A handler that ends the guest.
    private void lastHandler(int vector) {
        guest.handler(vector, ProtectedGuest.end(ProtectedGuest.reporting(vector)));
    }

    private long exits(String reason) {
        return guest.vm.stats().exits().getOrDefault(reason, 0L);
    }

    /// Does something with the vCPU's VMCS, as an ioctl would.
    private void loaded(Runnable body) {
        vcpu.cpus.load(vcpu);
        body.run();
        vcpu.cpus.put();
        vcpu.cpus.returnToUser();
    }

    private void enableApic() {
        byte[] registers = vcpu.getLapic();
        registers[ApicRegister.SPIV + 1] |= 1;
        vcpu.setLapic(registers);
    }

    // --- delivery that an EPT violation breaks off: nothing has touched the stack before

    @Test void aBrokenOffExceptionIsDeliveredOnceMoreWithItsErrorCode() {
        lastHandler(ExceptionVector.GP);
        load(ProtectedGuest.end(code().mov(ECX, UNKNOWN_MSR).rdmsr()));
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.GP, 5, RF);
        assertThat(exits("RDMSR")).isEqualTo(1);
    }

    @Test void aBrokenOffSoftwareInterruptReturnsBehindItsInstruction() {
        load(ProtectedGuest.end(code().int_(0x40)));
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(0x40, 2, 0);
    }

    @Test void aBrokenOffBreakpointReturnsBehindItsInstruction() {
        load(ProtectedGuest.end(code().int3()));
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.BP, 1, 0);
    }

    @Test void aBrokenOffNmiIsDeliveredOnceMore() {
        load(ProtectedGuest.end(code()));
        vcpu.nmi();
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.NMI, 0, 0);
    }

    @Test void aBrokenOffInterruptIsDeliveredOnceMore() {
        load(ProtectedGuest.end(code().sti().nop()));
        enableApic();
        guest.vm.signalMsi(0xfee0_0000L, 0x51);
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(0x51, 2, 0);
    }

    @Test void postedInterruptsAreInTheRegistersThatTheVmmGets() {
        enableApic();
        guest.vm.signalMsi(0xfee0_0000L, 0x51);
        assertThat(vcpu.pi.hasPending()).isTrue();
        byte[] registers = vcpu.getLapic();
        assertThat(registers[ApicRegister.IRR + (0x10 * (0x51 / 32)) + ((0x51 % 32) / 8)]).isEqualTo((byte) (1 << (0x51 % 8)));
    }

    // --- what waits for its delivery

    @Test void registersThatTheVmmSetsLeaveABrokenOffEventAlone() {
        lastHandler(ExceptionVector.UD);
        load(ProtectedGuest.end(code()));
        vcpu.events.requeueException(ExceptionVector.UD, false, 0);
        vcpu.setRegs(vcpu.getRegs());
        assertThat(guest.play()).isNull();
        assertThat(guest.written).startsWith(ExceptionVector.UD);
    }

    @Test void registersThatTheVmmSetsTakeAnExceptionBackThatNoEntryTookAlong() {
        load(ProtectedGuest.end(code()));
        vcpu.queueUd();
        vcpu.setRegs(vcpu.getRegs());
        assertThat(guest.play()).isNull();
        assertThat(guest.written).isEmpty();
    }

    @Test void anExceptionGoesBeforeAnNmiWhichInterruptsItsHandlerAtOnce() {
        load(ProtectedGuest.end(code()));
        guest.handler(ExceptionVector.UD, ProtectedGuest.end(ProtectedGuest.reporting(ExceptionVector.UD)));
        vcpu.nmi();
        vcpu.queueUd();
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.NMI, ProtectedGuest.handler(ExceptionVector.UD) & 0xff, 0,
                ExceptionVector.UD, 0, RF);
        assertThat(exits("PREEMPTION_TIMER")).isEqualTo(1);
    }

    @Test void anExceptionDuringTheDeliveryOfAnInterruptTakesItsPlace() {
        load(ProtectedGuest.end(code()));
        lastHandler(ExceptionVector.UD);
        vcpu.events.queueInterrupt(0x51, false);
        vcpu.queueUd();
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.UD, 0, RF);
    }

    /// A fault resumes its instruction without the breakpoint that is set there; a trap does not.
    @Test void kvmSetsTheResumeFlagForFaults() {
        loaded(() -> {
            vcpu.queueUd();
            vcpu.injection.inject(true);
            assertThat(vcpu.vmcs.read(VmcsField.GUEST_RFLAGS) & Rflags.RF).isNotZero();
            vcpu.vmcs.write(VmcsField.GUEST_RFLAGS, 2);
            vcpu.events.clearInjected();
            vcpu.queueException(ExceptionVector.DB, 0);
            vcpu.injection.inject(true);
            assertThat(vcpu.vmcs.read(VmcsField.GUEST_RFLAGS) & Rflags.RF).isZero();
        });
    }

    // --- double and triple faults

    @Test void aContributoryFaultDuringThatOfAPageFaultIsADoubleFault() {
        load(ProtectedGuest.end(code()));
        lastHandler(ExceptionVector.DF);
        vcpu.events.requeueException(ExceptionVector.PF, true, 2);
        vcpu.queueGp();
        assertThat(guest.play()).isNull();
        assertThat(guest.written).startsWith(ExceptionVector.DF, 0);
    }

    @Test void aFaultDuringThatOfADoubleFaultShutsTheGuestDown() {
        load(ProtectedGuest.end(code()));
        vcpu.events.requeueException(ExceptionVector.DF, true, 0);
        vcpu.queueUd();
        assertThat(guest.play()).isEqualTo(new KvmExit.Shutdown());
        assertThat(guest.written).isEmpty();
    }

    @Test void aPageFaultSetsCr2WhenItIsTakenAlong() {
        load(ProtectedGuest.end(code()));
        lastHandler(ExceptionVector.PF);
        vcpu.queuePageFault(0, 0x7777_0000L);
        assertThat(vcpu.getSregs().cr2).isZero();
        assertThat(guest.play()).isNull();
        assertThat(vcpu.getSregs().cr2).isEqualTo(0x7777_0000L);
    }

    // --- NMIs

    @Test void anNmiWaitsBehindSti() {
        load(ProtectedGuest.end(code().nop().nop()));
        loaded(() -> {
            vcpu.vmcs.write(VmcsField.GUEST_RFLAGS, 2 | Rflags.IF);
            vcpu.vmcs.write(VmcsField.GUEST_INTERRUPTIBILITY_STATE, GuestActivity.BLOCKING_BY_STI);
        });
        vcpu.nmi();
        assertThat(guest.play()).isNull();
        assertThat(guest.written).containsExactly(ExceptionVector.NMI, 1, 0);
        assertThat(exits("INTERRUPT_WINDOW")).as("an NMI window may open too early").isEqualTo(1);
        assertThat(exits("NMI_WINDOW")).isZero();
    }

    @Test void oneNmiWaitsWhileAnotherIsHandled() {
        load(ProtectedGuest.end(code()));
        var nmis = new ArrayList<Integer>();
        guest.host.scheduler().spawn("vcpu", () -> {
            vcpu.nmi();
            while (vcpu.run() instanceof KvmExit.Io && (vcpu.kvmRun().data[0] & 0xff) != 0xff) {
                nmis.add(vcpu.kvmRun().data[0] & 0xff);
                if (nmis.size() == 1) {
                    vcpu.nmi();
                    vcpu.nmi();
                }
            }
        });
        guest.host.scheduler().run();
        assertThat(nmis.stream().filter(value -> value == ExceptionVector.NMI)).as("the third was lost").hasSize(2);
    }

    @Test void aHaltedHandlerOfAnNmiSleepsThroughTheNext() {
        load(code().hlt());
        guest.handler(ExceptionVector.NMI, ProtectedGuest.end(
                new Assembler(CodeMode.BITS32, ProtectedGuest.handler(ExceptionVector.NMI)).mov(AL, 1).out(DX, AL).hlt()));
        var exits = new ArrayList<KvmExit>();
        guest.host.scheduler().spawn("vcpu", () -> {
            vcpu.nmi();
            exits.add(vcpu.run());
            vcpu.nmi();
            exits.add(vcpu.run());
        });
        guest.host.scheduler().clock().schedule(10_000_000, kind -> vcpu.kick(), Alarm.KICK);
        guest.host.scheduler().run();
        assertThat(exits).hasSize(2);
        assertThat(exits.get(1)).isEqualTo(new KvmExit.Intr());
    }
}
