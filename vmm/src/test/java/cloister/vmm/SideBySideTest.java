package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Several machines on one platform, which has fewer processors than they have vCPUs.
final class SideBySideTest {
    private static MachineConfig config(VmType type, StringBuilder console) {
        byte[] program = type == VmType.TDX ? TinyGuest.trustDomain() : TinyGuest.ordinaryVm();
        return new MachineConfig().vmType(type).program(program).memoryBytes(32 << 20).cpus(2).hostCpus(2)
                .console(octet -> console.append((char) octet));
    }

    @Test void twoTrustDomainsAndAnOrdinaryVmShareTwoProcessors() {
        var types = List.of(VmType.TDX, VmType.DEFAULT, VmType.TDX);
        var consoles = new ArrayList<StringBuilder>();
        var machines = new ArrayList<Machine>();
        try (var host = Host.create(config(VmType.TDX, new StringBuilder()), types.size())) {
            for (var type : types) {
                var console = new StringBuilder();
                consoles.add(console);
                machines.add(new Machine(config(type, console), host));
            }
            machines.forEach(Machine::spawnVcpus);
            host.scheduler().run();
            for (int i = 0; i < types.size(); i++) {
                assertThat(machines.get(i).outcome()).as("machine " + i).isEqualTo(new Outcome.PowerOff());
                assertThat(consoles.get(i)).hasToString(types.get(i) == VmType.TDX ? TinyGuest.TD_OUTPUT : TinyGuest.VM_OUTPUT);
            }
            for (var machine : machines) {
                assertThat(machine.tearDown()).as("pages not reclaimed").isZero();
            }
        }
    }

    @Test void aTrustDomainHasMoreVcpusThanThePlatformHasProcessors() {
        var console = new StringBuilder();
        try (var machine = new Machine(config(VmType.TDX, console).cpus(8))) {
            assertThat(machine.run()).isEqualTo(new Outcome.PowerOff());
            assertThat(console).hasToString(TinyGuest.TD_OUTPUT);
            assertThat(machine.tearDown()).isZero();
        }
    }
}
