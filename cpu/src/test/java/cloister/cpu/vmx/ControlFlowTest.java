package cloister.cpu.vmx;

import static cloister.isa.Operands.*;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Op;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitQualification;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.Interruption;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Control-flow enforcement of guests: state at VM entry and exit, checks, interception, EPT. [SDM Vol. 3 "Checks on Guest Control
/// Registers, Debug Registers, and MSRs", "Loading Guest State", "Saving Guest State", "Loading Host State"]
class ControlFlowTest {
    private static final long SHADOW = 0x40_0000;
    private static final long SHADOW_GPA = 0x18_0000;
    private static final long SSP = SHADOW + 0x800;

    /// Supervisor code with a shadow stack at linear [#SHADOW], which is guest-physical [#SHADOW_GPA].
    private static VmxGuest enforced(long control) {
        var guest = new VmxGuest();
        guest.write(VmxGuest.PML4 + 0x9000 + 16, 8, 0xb000 | 3);
        guest.write(0xb000, 8, SHADOW_GPA | 0x41);
        guest.set(VM_ENTRY_CONTROLS, Controls.ENTRY_LOAD_CET_STATE).set(VM_EXIT_CONTROLS, Controls.EXIT_LOAD_CET_STATE);
        guest.set(GUEST_CR0, Cr0.WP).set(GUEST_CR4, Cr4.CET);
        guest.vmcs.write(GUEST_S_CET, control);
        guest.vmcs.write(GUEST_SSP, SSP);
        return guest;
    }

    @Test void entryLoadsAndExitSavesAndLoadsTheHosts() {
        var guest = enforced(Cet.SH_STK_EN).code(a -> a.op(Op.RDSSP, RBX).mov(RCX, Msr.IA32_INTERRUPT_SSP_TABLE_ADDR).rdmsr().hlt());
        guest.vmcs.write(GUEST_INTERRUPT_SSP_TABLE, 0x1000);
        guest.vmcs.write(HOST_S_CET, Cet.ENDBR_EN);
        guest.vmcs.write(HOST_SSP, 0x7000);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.lp.gprs()[3]).isEqualTo(SSP);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x1000);
        assertThat(guest.read(GUEST_S_CET)).isEqualTo(Cet.SH_STK_EN);
        assertThat(guest.read(GUEST_SSP)).isEqualTo(SSP);
        assertThat(guest.lp.rdmsr(Msr.IA32_S_CET)).as("the host's").isEqualTo(Cet.ENDBR_EN);
    }

    /// Field, value, whether the entry fails.
    @ParameterizedTest
    @CsvSource({
        "GUEST_S_CET, 0x40, true", "GUEST_S_CET, 0xc00, true", "GUEST_S_CET, 0x8000000000000001, true", "GUEST_S_CET, 0x800, false",
        "GUEST_SSP, 0x400802, true", "GUEST_SSP, 0x8000000000000000, true", "GUEST_SSP, 0x400804, false",
        "GUEST_INTERRUPT_SSP_TABLE, 0x8000000000000000, true", "GUEST_CR0, 0x80000031, true"})
    void guestStateIsChecked(VmcsField field, String value, boolean fails) {
        var guest = enforced(0).code(a -> a.hlt());
        guest.vmcs.write(field, Long.parseUnsignedLong(value.substring(2), 16));
        int reason = guest.run();
        assertThat(reason < 0).isEqualTo(fails);
        assertThat(ExitReason.basic(reason)).isEqualTo(fails ? ExitReason.INVALID_GUEST_STATE : ExitReason.HLT);
    }

    @ParameterizedTest
    @CsvSource({"HOST_S_CET, 0x40", "HOST_SSP, 2", "HOST_CR0, 0x80000021"})
    void hostStateIsChecked(VmcsField field, String value) {
        var guest = enforced(0).code(a -> a.hlt());
        guest.vmcs.write(HOST_CR4, guest.read(HOST_CR4) | Cr4.CET);
        guest.vmcs.write(field, Long.decode(value));
        assertThat(guest.lp.vmlaunch()).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(8);
    }

    @Test void controlProtectionCanBeIntercepted() {
        var guest = enforced(Cet.ENDBR_EN).code(a -> {
            var there = a.label();
            a.lea(RAX, there).call(RAX).label(there).nop();
        });
        guest.vmcs.write(EXCEPTION_BITMAP, 1 << ExceptionVector.CP);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(guest.vmcs.readInt(EXIT_INTERRUPTION_INFO)).isEqualTo(Interruption.VALID | Interruption.DELIVER_ERROR_CODE
                | (Interruption.HARDWARE_EXCEPTION << 8) | ExceptionVector.CP);
        assertThat(guest.read(EXIT_INTERRUPTION_ERROR_CODE)).isEqualTo(Cet.CP_ENDBRANCH);
        assertThat(guest.read(GUEST_S_CET)).as("the tracker waits").isEqualTo(Cet.ENDBR_EN | Cet.TRACKER);
    }

    /// An exit between the branch and its target keeps the tracker, and the next entry goes on with it.
    @Test void aWaitingTrackerLeavesAndComesBack() {
        var guest = enforced(Cet.ENDBR_EN | Cet.TRACKER).code(a -> a.nop());
        guest.vmcs.write(EXCEPTION_BITMAP, 1 << ExceptionVector.CP);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(guest.read(GUEST_RIP)).isEqualTo(VmxGuest.CODE);
        guest.code(a -> a.op(Op.ENDBR64).hlt());
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.read(GUEST_S_CET)).isEqualTo(Cet.ENDBR_EN);
    }

    /// #CP with and without an error code, as IA32_VMX_BASIC bit 56 says.
    @ParameterizedTest
    @CsvSource({"true", "false"})
    void controlProtectionIsInjected(boolean code) {
        assertThat((guestWithoutEnforcement().lp.rdmsr(Msr.IA32_VMX_BASIC) >>> 56) & 1).isEqualTo(1);
        var guest = guestWithoutEnforcement();
        guest.vmcs.write(ENTRY_INTERRUPTION_INFO, ExceptionVector.CP | (Interruption.HARDWARE_EXCEPTION << 8) | Interruption.VALID
                | (code ? Interruption.DELIVER_ERROR_CODE : 0));
        guest.vmcs.write(ENTRY_EXCEPTION_ERROR_CODE, Cet.CP_NEAR_RET);
        guest.run();
        assertThat(guest.inHandler(ExceptionVector.CP)).isTrue();
        assertThat(guest.read(guest.read(GUEST_RSP), 8)).isEqualTo(code ? Cet.CP_NEAR_RET : VmxGuest.CODE);
    }

    private static VmxGuest guestWithoutEnforcement() {
        return new VmxGuest().code(a -> a.hlt());
    }

    /// An EPT violation says that the access was one to a shadow stack.
    @Test void eptViolationsNameShadowStackAccesses() {
        var guest = enforced(Cet.SH_STK_EN).code(a -> {
            var function = a.label();
            a.lea(RAX, function).call(RAX).label(function).hlt();
        });
        guest.map(SHADOW_GPA, VmxGuest.FRAMES + SHADOW_GPA, Ept.READ);
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_VIOLATION);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(ExitQualification.EPT_WRITE | ExitQualification.EPT_READABLE
                | ExitQualification.EPT_LINEAR_VALID | ExitQualification.EPT_TRANSLATED | ExitQualification.EPT_SHADOW_STACK);
        assertThat(guest.read(GUEST_LINEAR_ADDRESS)).isEqualTo(SSP - 8);
        assertThat(guest.read(GUEST_SSP)).isEqualTo(SSP);
        guest.map(SHADOW_GPA, VmxGuest.FRAMES + SHADOW_GPA, Ept.PERMISSIONS);
        guest.lp.invept(Ept.INVEPT_ALL_CONTEXTS, 0);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.read(GUEST_SSP)).isEqualTo(SSP - 8);
    }
}
