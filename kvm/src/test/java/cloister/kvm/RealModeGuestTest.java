package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.kvm.dev.DevKvm;
import cloister.spec.kvm.Errno;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.ApicRegister;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;
import java.util.function.Function;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.Parameter;
import org.junit.jupiter.params.ParameterizedClass;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Tiny guests on real logical processors, executed by them or, with ept=0, by KVM's emulator.
@ParameterizedClass(name = "ept={0}")
@ValueSource(booleans = {true, false})
final class RealModeGuestTest {
    private static final int CODE = 0x1000;
    private static final int STACK = 0x3000;
    private static final int PORT = 0x3f8;
    private static final int MEMORY = 0x10000;

    /// One VM with 64 KiB and what its vCPUs wrote to the port.
    @Parameter boolean ept;

    private final class Guest implements AutoCloseable {
        final TestHost host;
        final Kvm kvm;
        final KvmVm vm;
        final long user;
        final List<Integer> written = new ArrayList<>();
        final List<KvmExit> others = new ArrayList<>();
        /// How often KVM_RUN ended because a vCPU got the INIT for which it waited.
        int woken;

        Guest(int processors) {
            this(processors, new KvmParameters(true, "snapshot", ept));
        }

        Guest(int processors, KvmParameters parameters) {
            host = new TestHost(processors);
            kvm = DevKvm.open(host.environment(), parameters);
            vm = kvm.createVm(VmType.DEFAULT);
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            user = kvm.userMemory().map(MEMORY);
            vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        }

        void load(long gpa, byte[] code) {
            kvm.userMemory().write(user + gpa, code, 0, code.length);
        }

        KvmVcpu vcpu(int id, Consumer<KvmSregs> change) {
            var vcpu = vm.createVcpu(id);
            vcpu.setCpuid2(kvm.supportedCpuid());
            if (id == 0) {
                var sregs = vcpu.getSregs();
                sregs.cs = KvmSegment.realMode(0, 0xb);
                sregs.ss = KvmSegment.realMode(0, 3);
                sregs.ds = KvmSegment.realMode(0, 3);
                change.accept(sregs);
                vcpu.setSregs(sregs);
                var regs = vcpu.getRegs();
                regs.rip = CODE;
                regs.rsp = STACK;
                vcpu.setRegs(regs);
            }
            return vcpu;
        }

        /// Runs until the guest writes 0xff to the port or ends.
        void run(KvmVcpu vcpu, Function<KvmExit, Boolean> answer) {
            while (true) {
                KvmExit exit;
                try {
                    exit = vcpu.run();
                } catch (KvmException again) {
                    assertThat(again.errno()).isEqualTo(Errno.EAGAIN);
                    woken++;
                    continue;
                }
                if (exit instanceof KvmExit.Io(boolean out, int size, int port, int count) && out && port == PORT) {
                    int value = vcpu.kvmRun().data[0] & 0xff;
                    written.add(value);
                    if (value == 0xff) {
                        return;
                    }
                } else {
                    others.add(exit);
                    if (!answer.apply(exit)) {
                        return;
                    }
                }
            }
        }

        void play(KvmVcpu... vcpus) {
            for (var vcpu : vcpus) {
                host.scheduler().spawn("vcpu" + vcpu.id(), () -> {
                    run(vcpu, exit -> false);
                    for (var other : vcpus) {
                        other.kick();
                    }
                });
            }
            host.scheduler().run();
        }

        @Override public void close() {
            host.close();
        }
    }

    private static Assembler code() {
        return new Assembler(CodeMode.BITS16, CODE).mov(DX, PORT);
    }

    private static Assembler end(Assembler a) {
        return a.mov(DX, PORT).mov(AL, 0xff).out(DX, AL).hlt();
    }

    @Test void writesToAPort() {
        try (var guest = new Guest(1)) {
            guest.load(CODE, end(code().mov(AL, 'H').out(DX, AL).mov(AL, 'i').out(DX, AL)).assemble());
            guest.play(guest.vcpu(0, s -> { }));
            assertThat(guest.written).containsExactly((int) 'H', (int) 'i', 0xff);
            assertThat(guest.vm.stats().exits()).isEqualTo(ept ? Map.of("EPT_VIOLATION", 1L, "IO_INSTRUCTION", 3L) : Map.of());
        }
    }

