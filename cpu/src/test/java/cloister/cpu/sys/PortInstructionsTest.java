package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import java.util.HexFormat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PortInstructionsTest {
    private static final int TSS = 0x3000;
    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @BeforeEach
    void userMode() {
        Reset.powerUp(cpu);
        cpu.cr0 = Cr0.PE | Cr0.ET;
        for (int seg = 0; seg < 6; seg++) {
            cpu.segLimit[seg] = -1;
            cpu.segAr[seg] = seg == Cpu.CS ? 0xc0fb : 0xc0f3;
        }
        cpu.cpl = 3;
        cpu.segBase[Cpu.TR] = TSS;
        cpu.segAr[Cpu.TR] = 0x8b;
        cpu.segLimit[Cpu.TR] = 0x68 + 0x20;
        memory.write(TSS + 102, 2, 0x68);
        for (int i = 0; i <= 0x20; i++) {
            memory.write(TSS + 0x68 + i, 1, 0);
        }
        cpu.updateMode();
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void execute(String hex) {
        byte[] bytes = HexFormat.of().parseHex(hex);
        Instruction insn = new Decoder().decode(CodeMode.BITS32, bytes, 0, bytes.length);
        cpu.rip = 0x1000;
        cpu.nextRip = 0x1000 + insn.length;
        SystemInstructions.execute(cpu, insn);
    }

    /// IN of AL (EC), AX (66 ED), EAX (ED) from DX with one bit of the permission map set; whether it is allowed.
    @ParameterizedTest
    @CsvSource({"ec, 0x10, 0x10, false", "ec, 0x10, 0x11, true", "66ed, 0x10, 0x11, false", "66ed, 0x0f, 0x10, false",
        "ed, 0x14, 0x17, false", "ed, 0x14, 0x18, true", "ec, 0xff, 0x10, true", "ec, 0x100, 0x10, false"})
    void permissionMap(String hex, String port, String denied, boolean allowed) {
        int bit = Integer.decode(denied);
        memory.write(TSS + 0x68 + bit / 8, 1, 1 << (bit % 8));
        cpu.r[Cpu.RDX] = Integer.decode(port);
        var fault = catchThrowableOfType(GuestFault.class, () -> execute(hex));
        assertThat(fault == null).isEqualTo(allowed);
        if (fault != null) {
            assertThat(fault.vector).isEqualTo(13);
        } else {
            assertThat(cpu.r[Cpu.RAX] & 0xff).as("open bus").isEqualTo(0xff);
        }
        cpu.systemFlags(3 << 12, 3 << 12);
        cpu.r[Cpu.RDX] = bit;
        execute(hex); // IOPL 3 needs no map
    }

    @Test
    void repInsRestartsElementByElement() {
        cpu.io = new IoPorts() {
            private int next = 0xa0;

            @Override public int in(int port, int bytes) {
                return next++;
            }

            @Override public void out(int port, int bytes, int value) {
                throw new AssertionError();
            }
        };
        cpu.r[Cpu.RDX] = 0x20;
        cpu.r[Cpu.RCX] = 3;
        cpu.r[Cpu.RDI] = 0x5000;
        for (int i = 0; i < 3; i++) {
            execute("f36c");
            assertThat(cpu.nextRip).isEqualTo(i < 2 ? 0x1000 : 0x1002);
        }
        assertThat(memory.read(0x5000, 4)).isEqualTo(0xa2a1a0);
        assertThat(cpu.r[Cpu.RCX]).isZero();
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(0x5003);
        execute("f36c");
        assertThat(cpu.nextRip).isEqualTo(0x1002);
    }
}
