package cloister.kvm;

import static cloister.spec.kvm.Errno.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowable;

import cloister.cpu.firmware.FirmwareAccess;
import cloister.kvm.dev.DevKvm;
import cloister.kvm.vcpu.Vm;
import cloister.sim.StateListing;
import cloister.spec.kvm.CpuidEntry;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/// Every KVM_TDX_ command in every state of a TD, and each of its fields out of range: the errno of Linux 7.2 in the order of its checks;
/// then nothing has changed, and the TDX module was not asked. [LINUX arch/x86/kvm/vmx/tdx.c]
final class BadTdInputTest {
    private static final long PAGE = 0x1000;
    private static final long SHARED = 1L << 47;
    private static final int GUEST_PA_LEAF = 0x8000_0008;
    private static final byte[] ZEROS = new byte[48];
    private static final List<CpuidEntry> CPUID = List.of(CpuidEntry.leaf(GUEST_PA_LEAF, 48 << 16, 0, 0, 0));

    /// How far a TD has come.
    private enum Stage { NEW, INITIALIZED, VCPU, VCPU_INITIALIZED, FINAL, DEAD }

    private record Row(String what, Errno errno, Consumer<Domain> call) {
    }

    private static Row row(String what, Errno errno, Consumer<Domain> call) {
        return new Row(what, errno, call);
    }

    private static final class Domain implements AutoCloseable {
        final ScriptedModule module = new ScriptedModule();
        final TestHost host = new TestHost(2);
        final Kvm kvm;
        final KvmVm vm;
        final long user;
        KvmVcpu vcpu;