    @ParameterizedTest(name = "mmio_caching={0}")
    @ValueSource(booleans = {true, false})
    void readsAndModifiesMmio(boolean mmioCaching) {
        try (var guest = new Guest(1, new KvmParameters(mmioCaching, "snapshot", ept))) {
            var a = code().mov(AX, mem(BX)).mov(mem(BX, 2), AX).or(mem(BX, 4).sized(1), 0x81).pushf().pop(AX).and(AL, 0x80)
                    .out(DX, AL);
            guest.load(CODE, end(a).assemble());
            var vcpu = guest.vcpu(0, s -> s.ds = KvmSegment.realMode(0xd000, 3));
            var writes = new ArrayList<String>();
            guest.host.scheduler().spawn("vcpu", () -> guest.run(vcpu, exit -> {
                var mmio = (KvmExit.Mmio) exit;
                byte[] data = vcpu.kvmRun().data;
                if (mmio.write()) {
                    writes.add(Long.toHexString(mmio.gpa()) + " " + mmio.length() + " " + (data[0] & 0xff));
                } else {
                    data[0] = 0x22;
                    data[1] = 0x11;
                }
                return true;
            }));
            guest.host.scheduler().run();
            assertThat(writes).containsExactly("d0002 2 34", "d0004 1 163");
            assertThat(guest.written).as("sign flag of the OR").containsExactly(0x80, 0xff);
            assertThat(guest.vm.stats().exits().getOrDefault("EPT_MISCONFIGURATION", 0L)).as("of three accesses the first finds no entry")
                    .isEqualTo(mmioCaching && ept ? 2 : 0);
        }
    }

    @Test void timerInterruptWakesAHaltedGuest() {
        try (var guest = new Guest(1)) {
            guest.load(4 * 0x40, new byte[] {0, 0x20, 0, 0});
            guest.load(0x2000, new Assembler(CodeMode.BITS16, 0x2000).mov(DX, PORT).mov(AL, 'T').out(DX, AL)
                    .mov(mem(null, ApicRegister.EOI).sized(4), 0).iret(2).assemble());
            var a = code().mov(mem(null, ApicRegister.SPIV).sized(4), 0x1ff)
                    .mov(mem(null, ApicRegister.TIMER_DIVIDE).sized(4), 0xb)
                    .mov(mem(null, ApicRegister.LVT_TIMER).sized(4), 0x40)
                    .mov(mem(null, ApicRegister.TIMER_INITIAL_COUNT).sized(4), 5_000_000)
                    .sti().hlt();
            guest.load(CODE, end(a).assemble());
            guest.play(guest.vcpu(0, s -> s.ds = new KvmSegment(ApicRegister.DEFAULT_BASE, 0xffff, 0, 3, true, 0, false,
                    true, false, false, false, false)));
            assertThat(guest.written).containsExactly((int) 'T', 0xff);
            assertThat(guest.host.scheduler().clock().now()).isBetween(5_000_000L, 5_100_000L);
            assertThat(guest.vm.stats().exits().getOrDefault("HLT", 0L)).isEqualTo(ept ? 1 : 0);
        }
    }

    @Test void startsASecondProcessorByInitAndSipi() {
        try (var guest = new Guest(2)) {
            var wait = new Assembler(CodeMode.BITS16, CODE);
            var loop = wait.label();
            wait.mov(DX, PORT)
                    .mov(mem(null, ApicRegister.ICR2).sized(4), 1 << 24)
                    .mov(mem(null, ApicRegister.ICR).sized(4), (ApicRegister.INIT << 8) | ApicRegister.ICR_ASSERT)
                    .mov(mem(null, ApicRegister.ICR).sized(4), (ApicRegister.STARTUP << 8) | 4)
                    .label(loop).cmp(mem(null, 0x5000).sized(1).through(SS), 0x77).jcc(Condition.NE, loop)
                    .mov(AL, 'B').out(DX, AL);
            guest.load(CODE, end(wait).assemble());
            guest.load(0x4000, new Assembler(CodeMode.BITS16, 0).mov(AX, 0).mov(DS, AX)
                    .mov(mem(null, 0x5000).sized(1), 0x77).cli().hlt().assemble());
            var first = guest.vcpu(0, s -> s.ds = new KvmSegment(ApicRegister.DEFAULT_BASE, 0xffff, 0, 3, true, 0, false,
                    true, false, false, false, false));
            var second = guest.vcpu(1, s -> { });
            assertThat(second.getMpState()).isEqualTo(MpState.UNINITIALIZED);
            guest.play(first, second);
            assertThat(guest.written).containsExactly((int) 'B', 0xff);
            assertThat(guest.others).as("the second was kicked out").containsExactly(new KvmExit.Intr());
            assertThat(guest.woken).isEqualTo(1);
        }
    }

