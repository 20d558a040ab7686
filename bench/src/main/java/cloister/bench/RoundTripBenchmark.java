package cloister.bench;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBP;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Level;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/// What it costs to leave the guest and come back: an ordinary vCPU whose exits KVM handles itself, one whose exits the VMM handles, and
/// TDG.VP.VMCALL of a trust domain at the SEAMCALL interface. Run with `./cloister bench RoundTripBenchmark`.
@BenchmarkMode(Mode.AverageTime)
@OutputTimeUnit(TimeUnit.NANOSECONDS)
@Warmup(iterations = 5, time = 2)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = {"-XX:+UseSerialGC", "-XX:PerMethodTrapLimit=0", "--enable-native-access=ALL-UNNAMED"})
@State(Scope.Thread)
public class RoundTripBenchmark {
    private static final int TRIPS = 1 << 16;
    private static final long MEMORY = 1L << 20;
    private static final int PORT = 0x80;
    private static final int HANDLER = 0x3000;
    private static final int VECTOR = 0x40;
    private static final long MTRR_CAP = 0xfe;
    private static final long APIC_BASE = 0x1b;
    private static final long X2APIC_ENABLED = 0xfee0_0d00L;
    private static final long SPURIOUS_VECTOR = 0x80f;
    private static final long EOI = 0x80b;
    private static final long TIMER_VECTOR = 0x832;
    private static final long INITIAL_COUNT = 0x838;

    private final BenchGuest cpuid = guest(a -> { }, a -> a.xor(EAX, EAX).cpuid());
    private final BenchGuest rdmsr = guest(a -> { }, a -> a.mov(ECX, MTRR_CAP).rdmsr());
    private final BenchGuest port = guest(a -> { }, a -> a.out(PORT, AL));
    private final BenchGuest nothing = guest(a -> { }, a -> a.xor(EAX, EAX));
    private CallingTd td;

    /// A TD whose guest calls its host for ever.
    private static final class CallingTd extends SeamcallBenchmark.RunnableTd {
        CallingTd() {
            build();
            augment();
            runGuest(); // it has woken up
            runGuest(); // it has accepted its memory
        }
    }

    /// A guest that has not run.
    @State(Scope.Thread)
    public static class Halting {
        private BenchGuest guest;

        @Setup(Level.Invocation)
        public void make() {
            guest = halting();
        }

        @TearDown(Level.Invocation)
        public void close() {
            guest.close();
        }
    }

    /// @param prologue what happens once
    /// @param body     what happens [#TRIPS] times; EBP is the loop's
    private static BenchGuest guest(Consumer<Assembler> prologue, Consumer<Assembler> body) {
        var guest = new BenchGuest(MEMORY, true);
        var a = new Assembler(CodeMode.BITS16, BenchGuest.CODE);
        prologue.accept(a);
        a.mov(EBP, TRIPS);
        var again = a.label();
        a.label(again);
        body.accept(a);
        a.sub(EBP, 1).jcc(Condition.NE, again);
        a.out(BenchGuest.DONE, AL);
        guest.load(a);
        return guest;
    }

    private static void wrmsr(Assembler a, long msr, long value) {
        a.mov(ECX, msr).mov(EAX, value).xor(EDX, EDX).wrmsr();
    }

    /// Arms its timer, halts, and is woken.
    private static BenchGuest halting() {
        var guest = guest(a -> {
            wrmsr(a, APIC_BASE, X2APIC_ENABLED);
            wrmsr(a, SPURIOUS_VECTOR, 0x1ff);
            wrmsr(a, TIMER_VECTOR, VECTOR);
        }, a -> {
            wrmsr(a, INITIAL_COUNT, 1000);
            a.sti().hlt();
        });
        var handler = new Assembler(CodeMode.BITS16, HANDLER);
        wrmsr(handler, EOI, 0);
        byte[] code = handler.iret(2).assemble();
        for (int i = 0; i < code.length; i++) {
            guest.write(HANDLER + i, 1, code[i]);
        }
        guest.write(4 * VECTOR, 4, HANDLER);
        return guest;
    }

    @Setup(Level.Trial)
    public void startTd() {
        td = new CallingTd();
    }

    @TearDown(Level.Trial)
    public void close() {
        for (var guest : new BenchGuest[] {cpuid, rdmsr, port, nothing}) {
            guest.close();
        }
        td.close();
    }

    /// CPUID: KVM emulates it.
    @Benchmark
    @OperationsPerInvocation(TRIPS)
    public void cpuid() {
        cpuid.runHere();
    }

    /// RDMSR of a register that KVM emulates.
    @Benchmark
    @OperationsPerInvocation(TRIPS)
    public void rdmsr() {
        rdmsr.runHere();
    }

    /// OUT, for which KVM_RUN returns to the VMM.
    @Benchmark
    @OperationsPerInvocation(TRIPS)
    public void portWrite() {
        port.runHere();
    }

    /// WRMSR that arms the timer, HLT, the wake-up, the interrupt and its EOI.
    @Benchmark
    @OperationsPerInvocation(TRIPS)
    public void haltAndTimer(Halting halting) {
        halting.guest.runOnce();
    }

    /// The loop alone: what the others cost without their exits.
    @Benchmark
    @OperationsPerInvocation(TRIPS)
    public void loopAlone() {
        nothing.runHere();
    }

    /// TDG.VP.VMCALL to the host and TDH.VP.ENTER back.
    @Benchmark
    public void tdvmcall() {
        td.runGuest();
    }
}
