package cloister.kvm;

import static cloister.isa.Operands.*;
import static cloister.kvm.ScriptedModule.end;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.HostRegister.Return;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdParams;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.function.Consumer;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/// The host finds every row of [HostRegister] again behind ordinary guests and TDs. A row that KVM loses on purpose is named by the check
/// that is on in all tests.
final class HostStateTest {
    private static final long SEPT_VE_DISABLE = 1L << 28;
    private static final int CODE = 0x1000;
    private static final int MEMORY = 0x10000;
    private static final byte[] ZEROS = new byte[48];
    private static final long USER_CET = 1;
    private final TestHost host = new TestHost(2);
    private final ScriptedModule module = new ScriptedModule();

    @AfterEach void release() {
        host.close();
    }

    /// Each row has a value that neither guests nor the TDX module would leave.
    private static void fill(LogicalProcessor lp) {
        lp.cr(3, 0x7000);
        lp.cr(4, lp.cr(4) | Cr4.PKE);
        for (int i = 0; i < 4; i++) {
            lp.dr(i, 0x5555_0000L + i);
        }
        lp.dr(6, 0xffff_0ff1L);
        lp.dr(7, 0x401);
        lp.pkru(0xc);
        lp.fpu().fcw = 0x27f;
        lp.fpu().xmm[3] = 0x1234;
        long[][] msrs = {{Msr.IA32_XSS, 0x1000}, {Msr.IA32_DEBUGCTL, 0x806}, {Msr.IA32_KERNEL_GS_BASE, 0x4444_0000L},
                {Msr.IA32_FS_BASE, 0x6666_0000L}, {Msr.IA32_GS_BASE, 0x7777_0000L}, {Msr.IA32_SYSENTER_CS, 0x10},
                {Msr.IA32_SYSENTER_ESP, 0x7777_2000L}, {Msr.IA32_SYSENTER_EIP, 0x7777_1000L}, {Msr.IA32_FMASK, 0x47700},
                {Msr.IA32_STAR, 0x2222L << 32}, {Msr.IA32_LSTAR, 0x1111_0000L}, {Msr.IA32_CSTAR, 0x3333_0000L}, {Msr.IA32_TSC_AUX, 5},
                {Msr.IA32_U_CET, USER_CET}, {Msr.IA32_PL0_SSP, 0x8000}, {Msr.IA32_PL1_SSP, 0x8008}, {Msr.IA32_PL2_SSP, 0x8010},
                {Msr.IA32_PL3_SSP, 0x8018}, {Msr.IA32_S_CET, 4}, {Msr.IA32_INTERRUPT_SSP_TABLE_ADDR, 0x9000},
                {Msr.IA32_UMWAIT_CONTROL, 0x1000}, {Msr.IA32_TSX_CTRL, 1}, {Msr.IA32_FIXED_CTR_CTRL, 0x30}, {Msr.IA32_PMC0, 77}};
        for (long[] msr : msrs) {
            lp.wrmsr((int) msr[0], msr[1]);
        }
        lp.ssp(0xa000);
    }

    private Kvm open() {
        host.processors().forEach(lp -> {
            lp.installSeam(FirmwareAccess.SEAM, module);
            fill(lp);
        });
        var kvm = DevKvm.open(host.environment());
        kvm.checkHostState();
        return kvm;
    }

    // --- ordinary guests

    /// A guest that changes what VMX does not switch and ends with an output.
    private static KvmVcpu guest(Kvm kvm) {
        var vm = kvm.createVm(VmType.DEFAULT);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        long user = kvm.userMemory().map(MEMORY);
        byte[] code = new Assembler(CodeMode.BITS16, CODE).mov(EAX, 0x33).mov(DR0, EAX).mov(DR1, EAX).mov(DR2, EAX).mov(DR3, EAX)
                .mov(EAX, 0xffff_0ff4).mov(DR6, EAX).mov(DX, 0x3f8).out(DX, AL).out(DX, AL).assemble();
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        kvm.userMemory().write(user + CODE, code, 0, code.length);
        var vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        vcpu.setRegs(regs);
        return vcpu;
    }

    /// Two KVM_RUNs on one host thread.
    private void run(KvmVcpu vcpu, List<KvmExit> exits) {
        host.scheduler().spawn("vcpu", () -> {
            exits.add(vcpu.run());
            exits.add(vcpu.run());
        });
        host.scheduler().run();
    }

