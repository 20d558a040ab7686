package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;

import cloister.kvm.dev.DevKvm;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import cloister.spec.x86.Msr;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/// vCPUs of several VMs on the same processors: each gets its turn with its own state, and the host finds its own again.
final class SharedProcessorsTest {
    private static final int CODE = 0x1000;
    private static final int PORT = 0x3f8;
    private static final int MEMORY = 0x10000;
    private TestHost host;
    private Kvm kvm;

    private void host(int processors) {
        host = new TestHost(processors);
        kvm = DevKvm.open(host.environment());
    }

    @AfterEach void release() {
        host.close();
    }

    /// An ordinary VM whose vCPUs are application processors of nobody: each starts at [#CODE] by its own registers.
    private final class Guest {
        final KvmVm vm = kvm.createVm(VmType.DEFAULT);
        final long user = kvm.userMemory().map(MEMORY);

        Guest(byte[] code) {
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
            kvm.userMemory().write(user + CODE, code, 0, code.length);
        }

        KvmVcpu vcpu(int id) {
            var vcpu = vm.createVcpu(id);
            vcpu.setCpuid2(kvm.supportedCpuid());
            var sregs = vcpu.getSregs();
            sregs.cs = KvmSegment.realMode(0, 0xb);
            sregs.ss = KvmSegment.realMode(0, 3);
            sregs.ds = KvmSegment.realMode(0, 3);
            vcpu.setSregs(sregs);
            var regs = vcpu.getRegs();
            regs.rip = CODE;
            regs.rsp = 0x3000;
            regs.rbx = id;
            vcpu.setRegs(regs);
            vcpu.setMpState(MpState.RUNNABLE);
            return vcpu;
        }
    }

    private static Assembler code() {
        return new Assembler(CodeMode.BITS16, CODE).mov(DX, PORT);
    }

    /// Counts in BX for ever, without an exit of its own.
    private static byte[] spin() {
        var a = code();
        var loop = a.label();
        return a.label(loop).inc(BX).jmp(loop).assemble();
    }

    /// Lets guests run for so many ticks.
    private void pass(long ticks) {
        long end = host.scheduler().clock().now() + ticks;
        while (host.scheduler().clock().now() < end) {
            host.scheduler().switchPoint(SwitchPoint.YIELD);
        }
    }

    /// Runs until the guest writes 0xff; what it wrote before goes to `written`.
    private static void play(KvmVcpu vcpu, List<Integer> written) {
        while (vcpu.run() instanceof KvmExit.Io) {
            int value = vcpu.kvmRun().data[0] & 0xff;
            if (value == 0xff) {
                return;
            }
            written.add(value);
        }
    }

    @Test void zapAgainstASpinningGuestEnds() {
        host(1);
        var guest = new Guest(spin());
        var vcpu = guest.vcpu(0);
        var exits = new ArrayList<KvmExit>();
        host.scheduler().spawn("vcpu", () -> exits.add(vcpu.run()));
        host.scheduler().spawn("worker", () -> {
            for (int i = 0; i < 3; i++) {
                pass(500_000);
                kvm.userMemory().discard(guest.user + 0x8000, 0x1000);
                kvm.userMemory().discard(guest.user, 0x1000); // mapped with the code's block
                kvm.userMemory().discard(guest.user + 0x4000, 0x1000);
            }
            vcpu.kick();
        });
        host.scheduler().run();
        assertThat(host.scheduler().stalled()).isFalse();
        assertThat(exits).containsExactly(new KvmExit.Intr());
        assertThat(vcpu.getRegs().rbx & 0xffff).as("the guest ran").isNotZero();
    }

    @Test void twoVcpusOnOneProcessorBothExecuteTheirOwnCode() {
        host(1);
        var a = code().mov(AL, BL).out(DX, AL).add(AL, 0x40).out(DX, AL).mov(AL, 0xff).out(DX, AL).hlt();
        var guest = new Guest(a.assemble());
        var written = List.of(new ArrayList<Integer>(), new ArrayList<Integer>());
        var vcpus = List.of(guest.vcpu(0), guest.vcpu(1));
        for (int i = 0; i < 2; i++) {
            var vcpu = vcpus.get(i);
            var out = written.get(i);
            host.scheduler().spawn("vcpu" + i, () -> play(vcpu, out));
        }
        host.scheduler().run();
        assertThat(written.get(0)).containsExactly(0, 0x40);
        assertThat(written.get(1)).containsExactly(1, 0x41);
    }

