package cloister.bench;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.R8;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBP;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.RCX;
import static cloister.isa.Operands.RDI;
import static cloister.isa.Operands.RDX;
import static cloister.isa.Operands.RSI;
import static cloister.isa.Operands.byteAt;
import static cloister.isa.Operands.mem;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Interpreter;
import cloister.cpu.core.Translation;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.Warmup;

/// Guest instructions a microsecond (MIPS): a tight integer loop, a loop that copies memory, and flat code that runs through
/// thousands of blocks, as kernels do. Run with `./cloister bench EngineBenchmark`.
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 2)
@Measurement(iterations = 5, time = 1)
@Fork(value = 1, jvmArgsAppend = {"-XX:+UseSerialGC", "-XX:PerMethodTrapLimit=0", "--enable-native-access=ALL-UNNAMED"})
public class EngineBenchmark {
    private static final int SLICE = 30_000;
    private static final long CODE = 0x10_0000;
    private static final long DATA = 0x80_0000;

    @Param({"loop", "copy", "flat"})
    public String guest;

    private Cpu cpu;

    @Setup
    public void makeGuest() {
        var memory = new PhysicalMemory(16 << 20, 64);
        cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), EngineBenchmark::identity);
        cpu.cr0 = 0x31;
        cpu.efer = 0x500;
        cpu.segAr[Cpu.CS] = 0xa09b;
        cpu.updateMode();
        byte[] code = switch (guest) {
            case "loop" -> loop();
            case "copy" -> copy();
            default -> flat();
        };
        memory.write(CODE, code, 0, code.length);
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = DATA - 0x1000;
        cpu.r[Cpu.RSI] = DATA;
        cpu.r[Cpu.RDI] = DATA + 0x10_0000;
    }

    private static void identity(Cpu cpu, long linear, int access, int right, Translation out) {
        out.hpa = linear;
        out.pageShift = 12;
        out.writable = true;
        out.direct = true;
        out.global = false;
        out.hook = null;
    }

    /// One slice of the guest; the guests never end.
    @Benchmark
    @OperationsPerInvocation(SLICE)
    public long run() {
        Interpreter.run(cpu, SLICE);
        return cpu.retired;
    }

    private static byte[] loop() {
        var a = new Assembler(CodeMode.BITS64, CODE);
        Label start = a.label();
        Label skip = a.label();
        return a.label(start)
                .mov(RDX, mem(RSI, RAX, 8, 0)).add(RBX, RDX).lea(RAX, mem(RAX, 1)).and(EAX, 0xff)
                .mov(mem(RSI, 8), RBX).shr(RDX, 3).xor(RBP, RDX).cmp(RAX, 200).jcc(Condition.NE, skip)
                .inc(R8).label(skip).sub(RCX, 1).jcc(Condition.NE, start).jmp(start).assemble();
    }

    private static byte[] copy() {
        var a = new Assembler(CodeMode.BITS64, CODE);
        Label start = a.label();
        Label next = a.label();
        return a.label(start).mov(RCX, 4096)
                .label(next)
                .mov(RAX, mem(RSI, RCX, 8, -8)).mov(RDX, mem(RSI, RCX, 8, -16))
                .mov(mem(RDI, RCX, 8, -8), RAX).mov(mem(RDI, RCX, 8, -16), RDX)
                .sub(RCX, 2).jcc(Condition.NE, next).jmp(start).assemble();
    }

    /// Functions of some ten instructions, called in an order that has nothing to do with where they stand.
    private static byte[] flat() {
        int functions = 6000;
        var random = new Random(1);
        var a = new Assembler(CodeMode.BITS64, CODE);
        var start = new Label[functions];
        for (int i = 0; i < functions; i++) {
            start[i] = a.label();
        }
        Label main = a.label();
        a.label(main);
        for (int i : random.ints(2L * functions, 0, functions).toArray()) {
            a.call(start[i]);
        }
        a.jmp(main);
        for (int i = 0; i < functions; i++) {
            Label skip = a.label();
            int offset = 8 * random.nextInt(4096);
            a.label(start[i]).push(RBX).mov(RAX, mem(RSI, offset)).test(RAX, RAX).jcc(Condition.NE, skip)
                    .add(RBX, i).lea(RDX, mem(RBX, offset)).mov(mem(RSI, offset ^ 8), RDX).label(skip)
                    .movzx(ECX, byteAt(mem(RSI, offset))).xor(RDX, RCX).cmp(EDX, i).setcc(Condition.B, AL).pop(RBX).ret();
        }
        return a.assemble();
    }
}