    @Test void nothingIsLostBehindAnOrdinaryGuest() {
        var vcpu = guest(open());
        var exits = new ArrayList<KvmExit>();
        run(vcpu, exits);
        assertThat(exits).containsExactly(new KvmExit.Io(true, 1, 0x3f8, 1), new KvmExit.Io(true, 1, 0x3f8, 1));
    }

    static Stream<HostRegister> restoredBehindGuests() {
        var restored = EnumSet.of(Return.SWITCHED, Return.AT_EXIT, Return.AT_PUT, Return.AT_USER_RETURN);
        return Stream.of(HostRegister.values()).filter(row -> restored.contains(row.returned(false)));
    }

    @ParameterizedTest @MethodSource("restoredBehindGuests")
    void aRowThatIsLostBehindAnOrdinaryGuestIsNoticed(HostRegister row) {
        var kvm = open();
        kvm.lose(row);
        assertThatThrownBy(() -> run(guest(kvm), new ArrayList<>())).hasStackTraceContaining("the host does not find its own state")
                .hasStackTraceContaining(" " + row);
    }

    // --- TDs

    /// What the module leaves behind an exit of a TD with `xfam`, by the table.
    private static void leave(LogicalProcessor lp, long xfam, boolean waitpkg, boolean perfmon) {
        for (var row : HostRegister.values()) {
            if (row.kind() == HostRegister.Kind.MSR && !lp.hasMsr(row.msr())) {
                continue;
            }
            switch (row.left()) {
                case HOST -> {
                }
                case VALUE -> put(lp, row, row.tdValue());
                case MASKED -> put(lp, row, lp.rdmsr(row.msr()) & row.tdValue());
                case XFAM -> put(lp, row, row == HostRegister.XCR0 ? xfam & 0x203 : xfam & 0x1800);
                case INITIAL -> put(lp, row, 0);
                case GUEST -> put(lp, row, waitpkg ? 0x666000 : lp.rdmsr(row.msr()));
                case PERFMON -> put(lp, row, perfmon ? 0 : lp.rdmsr(row.msr()));
                case LBR -> {
                }
            }
        }
    }

    private static void put(LogicalProcessor lp, HostRegister row, long value) {
        switch (row) {
            case CR2 -> lp.cr2(value);
            case DR0, DR1, DR2, DR3 -> lp.dr(row.ordinal() - HostRegister.DR0.ordinal(), value);
            case DR6 -> lp.dr(6, value);
            case XCR0 -> lp.xcr0(value);
            case PKRU -> lp.pkru((int) value);
            case X87 -> lp.fpu().initX87();
            case SSE -> lp.fpu().initSse();
            case DR7, DEBUGCTL -> {
                // SEAMRET loads what the module puts into the transfer VMCS
            }
            default -> lp.wrmsr(row.msr(), value);
        }
    }

    private static KvmVcpu td(Kvm kvm, long attributes, int leaf7Ecx) {
        var vm = kvm.createVm(VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        var cpuid = List.of(new CpuidEntry(0x8000_0008, 0, 0, 48 << 16, 0, 0, 0), CpuidEntry.subLeaf(7, 0, 0, 0, leaf7Ecx, 0));
        vm.memoryEncryptOp(KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(attributes, 0x1803, ZEROS, ZEROS, ZEROS, cpuid)));
        var vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        return vcpu;
    }

    private KvmVcpu td(Kvm kvm) {
        return td(kvm, SEPT_VE_DISABLE, 0);
    }

    /// Makes the module one with the components and features that rows ask for.
    private Kvm tdHost() {
        module.fields.put(0x1900000300000000L, SEPT_VE_DISABLE | TdParams.ATTRIBUTE_PERFMON);
        module.fields.put(0x1900000300000002L, 0x1803L);
        return open();
    }

    private Consumer<SeamRegs> leaving(Consumer<SeamRegs> exit, boolean waitpkg, boolean perfmon) {
        return regs -> {
            host.processors().forEach(lp -> {
                if (module.here == lp) {
                    leave(lp, 0x1803, waitpkg, perfmon);
                }
            });
            exit.accept(regs);
        };
    }

    @Test void nothingIsLostBehindATd() {
        var kvm = tdHost();
        var vcpu = td(kvm);
        for (int i = 0; i < 2; i++) {
            module.exits.add(leaving(end(new long[2]), false, false));
        }
        var exits = new ArrayList<KvmExit>();
        run(vcpu, exits);
        assertThat(exits).hasSize(2).hasOnlyElementsOfType(KvmExit.Shutdown.class);
    }

