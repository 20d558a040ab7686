package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.devices.IoApic;
import cloister.kvm.KvmException;
import cloister.kvm.KvmVm;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmCap;
import cloister.tdx.inspect.TdSnapshot;
import java.util.ArrayList;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Processors leave and come back on platforms of several packages, with the real TDX module: a KeyID is configured, and given back after
/// caches are written back, on every package. [LINUX tdx_offline_cpu, __tdx_td_init]
final class PackageHotplugTest {
    private static final int PER_PACKAGE = 2;

    private static KvmVm trustDomain(Host host) {
        var vm = host.kvm().createVm(cloister.spec.kvm.VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, IoApic.PINS);
        TrustDomain.init(host.kvm(), vm, 1, true);
        return vm;
    }

    private static Errno refusedOffline(Host host, int processor) {
        return catchThrowableOfType(KvmException.class, () -> host.kvm().processorOnline(processor, false)).errno();
    }

    @ParameterizedTest
    @ValueSource(ints = {2, 4, 8})
    void noPackageIsWithoutAProcessorWhileThereAreTrustDomains(int packages) {
        var config = new MachineConfig().vmType(VmType.TDX).memoryBytes(32 << 20).cpus(1).hostCpus(PER_PACKAGE * packages)
                .packages(packages);
        var seen = new ArrayList<String>();
        try (var host = Host.create(config)) {
            var kvm = host.kvm();
            int last = (PER_PACKAGE * packages) - 1;
            host.scheduler().spawn("admin", () -> {
                trustDomain(host).close(); // the module is initialised on every processor
                kvm.processorOnline(last, false);
                var first = trustDomain(host); // its package has another one
                assertThat(refusedOffline(host, last - 1)).isEqualTo(Errno.EBUSY);
                for (int i = 0; i < packages - 1; i++) {
                    kvm.processorOnline(PER_PACKAGE * i, false);
                    assertThat(refusedOffline(host, (PER_PACKAGE * i) + 1)).as("package %d", i).isEqualTo(Errno.EBUSY);
                    kvm.processorOnline(PER_PACKAGE * i, true);
                }
                first.close();
                assertThat(first.stats().leakedPages()).isZero();
                kvm.processorOnline(last - 1, false);
                assertThat(catchThrowableOfType(KvmException.class, () -> trustDomain(host)).errno()).isEqualTo(Errno.EIO);
                assertThat(host.inspectTdxModule().tds()).as("nothing is left of what was refused").isEmpty();
                                kvm.processorOnline(last, true);
                kvm.processorOnline(last - 1, true);
                var second = trustDomain(host);
                assertThat(host.inspectTdxModule().tds()).extracting(TdSnapshot::lifecycleState).containsExactly("TD_KEYS_CONFIGURED");
                second.close();
                assertThat(second.stats().leakedPages()).isZero();
                assertThat(host.inspectTdxModule().tds()).isEmpty();
                seen.add("end");
            });
            host.scheduler().run();
            assertThat(seen).as("the thread came to its end").hasSize(1);
        }
    }
}