    @Test void whatTheEmulatorStoresToAReadOnlySlotGoesToTheVmm() {
        try (var guest = new Guest(1)) {
            long rom = guest.kvm.userMemory().map(0x1000);
            guest.kvm.userMemory().write(rom, 1, 0x11);
            guest.vm.setUserMemoryRegion(1, KvmAbi.MEM_READONLY, 0x2_0000, 0x1000, rom);
            // From MMIO at 0xa0000 to the slot at 0x20000: the emulator does both.
            guest.load(CODE, end(code().mov(AX, 0xa000).mov(DS, AX).mov(AX, 0x2000).mov(ES, AX).mov(SI, 0).mov(DI, 0).movs(1)).assemble());
            var vcpu = guest.vcpu(0, s -> { });
            host(guest, vcpu, exit -> {
                vcpu.kvmRun().item(0, 1, 0x22);
                return true;
            });
            assertThat(guest.others).containsExactly(new KvmExit.Mmio(0xa_0000, 1, false), new KvmExit.Mmio(0x2_0000, 1, true));
            assertThat(guest.kvm.userMemory().read(rom, 1)).isEqualTo(0x11);
        }
    }

    @Test void memoryThatTheVmmHasUnmappedIsItsFault() {
        try (var guest = new Guest(1)) {
            long gone = guest.kvm.userMemory().map(0x1000);
            guest.vm.setUserMemoryRegion2(UserMemoryRegion.of(1, 0x2_0000, 0x1000, gone));
            guest.kvm.userMemory().unmap(gone);
            guest.load(CODE, end(code().mov(AX, 0x2000).mov(DS, AX).mov(AL, mem(null, 0x10))).assemble());
            host(guest, guest.vcpu(0, s -> { }), exit -> false);
            // The emulator takes what it cannot read for MMIO. [LINUX emulator_read_write_onepage]
            assertThat(guest.others).containsExactly(ept ? new KvmExit.MemoryFault(0, 0x2_0000, 0x1000)
                    : new KvmExit.Mmio(0x2_0010, 1, false));
        }
    }

    @Test void anInstructionFromWhichTheVmmHasMovedRipIsGivenUp() {
        Assumptions.assumeTrue(ept, "the emulator has moved RIP before it asks");
        try (var guest = new Guest(1)) {
            guest.load(CODE, code().mov(AL, 'A').out(DX, AL).in(AL, DX).out(DX, AL).hlt().assemble());
            guest.load(0x2000, end(new Assembler(CodeMode.BITS16, 0x2000).mov(AL, 'B').out(DX, AL).in(AL, DX)).assemble());
            guest.load(0x2100, end(new Assembler(CodeMode.BITS16, 0x2100).out(DX, AL)).assemble());
            var vcpu = guest.vcpu(0, s -> { });
            guest.host.scheduler().spawn("vcpu0", () -> {
                vcpu.run();
                jump(vcpu, 0x2000);
                vcpu.run();
                assertThat(vcpu.kvmRun().item(0, 1)).isEqualTo('B');
                assertThat(vcpu.run()).isEqualTo(new KvmExit.Io(false, 1, PORT, 1));
                vcpu.kvmRun().item(0, 1, 'C');
                jump(vcpu, 0x2100);
                vcpu.run();
                assertThat(vcpu.kvmRun().item(0, 1)).as("the answer to IN is dropped").isEqualTo('B');
            });
            guest.host.scheduler().run();
        }
    }

    private static void jump(KvmVcpu vcpu, long rip) {
        var regs = vcpu.getRegs();
        regs.rip = rip;
        vcpu.setRegs(regs);
    }

    private static void host(Guest guest, KvmVcpu vcpu, Function<KvmExit, Boolean> answer) {
        guest.host.scheduler().spawn("vcpu0", () -> guest.run(vcpu, answer));
        guest.host.scheduler().run();
    }