    /// The module comes back with an EPT violation that it has made up, and has not put its values anywhere.
    @Test void nothingIsLostWhereTheModuleDoesNotEnter() {
        var kvm = tdHost();
        var vcpu = td(kvm);
        module.exits.add(regs -> regs.set(SeamRegs.RAX, 0x8000_0200_0000_0080L));
        module.exits.add(leaving(ScriptedModule.tdvmcall(2), false, false));
        module.exits.add(end(new long[2])); // nothing touched
        module.exits.add(end(new long[2]));
        var exits = new ArrayList<KvmExit>();
        run(vcpu, exits);
        assertThat(exits).hasOnlyElementsOfType(KvmExit.Shutdown.class);
        assertThat(module.calls.stream().filter(SeamcallLeaf.VP_ENTER.name()::equals)).hasSize(4);
    }

    static Stream<HostRegister> restoredBehindTds() {
        // What SEAMRET loads only a real module can change; `TdHostStateTest` has one.
        return Stream.of(HostRegister.values()).filter(row -> row != HostRegister.DR7 && row != HostRegister.DEBUGCTL
                && EnumSet.of(Return.AT_EXIT, Return.AT_PUT, Return.AT_USER_RETURN).contains(row.returned(true)));
    }

    @ParameterizedTest @MethodSource("restoredBehindTds")
    void aRowThatIsLostBehindATdIsNoticed(HostRegister row) {
        var kvm = tdHost();
        kvm.lose(row);
        var vcpu = td(kvm);
        module.exits.add(leaving(end(new long[2]), false, false));
        assertThatThrownBy(() -> run(vcpu, new ArrayList<>())).hasStackTraceContaining("the host does not find its own state")
                .hasStackTraceContaining(" " + row);
    }

    /// What nobody switches is noticed once a TD is let have it.
    @ParameterizedTest @EnumSource(names = {"UMWAIT_CONTROL", "FIXED_CTR_CTRL", "PMC0"})
    void aFeatureThatTdsMustNotHaveIsNoticed(HostRegister row) {
        var kvm = tdHost();
        assertThatThrownBy(() -> td(kvm, SEPT_VE_DISABLE | TdParams.ATTRIBUTE_PERFMON, 0)).isInstanceOf(KvmException.class);
        assertThatThrownBy(() -> td(kvm, SEPT_VE_DISABLE, 1 << 5)).isInstanceOf(KvmException.class);
        kvm.lose(row);
        boolean waitpkg = row == HostRegister.UMWAIT_CONTROL;
        var vcpu = td(kvm, SEPT_VE_DISABLE | (waitpkg ? 0 : TdParams.ATTRIBUTE_PERFMON), waitpkg ? 1 << 5 : 0);
        module.exits.add(leaving(end(new long[2]), waitpkg, !waitpkg));
        assertThatThrownBy(() -> run(vcpu, new ArrayList<>())).hasStackTraceContaining(" " + row);
    }

    // --- the table

    @Test void rowsOfDifferentKindsHaveWhatTheyNeed() {
        var seen = new ArrayList<Integer>();
        for (var row : HostRegister.values()) {
            assertThat(row.kind() == HostRegister.Kind.MSR).as("%s has a number", row).isEqualTo(row.msr() != 0);
            if (row.kind() == HostRegister.Kind.MSR) {
                seen.add(row.msr());
            }
        }
        assertThat(seen).doesNotHaveDuplicates();
        assertThat(HostRegister.values().length).as("they fit into one word").isLessThanOrEqualTo(Long.SIZE);
    }

    /// A preempted vCPU leaves what only user programs need; the processor has it again when one goes on there.
    @Test void aPreemptedVcpuOwesWhatUserProgramsNeed() {
        var kvm = open();
        var exits = new ArrayList<KvmExit>();
        for (int i = 0; i < 3; i++) { // on two processors
            var vcpu = guest(kvm);
            host.scheduler().spawn("vcpu" + i, () -> {
                exits.add(vcpu.run());
                exits.add(vcpu.run());
            });
        }
        host.scheduler().run();
        assertThat(exits).hasSize(6).containsOnly(new KvmExit.Io(true, 1, 0x3f8, 1));
        assertThat(host.processors()).allSatisfy(lp -> assertThat(lp.rdmsr(Msr.IA32_LSTAR)).isEqualTo(0x1111_0000L));
    }
}
