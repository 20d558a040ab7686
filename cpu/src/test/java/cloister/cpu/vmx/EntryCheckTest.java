package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.vmx.Controls;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmInstructionError;
import cloister.spec.vmx.VmcsField;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class EntryCheckTest {
    /// A valid guest with one field changed by XOR. [SDM Vol. 3 "Checks on VMX Controls and Host-State Area"]
    static Stream<Arguments> refused() {
        return Stream.of(
                bad(PIN_BASED_CONTROLS, 0x2, 7), bad(PIN_BASED_CONTROLS, 1 << 8, 7), bad(PROC_BASED_CONTROLS, 1, 7),
                bad(PROC_BASED_CONTROLS, 1 << 22, 7), bad(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_ENABLE_PML, 7),
                bad(CR3_TARGET_COUNT, 5, 7), bad(MSR_BITMAP, 1, 7), bad(VPID, 1, 7), bad(EPTP, 7, 7), bad(EPTP, 0x18, 7),
                bad(EPTP, 0x80, 7), bad(VM_EXIT_CONTROLS, 0x1, 7), bad(VM_EXIT_CONTROLS, Controls.EXIT_SAVE_PREEMPTION_TIMER, 7),
                bad(VM_ENTRY_CONTROLS, 0x1, 7), bad(VM_ENTRY_CONTROLS, Controls.ENTRY_TO_SMM, 7),
                bad(ENTRY_INTERRUPTION_INFO, 0x8000_0100L, 7), bad(ENTRY_INTERRUPTION_INFO, 0x8000_0203L, 7),
                bad(ENTRY_INTERRUPTION_INFO, 0x8000_0b80L, 7),
                bad(ENTRY_INTERRUPTION_INFO, 0x8000_0320L, 7),
                bad(HOST_CR0, 1L << 31, 8), bad(HOST_CR4, 1 << 13, 8), bad(HOST_CR3, 1L << 52, 8), bad(HOST_CS_SELECTOR, 8, 8),
                bad(HOST_SS_SELECTOR, 3, 8), bad(HOST_TR_SELECTOR, 0x18, 8), bad(HOST_RIP, 1L << 62, 8),
                bad(HOST_FS_BASE, 1L << 62, 8), bad(HOST_EFER, 1L << 10, 8));
    }

    private static Arguments bad(VmcsField field, long flip, int error) {
        return Arguments.of(field, flip, error);
    }

    @ParameterizedTest(name = "{0} ^ {1}")
    @MethodSource("refused")
    void refusesWithTheErrorOfTheManual(VmcsField field, long flip, int error) {
        var guest = new VmxGuest().code(a -> a.hlt());
        guest.vmcs.write(field, guest.read(field) ^ flip);
        assertThat(guest.lp.vmlaunch()).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(error);
        assertThat(guest.vmcs.launched()).isFalse();
    }

    /// [SDM Vol. 3 "Checks on the Guest State Area"]
    static Stream<Arguments> failingGuests() {
        return Stream.of(
                bad(GUEST_CR0, 1, 0), bad(GUEST_CR0, 1 << 5, 0), bad(GUEST_CR4, 1 << 5, 0), bad(GUEST_CR4, 1 << 13, 0),
                bad(GUEST_CR4, 1L << 40, 0), bad(GUEST_CR3, 1L << 52, 0), bad(GUEST_EFER, 1 << 10, 0), bad(GUEST_EFER, 1 << 8, 0),
                bad(GUEST_EFER, 1 << 1, 0), bad(GUEST_SYSENTER_ESP, 1L << 62, 0), bad(GUEST_RFLAGS, 2, 0),
                bad(GUEST_RFLAGS, 1 << 3, 0), bad(GUEST_RFLAGS, 1 << 17, 0), bad(GUEST_RIP, 1L << 62, 0),
                bad(GUEST_CS_ACCESS_RIGHTS, 1 << 4, 0), bad(GUEST_CS_ACCESS_RIGHTS, 1 << 7, 0),
                bad(GUEST_CS_ACCESS_RIGHTS, 1 << 14, 0), bad(GUEST_CS_ACCESS_RIGHTS, 1 << 8, 0),
                bad(GUEST_CS_ACCESS_RIGHTS, 0x60, 0), bad(GUEST_SS_ACCESS_RIGHTS, 8, 0), bad(GUEST_DS_ACCESS_RIGHTS, 1, 0),
                bad(GUEST_TR_ACCESS_RIGHTS, 1 << 16, 0), bad(GUEST_TR_ACCESS_RIGHTS, 2, 0), bad(GUEST_TR_SELECTOR, 4, 0),
                bad(GUEST_DS_LIMIT, 1, 0), bad(GUEST_CS_BASE, 1L << 32, 0), bad(GUEST_FS_BASE, 1L << 62, 0),
                bad(GUEST_GDTR_LIMIT, 1 << 16, 0), bad(GUEST_ACTIVITY_STATE, 4, 0), bad(GUEST_INTERRUPTIBILITY_STATE, 1, 0),
                bad(GUEST_INTERRUPTIBILITY_STATE, 1 << 5, 0), bad(GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 5, 0),
                bad(VMCS_LINK_POINTER, 1, 4));
    }

    @ParameterizedTest(name = "{0} ^ {1}")
    @MethodSource("failingGuests")
    void failsEntryWithAnExit(VmcsField field, long flip, int qualification) {
        var guest = new VmxGuest().code(a -> a.hlt());
        guest.vmcs.write(field, guest.read(field) ^ flip);
        assertThat(guest.lp.vmlaunch()).isEqualTo(VmxStatus.SUCCEED);
        assertThat(guest.vmcs.readInt(EXIT_REASON)).isEqualTo(ExitReason.INVALID_GUEST_STATE | ExitReason.ENTRY_FAILURE);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(qualification);
        assertThat(guest.vmcs.launched()).isFalse();
    }

    @Test void launchStateAndPointersAreChecked() {
        var guest = new VmxGuest().code(a -> a.hlt());
        assertThat(guest.lp.vmresume()).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(VmInstructionError.VMRESUME_NON_LAUNCHED);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.lp.vmlaunch()).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(VmInstructionError.VMLAUNCH_NON_CLEAR);
        guest.lp.vmptrld(0x6_0000);
        assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(VmInstructionError.VMPTRLD_WRONG_REVISION);
        assertThat(guest.lp.vmclear(VmxGuest.VMCS_PA)).isEqualTo(VmxStatus.SUCCEED);
        assertThat(guest.lp.vmlaunch()).isEqualTo(VmxStatus.FAIL_INVALID);
    }

    @Test void msrAreasAreLoadedAndStored() {
        var guest = new VmxGuest().code(a -> a.hlt());
        long area = 0x7_0000;
        guest.memory.write(area, 8, 0xc000_0082L);
        guest.memory.write(area + 8, 8, 0x1234);
        guest.vmcs.write(ENTRY_MSR_LOAD_ADDRESS, area);
        guest.vmcs.write(ENTRY_MSR_LOAD_COUNT, 1);
        guest.memory.write(area + 16, 8, 0xc000_0082L);
        guest.vmcs.write(EXIT_MSR_STORE_ADDRESS, area + 16);
        guest.vmcs.write(EXIT_MSR_STORE_COUNT, 1);
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.memory.read(area + 24, 8)).isEqualTo(0x1234);
        guest.memory.write(area, 8, 0xc000_0100L);
        assertThat(guest.run()).isEqualTo(ExitReason.MSR_LOADING | ExitReason.ENTRY_FAILURE);
        assertThat(guest.read(EXIT_QUALIFICATION)).isEqualTo(1);
    }

    @Test void unrestrictedGuestRunsInRealMode() {
        var guest = new VmxGuest();
        guest.vmcs.write(GUEST_CR0, 0x30);
        guest.vmcs.write(GUEST_CR4, 0x2000);
        guest.vmcs.write(GUEST_EFER, 0);
        guest.clear(VM_ENTRY_CONTROLS, Controls.ENTRY_IA32E_MODE_GUEST);
        for (int i = 0; i < 6; i++) {
            guest.segment(i, 0, 0xffff, 0x93);
        }
        guest.memory.write(VmxGuest.FRAMES + VmxGuest.CODE, 8, 0xf4_1234_b8L); // MOV AX, 1234h; HLT
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
        assertThat(guest.lp.gprs()[0]).isEqualTo(0x1234);
        assertThat(guest.vmcs.has(VM_ENTRY_CONTROLS, Controls.ENTRY_IA32E_MODE_GUEST)).isFalse();
    }
}