    @Test void spinnersShareOneProcessorByTimeSlices() {
        host(1);
        var guest = new Guest(spin());
        var vcpus = new ArrayList<KvmVcpu>();
        for (int i = 0; i < 3; i++) {
            var vcpu = guest.vcpu(i);
            vcpus.add(vcpu);
            host.scheduler().spawn("vcpu" + i, vcpu::run);
        }
        host.scheduler().spawn("clock", () -> {
            pass(40_000_000);
            vcpus.forEach(KvmVcpu::kick);
        });
        host.scheduler().run();
        for (var vcpu : vcpus) {
            assertThat(vcpu.getRegs().rbx & 0xffff).isNotZero();
        }
        assertThat(guest.vm.stats().exits().get("EXTERNAL_INTERRUPT")).as("preempted in time").isGreaterThan(6);
    }

    @Test void severalVmsOnOneProcessorKeepTheirMemoryApart() {
        host(1);
        byte[] program = code().mov(AL, mem(null, 0x5000)).out(DX, AL).inc(mem(null, 0x5000).sized(1)).mov(AL, mem(null, 0x5000))
                .out(DX, AL).mov(AL, 0xff).out(DX, AL).hlt().assemble();
        var guests = new ArrayList<Guest>();
        var written = new ArrayList<List<Integer>>();
        for (int i = 0; i < 3; i++) {
            var guest = new Guest(program);
            kvm.userMemory().write(guest.user + 0x5000, new byte[] {(byte) (0x10 * (i + 1))}, 0, 1);
            var vcpu = guest.vcpu(0);
            var out = new ArrayList<Integer>();
            guests.add(guest);
            written.add(out);
            host.scheduler().spawn("vm" + i, () -> play(vcpu, out));
        }
        host.scheduler().run();
        assertThat(written).containsExactly(List.of(0x10, 0x11), List.of(0x20, 0x21), List.of(0x30, 0x31));
    }

    @Test void aVcpuMovesToAnotherProcessorWithItsState() {
        host(2);
        var guest = new Guest(code().mov(AL, BL).out(DX, AL).inc(BX).mov(AL, BL).out(DX, AL).mov(AL, 0xff).out(DX, AL).assemble());
        var vcpu = guest.vcpu(7);
        var written = new ArrayList<Integer>();
        // Different host threads start on different processors, so the vCPU moves with each call.
        for (int step = 0; step < 3; step++) {
            host.scheduler().spawn("runner" + step, () -> {
                var exit = vcpu.run();
                assertThat(exit).isInstanceOf(KvmExit.Io.class);
                written.add(vcpu.kvmRun().data[0] & 0xff);
                host.scheduler().switchPoint(SwitchPoint.YIELD);
            });
        }
        host.scheduler().run();
        assertThat(written).containsExactly(7, 8, 0xff);
    }

    @Test void processorsComeAndGoUnderSpinningVcpus() {
        host(3);
        var guests = List.of(new Guest(spin()), new Guest(spin()));
        var vcpus = new ArrayList<KvmVcpu>();
        for (int i = 0; i < 8; i++) {
            var vcpu = guests.get(i % 2).vcpu(i);
            vcpus.add(vcpu);
            host.scheduler().spawn("vcpu" + i, vcpu::run);
        }
        var progress = new ArrayList<Long>();
        host.scheduler().spawn("admin", () -> {
            for (int round = 0; round < 12; round++) {
                kvm.processorOnline(round % 3, false);
                pass(300_000);
                kvm.userMemory().discard(guests.get(round % 2).user + 0x4000, 0x1000);
                kvm.processorOnline((round + 1) % 3, false);
                pass(300_000);
                kvm.processorOnline(round % 3, true);
                kvm.processorOnline((round + 1) % 3, true);
                pass(100_000);
            }
            pass(40_000_000);
            vcpus.forEach(KvmVcpu::kick);
        });
        host.scheduler().run();
        assertThat(host.scheduler().stalled()).isFalse();
        for (var vcpu : vcpus) {
            assertThat(vcpu.getRegs().rbx & 0xffff).as("vCPU " + vcpu.id()).isNotZero();
            assertThat(vcpu.getRegs().rsp & 0xffff).isEqualTo(0x3000);
        }
        guests.forEach(guest -> guest.vm.close());
    }

