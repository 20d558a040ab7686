package cloister.bench;

import cloister.kvm.HostEnvironment;
import cloister.kvm.Kvm;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmParameters;
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
import java.util.HexFormat;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// Round trips of a real-mode guest whose instructions KVM emulates: guest, VM exit, emulator, exit to the VMM, and back. Every invocation
/// has a fresh platform and VM, made outside the measured time: a scheduler runs once.
@State(Scope.Thread)
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Fork(1)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 3, time = 2)
public class EmulationBenchmark {
    private static final int ROUND_TRIPS = 5000;
    private static final int MEMORY = 0x10000;
    private static final int CODE = 0x1000;
    private static final int MMIO = 0xd_0000;

    /// What the guest does in a loop.
    public enum Loop {
        /// MOV [BX], AX: one exit each.
        MMIO_WRITE("89 07 eb fc", true),
        /// MOV AX, [BX]: one exit each.
        MMIO_READ("8b 07 eb fc", true),
        /// OR [BX], AX: two exits each, a read and a write.
        MMIO_MODIFY("09 07 eb fc", true),
        /// OUTSW: one exit each.
        OUTS("6f eb fd", true),
        /// With ept=0, 400 emulated instructions between two exits: MOV CX, 200; DEC CX; JNZ; OUT 0x10, AL.
        REAL_MODE("b9 c8 00 49 75 fd e6 10 eb f6", false);

        private final byte[] code;
        private final boolean ept;

        Loop(String code, boolean ept) {
            this.code = HexFormat.ofDelimiter(" ").parseHex(code);
            this.ept = ept;
        }
    }

    @Param public Loop loop;
    private Platform platform;
    private KvmVcpu vcpu;

    /// Makes the VM.
    @Setup(Level.Invocation) public void create() {
        platform = new Platform(new PlatformOptions(1, 256L << 20, 1, new RoundRobin(), Scheduler.IdlePace.SKIP));
        Kvm kvm = DevKvm.open(new HostEnvironment(platform.processors(), platform.hostMemory(), platform.scheduler(),
                platform.freeStartPa(), platform.freeEndPa()), new KvmParameters(true, "snapshot", loop.ept));
        var vm = kvm.createVm(VmType.DEFAULT);
        long user = kvm.userMemory().map(MEMORY);
        vm.enableCap(KvmCap.SPLIT_IRQCHIP, 24);
        vm.setUserMemoryRegion2(UserMemoryRegion.of(0, 0, MEMORY, user));
        kvm.userMemory().write(user + CODE, loop.code, 0, loop.code.length);
        vcpu = vm.createVcpu(0);
        vcpu.setCpuid2(kvm.supportedCpuid());
        var sregs = vcpu.getSregs();
        sregs.cs = KvmSegment.realMode(0, 0xb);
        sregs.ds = KvmSegment.realMode(loop == Loop.OUTS ? 0 : MMIO >> 4, 3);
        vcpu.setSregs(sregs);
        var regs = vcpu.getRegs();
        regs.rip = CODE;
        vcpu.setRegs(regs);
    }

    /// Round trips of one host thread.
    @Benchmark
    @OperationsPerInvocation(ROUND_TRIPS)
    public long roundTrips() {
        platform.scheduler().spawn("vcpu", () -> {
            for (int i = 0; i < ROUND_TRIPS; i++) {
                var exit = vcpu.run();
                if (!(exit instanceof KvmExit.Mmio) && !(exit instanceof KvmExit.Io)) {
                    throw new IllegalStateException(exit.toString());
                }
            }
        });
        platform.scheduler().run();
        return platform.scheduler().clock().now();
    }

    /// Gives the memory back.
    @TearDown(Level.Invocation) public void close() {
        platform.close();
    }
}
