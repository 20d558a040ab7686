package cloister.kvm.vmx;

import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.KvmSegment;
import cloister.kvm.ProtectedGuest;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// VMCALL of an ordinary VM's guest. [LINUX Documentation/virt/kvm/x86/hypercalls.rst]
final class HypercallTest {
    private static final int USER = 3;

    /// The result is 32 bits wide outside 64-bit code; only the kernel may call.
    @ParameterizedTest
    @CsvSource({"1, 0, 0", "2, 0, fffffc18", "1234, 0, fffffc18",
            "5, 0, 0", "9, 0, ffffffa1", "10, 0, 0", "11, 0, 0", "12, 0, fffffc18", "1, 3, ffffffff", "2, 3, ffffffff"})
    void hypercallsReturnWhatLinuxReturns(int number, int cpl, String expected) {
        try (var guest = new ProtectedGuest()) {
            guest.load(ProtectedGuest.CODE, ProtectedGuest.end(ProtectedGuest.code().mov(EAX, number).vmcall().mov(EBX, EAX)).assemble());
            if (cpl == USER) {
                var sregs = guest.vcpu.getSregs();
                sregs.cs = user(0x1b, 0xb);
                sregs.ss = user(0x23, 3);
                guest.vcpu.setSregs(sregs);
                var regs = guest.vcpu.getRegs();
                regs.rflags |= Rflags.IOPL;
                guest.vcpu.setRegs(regs);
            }
            assertThat(guest.play()).isNull();
            assertThat(Long.toHexString(guest.vcpu.getRegs().rbx)).isEqualTo(expected);
        }
    }

    private static KvmSegment user(int selector, int type) {
        return new KvmSegment(0, -1, selector, type, true, USER, true, true, false, true, false, false);
    }
}
