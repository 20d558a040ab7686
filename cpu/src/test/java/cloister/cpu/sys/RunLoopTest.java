package cloister.cpu.sys;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// Events between instructions, in real-address mode. Every handler writes its vector to port 80H.
class RunLoopTest {
    private enum Kind { ONLY }

    private static final int CODE = 0x2000;
    private static final int HANDLERS = 0x3000;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final VirtualClock clock = new VirtualClock(1_000_000_000);
    private final Cpu cpu = new Cpu(memory, clock, new Entropy(1), new PageWalker());
    private final List<Integer> seen = new ArrayList<>();

    @BeforeEach
    void reset() {
        Reset.powerUp(cpu);
        cpu.segSelector[Cpu.CS] = 0;
        cpu.segBase[Cpu.CS] = 0;
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = 0x1000;
        for (int vector = 0; vector < 256; vector++) {
            int at = HANDLERS + vector * 16;
            memory.write(vector * 4, 4, at);
            code(at, a -> a.op(Op.PUSH, AX).mov(AL, (at - HANDLERS) / 16).out(0x80, AL).op(Op.POP, AX).iret(2));
        }
        cpu.io = new IoPorts() {
            @Override public int in(int port, int bytes) {
                return port;
            }

            @Override public void out(int port, int bytes, int value) {
                seen.add(value);
            }
        };
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void code(int at, UnaryOperator<Assembler> program) {
        byte[] bytes = program.apply(new Assembler(CodeMode.BITS16, at)).assemble();
        memory.write(at, bytes, 0, bytes.length);
    }

    private RunLoop.Stop run() {
        return new RunLoop(cpu, null).run();
    }

    @Test
    void trapsBeforeNmiBeforeInterruptsHighestVectorFirst() {
        code(CODE, a -> a.cli().hlt());
        cpu.rflags(Rflags.IF);
        cpu.events.pendingDebug = DebugRegisters.DR6_BS;
        cpu.events.raiseNmi();
        cpu.events.raiseExternal(0x40);
        cpu.events.raiseExternal(0x90);
        assertThat(run()).isEqualTo(RunLoop.Stop.HALTED_FOREVER);
        // Each is delivered at once, before the handler of the one before runs; so the last delivered runs first. Interrupts
        // wait for the IF that the first delivery cleared.
        assertThat(seen).containsExactly(2, 1, 0x90, 0x40);
    }

    @Test
    void stiShadowsOneInstruction() {
        code(CODE, a -> a.sti().mov(AL, 1).out(0x80, AL).cli().hlt());
        cpu.events.raiseExternal(0x40);
        run();
        assertThat(seen).containsExactly(0x40, 1);
        seen.clear();
        reset();
        code(CODE, a -> a.sti().cli().sti().out(0x80, AL).cli().hlt());
        cpu.r[Cpu.RAX] = 7;
        cpu.events.raiseExternal(0x40);
        run();
        assertThat(seen).as("STI, CLI leaves no window").containsExactly(7, 0x40);
    }

    @Test
    void nmisAreBlockedUntilIret() {
        code(CODE, a -> a.cli().hlt());
        code(HANDLERS + 2 * 16, a -> a.mov(AL, 0x55).out(0x80, AL).out(0x80, AL).iret(2));
        cpu.io = new IoPorts() {
            @Override public int in(int port, int bytes) {
                return 0;
            }

            @Override public void out(int port, int bytes, int value) {
                seen.add(value);
                if (seen.size() == 1) {
                    cpu.events.raiseNmi();
                }
            }
        };
        cpu.events.raiseNmi();
        run();
        assertThat(seen).hasSize(4);
        assertThat(cpu.events.nmiBlocked).isFalse();
        assertThat(cpu.r[Cpu.RSP]).as("never nested").isEqualTo(0x1000);
    }

    @Test
    void haltEndsWithATimersInterrupt() {
        code(CODE, a -> a.sti().hlt().mov(AL, 9).out(0x80, AL).cli().hlt());
        clock.schedule(1_000_000, _ -> cpu.events.raiseExternal(0x50), Kind.ONLY);
        assertThat(run()).isEqualTo(RunLoop.Stop.HALTED_FOREVER);
        assertThat(seen).containsExactly(0x50, 9);
        assertThat(clock.now()).isBetween(1_000_000L, 1_000_100L);
    }

    @Test
    void timersFireInTheMiddleOfALoop() {
        code(CODE, a -> {
            var loop = a.label();
            return a.sti().mov(CX, 0xffff).label(loop).dec(CX).jcc(Condition.NE, loop).cli().hlt();
        });
        long[] when = new long[1];
        clock.schedule(50_000, _ -> {
            when[0] = clock.now();
            cpu.events.raiseExternal(0x60);
        }, Kind.ONLY);
        run();
        assertThat(seen).containsExactly(0x60);
        assertThat(when[0]).isBetween(50_000L, 50_300L);
    }

    /// A handler that begins with what it handles retires nothing: time passes all the same, and the run can be stopped.
    @Test
    void timePassesWhereOnlyExceptionsHappen() {
        var loop = new RunLoop(cpu, null);
        memory.write(6 * 4, 4, CODE);
        code(CODE, a -> a.op(Op.UD2));
        cpu.r[Cpu.RSP] = 0x9000;
        clock.schedule(clock.now() + 5_000, kind -> loop.requestStop(), Kind.ONLY);
        assertThat(loop.run()).isEqualTo(RunLoop.Stop.REQUESTED);
    }

    @Test
    void instructionBreakpointHitsOnceAndSetsDr6() {
        code(CODE, a -> a.nop().nop().cli().hlt());
        cpu.dr0 = CODE + 1;
        DebugRegisters.write(cpu, 7, 1);
        code(HANDLERS + 16, a -> a.mov(EAX, DR6).out(0x80, AL).mov(BP, SP).op(2, Op.POP, AX)
                .op(2, Op.POP, BX).op(2, Op.POP, CX).op(4, Op.PUSH, imm(0x10002)).op(4, Op.PUSH, imm(0)).op(4, Op.PUSH, imm(CODE + 1))
                .iret(4)); // returns with RF set
        assertThat(run()).isEqualTo(RunLoop.Stop.HALTED_FOREVER);
        assertThat(seen).containsExactly(0xf1);
        assertThat(cpu.rip).isEqualTo(CODE + 4);
    }

    @Test
    void stopOnRequest() {
        code(CODE, a -> {
            var forever = a.label();
            return a.label(forever).jmp(forever);
        });
        var loop = new RunLoop(cpu, null);
        clock.schedule(10_000, _ -> loop.requestStop(), Kind.ONLY);
        assertThat(loop.run()).isEqualTo(RunLoop.Stop.REQUESTED);
        assertThat(cpu.rip).isEqualTo(CODE);
    }
}
