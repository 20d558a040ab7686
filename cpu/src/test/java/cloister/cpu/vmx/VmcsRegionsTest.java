package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.memory.PhysicalMemory;
import cloister.spec.vmx.VmInstructionError;
import cloister.spec.vmx.VmcsField;
import org.junit.jupiter.api.Test;

/// The fields of a VMCS live and die with its frame.
class VmcsRegionsTest {
    private static final long REGION = VmxGuest.VMCS_PA;

    private final VmxGuest guest = new VmxGuest();

    private long ripAfterReload() {
        guest.lp.vmclear(REGION);
        assertThat(guest.lp.vmptrld(REGION)).isEqualTo(VmxStatus.SUCCEED);
        return guest.lp.vmread(GUEST_RIP);
    }

    @Test void fieldsSurviveVmclearAndTheHeaderIsSoftwares() {
        guest.lp.vmwrite(GUEST_RIP, 0x1234);
        guest.lp.vmclear(REGION);
        guest.memory.write(REGION, 4, Vmcs.REVISION);
        guest.memory.write(REGION + 4, 4, 0);
        assertThat(ripAfterReload()).isEqualTo(0x1234);
    }

    /// A host frees the frame and gives it out again, zeroed: once the next VMCS there began with the old one's fields.
    @Test void aFrameThatIsRewrittenForgetsItsVmcs() {
        guest.lp.vmwrite(GUEST_RIP, 0x1234);
        guest.lp.vmclear(REGION);
        guest.memory.fill(REGION, PhysicalMemory.FRAME_SIZE, (byte) 0);
        guest.memory.write(REGION, 4, Vmcs.REVISION);
        assertThat(ripAfterReload()).isZero();
        assertThat(guest.lp.vmread(VMCS_LINK_POINTER)).isEqualTo(-1);
    }

    @Test void whileItIsActiveTheProcessorHoldsTheFields() {
        guest.lp.vmwrite(GUEST_RIP, 0x1234);
        guest.memory.write(REGION + 64, 8, 5);
        assertThat(guest.lp.vmread(GUEST_RIP)).isEqualTo(0x1234);
        assertThat(ripAfterReload()).isEqualTo(0x1234);
    }

    /// With the KeyID of a trust domain in its own VMCS a host could read that domain's memory through EPT.
    @Test void theFieldsOfSeamDoNotExistForTheHost() {
        for (var field : new VmcsField[] {GUEST_TD_HKID, SHARED_EPTP}) {
            assertThat(guest.lp.vmwrite(field, 33)).isEqualTo(VmxStatus.FAIL_VALID);
            assertThat(guest.lp.vmread(VM_INSTRUCTION_ERROR)).isEqualTo(VmInstructionError.UNSUPPORTED_FIELD);
            assertThat(guest.vmcs.read(field)).isZero();
            guest.vmcs.write(field, 5);
            assertThat(guest.lp.vmread(field)).isZero();
        }
        assertThat(guest.lp.vmwrite(GUEST_RIP, 7)).isEqualTo(VmxStatus.SUCCEED);
        guest.lp.vmclear(REGION);
        assertThat(guest.lp.vmwrite(GUEST_RIP, 8)).isEqualTo(VmxStatus.FAIL_INVALID);
    }

    @Test void writesBesideTheRegionLeaveItAlone() {
        guest.lp.vmwrite(GUEST_RIP, 0x1234);
        guest.lp.vmclear(REGION);
        guest.memory.fill(REGION - PhysicalMemory.FRAME_SIZE, PhysicalMemory.FRAME_SIZE, (byte) 1);
        guest.memory.write(REGION + PhysicalMemory.FRAME_SIZE, 8, 1);
        assertThat(ripAfterReload()).isEqualTo(0x1234);
    }
}
