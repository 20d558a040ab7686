package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/// Ordinary VMs with private memory: real-mode guests on real logical processors.
final class SoftwareProtectedVmTest {
    private static final int PAGE = 0x1000;
    private static final int MEMORY = 0x10000;
    private static final int CODE = 0x1000;
    /// Where the second program lies, and the private page that it is copied to and runs from.
    private static final int SECOND = 0x2000;
    private static final int COPY = 0x8000;
    private static final int DATA = 0x9000;
    private static final int PORT = 0x3f8;
    private static final long PRIVATE = KvmAbi.MEMORY_ATTRIBUTE_PRIVATE;
    private final TestHost host = new TestHost(1);
    private final Kvm kvm = DevKvm.open(host.environment());
    private final KvmVm vm = kvm.createVm(VmType.SW_PROTECTED);
    private final long user = kvm.userMemory().map(MEMORY);
    private final GuestMemfd file = vm.createGuestMemfd(MEMORY, 0);
    private final List<Integer> written = new ArrayList<>();
    private final List<KvmExit> others = new ArrayList<>();

    @AfterEach void release() {
        host.close();
    }

    private KvmVcpu vcpu(UserMemoryRegion memory, byte[] code) {
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.setUserMemoryRegion2(memory);
        load(CODE, code);
        var vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        sregs.ss = KvmSegment.realMode(0, 3);
        sregs.ds = KvmSegment.realMode(0, 3);
        sregs.es = KvmSegment.realMode(0, 3);
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        regs.rsp = 0x3000;
        vcpu.setRegs(regs);
        return vcpu;
    }

    private UserMemoryRegion withFile() {
        return new UserMemoryRegion(0, KvmAbi.MEM_GUEST_MEMFD, 0, MEMORY, user, file, 0);
    }

    private void load(long gpa, byte[] bytes) {
        kvm.userMemory().write(user + gpa, bytes, 0, bytes.length);
    }

    /// Runs until the guest writes 0xff to the port, or `answer` is false.
    private void run(KvmVcpu vcpu, Function<KvmExit, Boolean> answer) {
        run(vcpu, () -> { }, answer);
    }

    private void run(KvmVcpu vcpu, Runnable before, Function<KvmExit, Boolean> answer) {
        host.scheduler().spawn("vcpu", () -> {
            before.run();
            while (true) {
                var exit = vcpu.run();
                if (exit instanceof KvmExit.Io) {
                    written.add(vcpu.kvmRun().data[0] & 0xff);
                    if (written.getLast() == 0xff) {
                        return;
                    }
                } else {
                    others.add(exit);
                    if (!answer.apply(exit)) {
                        return;
                    }
                }
            }
        });
        host.scheduler().run();
    }

    private static Assembler code(int at) {
        return new Assembler(CodeMode.BITS16, at).mov(DX, PORT);
    }

    private static byte[] end(Assembler a) {
        return a.mov(DX, PORT).mov(AL, 0xff).out(DX, AL).hlt().assemble();
    }

    /// Writes what is at `gpa` to the port.
    private static Assembler tell(Assembler a, int gpa) {
        return a.mov(DX, PORT).mov(AL, mem(null, gpa)).out(DX, AL);
    }

    private static Assembler mapGpaRange(Assembler a, int gpa, int pages, long attributes) {
        return a.mov(EAX, KvmAbi.HC_MAP_GPA_RANGE).mov(EBX, gpa).mov(ECX, pages).mov(EDX, (int) attributes).vmcall();
    }

    @Test void theGuestRunsFromPrivateMemoryAndConvertsIt() {
        vm.enableCap(KvmCap.EXIT_HYPERCALL, 1L << KvmAbi.HC_MAP_GPA_RANGE);
        var first = code(CODE).mov(SI, SECOND).mov(DI, COPY).mov(CX, 0x200).db(0xfc, 0xf3, 0xa4).mov(AX, COPY).db(0xff, 0xe0);
        var second = code(COPY).mov(mem(null, DATA).sized(1), 0x33);
        tell(second, DATA);
        tell(mapGpaRange(second, DATA, 1, KvmAbi.MAP_GPA_RANGE_DECRYPTED), DATA);
        tell(mapGpaRange(second, DATA, 1, KvmAbi.MAP_GPA_RANGE_ENCRYPTED), DATA);
        var vcpu = vcpu(withFile(), first.assemble());
        load(SECOND, end(second));
        load(DATA, new byte[] {0x77});
        vm.setMemoryAttributes(COPY, 2 * PAGE, PRIVATE);
        run(vcpu, exit -> {
            if (exit instanceof KvmExit.MapGpaRange(long gpa, long pages, boolean toPrivate)) {
                vm.setMemoryAttributes(gpa, pages * PAGE, toPrivate ? PRIVATE : 0);
                return true;
            }
            return false;
        });
        assertThat(written).as("private, shared, private again").containsExactly(0x33, 0x77, 0x33, 0xff);
        assertThat(others).containsExactly(new KvmExit.MapGpaRange(DATA, 1, false), new KvmExit.MapGpaRange(DATA, 1, true));
        assertThat(kvm.userMemory().read(user + COPY, 8)).as("the VMM does not see the private copy").isZero();
        assertThat(file.allocatedPages()).isEqualTo(2);
        assertThat(vm.stats().pagesConverted()).isEqualTo(2);
    }

