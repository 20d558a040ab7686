package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.spec.x86.ExceptionVector;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// General instructions outside 64-bit mode.
class LegacyModesTest {
    private final Machine machine = new Machine();
    private final Cpu cpu = machine.cpu;

    private void run(int bits, String hex, int count) {
        machine.mode(bits);
        machine.code(hex);
        cpu.rip = Machine.CODE;
        machine.step(count);
    }

    /// AL before, AH/flags before as RFLAGS, AX and RFLAGS (CF, AF) after. [SDM Vol. 2 "DAA", "AAA" ...]
    @ParameterizedTest
    @CsvSource({"DAA, 27, 00ae, 00, 0014, 11", "DAA, 27, 0015, 00, 0015, 0", "DAA, 27, 009a, 00, 0000, 11", "DAS, 2f, 0012, 10, 000c, 10",
        "DAS, 2f, 0000, 11, 009a, 11", "AAA, 37, 000b, 00, 0101, 11", "AAS, 3f, 010b, 00, 0005, 11", "AAM, d40a, 0047, 00, 0701, 0",
        "AAD, d50a, 0701, 00, 0047, 0"})
    void decimalAdjustments(String name, String hex, String before, String flags, String after, String flagsAfter) {
        cpu.rflags(2 | Integer.parseInt(flags, 16));
        cpu.r[Cpu.RAX] = Integer.parseInt(before, 16);
        run(32, hex, 1);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(Integer.parseInt(after, 16));
        if (!hex.startsWith("d")) {
            assertThat(cpu.rflags() & (Flags.CF | Flags.AF)).isEqualTo(Integer.parseInt(flagsAfter, 16));
        }
    }

    @Test
    void incrementsInOneByteAndPushAll() {
        for (int i = 0; i < 8; i++) {
            cpu.r[i] = 0x100 + i;
        }
        cpu.r[Cpu.RSP] = 0x9000;
        run(32, "4060", 2); // INC EAX; PUSHAD
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x9000 - 32);
        assertThat(machine.memory.read(0x9000 - 4, 4)).isEqualTo(0x101);
        assertThat(machine.memory.read(0x9000 - 20, 4)).as("ESP before").isEqualTo(0x9000);
        assertThat(machine.memory.read(0x9000 - 32, 4)).isEqualTo(0x107);
    }

    @Test
    void segmentLimitsAreChecked() {
        cpu.r[Cpu.RBX] = 0xffd;
        machine.mode(32);
        machine.code("8b03"); // MOV EAX, [EBX]
        cpu.rip = Machine.CODE;
        cpu.segLimit[Cpu.DS] = 0xfff;
        GuestFault fault = catchThrowableOfType(GuestFault.class, () -> Interpreter.run(cpu, 1));
        assertThat(fault.vector).isEqualTo(ExceptionVector.GP);
        cpu.segLimit[Cpu.DS] = 0x1000;
        machine.step(1);
        assertThat(cpu.rip).isEqualTo(Machine.CODE + 2);
    }

    @Test
    void segmentBasesAreAdded() {
        machine.memory.write(0x30010, 4, 0x1234);
        cpu.r[Cpu.RBX] = 0x10;
        machine.mode(32);
        machine.code("8b03");
        cpu.rip = Machine.CODE - 0x800;
        cpu.segBase[Cpu.DS] = 0x30000;
        cpu.segBase[Cpu.CS] = 0x800;
        machine.step(1);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(0x1234);
        assertThat(cpu.rip).isEqualTo(Machine.CODE - 0x800 + 2);
    }

    @Test
    void enterBuildsNestedFrames() {
        cpu.r[Cpu.RSP] = 0x9000;
        cpu.r[Cpu.RBP] = 0x9100;
        machine.memory.write(0x90fc, 4, 0x5555);
        run(32, "c8100002", 1); // ENTER 16, 2
        assertThat(cpu.r[Cpu.RBP]).isEqualTo(0x8ffc);
        assertThat(machine.memory.read(0x8ffc, 4)).isEqualTo(0x9100);
        assertThat(machine.memory.read(0x8ff8, 4)).isEqualTo(0x5555);
        assertThat(machine.memory.read(0x8ff4, 4)).isEqualTo(0x8ffc);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x8ff4 - 16);
    }

    @Test
    void bound() {
        machine.memory.write(0x20000, 4, -5);
        machine.memory.write(0x20004, 4, 7);
        cpu.r[Cpu.RBX] = 0x20000;
        cpu.r[Cpu.RAX] = 0xffff_fffbL;
        run(32, "6203", 1); // BOUND EAX, [EBX]
        cpu.r[Cpu.RAX] = 8;
        cpu.rip = Machine.CODE;
        GuestFault fault = catchThrowableOfType(GuestFault.class, () -> Interpreter.step(cpu));
        assertThat(fault.vector).isEqualTo(ExceptionVector.BR);
    }

    @Test
    void sixteenBitBranchesWrap() {
        machine.mode(16);
        cpu.segLimit[Cpu.CS] = 0xffff;
        machine.codeAt(0xfffe, "eb10"); // JMP +16 from 10000, that is 0000
        cpu.rip = 0xfffe;
        Interpreter.run(cpu, 1);
        assertThat(cpu.rip).isEqualTo(0x10);
    }

    @Test
    void divisionOverflows() {
        machine.mode(64);
        cpu.r[Cpu.RAX] = Long.MIN_VALUE;
        cpu.r[Cpu.RDX] = -1;
        cpu.r[Cpu.RCX] = -1;
        machine.code("48f7f9"); // IDIV RCX
        assertThat(catchThrowableOfType(GuestFault.class, () -> Interpreter.run(cpu, 1)).vector).isEqualTo(ExceptionVector.DE);
        cpu.r[Cpu.RDX] = 5;
        cpu.r[Cpu.RAX] = 0;
        cpu.r[Cpu.RCX] = 6;
        machine.code("48f7f1"); // DIV RCX: 5 * 2^64 / 6
        machine.step(1);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(Long.parseUnsignedLong("15372286728091293013"));
        assertThat(cpu.r[Cpu.RDX]).isEqualTo(2);
    }
}
