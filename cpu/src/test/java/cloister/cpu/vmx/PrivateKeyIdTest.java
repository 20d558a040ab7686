package cloister.cpu.vmx;

import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.mem;
import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.HostFault;
import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.Controls;
import cloister.spec.vmx.Ept;
import cloister.spec.vmx.ExitReason;
import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.ExceptionVector;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// No address that a host gives its processor may have a KeyID that is private to the TDX module: with one, any structure of VMX that
/// the processor reads for the host would read a trust domain's memory. [TDX-CPU "Private KeyID"]
class PrivateKeyIdTest {
    /// Memory of a trust domain with KeyID 33.
    private static final long SECRET_PA = 0x70_0000;
    private static final long SECRET_HPA = PhysicalMemory.hpa(SECRET_PA, 33);
    private static final long SECRET = 0x5ec2e7_c0ffeeL;

    private final VmxGuest guest = new VmxGuest();

    PrivateKeyIdTest() {
        guest.memory.fill(SECRET_HPA, PhysicalMemory.FRAME_SIZE, (byte) 0);
        guest.memory.write(SECRET_HPA, 8, SECRET);
    }

    static Stream<Arguments> addressFields() {
        return Stream.of(at(MSR_BITMAP, 7), at(IO_BITMAP_A, 7), at(IO_BITMAP_B, 7), at(VIRTUAL_APIC_ADDRESS, 7), at(EPTP, 7),
                at(APIC_ACCESS_ADDRESS, 7), at(POSTED_INTERRUPT_DESCRIPTOR_ADDRESS, 7), at(VE_INFORMATION_ADDRESS, 7),
                at(ENTRY_MSR_LOAD_ADDRESS, 7), at(EXIT_MSR_LOAD_ADDRESS, 7), at(EXIT_MSR_STORE_ADDRESS, 7), at(HOST_CR3, 8));
    }

    private static Arguments at(VmcsField field, int error) {
        return Arguments.of(field, error);
    }

    private void everyStructureInUse() {
        guest.set(PROC_BASED_CONTROLS, Controls.PROC_IO_BITMAPS | Controls.PROC_TPR_SHADOW);
        guest.set(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_VIRTUALIZE_APIC_ACCESSES | Controls.PROC2_VIRTUAL_INTERRUPT_DELIVERY
                | Controls.PROC2_EPT_VIOLATION_VE);
        guest.set(PIN_BASED_CONTROLS, Controls.PIN_POSTED_INTERRUPTS);
        guest.vmcs.write(APIC_ACCESS_ADDRESS, 0x2_6000);
        for (var area : new VmcsField[] {ENTRY_MSR_LOAD_ADDRESS, EXIT_MSR_LOAD_ADDRESS, EXIT_MSR_STORE_ADDRESS}) {
            guest.vmcs.write(area, 0x7_0000);
        }
        guest.memory.write(0x7_0000, 8, 0xc000_0082L);
        guest.vmcs.write(ENTRY_MSR_LOAD_COUNT, 1);
        guest.vmcs.write(EXIT_MSR_LOAD_COUNT, 1);
        guest.vmcs.write(EXIT_MSR_STORE_COUNT, 1);
        guest.code(a -> a.hlt());
    }

    /// The last two addresses are the highest KeyID that a host may use, and the lowest private one.
    @ParameterizedTest
    @MethodSource("addressFields")
    void noStructureOfAVmcsLiesThere(VmcsField field, int error) {
        everyStructureInUse();
        long address = guest.read(field);
        for (int keyId : new int[] {63, 33, 32}) {
            guest.vmcs.write(field, PhysicalMemory.hpa(address, keyId));
            assertThat(guest.lp.vmlaunch()).as("KeyID %d", keyId).isEqualTo(VmxStatus.FAIL_VALID);
            assertThat(guest.read(VM_INSTRUCTION_ERROR)).isEqualTo(error);
        }
        guest.vmcs.write(field, PhysicalMemory.hpa(address, field == HOST_CR3 ? 31 : 0));
        assertThat(guest.run()).isEqualTo(ExitReason.HLT);
    }

