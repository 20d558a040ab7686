package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class StringInstructionsTest {
    private static final long FROM = 0x100000;
    private static final long TO = 0x140000;
    private final Machine machine = new Machine();
    private final Cpu cpu = machine.cpu;

    StringInstructionsTest() {
        for (int i = 0; i < 0x8000; i++) {
            machine.memory.write(FROM + i, 1, (i * 37 + (i >> 8)) & 0xff);
        }
    }

    private void run(String hex) {
        machine.code(hex + "0f0b");
        cpu.rip = Machine.CODE;
        catchThrowableOfType(GuestFault.class, () -> {
            while (true) {
                Interpreter.run(cpu, 1000);
            }
        });
    }

    private void registers(long rsi, long rdi, long rcx) {
        cpu.r[Cpu.RSI] = rsi;
        cpu.r[Cpu.RDI] = rdi;
        cpu.r[Cpu.RCX] = rcx;
    }

    @ParameterizedTest
    @CsvSource({"f3a4, 1, 3, 5, 10000", "f366a5, 2, 1, 7, 6000", "f3a5, 4, 2, 3, 3000", "f348a5, 8, 0, 1, 2500"})
    void movesAcrossPages(String hex, int size, int fromOffset, int toOffset, int count) {
        registers(FROM + fromOffset, TO + toOffset, count);
        run(hex);
        assertThat(cpu.r[Cpu.RCX]).isZero();
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(FROM + fromOffset + (long) count * size);
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(TO + toOffset + (long) count * size);
        for (int i = 0; i < count * size; i++) {
            assertThat(machine.memory.read(TO + toOffset + i, 1)).isEqualTo(machine.memory.read(FROM + fromOffset + i, 1));
        }
        assertThat(machine.memory.read(TO + toOffset + (long) count * size, 1)).isZero();
    }

    @Test
    void overlappingMovesRepeatThePattern() {
        registers(FROM, FROM + 3, 5000);
        run("f3a4");
        for (int i = 0; i < 5003; i++) {
            assertThat(machine.memory.read(FROM + i, 1)).isEqualTo((i % 3 * 37) & 0xff);
        }
    }

    @Test
    void downwardMoves() {
        registers(FROM + 4999, TO + 4999, 5000);
        run("fdf3a4"); // STD; REP MOVSB
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(FROM - 1);
        for (int i = 0; i < 5000; i++) {
            assertThat(machine.memory.read(TO + i, 1)).isEqualTo(machine.memory.read(FROM + i, 1));
        }
    }

    @ParameterizedTest
    @CsvSource({"f3aa, 1", "f366ab, 2", "f3ab, 4", "f348ab, 8"})
    void storesFill(String hex, int size) {
        cpu.r[Cpu.RAX] = 0x8877_6655_4433_2211L;
        registers(0, TO + 0xff1, 1000);
        run(hex);
        for (int i = 0; i < 1000 * size; i++) {
            assertThat(machine.memory.read(TO + 0xff1 + i, 1)).isEqualTo(0x11 * (i % size + 1));
        }
        assertThat(machine.memory.read(TO + 0xff1 + 1000L * size, 1)).isZero();
        assertThat(machine.memory.read(TO + 0xff0, 1)).isZero();
    }

    @Test
    void aFaultInTheMiddleLeavesExactRegisters() {
        machine.mapping.put(TO + 0x2000, -1L);
        registers(FROM, TO + 0x800, 10_000);
        run("f3a4");
        assertThat(cpu.rip).isEqualTo(Machine.CODE);
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(TO + 0x2000);
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(FROM + 0x1800);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(10_000 - 0x1800);
        assertThat(cpu.retired).isZero();
        machine.mapping.clear();
        run("f3a4");
        assertThat(cpu.r[Cpu.RCX]).isZero();
        assertThat(machine.memory.read(TO + 0x800 + 9_999, 1)).isEqualTo(machine.memory.read(FROM + 9_999, 1));
    }

    @Test
    void scanFindsAndStopsBehind() {
        machine.memory.write(TO + 5000, 1, 0x5a);
        cpu.r[Cpu.RAX] = 0x5a;
        registers(0, TO, 100_000);
        run("f2ae"); // REPNE SCASB
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(TO + 5001);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(100_000 - 5001);
        assertThat(cpu.rflags() & Flags.ZF).isNotZero();
    }

    @Test
    void compareStopsAtTheFirstDifference() {
        registers(FROM, TO, 6000);
        run("f3a4");
        machine.memory.write(TO + 4500, 1, machine.memory.read(TO + 4500, 1) ^ 1);
        registers(FROM, TO, 6000);
        run("f3a6");
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(FROM + 4501);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(6000 - 4501);
        assertThat(cpu.rflags() & Flags.ZF).isZero();
    }

    @Test
    void aCountOfZeroDoesNothing() {
        cpu.rflags(Flags.ZF | 2);
        registers(FROM, TO, 0);
        run("f3a6");
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(FROM);
        assertThat(cpu.rflags()).isEqualTo(Flags.ZF | 2);
    }

    @Test
    void sixteenBitAddressesWrap() {
        machine.mode(16);
        cpu.segLimit[Cpu.ES] = cpu.segLimit[Cpu.DS] = 0xffff;
        cpu.r[Cpu.RAX] = 0x42;
        registers(0, 0xdead_fffeL, 4);
        run("f3aa");
        assertThat(cpu.r[Cpu.RDI]).as("the upper half stays").isEqualTo(0xdead_0002L);
        assertThat(machine.memory.read(0xffff, 1)).isEqualTo(0x42);
        assertThat(machine.memory.read(0, 1)).isEqualTo(0x42);
    }
}
