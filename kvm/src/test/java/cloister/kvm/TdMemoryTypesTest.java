package cloister.kvm;

import static cloister.kvm.ScriptedModule.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.dev.DevKvm;
import cloister.sim.RoundRobin;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// What TDs see of memory types, and what devices with non-coherent DMA do to them.
final class TdMemoryTypesTest {
    private static final long SIZE = 0x40_0000;
    private final ScriptedModule module = new ScriptedModule();
    private TestHost host = new TestHost(1);
    private Kvm kvm = open();
    private final KvmVm vm = kvm.createVm(VmType.TDX);

    private Kvm open() {
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        return DevKvm.open(host.environment());
    }

    @AfterEach void release() {
        host.close();
    }

    /// A TD with two pages of private memory and one vCPU, ready to run.
    private KvmVcpu ready(String memoryType) {
        vm.choose(KvmPolicy.MEMORY_TYPE, memoryType);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(SEPT_VE_DISABLE, 3, new byte[48], new byte[48], new byte[48],
                List.of(CpuidEntry.leaf(0x8000_0008, 48 << 16, 0, 0, 0)))));
        var vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        long user = kvm.userMemory().map(SIZE);
        var memfd = vm.createGuestMemfd(SIZE, 0);
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, SIZE, user, memfd, 0));
        vm.setMemoryAttributes(0, SIZE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(user, 0, 2)));
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        return vcpu;
    }

    /// The guest asks by `calls`, one after the other; the results are R10 and R11 of each.
    private List<long[]> results(KvmVcpu vcpu, List<Consumer<SeamRegs>> calls) {
        var results = new ArrayList<long[]>();
        boolean first = true;
        for (var call : calls) {
            boolean noResultYet = first;
            module.exits.add(regs -> {
                if (!noResultYet) {
                    results.add(new long[] {regs.get(SeamRegs.R10), regs.get(SeamRegs.R11)});
                }
                call.accept(regs);
            });
            first = false;
        }
        long[] last = new long[2];
        module.exits.add(end(last));
        host.scheduler().spawn("vcpu", vcpu::run);
        host.scheduler().run();
        results.add(last);
        return results;
    }

    @Test void upstreamsMtrrsAreStorage() {
        assertThat(results(ready("upstream-7.2"), List.of(tdvmcall(31, Msr.IA32_MTRRCAP), tdvmcall(32, Msr.IA32_MTRR_PHYSBASE0, 0x10_0006),
                tdvmcall(31, Msr.IA32_MTRR_PHYSBASE0), tdvmcall(32, Msr.IA32_MTRR_PHYSBASE0, 3)))).satisfiesExactly(
                cap -> assertThat(cap).containsExactly(0, 0x508),
                written -> assertThat(written[0]).isZero(),
                read -> assertThat(read).containsExactly(0, 0x10_0006),
                refused -> assertThat(refused[0]).isEqualTo(Tdvmcall.STATUS_INVALID_OPERAND));
    }

    @Test void mtrrsAsProposedKnowWriteBackOnly() {
        var results = results(ready("proposed-2023"), List.of(tdvmcall(31, Msr.IA32_MTRRCAP), tdvmcall(31, Msr.IA32_MTRR_DEF_TYPE),
                tdvmcall(32, Msr.IA32_MTRR_DEF_TYPE, 0x806), tdvmcall(32, Msr.IA32_MTRR_DEF_TYPE, 0xc06),
                tdvmcall(32, Msr.IA32_MTRR_DEF_TYPE, 0x800), tdvmcall(32, Msr.IA32_MTRRCAP, 0),
                tdvmcall(31, Msr.IA32_MTRR_PHYSBASE0), tdvmcall(32, Msr.IA32_MTRR_PHYSBASE0, 6),
                tdvmcall(31, Msr.IA32_MTRR_FIX64K_00000), tdvmcall(32, Msr.IA32_MTRR_FIX4K_C0000, 0)));
        assertThat(results.get(0)).containsExactly(0, 0);
        assertThat(results.get(1)).containsExactly(0, 0x806);
        assertThat(results.get(2)[0]).isZero();
        assertThat(results.subList(3, results.size()))
                .allSatisfy(result -> assertThat(result[0]).isEqualTo(Tdvmcall.STATUS_INVALID_OPERAND));
    }

    @ParameterizedTest @ValueSource(strings = {"mtrr", "no-such"})
    void memoryTypesOfOtherVmsAreRefused(String choice) {
        assertThat(catchThrowableOfType(KvmException.class, () -> vm.choose(KvmPolicy.MEMORY_TYPE, choice)).errno())
                .isEqualTo(Errno.EINVAL);
        assertThat(catchThrowableOfType(KvmException.class,
                () -> kvm.createVm(VmType.DEFAULT).choose(KvmPolicy.MEMORY_TYPE, "proposed-2023")).errno()).isEqualTo(Errno.EINVAL);
    }

    @ParameterizedTest @ValueSource(booleans = {false, true})
    void aDeviceThatIsPluggedInCostsATdItsMemoryWithTheDefectOnly(boolean planted) {
        ready("upstream-7.2");
        if (planted) {
            vm.plant(Defect.NONCOHERENT_DMA_ZAPS_MIRROR);
        }
        module.calls.clear();
        vm.createDevice(KvmAbi.DEV_TYPE_VFIO).setAttr(KvmAbi.DEV_VFIO_FILE, KvmAbi.DEV_VFIO_FILE_ADD, new VfioFile(false));
        assertThat(Collections.frequency(module.calls, "MEM_PAGE_REMOVE")).as("measured pages that are gone").isEqualTo(planted ? 2 : 0);
    }

    @Test void withoutSelfSnoopThereIsNoTdx() {
        host.close();
        host = new TestHost(1, new RoundRobin(), false);
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        kvm = DevKvm.open(host.environment());
        assertThat(kvm.checkExtension(KvmCap.VM_TYPES) & (1L << VmType.TDX.number())).isZero();
        assertThatThrownBy(() -> kvm.createVm(VmType.TDX)).hasMessageContaining("self-snoop");
        assertThat(kvm.checkExtension(KvmCap.DISABLE_QUIRKS2) & KvmAbi.QUIRK_IGNORE_GUEST_PAT).isZero();
    }
}
