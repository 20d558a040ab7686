package cloister.bench;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.RDI;
import static cloister.isa.Operands.RSI;
import static cloister.isa.Operands.mem;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.spec.kvm.KvmCap;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// What the hypervisor's memory operations cost for a whole guest memory of so many MiB: divide by the pages for the cost of one, and
/// compare sizes for the growth. SEAMCALLs by themselves are in [SeamcallBenchmark]. Every invocation has a platform and VM of its own,
/// made outside of the measured time. Run with `./cloister bench MmuBenchmark`.
@BenchmarkMode(Mode.SingleShotTime)
@OutputTimeUnit(TimeUnit.MILLISECONDS)
@Warmup(iterations = 8)
@Measurement(iterations = 8)
@Fork(value = 1, jvmArgsAppend = {"-XX:+UseSerialGC", "-Xmx1g", "-XX:PerMethodTrapLimit=0", "--enable-native-access=ALL-UNNAMED"})
@State(Scope.Thread)
public class MmuBenchmark {
    private static final long MANUAL_PROTECT_INITIALLY_SET = 3;

    @Param({"64", "512", "4096"})
    private long mib;

    /// An empty VM: faults populate it.
    @State(Scope.Thread)
    public abstract static class Made {
        BenchVm made;

        final void make(MmuBenchmark size, boolean td, boolean smallPages, boolean populated) {
            made = new BenchVm(size.mib << 20, td, smallPages, 0);
            if (populated) {
                made.populate();
            }
        }

        @TearDown(Level.Invocation)
        public void close() {
            made.close();
        }
    }

    /// An empty trust domain.
    public static class EmptyTd extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, true, false, false);
        }
    }

    /// A trust domain whose memory is all private and mapped.
    public static class FullTd extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, true, false, true);
        }
    }

    /// An empty VM whose pages are small.
    public static class EmptySmall extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, false, true, false);
        }
    }

    /// The same with all memory mapped.
    public static class FullSmall extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, false, true, true);
        }
    }

    /// An empty VM whose pages are large.
    public static class EmptyLarge extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, false, false, false);
        }
    }

    /// A VM with large pages mapped, all of which count as written.
    public static class Logging extends Made {
        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            make(size, false, false, true);
            made.vm.enableCap(KvmCap.MANUAL_DIRTY_LOG_PROTECT2, MANUAL_PROTECT_INITIALLY_SET);
            made.logWrites();
        }
    }

    /// TDH.MEM.PAGE.AUG for every page, by KVM_PRE_FAULT_MEMORY.
    @Benchmark
    public void privateFaults4K(EmptyTd td) {
        td.made.populate();
    }

    /// Every page of 4 KiB of an ordinary VM.
    @Benchmark
    public void sharedFaults4K(EmptySmall vm) {
        vm.made.populate();
    }

    /// A guest without EPT that is going to touch every page of its first half.
    @State(Scope.Thread)
    public static class Shadowed {
        private BenchGuest made;

        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            made = new BenchGuest(size.mib << 20, false);
            made.longMode((int) Math.max(1, size.mib >> 10));
            var code = new Assembler(CodeMode.BITS64, BenchGuest.CODE);
            var again = code.label();
            code.mov(RSI, BenchGuest.LARGE).mov(RDI, size.mib << 19);
            code.label(again).mov(mem(RSI, 0).sized(1), 1).add(RSI, BenchVm.PAGE).cmp(RSI, RDI).jcc(Condition.B, again);
            made.load(code.out(BenchGuest.DONE, AL));
        }

        @TearDown(Level.Invocation)
        public void close() {
            made.close();
        }
    }

    /// Faults of 4 KiB that shadow pages are made for (`ept=0`): half as many pages as the others, and the guest makes them.
    @Benchmark
    public void shadowFaults4K(Shadowed guest) {
        guest.made.runOnce();
    }

    /// The pages of [#sharedFaults4K] and [#privateFaults4K] without a hypervisor: their bytes are cleared, as whoever gives out
    /// memory must.
    @Benchmark
    public void memoryAlone(Frames frames) {
        frames.clear();
    }

    /// Memory of the host program, touched before.
    @State(Scope.Thread)
    public static class Frames {
        private static final int CHUNK = 64 << 20;
        private final byte[] memory = new byte[CHUNK];
        private long chunks;

        @Setup(Level.Invocation)
        public void make(MmuBenchmark size) {
            chunks = Math.max(1, (size.mib << 20) / CHUNK);
        }

        void clear() {
            for (long i = 0; i < chunks; i++) {
                for (int at = 0; at < CHUNK; at += (int) BenchVm.PAGE) {
                    Arrays.fill(memory, at, at + (int) BenchVm.PAGE, (byte) i);
                }
            }
        }
    }

    /// Every page of 2 MiB of an ordinary VM.
    @Benchmark
    public void sharedFaults2M(EmptyLarge vm) {
        vm.made.populate();
    }

    /// The VMM gives all memory of an ordinary VM back.
    @Benchmark
    public void zap(FullSmall vm) {
        vm.made.discard();
    }

    /// All private memory becomes shared: BLOCK, TRACK, REMOVE and WBINVD for each page.
    @Benchmark
    public void conversion(FullTd td) {
        td.made.convert();
    }

    /// The log is read, and all large pages are split and watched again.
    @Benchmark
    public void dirtyLogHarvest(Logging vm) {
        vm.made.harvest();
    }

    /// The file of the private memory is released, then the TD goes.
    @Benchmark
    public void teardown(FullTd td) {
        td.made.closeVm();
    }
}