    @Test void initLeavesNothingOfWhatWasBefore() {
        try (var guest = new Guest(2)) {
            var a = code();
            a.mov(mem(null, ApicRegister.ICR2).sized(4), 1 << 24)
                    .mov(mem(null, ApicRegister.ICR).sized(4), (ApicRegister.INIT << 8) | ApicRegister.ICR_ASSERT)
                    .mov(mem(null, ApicRegister.ICR).sized(4), (ApicRegister.STARTUP << 8) | 4);
            guest.load(CODE, end(a).assemble());
            guest.load(0x4000, new Assembler(CodeMode.BITS16, 0).cli().hlt().assemble());
            var first = guest.vcpu(0, s -> s.ds = new KvmSegment(ApicRegister.DEFAULT_BASE, 0xffff, 0, 3, true, 0, false,
                    true, false, false, false, false));
            var second = guest.vcpu(1, s -> { });
            var sregs = second.getSregs();
            sregs.cr2 = 0x1234;
            second.setSregs(sregs);
            var regs = second.getRegs();
            regs.rbx = 0x5678;
            second.setRegs(regs);
            guest.play(first, second);
            assertThat(second.getSregs().cr2).isZero();
            assertThat(second.getRegs().rbx).isZero();
            int signature = guest.kvm.supportedCpuid().stream().filter(e -> e.matches(1, 0)).findFirst().orElseThrow().eax();
            assertThat(second.getRegs().rdx).as("CPUID.1:EAX").isEqualTo(signature);
        }
    }

    @Test void tripleFaultIsAShutdown() {
        try (var guest = new Guest(1)) {
            guest.load(CODE, new byte[] {(byte) 0x0f, 0x0b});
            var vcpu = guest.vcpu(0, s -> s.idtLimit = 0);
            guest.play(vcpu);
            assertThat(guest.others).containsExactly(new KvmExit.Shutdown());
        }
    }

    @Test void unmappingMemoryTakesItFromTheGuest() {
        try (var guest = new Guest(1)) {
            var a = code().mov(AL, mem(null, 0x6000)).out(DX, AL).mov(AL, mem(null, 0x6000)).out(DX, AL);
            guest.load(CODE, end(a).assemble());
            guest.load(0x6000, new byte[] {0x5a});
            var vcpu = guest.vcpu(0, s -> { });
            guest.host.scheduler().spawn("vcpu", () -> {
                vcpu.run();
                guest.written.add(vcpu.kvmRun().data[0] & 0xff);
                guest.kvm.userMemory().discard(guest.user + 0x6000, 0x1000);
                guest.run(vcpu, exit -> false);
            });
            guest.host.scheduler().run();
            assertThat(guest.written).containsExactly(0x5a, 0, 0xff);
        }
    }

    @Test void aVcpuThatWaitsForInitIsInterruptedByASignalAndDoesNotWaitForAnImmediateExit() {
        try (var guest = new Guest(1)) {
            var vcpu = guest.vcpu(1, s -> { });
            var exits = new ArrayList<KvmExit>();
            guest.host.scheduler().spawn("vcpu", () -> {
                vcpu.kvmRun().immediateExit = true;
                exits.add(vcpu.run());
                vcpu.kvmRun().immediateExit = false;
                exits.add(vcpu.run());
            });
            guest.host.scheduler().spawn("other", vcpu::kick);
            guest.host.scheduler().run();
            assertThat(exits).containsExactly(new KvmExit.Intr(), new KvmExit.Intr());
            assertThat(vcpu.getMpState()).isEqualTo(MpState.UNINITIALIZED);
        }
    }

    @Test void withoutALocalApicInTheKernelEveryVcpuIsRunnable() {
        try (var host = new TestHost(1)) {
            assertThat(DevKvm.open(host.environment()).createVm(VmType.DEFAULT).createVcpu(3).getMpState()).isEqualTo(MpState.RUNNABLE);
        }
    }

    @Test void aClosedVmIsNotCountedAnyMore() {
        try (var guest = new Guest(1)) {
            guest.load(CODE, end(code()).assemble());
            guest.play(guest.vcpu(0, s -> { }));
            assertThat(guest.kvm.stats().exits().getOrDefault("IO_INSTRUCTION", 0L)).isEqualTo(ept ? 1 : 0);
            guest.vm.close();
            assertThat(guest.kvm.stats().exits()).isEmpty();
        }
    }
}
