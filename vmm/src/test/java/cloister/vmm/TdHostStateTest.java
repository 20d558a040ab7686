package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.LogicalProcessor;
import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmException;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmTdxCmd;
import cloister.kvm.KvmVcpu;
import cloister.kvm.KvmVm;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.HostRegister.Kind;
import cloister.spec.kvm.HostRegister.Left;
import cloister.spec.kvm.HostRegister.Return;
import cloister.spec.kvm.KvmCap;
import cloister.spec.tdx.TdParams;
import cloister.spec.x86.Msr;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/// The TDX module leaves in the host's registers what the table of [HostRegister] says, and the host finds its own again.
final class TdHostStateTest {
    private static final long MEMORY = 256L << 20;
    private Platform platform;
    private LogicalProcessor lp;
    private Kvm kvm;

    @BeforeEach void aHostWithValuesOfItsOwn() {
        platform = new Platform(new PlatformOptions(1, MEMORY, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
        lp = platform.processors().getFirst();
        for (int i = 0; i < 4; i++) {
            lp.dr(i, 0x5555_0000L + i);
        }
        lp.dr(6, 0xffff_0ff1L);
        lp.dr(7, 0x401);
        lp.xcr0(3);
        lp.pkru(0xc);
        lp.fpu().fcw = 0x27f;
        lp.fpu().xmm[3] = 0x1234;
        long[][] msrs = {{Msr.IA32_XSS, 0x1000}, {Msr.IA32_DEBUGCTL, 0x806}, {Msr.IA32_KERNEL_GS_BASE, 0x4444_0000L},
                {Msr.IA32_FMASK, 0x47700}, {Msr.IA32_STAR, 0x2222L << 32}, {Msr.IA32_LSTAR, 0x1111_0000L},
                {Msr.IA32_CSTAR, 0x3333_0000L}, {Msr.IA32_TSC_AUX, 5}, {Msr.IA32_U_CET, 1}, {Msr.IA32_PL0_SSP, 0x8000},
                {Msr.IA32_PL1_SSP, 0x8008}, {Msr.IA32_PL2_SSP, 0x8010}, {Msr.IA32_PL3_SSP, 0x8018}, {Msr.IA32_S_CET, 4},
                {Msr.IA32_FS_BASE, 0x6666_0000L}, {Msr.IA32_GS_BASE, 0x7777_0000L}, {Msr.IA32_SYSENTER_EIP, 0x7777_1000L},
                {Msr.IA32_UMWAIT_CONTROL, 0x1000}, {Msr.IA32_TSX_CTRL, 1}, {Msr.IA32_FIXED_CTR_CTRL, 0x30}, {Msr.IA32_A_PMC0, 77}};
        for (long[] msr : msrs) {
            lp.wrmsr((int) msr[0], msr[1]);
        }
        kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(), platform.freeStartPa(),
                platform.freeEndPa()));
        kvm.checkHostState();
    }

    @AfterEach void release() {
        platform.close();
    }

    /// A TD without memory: its first instruction cannot be fetched, which the host hears.
    private List<KvmExit> runATd() {
        return runATd(0, 0, 0);
    }

