package cloister.kvm;

import static cloister.kvm.ScriptedModule.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.catchThrowableOfType;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.dev.DevKvm;
import cloister.sim.RandomWalk;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.HostState;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/// KVM's side of TDs against a scripted TDX module: order of SEAMCALLs, error numbers, exits.
final class TrustDomainTest {
    private static final long PAGE = 0x1000;
    private static final long SHARED = 1L << 47;
    private static final int PAGES = 1024;
    private static final long HOST_MSR = 0x1230;
    private static final List<CpuidEntry> CPUID = List.of(CpuidEntry.leaf(0x8000_0008, 48 << 16, 0, 0, 0));
    private static final byte[] ZEROS = new byte[48];
    private static final long BUSY = TdxStatus.OPERAND_BUSY.code();

    private final ScriptedModule module = new ScriptedModule();
    private TestHost host;
    private Kvm kvm;
    private KvmVm vm;
    private long user;
    private GuestMemfd memfd;

    @BeforeEach void aTdWithoutLife() {
        host = new TestHost(2);
        open();
    }

    private void open() {
        host.processors().forEach(lp -> {
            lp.installSeam(FirmwareAccess.SEAM, module);
            for (int msr : new int[] {Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_FMASK, Msr.IA32_TSC_AUX, Msr.IA32_KERNEL_GS_BASE}) {
                lp.wrmsr(msr, HOST_MSR);
            }
        });
        kvm = DevKvm.open(host.environment());
        aNewVm();
    }

    private void aNewVm() {
        vm = kvm.createVm(VmType.TDX);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.enableCap(KvmCap.EXIT_HYPERCALL, 1L << KvmAbi.HC_MAP_GPA_RANGE);
        user = kvm.userMemory().map(PAGES * PAGE);
    }

    @AfterEach void release() {
        host.close();
    }

