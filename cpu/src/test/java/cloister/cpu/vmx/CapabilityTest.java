package cloister.cpu.vmx;

import static cloister.spec.vmx.VmcsField.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.HostFault;
import cloister.cpu.core.ModelLimit;
import cloister.spec.vmx.Controls;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class CapabilityTest {
    /// What the TDX module needs: initial value, bits that it may change, bits that it does not know. [TDX-ABI "TD VMCS"]
    @ParameterizedTest
    @CsvSource({"0x48d, 0x29, 0x80, 0xffffff16", "0x48e, 0x91220088, 0x20400c00, 0x04046173", "0x48b, 0x133cb3fa, 0xcc000400, 0",
        "0x48f, 0x1f3c9204, 0x40000000, 0x36dfb", "0x490, 0x3ee004, 0x400200, 0xff8011fb"})
    void satisfiesTheTdxModule(int msr, long initial, long variable, long unknown) {
        long value = VmxCapabilities.read(msr);
        long mustBe1 = value & 0xffff_ffffL;
        long mayBe1 = value >>> 32;
        assertThat(mustBe1 & ~(initial | unknown)).isZero();
        assertThat(initial & ~mayBe1).isZero();
        assertThat(variable & (mustBe1 | ~mayBe1)).isZero();
        assertThat(mustBe1 & ~mayBe1).isZero();
    }

    @Test void eptCapabilitiesHaveWhatTheTdxModuleRequires() {
        assertThat(VmxCapabilities.read(0x48c) & 0x101_0633_4041L).isEqualTo(0x101_0633_4041L);
    }

    @Test void ordinaryControlsAreTheTrueOnesWithDefault1() {
        for (int msr = 0x481; msr <= 0x484; msr++) {
            long plain = VmxCapabilities.read(msr);
            long exact = VmxCapabilities.read(msr + 0xc);
            assertThat(plain >>> 32).isEqualTo(exact >>> 32);
            assertThat(exact & ~plain & 0xffff_ffffL).isZero();
        }
    }

    @Test void hostReadsThemAndNotMore() {
        var guest = new VmxGuest();
        assertThat(guest.lp.rdmsr(0x480) & 0x7fff_ffff).isEqualTo(Vmcs.REVISION);
        assertThatThrownBy(() -> guest.lp.rdmsr(0x4a0)).isInstanceOf(HostFault.class);
    }

    /// Promised because the TDX module asks, but not implemented: using it must say so instead of going wrong.
    @Test void unmodelledControlsStopTheRun() {
        var guest = new VmxGuest().code(a -> a.hlt()).set(SECONDARY_PROC_BASED_CONTROLS, Controls.PROC2_MODE_BASED_EXECUTE);
        assertThatThrownBy(guest::run).isInstanceOf(ModelLimit.class).hasMessageContaining("mode-based execute");
        var hlat = new VmxGuest().code(a -> a.hlt()).set(PROC_BASED_CONTROLS, Controls.PROC_TERTIARY_CONTROLS);
        hlat.vmcs.write(TERTIARY_PROC_BASED_CONTROLS, Controls.PROC3_ENABLE_HLAT);
        assertThatThrownBy(hlat::run).isInstanceOf(ModelLimit.class).hasMessageContaining("HLAT");
    }
}
