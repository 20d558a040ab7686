package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Op;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.KvmCap;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// IA32_TSX_CTRL and IA32_UMWAIT_CONTROL of ordinary guests, and the instructions behind them. [LINUX vmx_set_msr]
final class FeatureMsrsTest {
    private static final int RTM_AND_HLE = (1 << 11) | (1 << 4);
    private static final int WAITPKG = 1 << 5;

    private static void cpuid(ProtectedGuest guest, int clearEbx, int clearEcx, int clearEdx) {
        var entries = new ArrayList<>(guest.vcpu.getCpuid2());
        entries.replaceAll(e -> e.function() != 7 || e.index() != 0 ? e
                : CpuidEntry.subLeaf(7, 0, e.eax(), e.ebx() & ~clearEbx, e.ecx() & ~clearEcx, e.edx() & ~clearEdx));
        guest.vcpu.setCpuid2(entries);
    }

    /// Bits that may be 1 are accepted, any other is refused; a guest whose CPUID lacks the feature has no such MSR.
    @ParameterizedTest @CsvSource({"122, 3, 1", "122, 4, 0", "122, 100000000, 0", "e1, fffffffd, 1", "e1, 2, 0", "e1, 100000000, 0"})
    void onlyTheBitsThatExist(String msr, String value, int accepted) {
        try (var guest = new ProtectedGuest()) {
            int index = Integer.parseInt(msr, 16);
            assertThat(guest.vcpu.setMsrs(List.of(new MsrEntry(index, Long.parseLong(value, 16))))).isEqualTo(accepted);
            if (accepted == 1) {
                assertThat(guest.vcpu.getMsrs(index)).containsExactly(new MsrEntry(index, Long.parseLong(value, 16)));
            }
        }
    }

    @Test void withoutTheFeatureThereIsNoMsr() {
        try (var guest = new ProtectedGuest()) {
            cpuid(guest, 0, WAITPKG, 1 << 29);
            assertThat(guest.vcpu.getMsrs(Msr.IA32_UMWAIT_CONTROL)).isEmpty();
            assertThat(guest.vcpu.getMsrs(Msr.IA32_TSX_CTRL)).isEmpty();
        }
    }

    /// Each transaction aborts at once; the guest hides TSX from itself, and the host's CPUID stays what it is.
    @Test void transactionsAbortAndCanBeHidden() {
        try (var guest = new ProtectedGuest()) {
            var a = ProtectedGuest.code();
            a.mov(EAX, -1).db(0xc7, 0xf8, 5, 0, 0, 0).mov(EAX, 1).mov(EDI, EAX); // XBEGIN, over the next instruction
            a.mov(ECX, Msr.IA32_TSX_CTRL).mov(EAX, 3).mov(EDX, 0).wrmsr();
            a.mov(EAX, 7).mov(ECX, 0).cpuid().mov(ESI, EBX).mov(EDX, ProtectedGuest.PORT);
            guest.load(ProtectedGuest.CODE, ProtectedGuest.end(a).assemble());
            assertThat(guest.play()).isNull();
            var regs = guest.vcpu.getRegs();
            assertThat(regs.rdi).as("abort status").isZero();
            assertThat(regs.rsi & RTM_AND_HLE).isZero();
            assertThat(guest.vcpu.getCpuid2()).anyMatch(e -> e.function() == 7 && (e.ebx() & RTM_AND_HLE) == RTM_AND_HLE);
        }
    }

    /// An ordinary guest's MSR that KVM does not know, or a value that it refuses, goes to a VMM that wants it; without an error the
    /// instruction is done. ECX, the reason that the VMM wants, whether it exits, and what the guest has in EAX.
    @ParameterizedTest @CsvSource({"12345, 2, 2, 77", "12345, 1, 0, 0", "122, 1, 1, 4", "122, 2, 0, 0"})
    void refusedMsrsGoToAVmmThatWantsThem(String msr, int wanted, int reason, long eax) {
        try (var guest = new ProtectedGuest()) {
            int index = Integer.parseInt(msr, 16);
            guest.vm.enableCap(KvmCap.X86_USER_SPACE_MSR, wanted);
            var a = ProtectedGuest.code().mov(ECX, index).mov(EAX, 4).mov(EDX, 0).mov(EDI, 0);
            if (index == Msr.IA32_TSX_CTRL) {
                a.wrmsr();
            } else {
                a.rdmsr();
            }
            guest.load(ProtectedGuest.CODE, ProtectedGuest.end(a.mov(EDI, EAX).mov(EDX, ProtectedGuest.PORT)).assemble());
            guest.handler(13, ProtectedGuest.end(new Assembler(CodeMode.BITS32, ProtectedGuest.handler(13)).mov(EDX, ProtectedGuest.PORT)));
            var exits = new ArrayList<KvmExit>();
            guest.host.scheduler().spawn("vcpu", () -> {
                var exit = guest.runOn();
                while (exit != null) {
                    exits.add(exit);
                    guest.vcpu.kvmRun().ret = 77;
                    exit = guest.runOn();
                }
            });
            guest.host.scheduler().run();
            KvmExit expected = index == Msr.IA32_TSX_CTRL ? new KvmExit.Wrmsr(index, 4, reason) : new KvmExit.Rdmsr(index, reason);
            assertThat(exits).isEqualTo(reason == 0 ? List.of() : List.of(expected));
            assertThat(guest.vcpu.getRegs().rdi).isEqualTo(eax);
        }
    }

    /// TPAUSE is an instruction only for guests that have it.
    @ParameterizedTest @CsvSource({"true, 1", "false, 0"})
    void waitingNeedsTheControl(boolean has, int reached) {
        try (var guest = new ProtectedGuest()) {
            cpuid(guest, 0, has ? 0 : WAITPKG, 0);
            var a = ProtectedGuest.code();
            a.mov(EDI, 0).mov(EAX, 0).mov(EDX, 0).mov(ECX, 0).op(Op.TPAUSE, ECX).mov(EDI, 1);
            a.mov(EDX, ProtectedGuest.PORT);
            guest.load(ProtectedGuest.CODE, ProtectedGuest.end(a).assemble());
            guest.handler(6, ProtectedGuest.end(new Assembler(CodeMode.BITS32, ProtectedGuest.handler(6)).mov(EDX, ProtectedGuest.PORT)));
            guest.play();
            assertThat(guest.vcpu.getRegs().rdi).isEqualTo(reached);
        }
    }
}
