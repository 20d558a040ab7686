package cloister.cpu.sys;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import java.util.List;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Data and I/O breakpoints, single-stepping of branches and of string instructions, in real-address mode. The handler of #DB is
/// an IRET; what it was given is recorded as "RIP relative to the code:DR6 bits". [SDM Vol. 3 "Debug Exceptions"]
class DebugExceptionTest {
    private enum Kind { ONLY }

    private static final int CODE = 0x2000;
    private static final int DATA = 0x5000;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());
    private final List<String> seen = new ArrayList<>();
    private final List<Boolean> resume = new ArrayList<>();

    @BeforeEach
    void reset() {
        Reset.powerUp(cpu);
        cpu.segSelector[Cpu.CS] = 0;
        cpu.segBase[Cpu.CS] = 0;
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = 0x1000;
        memory.write(4, 4, 0x3000);
        memory.write(0x3000, 1, 0xcf); // IRET
        cpu.vmx = new NonRoot() {
            @Override public boolean active() {
                return true;
            }

            @Override public void interceptException(Cpu c, int vector, int type, int errorCode, boolean hasErrorCode, long address) {
                assertThat(vector).isEqualTo(ExceptionVector.DB);
                seen.add(Long.toHexString(c.rip - CODE) + ":" + Long.toHexString(address));
                resume.add((c.rflags() & Rflags.RF) != 0);
            }
        };
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void run(UnaryOperator<Assembler> program) {
        byte[] bytes = program.apply(new Assembler(CodeMode.BITS16, CODE)).assemble();
        memory.write(CODE, bytes, 0, bytes.length);
        var loop = new RunLoop(cpu, null);
        cpu.clock.schedule(5_000, _ -> loop.requestStop(), Kind.ONLY);
        loop.run();
    }

    private void breakpoint(int number, long address, int kind, int length) {
        DebugRegisters.write(cpu, number, address);
        DebugRegisters.write(cpu, 7, cpu.dr7 | (1L << (2 * number)) | ((long) ((length << 2) | kind) << (16 + 4 * number)));
    }

    /// [SDM Vol. 3 "Breakpoint Examples"]: kind 1 writes, 3 reads and writes; LEN 0, 1, 2, 3 are 1, 2, 8, 4 bytes.
    @ParameterizedTest(name = "R/W {0} LEN {1} at {2}: {3} of {4} bytes at {5}: {6}")
    @CsvSource({
        "3, 0, 5001, read,  1, 5001, true",
        "3, 0, 5001, read,  2, 5001, true",
        "3, 0, 5001, read,  2, 5000, true",
        "3, 0, 5001, write, 1, 5001, true",
        "3, 0, 5001, read,  1, 5000, false",
        "3, 0, 5001, read,  1, 5002, false",
        "1, 0, 5001, write, 4, 5000, true",
        "1, 0, 5001, read,  4, 5000, false",
        "1, 1, 5002, write, 1, 5003, true",
        "1, 1, 5002, write, 1, 5004, false",
        "3, 3, 5000, read,  1, 5003, true",
        "3, 3, 5003, read,  1, 5000, true",
        "3, 3, 5004, read,  4, 5000, false",
        "3, 3, 5004, read,  4, 5001, true",
        "1, 3, 5004, write, 2, 5003, true",
        "3, 2, 5008, read,  1, 500f, true",
        "3, 2, 5008, read,  1, 5010, false",
        "3, 0, 5fff, read,  4, 5ffe, true",
        "3, 0, 6000, write, 4, 5ffe, true",
        "3, 0, 6002, write, 4, 5ffe, false",
        "0, 0, 5000, write, 4, 5000, false",
    })
    void dataBreakpoint(int kind, int length, String at, String access, int size, String address, boolean hits) {
        cpu.r[Cpu.RBX] = Integer.parseInt(address, 16);
        breakpoint(2, Integer.parseInt(at, 16), kind, length);
        var register = size == 1 ? AL : size == 2 ? AX : EAX;
        run(a -> (access.equals("read") ? a.mov(register, mem(BX)) : a.mov(mem(BX), register)).nop().cli().hlt());
        String after = Long.toHexString(size == 4 ? 3 : 2);
        assertThat(seen).isEqualTo(hits ? List.of(after + ":4") : List.of());
    }

    @Test
    void readModifyWriteAndStackAccessesHit() {
        breakpoint(0, DATA, 1, 1);
        breakpoint(1, 0xffe, 3, 1);
        cpu.r[Cpu.RBX] = DATA;
        run(a -> a.op(2, Op.PUSH, AX).inc(wordAt(mem(BX))).cli().hlt());
        assertThat(seen).containsExactly("1:2", "3:1");
    }

    @Test
    void everyIterationOfAStringInstructionTraps() {
        breakpoint(0, DATA + 2, 1, 0);
        breakpoint(3, DATA + 5, 1, 0);
        cpu.r[Cpu.RDI] = DATA;
        cpu.r[Cpu.RCX] = 6;
        run(a -> a.db(0xf3, 0xaa).cli().hlt()); // REP STOSB
        assertThat(seen).containsExactly("0:1", "2:8");
        assertThat(resume).as("RF after any iteration but the last").containsExactly(true, false);
        assertThat(cpu.r[Cpu.RCX]).isZero();
    }

    @Test
    void movSsDelaysTheTrapByOneInstruction() {
        breakpoint(0, DATA, 3, 1);
        cpu.r[Cpu.RBX] = DATA;
        run(a -> a.db(0x8e, 0x17).nop().nop().cli().hlt()); // MOV SS, [BX]
        assertThat(seen).containsExactly("3:1");
    }

    @Test
    void aFaultingInstructionDoesNotTrap() {
        breakpoint(0, DATA, 3, 1);
        memory.write(DATA, 4, 0x0001_0002);
        memory.write(5 * 4, 4, 0x3800); // #BR: BOUND reads both words, then faults
        cpu.vmx = NonRoot.OUTSIDE;
        memory.write(0x3800, 2, 0xf4fa); // CLI; HLT
        cpu.r[Cpu.RBX] = DATA;
        cpu.r[Cpu.RAX] = 9;
        run(a -> a.db(0x62, 0x07).cli().hlt());
        assertThat(cpu.rip).isEqualTo(0x3802);
        assertThat(cpu.dr6).isEqualTo(DebugRegisters.DR6_RESET);
    }

    @ParameterizedTest(name = "DE {0} LEN {1}: {2} bytes at port {3}: {4}")
    @CsvSource({
        "true,  0, 1, 80, true",
        "true,  0, 1, 81, false",
        "true,  0, 2, 7f, true",
        "true,  1, 1, 81, true",
        "true,  3, 1, 83, true",
        "true,  3, 1, 84, false",
        "false, 0, 1, 80, false",
    })
    void portBreakpoint(boolean extensions, int length, int bytes, String port, boolean hits) {
        cpu.cr4 = extensions ? Cr4.DE : 0;
        breakpoint(1, 0x80, 2, length);
        cpu.r[Cpu.RDX] = Integer.parseInt(port, 16);
        run(a -> a.db(bytes == 1 ? 0xee : 0xef).nop().cli().hlt()); // OUT DX, AL or AX
        assertThat(seen).isEqualTo(hits ? List.of("1:2") : List.of());
    }

    @Test
    void singleStepTrapsEveryIteration() {
        cpu.rflags(Rflags.TF);
        cpu.r[Cpu.RDI] = DATA;
        cpu.r[Cpu.RCX] = 3;
        run(a -> a.db(0xf3, 0xaa).db(0xf1).cli().hlt()); // REP STOSB; INT1 ends the recording in order
        assertThat(seen.subList(0, 3)).containsExactly("0:4000", "0:4000", "2:4000");
    }

    @Test
    void btfTrapsTakenBranchesOnlyAndOnce() {
        cpu.rflags(Rflags.TF);
        cpu.debugctl = 2;
        run(a -> {
            var next = a.label();
            return a.nop().db(0x74, 0x00).nop().jmp(next).nop().label(next).nop().cli().hlt();
        });
        // After the #DB for the JMP, BTF is clear: every instruction traps.
        assertThat(seen.getFirst()).isEqualTo("8:4000");
        assertThat(seen.get(1)).isEqualTo("9:4000");
        assertThat(cpu.debugctl).isZero();
    }

    @Test
    void disarmedBreakpointsLeaveNoTrace() {
        breakpoint(0, DATA, 3, 1);
        cpu.r[Cpu.RBX] = DATA;
        run(a -> a.xor(EAX, EAX).mov(DR7, EAX).mov(AX, mem(BX)).mov(AX, mem(BX)).cli().hlt());
        assertThat(seen).isEmpty();
        assertThat(cpu.watchpoints.met()).isFalse();
    }

    /// [SDM Vol. 3 "OS Bus-Lock Detection"]: prefix byte, address, CPL, IA32_DEBUGCTL; whether #DB follows ADD [BX], AX.
    @ParameterizedTest
    @CsvSource({"f0, 507f, 3, 4, true", "f0, 507e, 3, 4, false", "f0, 507f, 0, 4, false", "f0, 507f, 3, 0, false",
        "3e, 507f, 3, 4, false"})
    void busLock(String prefix, String address, int cpl, int debugctl, boolean traps) {
        cpu.debugctl = debugctl;
        cpu.cpl = cpl;
        cpu.updateMode();
        cpu.r[Cpu.RBX] = Integer.parseInt(address, 16);
        cpu.r[Cpu.RAX] = 0x0203;
        run(a -> a.db(0x90).db(Integer.parseInt(prefix, 16), 0x01, 0x07).db(0xeb, 0xfe));
        assertThat(seen).isEqualTo(traps ? List.of("4:800") : List.of());
        assertThat(memory.read(Integer.parseInt(address, 16), 2)).as("once").isEqualTo(0x0203);
        assertThat((cpu.dr6 >>> 11) & 1).isEqualTo(traps ? 0 : 1);
    }
}
