package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// #AC. [SDM Vol. 3 "Interrupt 17—Alignment Check Exception (#AC)"]
class AlignmentCheckTest {
    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @AfterEach
    void close() {
        memory.close();
    }

    private void state(boolean am, boolean ac, int cpl) {
        Reset.powerUp(cpu);
        cpu.cr0 = Cr0.PE | Cr0.ET | (am ? Cr0.AM : 0);
        cpu.rflags(ac ? Rflags.AC : 0);
        cpu.cpl = cpl;
        cpu.updateMode();
    }

    private boolean checks(Runnable access) {
        try {
            access.run();
            return false;
        } catch (GuestFault fault) {
            assertThat(fault.vector).isEqualTo(ExceptionVector.AC);
            assertThat(fault.errorCode).isZero();
            return true;
        }
    }

    @ParameterizedTest(name = "AM {0} AC {1} CPL {2}: {3}")
    @CsvSource({"true, true, 3, true", "false, true, 3, false", "true, false, 3, false", "true, true, 0, false"})
    void conditions(boolean am, boolean ac, int cpl, boolean raised) {
        for (int round = 0; round < 2; round++) {
            state(am, ac, cpl);
            assertThat(checks(() -> cpu.read32(0x1002))).isEqualTo(raised);
            assertThat(checks(() -> cpu.write32(0x1001, 0))).isEqualTo(raised);
            assertThat(checks(() -> cpu.readSystem(0x1001, 4))).as("implicit accesses are the supervisor's").isFalse();
            state(false, false, 3); // opens short cuts, which must not be found again
            cpu.read32(0x1002);
            cpu.write32(0x1002, 0);
        }
    }

    @ParameterizedTest(name = "{0} bytes at {1}: {2}")
    @CsvSource({"1, 1001, false", "2, 1001, true", "2, 1002, false", "4, 1002, true", "4, 1004, false", "8, 1004, true",
        "8, 1008, false", "2, 1fff, true"})
    void alignments(int size, String address, boolean raised) {
        state(true, true, 3);
        long at = Long.parseLong(address, 16);
        assertThat(checks(() -> cpu.read(at, size))).isEqualTo(raised);
        assertThat(checks(() -> cpu.write(at, size, 0))).isEqualTo(raised);
    }

    @Test
    void alignedAccessesReachMemory() {
        state(true, true, 3);
        cpu.write64(0x1008, 0x1234_5678_9abcL);
        assertThat(cpu.read32(0x100c)).isEqualTo(0x1234);
    }
}