    @Test void hypercallsAnswerWhatUpstreamAnswers() {
        var a = mapGpaRange(code(CODE), DATA, 1, 0);
        a.mov(DX, PORT).out(DX, AL);
        a.mov(EAX, 99).vmcall().mov(DX, PORT).out(DX, AL);
        var vcpu = vcpu(UserMemoryRegion.of(0, 0, MEMORY, user), end(a));
        run(vcpu, exit -> false);
        assertThat(written).as("ENOSYS of KVM, 1000: nobody asked for exits; no such call").containsExactly(0x18, 0x18, 0xff);
        assertThat(others).isEmpty();
    }

    @Test void rangesThatAreNoneDoNotReachTheVmm() {
        vm.enableCap(KvmCap.EXIT_HYPERCALL, 1L << KvmAbi.HC_MAP_GPA_RANGE);
        var a = mapGpaRange(code(CODE), DATA + 1, 1, 0).mov(DX, PORT).out(DX, AL);
        mapGpaRange(a, DATA, 0, 0).mov(DX, PORT).out(DX, AL);
        mapGpaRange(a, DATA, 1, 0).mov(DX, PORT).out(DX, AL);
        var vcpu = vcpu(UserMemoryRegion.of(0, 0, MEMORY, user), end(a));
        run(vcpu, exit -> {
            vcpu.kvmRun().ret = -Errno.EAGAIN.number();
            return true;
        });
        int invalid = -Errno.EINVAL.number() & 0xff;
        assertThat(written).containsExactly(invalid, invalid, -Errno.EAGAIN.number() & 0xff, 0xff);
        assertThat(others).containsExactly(new KvmExit.MapGpaRange(DATA, 1, false));
    }

    @Test void privateAccessWithoutPrivateMemoryGoesToTheVmm() {
        var vcpu = vcpu(UserMemoryRegion.of(0, 0, MEMORY, user), end(tell(tell(code(CODE), DATA), 0xa000)));
        load(DATA, new byte[] {0x77});
        vm.setMemoryAttributes(DATA, PAGE, PRIVATE);
        run(vcpu, exit -> {
            vm.setMemoryAttributes(DATA, PAGE, 0);
            return true;
        });
        assertThat(others).containsExactly(new KvmExit.MemoryFault(KvmAbi.MEMORY_EXIT_FLAG_PRIVATE, DATA, PAGE));
        assertThat(written).containsExactly(0x77, 0, 0xff);
    }

    @Test void privateAccessWhereNoSlotIsIsNoMmio() {
        var vcpu = vcpu(UserMemoryRegion.of(0, 0, DATA, user), end(tell(code(CODE), DATA)));
        vm.setMemoryAttributes(DATA, PAGE, PRIVATE);
        run(vcpu, exit -> {
            vm.setMemoryAttributes(DATA, PAGE, 0);
            return exit instanceof KvmExit.MemoryFault;
        });
        assertThat(others).containsExactly(new KvmExit.MemoryFault(KvmAbi.MEMORY_EXIT_FLAG_PRIVATE, DATA, PAGE),
                new KvmExit.Mmio(DATA, 1, false));
    }

    @Test void punchedHolesAreEmptyWhenTheGuestLooksAgain() {
        var a = tell(tell(code(CODE).mov(mem(null, DATA).sized(1), 0x33), DATA), DATA);
        var vcpu = vcpu(withFile(), end(a));
        vm.setMemoryAttributes(DATA, PAGE, PRIVATE);
        run(vcpu, () -> {
            vcpu.run();
            written.add(vcpu.kvmRun().data[0] & 0xff);
            file.punchHole(DATA, PAGE);
        }, exit -> false);
        assertThat(written).containsExactly(0x33, 0, 0xff);
    }

    @Test void pagesArePopulatedByTheirAttributes() {
        var vcpu = vcpu(withFile(), end(tell(tell(code(CODE), DATA), 0xa000)));
        vm.setMemoryAttributes(DATA, PAGE, PRIVATE);
        load(DATA, new byte[] {0x77});
        load(0xa000, new byte[] {0x78});
        run(vcpu, () -> {
            vcpu.preFaultMemory(new GpaRange(0, MEMORY));
            assertThat(file.allocatedPages()).as("only what is private comes from the file").isEqualTo(1);
        }, exit -> false);
        assertThat(written).containsExactly(0, 0x78, 0xff);
        assertThat(vm.stats().exits()).doesNotContainKey("EPT_VIOLATION");
    }

