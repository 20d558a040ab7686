package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.Translation;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.Operands;
import cloister.memory.PhysicalMemory;
import cloister.memory.Poison;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cr0;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/// MOVDIR64B executed by a guest whose memory has a private KeyID. [SDM Vol. 2 MOVDIR64B]
class DirectStoreTest {
    private static final int KEY = 40;
    private static final long SOURCE = 0x6000;
    private static final long DESTINATION = 0x7040;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @BeforeEach
    void privateMemory() {
        Reset.powerUp(cpu);
        cpu.cr0 = Cr0.PE | Cr0.ET;
        cpu.segAr[Cpu.CS] = 0xc09b;
        for (int seg : new int[] {Cpu.DS, Cpu.ES}) {
            cpu.segAr[seg] = 0xc093;
            cpu.segLimit[seg] = -1;
        }
        cpu.vmx = new NonRoot() {
            @Override public void secondLevel(Cpu c, long gpa, long linear, int access, Translation out) {
                out.hpa = PhysicalMemory.hpa(gpa, KEY);
                out.direct = true;
                out.hook = null;
            }
        };
        cpu.updateMode();
        byte[] frame = new byte[4096];
        for (long at : new long[] {SOURCE, DESTINATION & -4096}) {
            memory.movdir64b(PhysicalMemory.hpa(at, KEY), frame, 0, 64);
        }
        for (int i = 0; i < 8; i++) {
            memory.write(PhysicalMemory.hpa(SOURCE + 8 * i, KEY), 8, 0x1111L * (i + 1));
        }
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void store(long destination) {
        byte[] bytes = new Assembler(CodeMode.BITS32, 0x1000).op(4, Op.MOVDIR64B, Operands.EDI, Operands.mem(Operands.ESI))
                .assemble();
        Instruction insn = new Decoder().decode(CodeMode.BITS32, bytes, 0, bytes.length);
        cpu.r[Cpu.RDI] = destination;
        cpu.r[Cpu.RSI] = SOURCE;
        SystemInstructions.execute(cpu, insn);
    }

    @Test
    void clearsPoisonAndTakesTheLine() {
        memory.write(DESTINATION, 8, 1); // a host's stray write takes the line and leaves poison for the owner
        assertThatThrownBy(() -> memory.read(PhysicalMemory.hpa(DESTINATION, KEY), 8)).isInstanceOf(Poison.class);
        store(DESTINATION);
        assertThat(memory.ownerOfLine(DESTINATION)).isEqualTo(KEY);
        for (int i = 0; i < 8; i++) {
            assertThat(cpu.read64(DESTINATION + 8 * i)).isEqualTo(0x1111L * (i + 1));
        }
        assertThat(cpu.read64(DESTINATION + 64)).isZero();
    }

    @Test
    void destinationMustBeAligned() {
        assertThatThrownBy(() -> store(DESTINATION + 8)).isInstanceOf(GuestFault.class);
    }
}