    @Test void theHostFindsItsOwnStateAfterAnOrdinaryVcpu() {
        host = new TestHost(1);
        var lp = host.processors().getFirst();
        lp.wrmsr(Msr.IA32_LSTAR, 0x1111_0000L);
        lp.wrmsr(Msr.IA32_STAR, 0x2222L << 32);
        lp.wrmsr(Msr.IA32_CSTAR, 0x3333_0000L);
        lp.wrmsr(Msr.IA32_FMASK, 0x47700);
        lp.wrmsr(Msr.IA32_TSC_AUX, 5);
        lp.wrmsr(Msr.IA32_KERNEL_GS_BASE, 0x4444_0000L);
        long xcr0 = lp.xcr0();
        lp.wrmsr(Msr.IA32_FS_BASE, 0x6666_0000L);
        lp.wrmsr(Msr.IA32_GS_BASE, 0x7777_0000L);
        lp.wrmsr(Msr.IA32_SYSENTER_EIP, 0x7777_1000L);
        lp.wrmsr(Msr.IA32_XSS, 0x800);
        lp.pkru(0xc);
        long efer = lp.rdmsr(Msr.IA32_EFER);
        long pat = lp.rdmsr(Msr.IA32_PAT);
        for (int i = 0; i < 4; i++) {
            lp.dr(i, 0x5555 + i);
        }
        lp.dr(6, 0xffff_0ff1L);
        lp.dr(7, 0x401);
        lp.fpu().fcw = 0x27f;
        kvm = DevKvm.open(host.environment());
        // The guest changes the debug registers that VMX does not switch.
        var guest = new Guest(code().mov(DR0, EAX).mov(DR3, EAX).mov(AL, 0xff).out(DX, AL).hlt()
                .assemble());
        var vcpu = guest.vcpu(0);
        vcpu.setMsrs(List.of(new MsrEntry(Msr.IA32_LSTAR, 0x9999_0000L), new MsrEntry(Msr.IA32_KERNEL_GS_BASE, 0x8888_0000L)));
        host.scheduler().spawn("vcpu", () -> play(vcpu, new ArrayList<>()));
        host.scheduler().run();
        assertThat(lp.rdmsr(Msr.IA32_LSTAR)).isEqualTo(0x1111_0000L);
        assertThat(lp.rdmsr(Msr.IA32_STAR)).isEqualTo(0x2222L << 32);
        assertThat(lp.rdmsr(Msr.IA32_CSTAR)).isEqualTo(0x3333_0000L);
        assertThat(lp.rdmsr(Msr.IA32_FMASK)).isEqualTo(0x47700);
        assertThat(lp.rdmsr(Msr.IA32_TSC_AUX)).isEqualTo(5);
        assertThat(lp.rdmsr(Msr.IA32_KERNEL_GS_BASE)).isEqualTo(0x4444_0000L);
        assertThat(lp.xcr0()).isEqualTo(xcr0);
        assertThat(lp.rdmsr(Msr.IA32_FS_BASE)).isEqualTo(0x6666_0000L);
        assertThat(lp.rdmsr(Msr.IA32_GS_BASE)).isEqualTo(0x7777_0000L);
        assertThat(lp.rdmsr(Msr.IA32_SYSENTER_EIP)).isEqualTo(0x7777_1000L);
        assertThat(lp.rdmsr(Msr.IA32_XSS)).isEqualTo(0x800);
        assertThat(lp.rdmsr(Msr.IA32_EFER)).isEqualTo(efer);
        assertThat(lp.rdmsr(Msr.IA32_PAT)).isEqualTo(pat);
        assertThat(lp.pkru()).isEqualTo(0xc);
        for (int i = 0; i < 4; i++) {
            assertThat(lp.dr(i)).isEqualTo(0x5555 + i);
        }
        assertThat(lp.dr(6)).isEqualTo(0xffff_0ff1L);
        assertThat(lp.dr(7) & 0xff).isEqualTo(1);
        assertThat(lp.fpu().fcw).isEqualTo(0x27f);
        assertThat(vcpu.getMsrs(Msr.IA32_LSTAR, Msr.IA32_KERNEL_GS_BASE)).containsExactly(
                new MsrEntry(Msr.IA32_LSTAR, 0x9999_0000L), new MsrEntry(Msr.IA32_KERNEL_GS_BASE, 0x8888_0000L));
    }

    @Test void aStartedProcessorThatGotItsStartUpMessageByStateRuns() {
        host(1);
        var guest = new Guest(code().assemble());
        byte[] ap = new Assembler(CodeMode.BITS16, 0).mov(DX, PORT).mov(AL, 0x5a).out(DX, AL).mov(AL, 0xff).out(DX, AL).assemble();
        kvm.userMemory().write(guest.user, ap, 0, ap.length);
        var vcpu = guest.vm.createVcpu(1);
        vcpu.setCpuid2(kvm.supportedCpuid());
        vcpu.setMpState(MpState.SIPI_RECEIVED);
        var written = new ArrayList<Integer>();
        host.scheduler().spawn("vcpu", () -> play(vcpu, written));
        host.scheduler().run();
        assertThat(written).containsExactly(0x5a);
    }
}