    @Test void closingTheVmGivesItsMemoryBack() {
        var vcpu = vcpu(withFile(), end(code(CODE).mov(mem(null, DATA).sized(1), 0x33)));
        vm.setMemoryAttributes(DATA, PAGE, PRIVATE);
        run(vcpu, exit -> false);
        assertThat(file.allocatedPages()).isEqualTo(1);
        vm.close();
        assertThat(file.allocatedPages()).isZero();
    }

    @Test void extensionsAreThoseOfAVmWithPrivateMemory() {
        assertThat(kvm.checkExtension(KvmCap.VM_TYPES) & (1L << 1)).isNotZero();
        assertThat(vm.type()).isEqualTo(VmType.SW_PROTECTED);
        assertThat(vm.checkExtension(KvmCap.MEMORY_ATTRIBUTES)).isEqualTo(PRIVATE);
        assertThat(kvm.createVm(VmType.DEFAULT).checkExtension(KvmCap.MEMORY_ATTRIBUTES)).isZero();
        assertThat(vm.checkExtension(KvmCap.MULTI_ADDRESS_SPACE)).as("no system-management mode").isEqualTo(1);
        assertThat(vm.checkExtension(KvmCap.READONLY_MEM)).as("its state is no secret").isEqualTo(1);
        assertThat(vm.checkExtension(KvmCap.GUEST_MEMFD_FLAGS)).isEqualTo(GuestMemfd.FLAG_MMAP);
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, KvmAbi.MEM_READONLY, 0, PAGE, user, null, 0));
    }

    @Test void withoutEptThereIsNoneAndNobodySaysSo() {
        try (var other = new TestHost(1)) {
            var shadowing = DevKvm.open(other.environment(), new KvmParameters(true, "snapshot", false));
            assertThat(shadowing.checkExtension(KvmCap.VM_TYPES)).isEqualTo(1L << VmType.DEFAULT.number());
            assertThat(catchThrowableOfType(KvmException.class, () -> shadowing.createVm(VmType.SW_PROTECTED)).errno())
                    .isEqualTo(Errno.EINVAL);
        }
    }

    static Stream<Arguments> errors() {
        int gmem = KvmAbi.MEM_GUEST_MEMFD;
        return Stream.of(
                row("file that is shared from the start", t -> t.vm.createGuestMemfd(PAGE, GuestMemfd.FLAG_INIT_SHARED)),
                row("another attribute", t -> t.vm.setMemoryAttributes(0, PAGE, 1)),
                row("attributes of half a page", t -> t.vm.setMemoryAttributes(0, PAGE / 2, PRIVATE)),
                row("attributes of nothing", t -> t.vm.setMemoryAttributes(0, 0, PRIVATE)),
                row("second address space", t -> t.vm.setUserMemoryRegion2(UserMemoryRegion.of(1 << 16, 0, PAGE, t.user))),
                row("read-only slot with a file", t -> t.slot(gmem | KvmAbi.MEM_READONLY)),
                row("dirty log of private memory", t -> t.slot(gmem | KvmAbi.MEM_LOG_DIRTY_PAGES)),
                row("file in the first form", t -> t.vm.setUserMemoryRegion(0, gmem, 0, PAGE, t.user)),
                row("unknown flag in the first form", t -> t.vm.setUserMemoryRegion(0, 1 << 7, 0, PAGE, t.user)),
                row("half a page in the first form", t -> t.vm.setUserMemoryRegion(0, 0, 0, PAGE / 2, t.user)),
                row("another VM's file", t -> t.kvm.createVm(VmType.SW_PROTECTED).setUserMemoryRegion2(t.withFile())),
                row("TD's memory types", t -> t.vm.choose(KvmPolicy.MEMORY_TYPE, "proposed-2023")));
    }

    private static Arguments row(String what, Consumer<SoftwareProtectedVmTest> action) {
        return arguments(what, action);
    }

    private void slot(int flags) {
        vm.setUserMemoryRegion2(new UserMemoryRegion(0, flags, 0, PAGE, user, file, 0));
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("errors")
    void isInvalid(String what, Consumer<SoftwareProtectedVmTest> action) {
        var thrown = catchThrowableOfType(KvmException.class, () -> action.accept(this));
        assertThat(thrown).as(what).isNotNull();
        assertThat(thrown.errno()).as(what).isEqualTo(Errno.EINVAL);
    }

    @Test void theFirstFormOfSlotsIsTheSecondWithoutAFile() {
        var code = end(code(CODE).mov(mem(null, DATA).sized(1), 0x33));
        var vcpu = vcpu(UserMemoryRegion.of(0, 0, MEMORY, user), code);
        vm.setUserMemoryRegion(0, 0, 0, 0, 0);
        vm.setUserMemoryRegion(0, KvmAbi.MEM_LOG_DIRTY_PAGES, 0, MEMORY, user);
        run(vcpu, exit -> false);
        assertThat(written).containsExactly(0xff);
        assertThat(vm.getDirtyLog(0)[0] & (1L << (DATA / PAGE))).isNotZero();
    }
}