        Domain(Stage stage) {
            host.processors().forEach(lp -> lp.installSeam(FirmwareAccess.SEAM, module));
            kvm = DevKvm.open(host.environment());
            user = kvm.userMemory().map(64 * PAGE);
            kvm.userMemory().write(user, 8, 1);
            vm = kvm.createVm(VmType.TDX);
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            if (stage == Stage.NEW) {
                return;
            }
            vm.memoryEncryptOp(initVm(ScriptedModule.SEPT_VE_DISABLE, 3, CPUID));
            vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, 16 * PAGE, user,
                    vm.createGuestMemfd(16 * PAGE, 0), 0));
            vm.setMemoryAttributes(0, 8 * PAGE, KvmAbi.MEMORY_ATTRIBUTE_PRIVATE);
            if (stage == Stage.INITIALIZED) {
                return;
            }
            vcpu = vm.createVcpu(0);
            vcpu.setCpuid2(kvm.supportedCpuid());
            if (stage.compareTo(Stage.VCPU_INITIALIZED) >= 0) {
                vcpu.memoryEncryptOp(KvmTdxCmd.initVcpu(0));
                vcpu.memoryEncryptOp(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(user, 0, 1)));
            }
            if (stage.compareTo(Stage.FINAL) >= 0) {
                vm.memoryEncryptOp(KvmTdxCmd.finalizeVm());
            }
            if (stage == Stage.DEAD) {
                ((Vm) vm).bug();
            }
            module.calls.clear();
        }

        void vmCommand(KvmTdxCmd cmd) {
            vm.memoryEncryptOp(cmd);
        }

        void vcpuCommand(KvmTdxCmd cmd) {
            vcpu.memoryEncryptOp(cmd);
        }

        void add(long source, long gpa, long pages, int flags) {
            var region = new KvmTdxCmd.MemRegion(source, gpa, pages);
            try {
                vcpuCommand(KvmTdxCmd.initMemRegion(flags, region));
            } finally {
                if (module.calls.isEmpty()) {
                    assertThat(List.of(region.sourceAddr, region.gpa, region.nrPages)).containsExactly(source, gpa, pages);
                }
            }
        }

        Map<String, String> state() {
            var all = new TreeMap<>(StateListing.of((Vm) vm).entries());
            all.put("frames", "" + ((Vm) vm).host.frames().allocatedFrames());
            all.put("pages of the module", "" + vm.stats().tdxPages());
            return all;
        }

        void isAsBefore(Map<String, String> before) {
            var changed = new TreeMap<>(state());
            changed.entrySet().removeIf(entry -> entry.getValue().equals(before.get(entry.getKey())));
            assertThat(changed).isEmpty();
        }

        @Override public void close() {
            host.close();
        }
    }

    private static KvmTdxCmd initVm(long attributes, long xfam, List<CpuidEntry> cpuid) {
        return KvmTdxCmd.initVm(new KvmTdxCmd.InitVm(attributes, xfam, ZEROS, ZEROS, ZEROS, cpuid));
    }

    private static KvmTdxCmd withHwError(KvmTdxCmd cmd) {
        cmd.hwError = 1;
        return cmd;
    }

    private static CpuidEntry guestPa(int bits) {
        return CpuidEntry.leaf(GUEST_PA_LEAF, bits << 16, 0, 0, 0);
    }

    // --- every command in every state

    /// What a command gives on the VM's and on a vCPU's file, at each stage; null: it works.
    private record Command(String name, Consumer<Domain> onVm, Consumer<Domain> onVcpu, Map<Stage, Errno> vm, Map<Stage, Errno> vcpu) {
    }

    private static Map<Stage, Errno> always(Errno errno) {
        return stages(errno, errno, errno, errno, errno);
    }

    private static Map<Stage, Errno> stages(Errno atFirst, Errno initialized, Errno withVcpu, Errno vcpuInitialized, Errno last) {
        var map = new TreeMap<Stage, Errno>();
        map.put(Stage.NEW, atFirst);
        map.put(Stage.INITIALIZED, initialized);
        map.put(Stage.VCPU, withVcpu);
        map.put(Stage.VCPU_INITIALIZED, vcpuInitialized);
        map.put(Stage.FINAL, last);
        map.put(Stage.DEAD, EIO);
        return map;
    }

    private static Command command(String name, Supplier<KvmTdxCmd> cmd, Map<Stage, Errno> vm, Map<Stage, Errno> vcpu) {
        return new Command(name, d -> d.vmCommand(cmd.get()), d -> d.vcpuCommand(cmd.get()), vm, vcpu);
    }

    private static List<Command> commands() {
        var onInitialized = stages(null, EINVAL, EINVAL, EINVAL, EINVAL);
        var region = new Command("INIT_MEM_REGION", d -> d.vmCommand(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(d.user, PAGE, 1))),
                d -> d.add(d.user, PAGE, 1, 0), always(EINVAL), stages(null, null, EINVAL, null, EINVAL));
        return List.of(command("CAPABILITIES", () -> KvmTdxCmd.capabilities(new KvmTdxCmd.Capabilities()), always(null), always(EINVAL)),
                command("INIT_VM", () -> initVm(0, 3, CPUID), onInitialized, always(EINVAL)),
                command("FINALIZE_VM", KvmTdxCmd::finalizeVm, stages(EINVAL, null, null, null, EINVAL), always(EINVAL)),
                command("INIT_VCPU", () -> KvmTdxCmd.initVcpu(0), always(EINVAL), stages(null, null, null, EINVAL, EINVAL)),
                command("GET_CPUID", () -> KvmTdxCmd.getCpuid(new KvmTdxCmd.CpuidTable(256)), always(EINVAL),
                        stages(null, null, EIO, EIO, EINVAL)), // the scripted module has no CPUID values to read
                region);
    }

    @TestFactory Stream<DynamicTest> everyCommandInEveryState() {
        var tests = new ArrayList<DynamicTest>();
        for (var command : commands()) {
            for (var stage : Stage.values()) {
                tests.add(DynamicTest.dynamicTest(command.name() + " on the VM, " + stage,
                        () -> check(stage, row(command.name(), command.vm().get(stage), command.onVm()))));
                if (stage.compareTo(Stage.VCPU) >= 0) {
                    tests.add(DynamicTest.dynamicTest(command.name() + " on a vCPU, " + stage,
                            () -> check(stage, row(command.name(), command.vcpu().get(stage), command.onVcpu()))));
                }
            }
        }
        return tests.stream();
    }

    private static void check(Stage stage, Row row) {
        try (var domain = new Domain(stage)) {
            domain.module.calls.clear();
            var before = domain.state();
            var thrown = catchThrowable(() -> row.call().accept(domain));
            if (row.errno() == null) {
                assertThat(thrown).isNull();
                return;
            }
            assertThat(thrown).isInstanceOf(KvmException.class);
            assertThat(((KvmException) thrown).errno()).isEqualTo(row.errno());
            domain.isAsBefore(before);
            assertThat(domain.module.calls).isEmpty();
        }
    }

    private static Stream<DynamicTest> tests(Stage stage, List<Row> rows) {
        return rows.stream().map(row -> DynamicTest.dynamicTest(row.what(), () -> check(stage, row)));
    }

    // --- fields

    @TestFactory Stream<DynamicTest> initVm() {
        var rows = new ArrayList<Row>();
        for (int bit = 0; bit < 64; bit++) {
            long flag = 1L << bit;
            rows.add(row("attribute " + bit, flag == ScriptedModule.SEPT_VE_DISABLE ? null : EINVAL,
                    d -> d.vmCommand(initVm(flag, 3, CPUID))));
            rows.add(row("XFAM " + bit, bit < 2 ? null : EINVAL, d -> d.vmCommand(initVm(0, flag | 3, CPUID))));
            int flags = 1 << bit;
            if (bit < 32) {
                rows.add(row("flag " + bit, EINVAL, d -> d.vmCommand(initVm(0, 3, CPUID).withFlags(flags))));
                rows.add(row("flag " + bit + " of CAPABILITIES", EINVAL,
                        d -> d.vmCommand(KvmTdxCmd.capabilities(new KvmTdxCmd.Capabilities()).withFlags(flags))));
            }
        }
        rows.add(row("hw_error", EINVAL, d -> d.vmCommand(withHwError(initVm(0, 3, CPUID)))));
        rows.add(row("hw_error of CAPABILITIES", EINVAL,
                d -> d.vmCommand(withHwError(KvmTdxCmd.capabilities(new KvmTdxCmd.Capabilities())))));
        rows.add(row("too little room for CAPABILITIES", E2BIG, d -> {
            var capabilities = new KvmTdxCmd.Capabilities();
            capabilities.cpuid.capacity = 1;
            d.vmCommand(KvmTdxCmd.capabilities(capabilities));
        }));
        rows.add(row("flags are looked at before the room", EINVAL, d -> {
            var capabilities = new KvmTdxCmd.Capabilities();
            capabilities.cpuid.capacity = 0;
            d.vmCommand(KvmTdxCmd.capabilities(capabilities).withFlags(1));
        }));
        cpuid(rows);
        return tests(Stage.NEW, rows);
    }

    private static void cpuid(List<Row> rows) {
        rows.add(row("no CPUID", EINVAL, d -> d.vmCommand(initVm(0, 3, List.of()))));
        for (int bits : new int[] {0, 1, 47, 49, 51, 53, 255}) {
            rows.add(row("guest addresses of " + bits + " bits", EINVAL, d -> d.vmCommand(initVm(0, 3, List.of(guestPa(bits))))));
        }
        rows.add(row("guest addresses of 52 bits", null, d -> d.vmCommand(initVm(0, 3, List.of(guestPa(52))))));
        rows.add(row("the width in another sub-leaf", EINVAL,
                d -> d.vmCommand(initVm(0, 3, List.of(CpuidEntry.subLeaf(GUEST_PA_LEAF, 1, 48 << 16, 0, 0, 0))))));
        rows.add(row("a leaf that cannot be configured", EINVAL,
                d -> d.vmCommand(initVm(0, 3, List.of(guestPa(48), CpuidEntry.leaf(0x15, 0, 0, 0, 0))))));
        rows.add(row("a leaf twice", EINVAL, d -> d.vmCommand(initVm(0, 3, List.of(guestPa(48), guestPa(48))))));
        rows.add(row("TSX", EINVAL,
                d -> d.vmCommand(initVm(0, 3, List.of(guestPa(48), CpuidEntry.subLeaf(7, 0, 0, 1 << 4, 0, 0))))));
        rows.add(row("WAITPKG", EINVAL,
                d -> d.vmCommand(initVm(0, 3, List.of(guestPa(48), CpuidEntry.subLeaf(7, 0, 0, 0, 1 << 5, 0))))));
        rows.add(row("as many leaves as there can be", EINVAL, d -> d.vmCommand(initVm(0, 3, Collections.nCopies(256, guestPa(48))))));
        rows.add(row("one too many", E2BIG, d -> d.vmCommand(initVm(0, 3, Collections.nCopies(257, guestPa(48))))));
        rows.add(row("the number is looked at before attributes", E2BIG,
                d -> d.vmCommand(initVm(-1, -1, Collections.nCopies(257, guestPa(48))))));
        rows.add(row("flags are looked at before the number", EINVAL,
                d -> d.vmCommand(initVm(0, 3, Collections.nCopies(257, guestPa(48))).withFlags(1))));
    }

    @TestFactory Stream<DynamicTest> flagsThatNobodyLooksAt() {
        return tests(Stage.VCPU, List.of(row("FINALIZE_VM", null, d -> d.vmCommand(KvmTdxCmd.finalizeVm().withFlags(-1))),
                row("GET_CPUID", EIO, d -> d.vcpuCommand(KvmTdxCmd.getCpuid(new KvmTdxCmd.CpuidTable(0)).withFlags(-1)))));
    }

    @TestFactory Stream<DynamicTest> initVcpu() {
        var rows = new ArrayList<Row>();
        for (int bit = 0; bit < 32; bit++) {
            int flags = 1 << bit;
            rows.add(row("flag " + bit, EINVAL, d -> d.vcpuCommand(KvmTdxCmd.initVcpu(0).withFlags(flags))));
        }
        rows.add(row("hw_error", EINVAL, d -> d.vcpuCommand(withHwError(KvmTdxCmd.initVcpu(0)))));
        rows.add(row("any RCX", null, d -> d.vcpuCommand(KvmTdxCmd.initVcpu(-1))));
        return tests(Stage.VCPU, rows);
    }

    @Test void aVcpuWithoutX2apicIsNotInitialised() {
        try (var domain = new Domain(Stage.INITIALIZED)) {
            domain.vcpu = domain.vm.createVcpu(0);
            var before = domain.state();
            var thrown = catchThrowable(() -> domain.vcpuCommand(KvmTdxCmd.initVcpu(0)));
            assertThat(((KvmException) thrown).errno()).isEqualTo(EINVAL);
            domain.isAsBefore(before);
        }
    }

    @Test void theVmmSeesFewRegistersOfATd() {
        try (var domain = new Domain(Stage.FINAL)) {
            int features = 0x3a;
            int apicBase = 0x1b;
            assertThat(domain.vcpu.getMsrs(features)).containsExactly(new MsrEntry(features, 1));
            assertThat(domain.vcpu.setMsrs(List.of(new MsrEntry(features, 1)))).isZero();
            assertThat(domain.vcpu.setMsrs(List.of(new MsrEntry(apicBase, 0xfee0_0900L)))).isZero();
            domain.vcpu.setMpState(MpState.RUNNABLE);
            assertThat(domain.vcpu.getMpState()).isEqualTo(MpState.RUNNABLE);
        }
    }

    @TestFactory Stream<DynamicTest> initMemRegion() {
        var rows = new ArrayList<Row>();
        for (int bit = 0; bit < 32; bit++) {
            int flags = 1 << bit;
            rows.add(row("flag " + bit, bit == 0 ? null : EINVAL, d -> d.add(d.user, PAGE, 1, flags)));
        }
        rows.add(row("hw_error", EINVAL,
                d -> d.vcpuCommand(withHwError(KvmTdxCmd.initMemRegion(0, new KvmTdxCmd.MemRegion(d.user, PAGE, 1))))));
        for (long off : new long[] {1, 8, PAGE - 1}) {
            rows.add(row("source address + " + off, EINVAL, d -> d.add(d.user + off, PAGE, 1, 0)));
            rows.add(row("guest address + " + off, EINVAL, d -> d.add(d.user, PAGE + off, 1, 0)));
        }
        rows.add(row("no pages", EINVAL, d -> d.add(d.user, PAGE, 0, 0)));
        for (long pages : new long[] {1L << 52, -1, (1L << 52) - 1, Long.MIN_VALUE, 1L << 35}) {
            rows.add(row(Long.toHexString(pages) + " pages", EINVAL, d -> d.add(d.user, PAGE, pages, 0)));
        }
        for (long gpa : new long[] {SHARED, SHARED | PAGE, -PAGE, Long.MAX_VALUE & -PAGE}) {
            rows.add(row("guest address " + Long.toHexString(gpa), EINVAL, d -> d.add(d.user, gpa, 1, 0)));
        }
        rows.add(row("up to the SHARED bit and beyond", EINVAL, d -> d.add(d.user, SHARED - PAGE, 2, 0)));
        rows.add(row("no slot", EINVAL, d -> d.add(d.user, 16 * PAGE, 1, 0)));
        rows.add(row("no slot above the SHARED bit", EINVAL, d -> d.add(d.user, SHARED << 1, 1, 0)));
        rows.add(row("no slot at 2^63", EINVAL, d -> d.add(d.user, 1L << 63, 1, 0)));
        rows.add(row("nothing at the source", EFAULT, d -> d.add(d.user + (1L << 40), PAGE, 1, 0)));
        return tests(Stage.VCPU_INITIALIZED, rows);
    }

    @TestFactory Stream<DynamicTest> slotsAndAttributes() {
        return tests(Stage.INITIALIZED, List.of(
                row("a slot with the SHARED bit", EINVAL, d -> slot(d, SHARED, PAGE, 0)),
                row("a slot up to the SHARED bit", null, d -> slot(d, SHARED - PAGE, PAGE, 0)),
                row("a slot across the SHARED bit", EINVAL, d -> slot(d, SHARED - PAGE, 2 * PAGE, 0)),
                row("a read-only slot", EINVAL, d -> slot(d, 1 << 20, PAGE, KvmAbi.MEM_READONLY)),
                row("a slot that logs writes", null, d -> slot(d, 1 << 20, PAGE, KvmAbi.MEM_LOG_DIRTY_PAGES)),
                row("address space 1", EINVAL, d -> d.vm.setUserMemoryRegion2(UserMemoryRegion.of(1 << 16, 0, PAGE, d.user))),
                row("an attribute that is none", EINVAL, d -> d.vm.setMemoryAttributes(0, PAGE, 1)),
                row("a guest_memfd that is shared at first", EINVAL, d -> d.vm.createGuestMemfd(PAGE, 3)),
                row("INIT_VM when vCPUs exist is too late already", EINVAL, d -> d.vmCommand(initVm(0, 3, CPUID)))));
    }

    private static void slot(Domain d, long gpa, long size, int flags) {
        d.vm.setUserMemoryRegion2(new UserMemoryRegion(5, flags, gpa, size, d.user, null, 0));
    }

    // --- nothing is left over

    /// Takes all frames but `left`.
    private static void exhaust(Domain domain, int left) {
        var frames = ((Vm) domain.vm).host.frames();
        var taken = new ArrayList<Long>();
        try {
            while (true) {
                taken.add(frames.allocate());
            }
        } catch (KvmException none) {
            for (int i = 0; i < left; i++) {
                frames.free(taken.removeLast());
            }
        }
    }

    @TestFactory Stream<DynamicTest> withoutMemory() {
        var tests = new ArrayList<DynamicTest>();
        // INIT_VM takes the parameters' page, the TDR and 4 pages of TDCS; INIT_VCPU the TDVPR and 3 more pages.
        for (int left = 0; left < 4; left++) {
            int frames = left;
            tests.add(DynamicTest.dynamicTest("INIT_VM, frames left: " + left,
                    () -> failsForMemory(Stage.NEW, frames, d -> d.vmCommand(initVm(0, 3, CPUID)))));
            if (left < 3) {
                tests.add(DynamicTest.dynamicTest("INIT_VCPU, frames left: " + left,
                        () -> failsForMemory(Stage.VCPU, frames, d -> d.vcpuCommand(KvmTdxCmd.initVcpu(0)))));
            }
        }
        tests.add(DynamicTest.dynamicTest("INIT_MEM_REGION",
                () -> failsForMemory(Stage.VCPU_INITIALIZED, 0, d -> d.add(d.user, PAGE, 1, 0))));
        tests.add(DynamicTest.dynamicTest("CREATE_VCPU", () -> failsForMemory(Stage.INITIALIZED, 0, d -> d.vm.createVcpu(0))));
        return tests.stream();
    }

    private static void failsForMemory(Stage stage, int left, Consumer<Domain> call) {
        try (var domain = new Domain(stage)) {
            exhaust(domain, left);
            domain.module.calls.clear();
            var before = domain.state();
            var thrown = catchThrowable(() -> call.accept(domain));
            assertThat(thrown).isInstanceOf(KvmException.class);
            assertThat(((KvmException) thrown).errno()).isEqualTo(ENOMEM);
            for (var name : List.of("vm.maxVcpuIds", "vm/vcpu0/apic.baseMsr", "vm/vcpu0/apic.page")) {
                before.computeIfPresent(name, (key, value) -> domain.state().get(key)); // set before frames are allocated, as in Linux
            }
            domain.isAsBefore(before);
            assertThat(domain.module.calls).isEmpty();
        }
    }

    @Test void keyIdsThatAreAllInUse() {
        try (var domain = new Domain(Stage.NEW)) {
            var open = new ArrayList<KvmVm>();
            Errno failed = null;
            for (int i = 0; i < 64 && failed == null; i++) {
                var vm = domain.kvm.createVm(VmType.TDX);
                try {
                    vm.memoryEncryptOp(initVm(0, 3, CPUID));
                    open.add(vm);
                } catch (KvmException e) {
                    failed = e.errno();
                }
            }
            assertThat(failed).isEqualTo(ENOSPC);
            open.getLast().close();
            var vm = domain.kvm.createVm(VmType.TDX);
            vm.memoryEncryptOp(initVm(0, 3, CPUID));
            assertThat(open).isNotEmpty();
        }
    }

    @Test void whatTheModuleRefusesCanBeTriedAgain() {
        try (var domain = new Domain(Stage.NEW)) {
            long refused = TdxStatus.OPERAND_INVALID.code() | 5;
            domain.module.failOnce(SeamcallLeaf.MNG_INIT, refused);
            var before = domain.state();
            var cmd = initVm(0, 3, CPUID);
            var thrown = catchThrowable(() -> domain.vmCommand(cmd));
            assertThat(((KvmException) thrown).errno()).isEqualTo(EINVAL);
            assertThat(cmd.hwError).isEqualTo(refused);
            domain.isAsBefore(before);
            domain.vmCommand(initVm(0, 3, CPUID));
            domain.module.failOnce(SeamcallLeaf.MR_FINALIZE, TdxStatus.OPERAND_BUSY.code() | 1);
            var final1 = KvmTdxCmd.finalizeVm();
            assertThat(((KvmException) catchThrowable(() -> domain.vmCommand(final1))).errno()).isEqualTo(EBUSY);
            assertThat(final1.hwError).isEqualTo(TdxStatus.OPERAND_BUSY.code() | 1);
            domain.vmCommand(KvmTdxCmd.finalizeVm());
        }
    }
}
