package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SliceEndTest {
    /// A taken branch into another page goes to its target even when the budget ends with it. Found by a kernel whose decompressor
    /// took a page fault and a slice end in unlucky places.
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3, 4})
    void atABranchOutOfThePage(int budget) {
        var machine = new Machine();
        machine.codeAt(0x1ff0, "0f85da000000").codeAt(0x20d0, "9090e919ffffff"); // JNZ 20D0; NOP; NOP; JMP 1FF0
        machine.cpu.rip = 0x1ff0;
        long[] path = {0x1ff0, 0x20d0, 0x20d1, 0x20d2};
        for (int i = 0; i < 20; i++) {
            long before = machine.cpu.retired;
            Interpreter.run(machine.cpu, budget);
            assertThat(machine.cpu.retired).isGreaterThan(before);
            assertThat(machine.cpu.rip).isEqualTo(path[(int) (machine.cpu.retired % 4)]);
        }
    }
}
