package cloister.bench;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Operands;
import cloister.kvm.HostEnvironment;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmSegment;
import cloister.kvm.KvmVcpu;
import cloister.kvm.UserMemoryRegion;
import cloister.kvm.dev.DevKvm;
import cloister.platform.Platform;
import cloister.platform.PlatformOptions;
import cloister.sim.RoundRobin;
import cloister.sim.Scheduler;
import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// What a KVM_RUN costs that enters an ordinary guest and comes back with an output of one byte, with and without the check of the
/// host's registers. [ADR 35] Run with `./cloister bench RunBenchmark`; `-prof gc` tells what it allocates.
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 1)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = {"-XX:+UseSerialGC", "-Xmx512m", "-XX:PerMethodTrapLimit=0", "--enable-native-access=ALL-UNNAMED"})
@State(Scope.Thread)
public class RunBenchmark {
    private static final long PLATFORM_MEMORY = 64L << 20;
    private static final int CODE = 0x1000;
    private static final int MEMORY = 0x10000;

    @Param({"false", "true"})
    private boolean checked;
    private Platform platform;
    private KvmVcpu vcpu;

    @Setup
    public void build() {
        platform = new Platform(new PlatformOptions(1, PLATFORM_MEMORY, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
        var kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(),
                platform.freeStartPa(), platform.freeEndPa()));
        if (checked) {
            kvm.checkHostState();
        }
        var vm = kvm.createVm(VmType.DEFAULT);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        long user = kvm.userMemory().map(MEMORY);
        var a = new Assembler(CodeMode.BITS16, CODE);
        var loop = a.label();
        byte[] code = a.mov(Operands.DX, 0x3f8).label(loop).out(Operands.DX, Operands.AL).jmp(loop).assemble();
        kvm.userMemory().write(user + CODE, code, 0, code.length);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        vcpu.setRegs(regs);
    }

    @TearDown
    public void close() {
        platform.close();
    }

    @Benchmark
    public KvmExit output() {
        return vcpu.run();
    }
}
