package cloister.kvm;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.kvm.dev.DevKvm;
import cloister.sim.SwitchPoint;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// nx_huge_pages and its worker with a guest that executes from a large page.
final class NxHugePagesGuestTest {
    private static final int CODE = 0x1000;
    private static final int MEMORY = 4 << 20;
    private static final long TICKS_PER_SECOND = 1_000_000_000L;

    @ParameterizedTest(name = "nx_huge_pages={0}, ratio {1}, period {2} ms")
    @CsvSource({"true, 60, 0, 1", "true, 60, 100000, 0", "true, 0, 0, 0", "false, 60, 0, 0"})
    void codeFaultsAgainAfterAMinute(boolean nxHugePages, int ratio, int periodMs, int faults) {
        try (var host = new TestHost(1)) {
            var kvm = DevKvm.open(host.environment(), KvmParameters.DEFAULT.withNxHugePages(nxHugePages, ratio, periodMs));
            var vm = kvm.createVm(VmType.DEFAULT);
            vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
            long user = kvm.userMemory().map(MEMORY);
            vm.setUserMemoryRegion(0, 0, 0, MEMORY, user);
            var a = new Assembler(CodeMode.BITS16, CODE);
            var loop = a.label();
            byte[] code = a.label(loop).mov(DX, 0x3f8).out(DX, AL).jmp(loop).assemble();
            kvm.userMemory().write(user + CODE, code, 0, code.length);
            var vcpu = vm.createVcpu(0);
            vcpu.setCpuid2(kvm.supportedCpuid());
            var sregs = vcpu.getSregs();
            sregs.cs = KvmSegment.realMode(0, 0xb);
            vcpu.setSregs(sregs);
            var regs = vcpu.getRegs();
            regs.rip = CODE;
            vcpu.setRegs(regs);
            long[] counts = new long[2];
            host.scheduler().spawn("vcpu", () -> {
                vcpu.run();
                vcpu.run();
                counts[0] = vm.stats().exits().get("EPT_VIOLATION");
                host.scheduler().clock().advance(61 * TICKS_PER_SECOND);
                host.scheduler().switchPoint(SwitchPoint.YIELD);
                vcpu.run();
                vcpu.run();
                counts[1] = vm.stats().exits().get("EPT_VIOLATION");
            });
            host.scheduler().run();
            assertThat(counts[1] - counts[0]).isEqualTo(faults);
        }
    }
}