    private static KvmTdxCmd initVm(long attributes, long xfam, List<CpuidEntry> cpuid) {
        return KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(attributes, xfam, ZEROS, ZEROS, ZEROS, cpuid));
    }

    private void init() {
        vm.memoryEncryptOp(initVm(SEPT_VE_DISABLE, 3, CPUID));
    }

    private KvmVcpu vcpu(int id) {
        var vcpu = vm.createVcpu(id);
        vcpu.setCpuid2(kvm.supportedCpuid());
        return vcpu;
    }

    private void memory() {
        memfd = vm.createGuestMemfd(PAGES * PAGE, 0);
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, PAGES * PAGE, user, memfd, 0));
        vm.setMemoryAttributes(0, PAGES * PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
    }

    /// The same under a policy of zaps.
    private KvmVcpu ready(String zapContention) {
        vm.choose(KvmPolicy.ZAP_CONTENTION, zapContention);
        return ready();
    }

    /// A TD with one vCPU, ready to run.
    private KvmVcpu ready() {
        init();
        var vcpu = vcpu(0);
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        memory();
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        module.calls.clear();
        return vcpu;
    }

    /// Runs the vCPU on a host thread; `answer` gets each exit, and false ends the run.
    private List<KvmExit> run(KvmVcpu vcpu, Predicate<KvmExit> answer) {
        var exits = new ArrayList<KvmExit>();
        host.scheduler().spawn("vcpu", () -> {
            KvmExit exit;
            do {
                exit = vcpu.run();
                exits.add(exit);
            } while (!(exit instanceof KvmExit.Shutdown) && answer.test(exit));
        });
        host.scheduler().run();
        return exits;
    }

    private List<String> calls() {
        var result = new ArrayList<>(module.calls);
        module.calls.clear();
        return result;
    }

    @Test void bringsTheModuleUpInOrder() {
        assertThat(module.calls).containsExactly("SYS_INIT", "SYS_LP_INIT", "SYS_LP_INIT", "SYS_CONFIG", "SYS_KEY_CONFIG",
                "SYS_TDMR_INIT");
        calls();
        kvm.createVm(VmType.TDX);
        assertThat(module.calls).as("once per boot").isEmpty();
    }

    @Test void buildsAndTearsDownInOrder() {
        calls();
        init();
        assertThat(calls()).containsExactly("MNG_CREATE", "MNG_KEY_CONFIG", "MNG_ADDCX", "MNG_ADDCX", "MNG_ADDCX",
                "MNG_INIT");
        var vcpu = vcpu(0);
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        assertThat(calls()).containsExactly("VP_CREATE", "VP_ADDCX", "VP_ADDCX", "VP_ADDCX", "VP_INIT", "VP_WR", "VP_WR",
                "VP_WR", "VP_WR");
        memory();
        vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(KvmAbi.TDX_MEASURE_MEMORY_REGION,
                new KvmTdxCmd.MemRegion(user, 0, 2)));
        var expected = new ArrayList<>(List.of("MEM_SEPT_ADD", "MEM_SEPT_ADD", "MEM_SEPT_ADD", "MEM_PAGE_ADD"));
        expected.addAll(Collections.nCopies(16, "MR_EXTEND"));
        expected.add("MEM_PAGE_ADD");
        expected.addAll(Collections.nCopies(16, "MR_EXTEND"));
        assertThat(calls()).isEqualTo(expected);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        assertThat(calls()).containsExactly("MR_FINALIZE");
        assertThat(vm.stats().tdxPages()).isEqualTo(1 + 3 + 1 + 3 + 3 + 2);
        vm.close();
        assertThat(calls()).containsExactly(
                "MEM_RANGE_BLOCK", "MEM_TRACK", "MEM_PAGE_REMOVE", "PHYMEM_PAGE_WBINVD",
                "MEM_RANGE_BLOCK", "MEM_TRACK", "MEM_PAGE_REMOVE", "PHYMEM_PAGE_WBINVD",
                "VP_FLUSH", "MNG_VPFLUSHDONE", "PHYMEM_CACHE_WB", "MNG_KEY_FREEID",
                "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM",
                "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM",
                "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_RECLAIM",
                "PHYMEM_PAGE_RECLAIM", "PHYMEM_PAGE_WBINVD");
        assertThat(vm.stats().tdxPages()).isZero();
        assertThat(vm.stats().leakedPages()).isZero();
        assertThat(memfd.allocatedPages()).isZero();
    }

    @Test void pagesThatAreNotGivenBackAreCounted() {
        init();
        var vcpu = vcpu(0);
        vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        module.failOnce(SeamcallLeaf.PHYMEM_PAGE_RECLAIM, TdxStatus.PAGE_METADATA_INCORRECT.code());
        vm.close();
        assertThat(vm.stats().leakedPages()).isEqualTo(1);
        assertThat(vm.stats().tdxPages()).isEqualTo(1);
    }

    static Stream<Arguments> failures() {
        return Stream.of(
                row("vCPU before INIT_VM", Errno.EIO, t -> t.vm.createVcpu(0)),
                row("INIT_VM twice", Errno.EINVAL, t -> {
                    t.init();
                    t.init();
                }),
                row("flags", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 3, CPUID).withFlags(1))),
                row("hw_error", Errno.EINVAL, t -> {
                    var cmd = initVm(0, 3, CPUID);
                    cmd.hwError = 1;
                    t.vm.memoryEncryptOp(cmd);
                }),
                row("attribute that KVM lacks", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(1, 3, CPUID))),
                row("XFAM that the module lacks", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 0x203, CPUID))),
                row("no address size", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 3, List.of()))),
                row("odd address size", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 3,
                        List.of(CpuidEntry.leaf(0x8000_0008, 46 << 16, 0, 0, 0))))),
                row("leaf that cannot be configured", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 3,
                        List.of(CPUID.getFirst(), CpuidEntry.leaf(0x15, 0, 0, 0, 0))))),
                row("TSX", Errno.EINVAL, t -> t.vm.memoryEncryptOp(initVm(0, 3,
                        List.of(CPUID.getFirst(), CpuidEntry.subLeaf(7, 0, 0, 1 << 4, 0, 0))))),
                row("module refuses a parameter", Errno.EINVAL, t -> {
                    t.module.failOnce(SeamcallLeaf.MNG_INIT, TdxStatus.OPERAND_INVALID.with(69));
                    t.init();
                }),
                row("no entropy, however often", Errno.EAGAIN, t -> {
                    for (int i = 0; i < 20; i++) {
                        t.module.failOnce(SeamcallLeaf.MNG_CREATE, TdxStatus.RND_NO_ENTROPY.code());
                    }
                    t.init();
                }),
                row("capabilities table too small", Errno.E2BIG, t -> {
                    var caps = new KvmTdxCmd.Capabilities();
                    caps.cpuid.capacity = 1;
                    t.vm.memoryEncryptOp(KvmTdxCmd.capabilities(caps));
                }),
                row("INIT_VCPU without x2APIC", Errno.EINVAL, t -> {
                    t.init();
                    t.vm.createVcpu(0).memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                }),
                row("INIT_VCPU twice", Errno.EINVAL, t -> {
                    t.init();
                    var vcpu = t.vcpu(0);
                    vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                    vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                }),
                row("INIT_MEM_REGION before INIT_VCPU", Errno.EINVAL, t -> {
                    t.init();
                    t.memory();
                    t.vcpu(0).memoryEncryptOp(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(t.user, 0, 1)));
                }),
                row("the same page twice", Errno.EIO, t -> {
                    t.init();
                    t.memory();
                    var vcpu = t.vcpu(0);
                    vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                    for (int i = 0; i < 2; i++) {
                        vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(t.user, PAGE, 1)));
                    }
                }),
                row("initial page with SHARED bit", Errno.EINVAL, t -> {
                    t.init();
                    var vcpu = t.vcpu(0);
                    vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                    vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(t.user, SHARED, 1)));
                }),
                row("FINALIZE before INIT_VM", Errno.EINVAL, t -> t.vm.memoryEncryptOp(KvmTdxCmd.finalizeVm())),
                row("FINALIZE busy", Errno.EBUSY, t -> {
                    t.init();
                    t.module.failOnce(SeamcallLeaf.MR_FINALIZE, BUSY | 1);
                    t.vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
                }),
                row("run before FINALIZE", Errno.EINVAL, t -> {
                    t.init();
                    var vcpu = t.vcpu(0);
                    vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                    vcpu.run();
                }),
                row("populating before FINALIZE", Errno.EOPNOTSUPP, t -> {
                    t.init();
                    t.memory();
                    t.vcpu(0).preFaultMemory(new GpaRange(0, PAGE));
                }),
                row("populating a shared address", Errno.EINVAL,
                        t -> t.ready().preFaultMemory(new GpaRange(SHARED, PAGE))),
                row("registers of a TD", Errno.EINVAL, t -> t.ready().getRegs()),
                row("read-only slot", Errno.EINVAL, t -> t.vm.setUserMemoryRegion2(
                        new UserMemoryRegion(0, KvmAbi.MEM_READONLY, 0, PAGE, t.user, null, 0))),
                row("vCPU after FINALIZE", Errno.EIO, t -> {
                    t.ready();
                    t.vm.createVcpu(1);
                }),
                row("more vCPUs than the platform has processors", Errno.EINVAL, t -> {
                    t.init();
                    t.vm.createVcpu(0);
                    t.vm.createVcpu(1);
                    t.vm.createVcpu(2);
                }),
                row("INIT and SIPI by state", Errno.EINVAL, t -> t.ready().setMpState(MpState.SIPI_RECEIVED)),
                row("GET_CPUID after FINALIZE", Errno.EINVAL,
                        t -> t.ready().memoryEncryptOp(KvmTdxCmd.getCpuid(new KvmTdxCmd.CpuidTable(256)))),
                row("VM command on a vCPU", Errno.EINVAL, t -> {
                    t.init();
                    t.vcpu(0).memoryEncryptOp(KvmTdxCmd.finalizeVm());
                }),
                row("vCPU command on the VM", Errno.EINVAL, t -> t.vm.memoryEncryptOp(KvmTdxCmd.initVcpu(0))),
                row("without split irqchip", Errno.EINVAL, t -> {
                    t.vm = t.kvm.createVm(VmType.TDX);
                    t.init();
                    t.vm.createVcpu(0);
                }));
    }

    private static Arguments row(String what, Errno expected, Consumer<TrustDomainTest> action) {
        return arguments(what, expected, action);
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("failures")
    void failsWith(String what, Errno expected, Consumer<TrustDomainTest> action) {
        var thrown = catchThrowableOfType(KvmException.class, () -> action.accept(this));
        assertThat(thrown).as(what).isNotNull();
        assertThat(thrown.errno()).as(what).isEqualTo(expected);
    }

    @Test void moduleErrorOfInitVmIsReportedAndEverythingIsGivenBack() {
        module.failOnce(SeamcallLeaf.MNG_INIT, TdxStatus.OPERAND_INVALID.with(69));
        var cmd = initVm(0, 3, CPUID);
        assertThatThrownBy(() -> vm.memoryEncryptOp(cmd)).isInstanceOf(KvmException.class);
        assertThat(cmd.hwError).isEqualTo(TdxStatus.OPERAND_INVALID.with(69));
        assertThat(vm.stats().tdxPages()).isZero();
        init();
    }

    @Test void capabilitiesHideTsxAndWaitpkgAndOfferTheAddressWidth() {
        var caps = new KvmTdxCmd.Capabilities();
        vm.memoryEncryptOp(KvmTdxCmd.capabilities(caps));
        assertThat(caps.supportedAttrs).isEqualTo(SEPT_VE_DISABLE);
        assertThat(caps.supportedXfam).isEqualTo(3);
        assertThat(caps.cpuid.entries).containsExactly(
                new CpuidEntry(0x8000_0008, 0, 0, 0xff << 16, 0, 0, 0),
                new CpuidEntry(7, 0, CpuidEntry.SIGNIFICANT_INDEX, 0, 0, 0, 0));
    }

    @Test void privateFaultsAugmentAndBusyIsTriedAgain() {
        var vcpu = ready();
        module.failOnce(SeamcallLeaf.MEM_PAGE_AUG, BUSY | 146);
        module.exits.add(eptViolation(0x5000));
        module.exits.add(end(new long[2]));
        run(vcpu, exit -> false);
        assertThat(calls()).containsExactly("VP_ENTER", "MEM_SEPT_ADD", "MEM_SEPT_ADD", "MEM_SEPT_ADD", "MEM_PAGE_AUG",
                "MEM_PAGE_AUG", "VP_ENTER");
        assertThat(vm.stats().pagesAugmented()).isEqualTo(1);
        assertThat(vm.stats().busySeamcalls()).containsEntry("TDH.MEM.PAGE.AUG", 1L);
    }

    @Test void conversionToSharedZapsAndRetriesOnceWhenBusy() {
        var vcpu = ready();
        vcpu.preFaultMemory(new GpaRange(0x5000, PAGE));
        calls();
        module.failOnce(SeamcallLeaf.MEM_RANGE_BLOCK, BUSY | 146);
        vm.setMemoryAttributes(0x4000, 4 * PAGE, 0);
        assertThat(calls()).containsExactly("MEM_RANGE_BLOCK", "MEM_RANGE_BLOCK", "MEM_TRACK", "MEM_PAGE_REMOVE",
                "PHYMEM_PAGE_WBINVD");
        vm.setMemoryAttributes(0x5000, PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
        vcpu.preFaultMemory(new GpaRange(0x5000, PAGE));
        module.failOnce(SeamcallLeaf.MEM_PAGE_REMOVE, BUSY | 1);
        module.failOnce(SeamcallLeaf.MEM_PAGE_REMOVE, BUSY | 1);
        vm.setMemoryAttributes(0x5000, PAGE, 0);
        assertThatThrownBy(() -> vm.signalMsi(0, 0)).as("a second BUSY kills the TD").isInstanceOf(KvmException.class)
                .hasMessageContaining("EIO");
    }

    @Test void accessAgainstTheAttributeIsAMemoryFault() {
        var vcpu = ready();
        vm.setMemoryAttributes(0x9000, PAGE, 0);
        module.exits.add(eptViolation(0x9000));
        module.exits.add(eptViolation(SHARED | 0xa000));
        var exits = run(vcpu, exit -> module.exits.size() > 0);
        assertThat(exits).containsExactly(new KvmExit.MemoryFault(KvmAbi.MEMORY_EXIT_FLAG_PRIVATE, 0x9000, PAGE),
                new KvmExit.MemoryFault(0, 0xa000, PAGE));
    }

    @Test void mapGpaGoesToTheVmmInChunks() {
        var vcpu = ready();
        long[] result = new long[2];
        module.exits.add(tdvmcall(Tdvmcall.MAP_GPA, SHARED | 0x20_0000, 0x30_0000));
        module.exits.add(end(result));
        var exits = run(vcpu, exit -> true);
        assertThat(exits.subList(0, 2)).containsExactly(new KvmExit.MapGpaRange(0x20_0000, 512, false),
                new KvmExit.MapGpaRange(0x40_0000, 256, false));
        assertThat(result[0]).isEqualTo(Tdvmcall.STATUS_SUCCESS);
    }

    static Stream<Arguments> refusedMaps() {
        return Stream.of(
                arguments(0x1800L, PAGE, Tdvmcall.STATUS_ALIGN_ERROR),
                arguments(0x1000L, 0L, Tdvmcall.STATUS_INVALID_OPERAND),
                arguments(SHARED - PAGE, 2 * PAGE, Tdvmcall.STATUS_INVALID_OPERAND),
                arguments(1L << 48, PAGE, Tdvmcall.STATUS_INVALID_OPERAND),
                arguments(-PAGE, 2 * PAGE, Tdvmcall.STATUS_INVALID_OPERAND));
    }

    @ParameterizedTest
    @MethodSource("refusedMaps")
    void mapGpaChecksItsRange(long gpa, long size, long status) {
        var vcpu = ready();
        long[] result = new long[2];
        module.exits.add(tdvmcall(Tdvmcall.MAP_GPA, gpa, size));
        module.exits.add(end(result));
        run(vcpu, exit -> false);
        assertThat(result).containsExactly(status, gpa);
    }

    @Test void mapGpaTellsWhereItStopped() {
        var vcpu = ready();
        long[] result = new long[2];
        module.exits.add(tdvmcall(Tdvmcall.MAP_GPA, SHARED | 0x20_0000, 0x40_0000));
        module.exits.add(end(result));
        int[] chunk = {0};
        run(vcpu, exit -> {
            vcpu.kvmRun().ret = chunk[0]++ == 1 ? Errno.EAGAIN.number() : 0;
            return true;
        });
        assertThat(result).containsExactly(Tdvmcall.STATUS_RETRY, SHARED | 0x40_0000);
    }

    @Test void portAndMmioReadsReturnInR11() {
        var vcpu = ready();
        long[] port = new long[2];
        long[] mmio = new long[2];
        module.exits.add(tdvmcall(30, 4, 0, 0x3f8));
        module.exits.add(regs -> {
            port[0] = regs.get(10);
            port[1] = regs.get(11);
            tdvmcall(48, 2, 0, SHARED | 0xfec0_0010L).accept(regs);
        });
        module.exits.add(end(mmio));
        var exits = run(vcpu, exit -> {
            vcpu.kvmRun().data[0] = 0x78;
            vcpu.kvmRun().data[1] = 0x56;
            return true;
        });
        assertThat(exits.subList(0, 2)).containsExactly(new KvmExit.Io(false, 4, 0x3f8, 1),
                new KvmExit.Mmio(0xfec0_0010L, 2, false));
        assertThat(port).containsExactly(0, 0x5678);
        assertThat(mmio).containsExactly(0, 0x5678);
    }

    static Stream<Arguments> refusedCalls() {
        long invalid = Tdvmcall.STATUS_INVALID_OPERAND;
        return Stream.of(
                arguments("port size 3", 30L, new long[] {3, 0, 0x3f8}, invalid),
                arguments("port direction 2", 30L, new long[] {1, 2, 0x3f8}, invalid),
                arguments("private MMIO", 48L, new long[] {4, 0, 0xfec0_0000L}, invalid),
                arguments("MMIO size 16", 48L, new long[] {16, 0, SHARED | 0xfec0_0000L}, invalid),
                arguments("MSR that KVM does not emulate", 31L, new long[] {0x48}, invalid),
                arguments("write to the APIC base", 32L, new long[] {0x1b, 0}, invalid),
                arguments("private quote buffer", Tdvmcall.GET_QUOTE, new long[] {0x1000, 0x1000}, invalid),
                arguments("notification vector 31", Tdvmcall.SETUP_EVENT_NOTIFY_INTERRUPT, new long[] {31}, invalid),
                arguments("call info leaf 2", Tdvmcall.GET_TD_VM_CALL_INFO, new long[] {2}, invalid),
                arguments("unknown sub-function", 0x10005L, new long[] {0}, Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED),
                arguments("WBINVD", 54L, new long[] {0}, Tdvmcall.STATUS_SUBFUNC_UNSUPPORTED));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("refusedCalls")
    void tdvmcallReturnsStatus(String what, long leaf, long[] arguments, long status) {
        var vcpu = ready();
        long[] result = new long[2];
        module.exits.add(tdvmcall(leaf, arguments));
        module.exits.add(end(result));
        run(vcpu, exit -> false);
        assertThat(result[0]).as(what).isEqualTo(status);
    }

    @Test void haltWaitsForTheDeadlineTimer() {
        var vcpu = ready();
        long[] result = new long[2];
        module.exits.add(tdvmcall(32, 0x832, (2 << 17) | 0xec)); // LVT timer: TSC deadline
        module.exits.add(tdvmcall(32, 0x80f, 0x1ff));
        module.exits.add(tdvmcall(32, 0x6e0, 7_000_000));
        module.exits.add(tdvmcall(12, 0));
        module.exits.add(end(result));
        run(vcpu, exit -> false);
        assertThat(host.scheduler().clock().now()).isEqualTo(7_000_000L);
        assertThat(vm.stats().exits()).containsEntry("TDVMCALL.HLT", 1L).containsEntry("TDVMCALL.WRMSR", 3L);
    }

    @Test void touchingPendingMemoryKillsTheTd() {
        var vcpu = ready();
        module.exits.add(regs -> {
            eptViolation(0x5000).accept(regs);
            regs.set(2, 6);
        });
        var thrown = new ArrayList<KvmException>();
        host.scheduler().spawn("vcpu", () -> {
            try {
                vcpu.run();
            } catch (KvmException e) {
                thrown.add(e);
            }
        });
        host.scheduler().run();
        assertThat(thrown).singleElement().extracting(KvmException::errno).isEqualTo(Errno.EIO);
        assertThatThrownBy(() -> vm.setGsiRouting(List.of())).isInstanceOf(KvmException.class);
    }

    @Test void busyEntryIsNoExit() {
        var vcpu = ready();
        module.failOnce(SeamcallLeaf.VP_ENTER, BUSY | 169);
        module.exits.add(end(new long[2]));
        var exits = run(vcpu, exit -> false);
        assertThat(exits).containsExactly(new KvmExit.Shutdown());
        assertThat(calls()).containsExactly("VP_ENTER", "VP_ENTER");
    }

    @Test void aVcpuIsFlushedWhereItWasInitialisedBeforeItRunsElsewhere() {
        init();
        var first = vcpu(0);
        first.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        var second = vcpu(1);
        second.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
        memory();
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
        long[] firstTdvpr = {0};
        boolean[] secondIsDone = {false};
        var lp = host.processors().getFirst();
        Consumer<SeamRegs> guest = regs -> {
            long tdvpr = regs.get(SeamRegs.RCX);
            firstTdvpr[0] = firstTdvpr[0] == 0 ? tdvpr : firstTdvpr[0];
            if (tdvpr == firstTdvpr[0]) {
                while (!secondIsDone[0] && !lp.interruptPending()) {
                    host.scheduler().switchPoint(SwitchPoint.GUEST_SLICE);
                }
                if (!secondIsDone[0]) {
                    regs.set(SeamRegs.RAX, 1);
                    return;
                }
            }
            secondIsDone[0] = true;
            end(new long[2]).accept(regs);
        };
        for (int i = 0; i < 3; i++) {
            module.exits.add(guest);
        }
        host.scheduler().spawn("first", first::run);
        host.scheduler().spawn("second", second::run);
        host.scheduler().run();
        assertThat(module.runs).as("the first vCPU keeps processor 0, so the second moves, which takes an interrupt there")
                .startsWith("VP_ENTER on 0", "VP_FLUSH on 0").contains("VP_ENTER on 1").hasSize(4);
        vm.close();
        assertThat(module.runs.subList(4, 6)).containsExactlyInAnyOrder("VP_FLUSH on 0", "VP_FLUSH on 1");
    }

    /// What once busy-looped: a zap that meets a running vCPU's lock kicks the vCPUs and keeps them out until it is done.
    @Test void busyZapHoldsVcpusOutOfTheTd() {
        var vcpu = ready();
        vcpu.preFaultMemory(new GpaRange(0x5000, PAGE));
        calls();
        module.failOnce(SeamcallLeaf.MEM_RANGE_BLOCK, BUSY | 146);
        module.exits.add(regs -> {
            while (!host.processors().getFirst().interruptPending()) {
                host.scheduler().switchPoint(SwitchPoint.GUEST_SLICE);
            }
            regs.set(0, 1); // the kick ends the TD's run as an external interrupt
        });
        module.exits.add(end(new long[2]));
        host.scheduler().spawn("vcpu", vcpu::run);
        host.scheduler().spawn("worker", () -> vm.setMemoryAttributes(0x5000, PAGE, 0));
        host.scheduler().run();
        assertThat(calls()).containsExactly("VP_ENTER", "MEM_RANGE_BLOCK", "MEM_RANGE_BLOCK", "MEM_TRACK",
                "MEM_PAGE_REMOVE", "PHYMEM_PAGE_WBINVD", "VP_ENTER");
    }

    @Test void theHostFindsItsUserMsrsAfterATd() {
        var vcpu = ready();
        var lp = host.processors().getFirst();
        for (int msr : new int[] {Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_FMASK, Msr.IA32_TSC_AUX}) {
            assertThat(lp.rdmsr(msr)).as("MSR 0x%x", msr).isEqualTo(HOST_MSR);
        }
        module.exits.add(regs -> {
            assertThat(lp.rdmsr(Msr.IA32_LSTAR)).as("what the module leaves is there before it could").isZero();
            assertThat(lp.rdmsr(Msr.IA32_FMASK)).isEqualTo(HostState.FMASK);
            lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, 0x666);
            lp.xcr0(1);
            change(lp, 0);
            end(new long[2]).accept(regs);
        });
        change(lp, 0x800);
        var before = state(lp);
        run(vcpu, exit -> false);
        assertThat(state(lp)).isEqualTo(before);
    }

    private static void change(LogicalProcessor lp, long value) {
        lp.wrmsr(Msr.IA32_XSS, value);
        lp.wrmsr(Msr.IA32_DEBUGCTL, value);
        lp.pkru((int) value);
        lp.fpu().fcw = (int) (value | 0x7f);
        for (int dr : new int[] {0, 1, 2, 3, 7}) {
            lp.dr(dr, value | (value >> 11) | 0x400);
        }
    }

    private static List<Long> state(LogicalProcessor lp) {
        var state = new ArrayList<Long>(List.of(lp.xcr0(), (long) lp.pkru(), (long) lp.fpu().fcw, lp.dr(0), lp.dr(1), lp.dr(2), lp.dr(3),
                lp.dr(7)));
        IntStream.of(Msr.IA32_STAR, Msr.IA32_LSTAR, Msr.IA32_FMASK, Msr.IA32_TSC_AUX, Msr.IA32_KERNEL_GS_BASE, Msr.IA32_XSS,
                Msr.IA32_DEBUGCTL).forEach(msr -> state.add(lp.rdmsr(msr)));
        return state;
    }

    @Test void aProcessorLeavesWithoutStateOfTdsAndComesBack() {
        var vcpu = ready();
        var errors = new ArrayList<Errno>();
        for (int i = 0; i < 3; i++) {
            module.exits.add(end(new long[2]));
        }
        host.scheduler().spawn("vcpu", () -> {
            vcpu.run();
            kvm.processorOnline(0, false);
            errors.add(catchThrowableOfType(KvmException.class, () -> kvm.processorOnline(1, false)).errno());
            vcpu.run();
            kvm.processorOnline(0, true);
            kvm.processorOnline(1, false);
            vcpu.run();
            vm.close();
            errors.add(catchThrowableOfType(KvmException.class, () -> kvm.processorOnline(0, false)).errno());
        });
        host.scheduler().run();
        assertThat(module.runs).containsExactly("VP_ENTER on 0", "VP_FLUSH on 0", "VP_ENTER on 1", "VP_FLUSH on 1", "VP_ENTER on 0",
                "VP_FLUSH on 0");
        assertThat(errors).as("the last one of the package with a TD, the last one of all").containsExactly(Errno.EBUSY, Errno.EBUSY);
        assertThat(module.calls).as("the module knows the processor").doesNotContain("SYS_LP_INIT");
        assertThat(vm.stats().leakedPages()).isZero();
        assertThat(catchThrowableOfType(KvmException.class, () -> kvm.processorOnline(2, false)).errno()).isEqualTo(Errno.EINVAL);
    }

    /// Looking for interrupts needs a processor; the wake-up that comes while the vCPU waits for one was once lost.
    @ParameterizedTest
    @ValueSource(ints = {0, 1, 2, 3, 5, 8, 13, 21})
    void aHaltedTdIsWokenWhileItWaitsForAProcessor(int delay) {
        host.close();
        host = new TestHost(1);
        open();
        var vcpu = ready();
        module.exits.add(tdvmcall(32, 0x80f, 0x1ff));
        module.exits.add(tdvmcall(12, 0));
        module.exits.add(end(new long[2]));
        var ordinary = kvm.createVm(VmType.DEFAULT);
        ordinary.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        ordinary.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, 4 * PAGE, user));
        kvm.userMemory().write(user + PAGE, new byte[] {(byte) 0xeb, (byte) 0xfe}, 0, 2);
        var spinner = ordinary.createVcpu(0);
        var sregs = spinner.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        spinner.setSregs(sregs);
        var regs = spinner.getRegs();
        regs.rip = PAGE;
        spinner.setRegs(regs);
        var exits = new ArrayList<KvmExit>();
        host.scheduler().spawn("td", () -> exits.add(vcpu.run()));
        host.scheduler().spawn("spinner", spinner::run);
        host.scheduler().spawn("device", () -> {
            for (int i = 0; i < delay; i++) {
                host.scheduler().switchPoint(SwitchPoint.YIELD);
            }
            vm.signalMsi(0xfee0_0000L, 0x41);
            long end = host.scheduler().clock().now() + 30_000_000;
            while (host.scheduler().clock().now() < end) {
                host.scheduler().switchPoint(SwitchPoint.YIELD);
            }
            spinner.kick();
            vcpu.kick();
        });
        host.scheduler().run();
        assertThat(exits).containsExactly(new KvmExit.Shutdown());
    }

    @Test void busyZapIsRepeatedAsThePolicySays() {
        var forever = ready("retry-forever");
        forever.preFaultMemory(new GpaRange(0x5000, PAGE));
        calls();
        for (int i = 0; i < 100; i++) {
            module.failOnce(SeamcallLeaf.MEM_RANGE_BLOCK, BUSY | 146);
        }
        vm.setMemoryAttributes(0x5000, PAGE, 0);
        assertThat(Collections.frequency(calls(), "MEM_RANGE_BLOCK")).isEqualTo(101);
        aNewVm();
        var limited = ready("retry-n");
        limited.preFaultMemory(new GpaRange(0x5000, PAGE));
        calls();
        for (int i = 0; i < 100; i++) {
            module.failOnce(SeamcallLeaf.MEM_RANGE_BLOCK, BUSY | 146);
        }
        vm.setMemoryAttributes(0x5000, PAGE, 0);
        assertThat(Collections.frequency(calls(), "MEM_RANGE_BLOCK")).isEqualTo(1 + KvmPolicy.RETRIES);
        assertThat(catchThrowableOfType(KvmException.class, limited::getMpState).errno()).as("the TD is dead").isEqualTo(Errno.EIO);
    }

    @Test void thereAreNoTdsWithoutMmioCaching() {
        host.close();
        host = new TestHost(1);
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        module.calls.clear();
        var without = DevKvm.open(host.environment(), new KvmParameters(false, "snapshot"));
        assertThat(without.checkExtension(KvmCap.VM_TYPES) & (1L << VmType.TDX.number())).isZero();
        var refused = catchThrowableOfType(KvmException.class, () -> without.createVm(VmType.TDX));
        assertThat(refused.errno()).isEqualTo(Errno.EINVAL);
        assertThat(refused).hasMessageContaining("MMIO caching");
        assertThat(module.calls).as("the module is left alone").isEmpty();
        assertThat(without.createVm(VmType.DEFAULT).type()).isEqualTo(VmType.DEFAULT);
    }

    /// A module that lacks what KVM needs is as good as none. [LINUX __tdx_hardware_setup]
    @ParameterizedTest(name = "{0}")
    @CsvSource({"TOPOLOGY_ENUM, a00000300000008, 2e0f0fbf", "NO_RBP_MOD, a00000300000008, 2e1b0fbf",
            "MAX_VCPUS_PER_TD, 9900000100000008, 1", "MAX_TDMRS, 9100000100000008, 0"})
    void aModuleThatLacksSomethingIsNotUsed(String what, String field, String value) {
        host.close();
        host = new TestHost(2);
        host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
        module.fields.put(Long.parseUnsignedLong(field, 16), Long.parseLong(value, 16));
        var without = DevKvm.open(host.environment());
        assertThat(without.checkExtension(KvmCap.VM_TYPES) & (1L << VmType.TDX.number())).isZero();
        assertThat(catchThrowableOfType(KvmException.class, () -> without.createVm(VmType.TDX))).hasMessageContaining(what);
    }

    /// A part with 52 address bits cannot mark MMIO in legacy tables, whose masks are in place before EPT's.
    @Test void parameterThatLegacyTablesClearIsLostForEpt() {
        for (var rule : KvmPolicy.MMIO_PARAMETER.choices()) {
            host.close();
            host = new TestHost(1);
            host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
            int[] registers = new int[4];
            host.processors().getFirst().cpuid(0x8000_0008, 0, registers);
            assertThat(registers[0] & 0xff).as("MAXPHYADDR").isEqualTo(52);
            var types = DevKvm.open(host.environment(), new KvmParameters(true, rule)).checkExtension(KvmCap.VM_TYPES);
            assertThat((types & (1L << VmType.TDX.number())) != 0).as(rule).isEqualTo(!rule.equals("cleared-for-good"));
        }
    }

    @Test void policiesAreChosenBeforeVcpusExist() {
        assertThat(catchThrowableOfType(KvmException.class, () -> vm.choose(KvmPolicy.MMIO_PARAMETER, "snapshot")).errno())
                .as("of the module").isEqualTo(Errno.EINVAL);
        assertThat(catchThrowableOfType(KvmException.class, () -> vm.choose(KvmPolicy.ZAP_CONTENTION, "hope")).errno())
                .isEqualTo(Errno.EINVAL);
        init();
        vm.choose(KvmPolicy.TD_VCPU_LIMIT, "module");
        for (int id = 0; id < 3; id++) {
            vm.createVcpu(id);
        }
        assertThat(vm.checkExtension(KvmCap.MAX_VCPUS)).isEqualTo(576);
        assertThat(catchThrowableOfType(KvmException.class, () -> vm.choose(KvmPolicy.TD_VCPU_LIMIT, "processors")).errno())
                .isEqualTo(Errno.EBUSY);
    }

    @Test void anEptMisconfigurationKillsTheTd() {
        var vcpu = ready();
        module.exits.add(regs -> regs.set(SeamRegs.RAX, 49));
        var thrown = catchThrowableOfType(KvmException.class, () -> run(vcpu, exit -> false));
        assertThat(thrown.errno()).isEqualTo(Errno.EIO);
        assertThat(catchThrowableOfType(KvmException.class, vcpu::getMpState).errno()).isEqualTo(Errno.EIO);
    }

    /// Under a strategy that changes host threads at random points: what one caller does half must not be seen by the other, and a
    /// vCPU that is initialised meanwhile stays where TDH.VP.INIT put it, or is flushed.
    @ParameterizedTest
    @ValueSource(longs = {1, 2, 3, 4, 5, 6, 7, 8})
    void twoCallersOfInitMemRegionTakeTurns(long seed) {
        host.close();
        host = new TestHost(2, new RandomWalk(seed, 2));
        open();
        init();
        var vcpus = List.of(vcpu(0), vcpu(1));
        memory();
        for (int i = 0; i < 2; i++) {
            var vcpu = vcpus.get(i);
            long first = i * 64 * PAGE;
            host.scheduler().spawn("builder" + i, () -> {
                vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(KvmAbi.TDX_MEASURE_MEMORY_REGION,
                        new KvmTdxCmd.MemRegion(user + first, first, 16)));
            });
        }
        host.scheduler().run();
        assertThat(vm.stats().pagesAdded()).isEqualTo(32);
        vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
    }

    @Test void interruptsForAHaltedTdArePosted() {
        var vcpu = ready();
        module.exits.add(tdvmcall(32, 0x80f, 0x1ff));
        module.exits.add(tdvmcall(12, 0));
        module.exits.add(end(new long[2]));
        host.scheduler().spawn("vcpu", vcpu::run);
        host.scheduler().spawn("device", () -> vm.signalMsi(0xfee0_0000L, 0x41));
        host.scheduler().run();
        assertThat(host.scheduler().stalled()).isFalse();
        assertThat(calls()).containsExactly("VP_ENTER", "VP_ENTER", "VP_ENTER");
    }
}
