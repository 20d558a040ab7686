package cloister.kvm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// The error numbers of the uAPI, as the kernel's documentation and checks have them.
final class UapiErrorsTest {
    private static final long PAGE = 0x1000;

    private record Fixture(Kvm kvm, KvmVm vm, long user) {
        KvmDevice vfio(int group, long attribute, VfioFile file) {
            var device = vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
            device.setAttr(group, attribute, file);
            return device;
        }

        void slot(int slot, int flags, long gpa, long size, long address) {
            vm.setUserMemoryRegion2(new UserMemoryRegion(slot, flags, gpa, size, address, null, 0));
        }
    }

    static Stream<Arguments> cases() {
        return Stream.of(
                row("unaligned slot", Errno.EINVAL, f -> f.slot(0, 0, 1, PAGE, f.user)),
                row("unaligned size", Errno.EINVAL, f -> f.slot(0, 0, 0, PAGE + 1, f.user)),
                row("unknown slot flag", Errno.EINVAL, f -> f.slot(0, 1 << 7, 0, PAGE, f.user)),
                row("slot number too large", Errno.EINVAL, f -> f.slot(32_764, 0, 0, PAGE, f.user)),
                row("slot outside user memory", Errno.EINVAL, f -> f.slot(0, 0, 0, PAGE, f.user + (1L << 40))),
                row("guest_memfd slot without a file", Errno.EBADF,
                        f -> f.slot(0, KvmAbi.MEM_GUEST_MEMFD, 0, PAGE, f.user)),
                row("deleting an absent slot", Errno.EINVAL, f -> f.slot(3, 0, 0, 0, f.user)),
                row("overlap", Errno.EEXIST, f -> {
                    f.slot(0, 0, 0, 2 * PAGE, f.user);
                    f.slot(1, 0, PAGE, PAGE, f.user);
                }),
                row("resizing a slot", Errno.EINVAL, f -> {
                    f.slot(0, 0, 0, 2 * PAGE, f.user);
                    f.slot(0, 0, 0, PAGE, f.user);
                }),
                row("unknown quirk", Errno.EINVAL, f -> f.vm.enableCap(KvmCap.DISABLE_QUIRKS2, 1L << 40)),
                row("device of another type", Errno.ENODEV, f -> f.vm.createDevice(1)),
                row("second VFIO device", Errno.EBUSY, f -> {
                    f.vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
                    f.vm.createDevice(KvmAbi.DEV_TYPE_VFIO);
                }),
                row("VFIO: another group", Errno.ENXIO, f -> f.vfio(2, KvmAbi.DEV_VFIO_FILE_ADD, new VfioFile(true))),
                row("VFIO: another attribute", Errno.ENXIO, f -> f.vfio(KvmAbi.DEV_VFIO_FILE, 3, new VfioFile(true))),
                row("VFIO: file not there", Errno.ENOENT,
                        f -> f.vfio(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_DEL, new VfioFile(true))),
                row("VFIO: file twice", Errno.EEXIST, f -> {
                    var file = new VfioFile(true);
                    f.vfio(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, file)
                            .setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, file);
                }),
                row("VFIO: closed file", Errno.EBADF, f -> {
                    var file = new VfioFile(true);
                    file.close();
                    f.vfio(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, file);
                }),
                row("fewer shadow pages than 64", Errno.EINVAL, f -> {
                    f.vm.setNrMmuPages(64);
                    f.vm.setNrMmuPages(63);
                }),
                row("negative vCPU id", Errno.EINVAL, f -> f.vm.createVcpu(-1)),
                row("vCPU twice", Errno.EEXIST, f -> {
                    f.vm.createVcpu(0);
                    f.vm.createVcpu(0);
                }),
                row("vCPU id beyond KVM_MAX_VCPU_IDS", Errno.EINVAL, f -> f.vm.createVcpu(4096)),
                row("vCPU id beyond KVM_CAP_MAX_VCPU_ID", Errno.EINVAL, f -> {
                    f.vm.enableCap(KvmCap.MAX_VCPU_ID, 2);
                    f.vm.createVcpu(2);
                }),
                row("another KVM_CAP_MAX_VCPU_ID", Errno.EINVAL, f -> {
                    f.vm.enableCap(KvmCap.MAX_VCPU_ID, 2);
                    f.vm.enableCap(KvmCap.MAX_VCPU_ID, 3);
                }),
                row("split irqchip twice", Errno.EEXIST, f -> {
                    f.vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
                    f.vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
                }),
                row("split irqchip after a vCPU", Errno.EEXIST, f -> {
                    f.vm.createVcpu(0);
                    f.vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
                }),
                row("unknown hypercall exits", Errno.EINVAL, f -> f.vm.enableCap(KvmCap.EXIT_HYPERCALL, 1)),
                row("unknown x2APIC flag", Errno.EINVAL, f -> f.vm.enableCap(KvmCap.X2APIC_API, 4)),
                row("capability that is only reported", Errno.EINVAL, f -> f.vm.enableCap(KvmCap.USER_MEMORY2)),
                row("guest_memfd with an unknown flag", Errno.EINVAL, f -> f.vm.createGuestMemfd(PAGE, 4)),
                row("attribute that an ordinary VM lacks", Errno.EINVAL,
                        f -> f.vm.setMemoryAttributes(0, PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE)),
                row("MSI without irqchip", Errno.EINVAL, f -> f.vm.signalMsi(0xfee0_0000L, 0x41)),
                row("GSI routes without irqchip", Errno.EINVAL, f -> f.vm.setGsiRouting(List.of())),
                row("APIC bus cycle without irqchip", Errno.ENXIO, f -> f.vm.enableCap(KvmCap.X86_APIC_BUS_CYCLES_NS, 10)),
                row("APIC bus cycle after a vCPU", Errno.EINVAL, f -> {
                    f.vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
                    f.vm.createVcpu(0);
                    f.vm.enableCap(KvmCap.X86_APIC_BUS_CYCLES_NS, 10);
                }),
                row("APIC bus cycle that overflows", Errno.EINVAL,
                        f -> f.vm.enableCap(KvmCap.X86_APIC_BUS_CYCLES_NS, 1L << 40)),
                row("MP state without irqchip", Errno.EINVAL, f -> f.vm.createVcpu(0).setMpState(MpState.HALTED)),
                row("TDX command on an ordinary VM", Errno.ENOTTY,
                        f -> f.vm.memoryEncryptOp(KvmTdxCmd.finalizeVm())),
                row("TDX command on its vCPU", Errno.ENOTTY,
                        f -> f.vm.createVcpu(0).memoryEncryptOp(KvmTdxCmd.initVcpu(0))),
                row("GSI out of range", Errno.EINVAL, f -> f.vm.setGsiRouting(List.of(new MsiRoute(4096, 0, 0)))),
                row("local APIC without irqchip", Errno.EINVAL, f -> f.vm.createVcpu(0).getLapic()),
                row("long mode without paging", Errno.EINVAL, f -> {
                    var vcpu = f.vm.createVcpu(0);
                    var sregs = vcpu.getSregs();
                    sregs.efer = 0x500;
                    vcpu.setSregs(sregs);
                }),
                row("paging and EFER.LME without EFER.LMA", Errno.EINVAL, f -> {
                    var vcpu = f.vm.createVcpu(0);
                    var sregs = vcpu.getSregs();
                    sregs.efer = 0x100;
                    sregs.cr0 |= 0x8000_0001L;
                    sregs.cr4 = 0x20;
                    vcpu.setSregs(sregs);
                }),
                row("a bit of CR4 that is none", Errno.EINVAL, f -> {
                    var vcpu = f.vm.createVcpu(0);
                    var sregs = vcpu.getSregs();
                    sregs.cr4 = 1L << 40;
                    vcpu.setSregs(sregs);
                }),
                row("x2APIC mode without x2APIC in CPUID", Errno.EINVAL, f -> {
                    f.vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
                    var vcpu = f.vm.createVcpu(0);
                    var sregs = vcpu.getSregs();
                    sregs.apicBase |= 0xc00;
                    vcpu.setSregs(sregs);
                }),
                row("populating where no slot is", Errno.ENOENT,
                        f -> f.vm.createVcpu(0).preFaultMemory(new GpaRange(0, PAGE))),
                row("populating half a page", Errno.EINVAL,
                        f -> f.vm.createVcpu(0).preFaultMemory(new GpaRange(0, PAGE / 2))),
                row("populating with flags", Errno.EINVAL, f -> {
                    f.slot(0, 0, 0, PAGE, f.user);
                    var range = new GpaRange(0, PAGE);
                    range.flags = 1L << 63;
                    f.vm.createVcpu(0).preFaultMemory(range);
                }),
                row("populating while a signal waits", Errno.EINTR, f -> {
                    f.slot(0, 0, 0, PAGE, f.user);
                    var vcpu = f.vm.createVcpu(0);
                    vcpu.kick();
                    vcpu.preFaultMemory(new GpaRange(0, PAGE));
                }),
                row("a TD without TDX module", Errno.EINVAL, f -> f.kvm.createVm(VmType.TDX)),
                row("anything on a closed VM", Errno.EIO, f -> {
                    f.vm.close();
                    f.vm.createVcpu(0);
                }),
                row("unmapping in the middle", Errno.EINVAL, f -> f.kvm.userMemory().unmap(f.user + PAGE)),
                row("reading nowhere", Errno.EFAULT, f -> f.kvm.userMemory().read(0, 8)),
                row("mapping nothing", Errno.EINVAL, f -> f.kvm.userMemory().map(0)));
    }

    private static Arguments row(String what, Errno expected, Consumer<Fixture> action) {
        return arguments(what, expected, action);
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("cases")
    void failsWith(String what, Errno expected, Consumer<Fixture> action) {
        try (var host = new TestHost(2)) {
            var kvm = DevKvm.open(host.environment());
            var fixture = new Fixture(kvm, kvm.createVm(VmType.DEFAULT), kvm.userMemory().map(16 * PAGE));
            var thrown = catchThrowableOfType(KvmException.class, () -> action.accept(fixture));
            assertThat(thrown).as(what).isNotNull();
            assertThat(thrown.errno()).as(what).isEqualTo(expected);
        }
    }

    @Test void whatUpstreamAllowsIsAllowed() {
        try (var host = new TestHost(1)) {
            var kvm = DevKvm.open(host.environment());
            var vm = kvm.createVm(VmType.DEFAULT);
            assertThat(vm.createGuestMemfd(PAGE, 0).size()).isEqualTo(PAGE);
            vm.setMemoryAttributes(0, PAGE, 0);
            vm.createVcpu(0);
            vm.createVcpu(1);
            assertThat(vm.checkExtension(KvmCap.MAX_VCPUS)).isEqualTo(1024);
            assertThat(kvm.checkExtension(KvmCap.MAX_VCPU_ID)).isEqualTo(4096);
        }
    }

    @Test void typesOfVmAreThoseThatCanBeCreated() {
        try (var host = new TestHost(1)) {
            assertThat(DevKvm.open(host.environment()).checkExtension(KvmCap.VM_TYPES)).as("there is no TDX module")
                    .isEqualTo((1L << VmType.DEFAULT.number()) | (1L << VmType.SW_PROTECTED.number()));
        }
    }

    @Test void everyCallOnADeadVmFails() {
        try (var host = new TestHost(1)) {
            var kvm = DevKvm.open(host.environment());
            var vm = kvm.createVm(VmType.DEFAULT);
            var vcpu = vm.createVcpu(0);
            vm.close();
            List<Runnable> calls = List.of(vcpu::getRegs, vcpu::getSregs, vcpu::getMpState, vcpu::nmi, vcpu::getCpuid2, vcpu::getLapic,
                    vcpu::run, () -> vcpu.getMsrs(0x10), () -> vcpu.setRegs(new KvmRegs()), () -> vcpu.setMpState(MpState.RUNNABLE),
                    () -> vcpu.setCpuid2(List.of()), () -> vcpu.preFaultMemory(new GpaRange(0, PAGE)),
                    () -> vm.checkExtension(KvmCap.MAX_VCPUS), () -> vm.signalMsi(0, 0), () -> vm.createVcpu(1),
                    () -> vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24), () -> vm.setMemoryAttributes(0, PAGE, 0));
            for (int i = 0; i < calls.size(); i++) {
                var thrown = catchThrowableOfType(KvmException.class, calls.get(i)::run);
                assertThat(thrown).as("call " + i).isNotNull();
                assertThat(thrown.errno()).as("call " + i).isEqualTo(Errno.EIO);
            }
        }
    }

    @Test void populatingStopsAtTheEndOfTheSlotAndSaysHowFarItCame() {
        try (var host = new TestHost(1)) {
            var kvm = DevKvm.open(host.environment());
            var vm = kvm.createVm(VmType.DEFAULT);
            vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, 3 * PAGE, kvm.userMemory().map(3 * PAGE)));
            var range = new GpaRange(PAGE, 8 * PAGE);
            vm.createVcpu(0).preFaultMemory(range);
            assertThat(range.gpa).isEqualTo(3 * PAGE);
            assertThat(range.size).isEqualTo(6 * PAGE);
        }
    }
}