    @Test void noVmxRegionLiesThere() {
        guest.memory.write(SECRET_HPA, 4, Vmcs.REVISION);
        assertThat(guest.lp.vmptrld(SECRET_HPA)).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.lp.vmclear(SECRET_HPA)).isEqualTo(VmxStatus.FAIL_VALID);
        assertThat(guest.lp.vmptrst()).isEqualTo(VmxGuest.VMCS_PA);
        assertThat(guest.lp.vmptrld(1L << 52)).isEqualTo(VmxStatus.FAIL_VALID);
    }

    /// Level 1 is the leaf.
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4})
    void anEptEntryThatNamesItIsMisconfigured(int level) {
        guest.code(a -> a.mov(EAX, mem(RBX)).hlt());
        guest.lp.gprs()[3] = 0x1_0000;
        long entryAt = switch (level) {
            case 1 -> VmxGuest.leafAt(0x1_0000);
            case 2 -> VmxGuest.EPT_ROOT + 0x2000;
            case 3 -> VmxGuest.EPT_ROOT + 0x1000;
            default -> VmxGuest.EPT_ROOT;
        };
        long entry = guest.memory.read(entryAt, 8);
        guest.memory.write(entryAt, 8, PhysicalMemory.hpa(entry, 33));
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_MISCONFIGURATION);
        guest.memory.write(entryAt, 8, (entry & ~Ept.ADDRESS) | (level == 1 ? SECRET_HPA : PhysicalMemory.hpa(entry & Ept.ADDRESS, 63)));
        assertThat(guest.run()).isEqualTo(ExitReason.EPT_MISCONFIGURATION);
        assertThat(guest.lp.gprs()[0]).isNotEqualTo(SECRET & 0xffff_ffffL);
    }

    private VmxGuest withoutEpt() {
        guest.clear(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_ENABLE_EPT | Controls.PROC2_UNRESTRICTED_GUEST);
        guest.vmcs.write(GUEST_CR3, VmxGuest.FRAMES + VmxGuest.PML4);
        guest.write(VmxGuest.PML4, 8, (VmxGuest.FRAMES + VmxGuest.PML4 + 0x1000) | 7);
        guest.write(VmxGuest.PML4 + 0x1000, 8, (VmxGuest.FRAMES + VmxGuest.PML4 + 0x9000) | 7);
        guest.write(VmxGuest.PML4 + 0x9000, 8, VmxGuest.FRAMES | 0x87);
        guest.vmcs.write(EXCEPTION_BITMAP, (1 << ExceptionVector.GP) | (1 << ExceptionVector.PF));
        return guest;
    }

    @Test void withoutEptTheGuestsCr3CannotNameIt() {
        withoutEpt().code(a -> a.mov(RAX, CR3).mov(RBX, SECRET_HPA).mov(CR3, RBX).hlt());
        guest.clear(PROC_BASED_CONTROLS, Controls.PROC_CR3_LOAD_EXITING | Controls.PROC_CR3_STORE_EXITING);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(guest.read(EXIT_INTERRUPTION_INFO) & 0xff).isEqualTo(ExceptionVector.GP);
        guest.vmcs.write(GUEST_CR3, SECRET_HPA);
        assertThat(guest.run()).isEqualTo(ExitReason.INVALID_GUEST_STATE | ExitReason.ENTRY_FAILURE);
    }

    @Test void withoutEptAGuestsPageTableEntryThatNamesItIsReserved() {
        withoutEpt().code(a -> a.mov(EAX, mem(RBX)).hlt());
        guest.lp.gprs()[3] = 0x20_0000;
        guest.write(VmxGuest.PML4 + 0x9000 + 8, 8, (SECRET_HPA & -0x20_0000L) | 0x87);
        assertThat(guest.run()).isEqualTo(ExitReason.EXCEPTION_OR_NMI);
        assertThat(guest.read(EXIT_INTERRUPTION_INFO) & 0xff).isEqualTo(ExceptionVector.PF);
        assertThat(guest.read(EXIT_INTERRUPTION_ERROR_CODE)).isEqualTo(0b1001);
    }

    @Test void directStoresOfTheHostFault() {
        assertThatThrownBy(() -> guest.lp.clearFrame(SECRET_HPA)).isInstanceOf(HostFault.class);
        assertThat(guest.memory.read(SECRET_HPA, 8)).isEqualTo(SECRET);
    }
}
