package cloister.kvm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Msr;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What KVM says and accepts of control-flow enforcement for ordinary VMs. [LINUX __kvm_set_msr, __do_cpuid_func,
/// kvm_setup_xss_caps]
class ControlFlowUapiTest {
    private static final int SHSTK = 1 << 7;
    private static final int IBT = 1 << 20;
    private final TestHost host = new TestHost(1);
    private final Kvm kvm = DevKvm.open(host.environment());

    private CpuidEntry entry(int leaf, int index) {
        return kvm.supportedCpuid().stream().filter(e -> e.function() == leaf && e.index() == index).findAny().orElseThrow();
    }

    @Test void supportedCpuidHasTheFeaturesAndTheirState() {
        assertThat(entry(7, 0).ecx() & SHSTK).isNotZero();
        assertThat(entry(7, 0).edx() & IBT).isNotZero();
        assertThat(entry(0xd, 1).ecx()).as("IA32_XSS").isEqualTo(0x1800);
        assertThat(entry(0xd, 1).ebx()).as("all components, compacted").isEqualTo(576 + 8 + 16 + 24);
        assertThat(List.of(entry(0xd, 11).eax(), entry(0xd, 11).ecx(), entry(0xd, 12).eax(), entry(0xd, 12).ecx()))
                .containsExactly(16, 1, 24, 1);
        assertThat(entry(1, 0).ecx() & (1 << 6)).as("SMX").isZero();
    }

    private KvmVcpu vcpu(boolean shadowStacks, boolean tracking) {
        var vcpu = kvm.createVm(VmType.DEFAULT).createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid().stream().map(e -> e.function() == 7 && e.index() == 0
                ? CpuidEntry.subLeaf(7, 0, e.eax(), e.ebx(), shadowStacks ? e.ecx() : e.ecx() & ~SHSTK, tracking ? e.edx() : e.edx() & ~IBT)
                : e).toList());
        return vcpu;
    }

    /// The MSRs exist as far as the guest's CPUID has the features.
    @ParameterizedTest
    @CsvSource({"true, true, true, true", "false, true, true, false", "true, false, true, true", "false, false, false, false"})
    void msrsFollowCpuid(boolean shadowStacks, boolean tracking, boolean control, boolean pointers) {
        var vcpu = vcpu(shadowStacks, tracking);
        for (int msr : new int[] {Msr.IA32_U_CET, Msr.IA32_S_CET}) {
            assertThat(vcpu.setMsrs(List.of(new MsrEntry(msr, Cet.ENDBR_EN)))).isEqualTo(control ? 1 : 0);
            assertThat(vcpu.getMsrs(msr)).isEqualTo(control ? List.of(new MsrEntry(msr, Cet.ENDBR_EN)) : List.of());
        }
        for (int msr = Msr.IA32_PL0_SSP; msr <= Msr.IA32_INTERRUPT_SSP_TABLE_ADDR; msr++) {
            assertThat(vcpu.setMsrs(List.of(new MsrEntry(msr, 0x1000)))).isEqualTo(pointers ? 1 : 0);
            assertThat(vcpu.getMsrs(msr)).isEqualTo(pointers ? List.of(new MsrEntry(msr, 0x1000)) : List.of());
        }
    }

    @ParameterizedTest
    @CsvSource({"6a0, 40", "6a2, c00", "6a2, 8000000000000000", "6a4, 2", "6a7, 1000000000000", "6a8, 8000000000000000"})
    void illegalValuesAreRefused(String msr, String value) {
        assertThat(vcpu(true, true).setMsrs(List.of(new MsrEntry(Integer.parseInt(msr, 16), Long.parseUnsignedLong(value, 16))))).isZero();
    }

    @Test void supervisorStateFollowsCpuid() {
        var vcpu = vcpu(true, true);
        assertThat(vcpu.setMsrs(List.of(new MsrEntry(Msr.IA32_XSS, 0x1800)))).isEqualTo(1);
        assertThat(vcpu.getMsrs(Msr.IA32_XSS)).containsExactly(new MsrEntry(Msr.IA32_XSS, 0x1800));
        assertThat(vcpu.setMsrs(List.of(new MsrEntry(Msr.IA32_XSS, 0x100)))).isZero();
    }
}
