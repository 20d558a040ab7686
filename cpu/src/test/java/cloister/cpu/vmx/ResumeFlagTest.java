package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Op;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.api.Test;

/// RFLAGS.RF in the guest state that VM exits save. [SDM Vol. 3 "Saving RIP, RSP, RFLAGS, and SSP"]
class ResumeFlagTest {
    private static boolean saved(VmxGuest guest) {
        return (guest.read(GUEST_RFLAGS) & Rflags.RF) != 0;
    }

    @Test void setByEptViolations() {
        var guest = new VmxGuest().code(a -> a.mov(EAX, abs((int) VmxGuest.UNMAPPED)));
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat(saved(guest)).isTrue();
    }

    @Test void clearForInstructionsEvenIfTheyBeganWithItSet() {
        var guest = new VmxGuest().code(a -> a.cpuid());
        guest.vmcs.write(GUEST_RFLAGS, 2 | Rflags.RF);
        assertThat(guest.run()).isEqualTo(ExitReason.CPUID);
        assertThat(saved(guest)).isFalse();
    }

    @Test void setByFaultsAndNotByTraps() {
        var guest = new VmxGuest().code(a -> a.op(Op.UD2)).set(EXCEPTION_BITMAP, 1 << ExceptionVector.UD);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(saved(guest)).isTrue();
        guest = new VmxGuest().code(a -> a.op(Op.INT3)).set(EXCEPTION_BITMAP, 1 << ExceptionVector.BP);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(saved(guest)).isFalse();
    }

    /// The event in delivery decides.
    @Test void eptViolationDuringDelivery() {
        for (int type : new int[] {Interruption.EXTERNAL, Interruption.HARDWARE_EXCEPTION}) {
            var guest = new VmxGuest().code(a -> a.nop());
            guest.vmcs.write(GUEST_RFLAGS, 2 | Rflags.IF);
            guest.vmcs.write(GUEST_RSP, VmxGuest.UNMAPPED + 0x800);
            guest.vmcs.write(ENTRY_INTERRUPTION_INFO, Interruption.VALID | (type << 8)
                    | (type == Interruption.EXTERNAL ? 0x41 : ExceptionVector.UD));
            assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
            assertThat(guest.read(IDT_VECTORING_INFO)).isNotZero();
            assertThat(saved(guest)).isEqualTo(type == Interruption.HARDWARE_EXCEPTION);
        }
    }
}
