package cloister.cpu.sys;

import static cloister.cpu.sys.CetMachine.*;
import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.isa.Op;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The registers of control-flow enforcement: MSRs, CR0 and CR4, XSAVE components; and GETSEC.
/// [SDM Vol. 4 "Architectural MSRs"; Vol. 3 "Control Registers"; Vol. 1 "CET State"]
class CetStateTest {
    private static final long CET_U = 1 << 11;
    private static final long CET_S = 1 << 12;
    private final CetMachine m = new CetMachine();
    private final Cpu cpu = m.cpu;

    @AfterEach
    void close() {
        m.close();
    }

    private static boolean faults(Runnable action) {
        try {
            action.run();
            return false;
        } catch (GuestFault fault) {
            assertThat(fault.vector).isEqualTo(ExceptionVector.GP);
            return true;
        }
    }

    /// MSR, value, whether WRMSR raises #GP.
    @ParameterizedTest
    @CsvSource({
        "6a0, 3f, false", "6a2, 3f, false", "6a0, 40, true", "6a2, 200, true", "6a0, 400, false", "6a0, 800, false", "6a0, c00, true",
        "6a0, 7ffffffff000, false", "6a0, 100000000000000, true", "6a0, ff00000000000000, false", "6a4, 8, false", "6a4, 4, false",
        "6a5, 1, true", "6a6, 2, true", "6a7, 100000000000000, true", "6a8, 1, false", "6a8, 100000000000000, true"})
    void msrsRefuseIllegalValues(String msr, String value, boolean faults) {
        int number = Integer.parseInt(msr, 16);
        long bits = Long.parseUnsignedLong(value, 16);
        assertThat(faults(() -> cpu.msrs.write(number, bits))).isEqualTo(faults);
        assertThat(cpu.msrs.read(number)).isEqualTo(faults ? 0 : bits);
    }

    @Test
    void cr4NeedsWriteProtection() {
        assertThat(faults(() -> ControlRegisters.writeCr0(cpu, cpu.cr0 & ~Cr0.WP))).isTrue();
        ControlRegisters.writeCr4(cpu, cpu.cr4 & ~Cr4.CET);
        ControlRegisters.writeCr0(cpu, cpu.cr0 & ~Cr0.WP);
        assertThat(faults(() -> ControlRegisters.writeCr4(cpu, cpu.cr4 | Cr4.CET))).isTrue();
    }

    /// Without CR4.CET the MSRs mean nothing.
    @Test
    void cr4TurnsEverythingOff() {
        cpu.cr4 &= ~Cr4.CET;
        m.user(Cet.SH_STK_EN | Cet.ENDBR_EN).code(OTHER, a -> a.ret()).code(a -> a.mov(RAX, OTHER).call(RAX).op(Op.INCSSP, RAX)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.cet.ssp).isEqualTo(SSP);
    }

    private void components(Op op) {
        m.level(0).code(a -> a.mov(RAX, CET_U | CET_S).xor(RDX, RDX).mov(RBX, DATA).op(op, mem(RBX)).hlt()).run();
    }

    @Test
    void xsavesAndXrstorsMoveTheComponents() {
        cpu.cet.uCet = Cet.SH_STK_EN;
        long[] ssp = {0x1000, 0x2000, 0x3000, 0x4000};
        System.arraycopy(ssp, 0, cpu.cet.plSsp, 0, 4);
        components(Op.XSAVES);
        assertThat(m.word(DATA + 512)).as("XSTATE_BV").isEqualTo(CET_U | CET_S);
        assertThat(m.word(DATA + 520)).as("XCOMP_BV").isEqualTo(CET_U | CET_S | (1L << 63));
        long[] expected = {Cet.SH_STK_EN, 0x4000, 0x1000, 0x2000, 0x3000};
        for (int i = 0; i < expected.length; i++) {
            assertThat(m.word(DATA + 576 + 8L * i)).as("word " + i).isEqualTo(expected[i]);
        }
        m.memory.write(DATA + 576, 8, Cet.ENDBR_EN);
        m.memory.write(DATA + 512, 8, CET_U);
        components(Op.XRSTORS);
        assertThat(cpu.cet.uCet).isEqualTo(Cet.ENDBR_EN);
        assertThat(cpu.cet.plSsp).as("CET_S initial").containsExactly(0, 0, 0, 0x4000);
        components(Op.XSAVES);
        assertThat(m.word(DATA + 512)).as("XINUSE").isEqualTo(CET_U);
    }

    @ParameterizedTest
    @CsvSource({"576, 40", "584, 2", "592, 1", "608, 100000000000000"})
    void xrstorsChecksTheValues(int offset, String value) {
        components(Op.XSAVES);
        m.memory.write(DATA + 512, 8, CET_U | CET_S);
        m.memory.write(DATA + offset, 8, Long.parseUnsignedLong(value, 16));
        components(Op.XRSTORS);
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
    }

    /// What XRSTORS loads counts at once for user code that was decoded before.
    @Test
    void restoredStateIsInForce() {
        m.user(0).code(OTHER, a -> a.nop().ret()).code(a -> a.mov(RAX, OTHER).call(RAX).ud2()).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        m.memory.write(DATA + 512, 8, CET_U);
        m.memory.write(DATA + 520, 8, CET_U | CET_S | (1L << 63));
        m.memory.write(DATA + 576, 8, Cet.ENDBR_EN);
        m.code(DATA + 0x1000, a -> a.mov(RAX, CET_U | CET_S).xor(RDX, RDX).mov(RBX, DATA).op(Op.XRSTORS, mem(RBX)).hlt());
        m.level(0);
        cpu.rip = DATA + 0x1000;
        m.run();
        m.level(3).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
    }

    /// EBX 0 asks for the leaves: PARAMETERS alone beside this one, and no chipset.
    @ParameterizedTest
    @CsvSource({"true, 0, 64, -1", "true, 6, 0, -1", "true, 4, 4, 6", "false, 0, 0, 6"})
    void getsecWithoutChipset(boolean smxe, int leaf, int eax, int vector) {
        cpu.cr4 |= smxe ? Cr4.SMXE : 0;
        m.level(0).code(a -> a.mov(RAX, leaf).xor(RBX, RBX).op(Op.GETSEC).hlt()).run();
        assertThat(m.vector()).isEqualTo(vector);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(eax);
        assertThat(cpu.msrs.read(Msr.IA32_FEATURE_CONTROL)).as("locked, VMX outside SMX only").isEqualTo(5);
    }
}