    private List<KvmExit> runATd(long moreAttributes, int moreLeaf7Ebx, int moreLeaf7Ecx) {
        var vm = kvm.createVm(cloister.spec.kvm.VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        TrustDomain.init(kvm, withMore(vm, moreAttributes, moreLeaf7Ebx, moreLeaf7Ecx), 1, true);
        KvmVcpu vcpu = vm.createVcpu(0);
        TrustDomain.initVcpu(kvm, vcpu, 1);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        var exits = new ArrayList<KvmExit>();
        platform.scheduler().spawn("vcpu", () -> {
            exits.add(vcpu.run());
            exits.add(vcpu.run());
        });
        platform.scheduler().run();
        return exits;
    }

    /// The same VM, whose KVM_TDX_INIT_VM asks for more.
    private static KvmVm withMore(KvmVm vm, long attributes, int leaf7Ebx, int leaf7Ecx) {
        return (KvmVm) Proxy.newProxyInstance(KvmVm.class.getClassLoader(), new Class<?>[] {KvmVm.class}, (proxy, method, args) -> {
            if (args != null && args[0] instanceof KvmTdxCmd cmd && cmd.data() instanceof KvmTdxCmd.InitVm in) {
                var cpuid = in.cpuid().stream().map(e -> e.function() != 7 || e.index() != 0 ? e
                        : CpuidEntry.subLeaf(7, 0, e.eax(), e.ebx() | leaf7Ebx, e.ecx() | leaf7Ecx, e.edx())).toList();
                args[0] = KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(in.attributes() | attributes, in.xfam(), in.mrConfigId(), in.mrOwner(),
                        in.mrOwnerConfig(), cpuid));
            }
            try {
                return method.invoke(vm, args);
            } catch (InvocationTargetException e) {
                throw e.getCause();
            }
        });
    }

    @ParameterizedTest @EnumSource(names = {"UMWAIT_CONTROL", "TSX_CTRL", "FIXED_CTR_CTRL", "PERF_GLOBAL_CTRL", "PMC0"})
    void whatTdsMustNotHaveWouldBeLost(HostRegister row) {
        int leaf7Ebx = row == HostRegister.TSX_CTRL ? (1 << 4) | (1 << 11) : 0;
        int leaf7Ecx = row == HostRegister.UMWAIT_CONTROL ? 1 << 5 : 0;
        long attributes = (leaf7Ebx | leaf7Ecx) == 0 ? TdParams.ATTRIBUTE_PERFMON : 0;
        assertThatThrownBy(() -> runATd(attributes, leaf7Ebx, leaf7Ecx)).isInstanceOf(KvmException.class);
        kvm.lose(row);
        assertThatThrownBy(() -> runATd(attributes, leaf7Ebx, leaf7Ecx)).hasMessageContaining(" " + row + " is 0x0 and was ");
    }

    @Test void nothingIsLost() {
        assertThat(runATd()).hasSize(2).hasOnlyElementsOfType(KvmExit.MemoryFault.class);
    }

    /// This module keeps XCR0, which KVM does not rely on.
    @Test void theModuleBringsXcr0Back() {
        kvm.lose(HostRegister.XCR0);
        assertThat(runATd()).hasSize(2);
    }

    static Stream<HostRegister> restoredByKvm() {
        var byKvm = EnumSet.of(Return.AT_EXIT, Return.AT_PUT, Return.AT_USER_RETURN);
        return Stream.of(HostRegister.values()).filter(row -> row != HostRegister.XCR0 && byKvm.contains(row.returned(true)));
    }

    private long hostValue(HostRegister row) {
        return switch (row) {
            case DR0, DR1, DR2, DR3 -> lp.dr(row.ordinal() - HostRegister.DR0.ordinal());
            case DR6 -> lp.dr(6);
            case DR7 -> lp.dr(7);
            case PKRU -> lp.pkru();
            default -> lp.rdmsr(row.msr());
        };
    }

    /// When KVM does not bring a row back, the check finds what the module has left.
    @ParameterizedTest @MethodSource("restoredByKvm")
    void aLostRowHoldsWhatTheModuleLeft(HostRegister row) {
        kvm.lose(row);
        if (row.kind() == Kind.FPU) {
            assertThatThrownBy(this::runATd).hasMessageContaining(" " + row);
            return;
        }
        long before = hostValue(row);
        long left = row.left() == Left.MASKED ? before & row.tdValue()
                : row.left() == Left.XFAM ? 0x1800 : row.tdValue();
        assertThatThrownBy(this::runATd).hasMessageContaining(
                String.format(" %s is 0x%x and was 0x%x", row, left, before));
    }
}
