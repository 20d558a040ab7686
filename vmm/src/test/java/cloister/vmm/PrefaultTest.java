package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Memory that is populated before the guest starts costs no exits.
final class PrefaultTest {
    private static final long MEMORY = 32L << 20;
    private static final long PAGE = 0x1000;

    private static MachineStats run(VmType type, boolean prefault) {
        var console = new StringBuilder();
        boolean td = type == VmType.TDX;
        var config = new MachineConfig().vmType(type).memoryBytes(MEMORY).prefault(prefault)
                .program(td ? TinyGuest.trustDomain() : TinyGuest.ordinaryVm()).console(octet -> console.append((char) octet));
        try (var machine = new Machine(config)) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            assertThat(console).hasToString(td ? TinyGuest.TD_OUTPUT : TinyGuest.VM_OUTPUT);
            machine.tearDown();
            return machine.stats();
        }
    }

    @ParameterizedTest
    @EnumSource(VmType.class)
    void populatedMemorySavesTheExitsOfItsFirstUse(VmType type) {
        var without = run(type, false);
        var with = run(type, true);
        assertThat(without.pagesPopulated()).isZero();
        assertThat(with.pagesPopulated()).isPositive().isLessThanOrEqualTo(MEMORY / PAGE);
        assertThat(with.exits("EPT_VIOLATION")).isLessThan(without.exits("EPT_VIOLATION"));
        assertThat(with.pagesLeft()).isZero();
        if (type == VmType.TDX) {
            assertThat(with.seamcalls("TDH.MEM.PAGE.AUG")).as("all of memory beside the image").isGreaterThan(MEMORY / PAGE / 2);
        }
    }
}
