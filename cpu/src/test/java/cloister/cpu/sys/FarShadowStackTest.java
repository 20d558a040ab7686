package cloister.cpu.sys;

import static cloister.cpu.sys.CetMachine.*;
import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Op;
import cloister.spec.x86.Cet;
import cloister.spec.x86.ExceptionVector;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Shadow stacks of interrupts, exceptions, IRET, far CALL and RET, SYSCALL and SYSRET. [SDM Vol. 1 "Shadow Stack Usage on Far
/// Transfers"; Vol. 2 INT n, IRET, CALL, RET, SYSCALL, SYSRET]
class FarShadowStackTest {
    private static final long ON = Cet.SH_STK_EN;
    private static final long PL0 = SUPERVISOR_SHADOW + 0x118;
    private static final long IST = SUPERVISOR_SHADOW + 0x1218;
    private final CetMachine m = new CetMachine();
    private final Cpu cpu = m.cpu;

    @BeforeEach
    void supervisorHasShadowStacks() {
        cpu.cet.sCet = ON;
        cpu.cet.plSsp[0] = m.token(PL0);
        cpu.cet.interruptSspTable = TABLE;
        m.memory.write(TABLE + 8, 8, m.token(IST));
    }

    @AfterEach
    void close() {
        m.close();
    }

    private void goOn() {
        cpu.events.activity = PendingEvents.ACTIVE;
        m.run();
    }

    /// From user mode the frame is the token alone; IRET frees the stack and finds the user's SSP again.
    @Test
    void fromUserModeAndBack() {
        m.user(ON).code(a -> a.int_(0x80).op(Op.RDSSP, RBX).ud2()).run();
        assertThat(m.vector()).isEqualTo(0x80);
        assertThat(cpu.cet.ssp).isEqualTo(PL0);
        assertThat(m.word(PL0)).isEqualTo(PL0 | Cet.TOKEN_BUSY);
        assertThat(cpu.cet.plSsp[3]).isEqualTo(SSP);
        m.code(cpu.rip, a -> a.iret(8));
        goOn();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SSP);
        m.code(cpu.rip, a -> a.iret(8));
        assertThat(m.word(PL0)).as("taken again by #UD").isEqualTo(PL0 | Cet.TOKEN_BUSY);
    }

    /// At the same level CS, the linear return address and the old SSP are pushed, 8-aligned.
    @ParameterizedTest
    @CsvSource({"0, 0", "4, 4"})
    void sameLevelAndBack(long misaligned, long hole) {
        m.supervisor(ON);
        cpu.cet.ssp -= misaligned;
        m.code(a -> a.int_(0x80).op(Op.RDSSP, RBX).hlt()).run();
        assertThat(m.vector()).isEqualTo(0x80);
        long top = SUPERVISOR_SSP - misaligned - hole;
        assertThat(cpu.cet.ssp).isEqualTo(top - 24);
        assertThat(new long[] {m.word(top - 8), m.word(top - 16), m.word(top - 24)})
                .containsExactly(0x08, CODE + 2, SUPERVISOR_SSP - misaligned);
        m.code(cpu.rip, a -> a.iret(8));
        goOn();
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SUPERVISOR_SSP - misaligned);
    }

    @Test
    void interruptStackTableHasShadowStacks() {
        m.gate(0x80, HANDLERS + 0x800, 1);
        m.supervisor(ON).code(a -> a.int_(0x80).op(Op.RDSSP, RBX).hlt()).run();
        assertThat(m.vector()).isEqualTo(0x80);
        assertThat(m.word(IST)).isEqualTo(IST | Cet.TOKEN_BUSY);
        assertThat(cpu.cet.ssp).isEqualTo(IST - 24);
        assertThat(m.word(IST - 24)).isEqualTo(SUPERVISOR_SSP);
        m.code(cpu.rip, a -> a.iret(8));
        goOn();
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SUPERVISOR_SSP);
        assertThat(m.word(IST)).as("free again").isEqualTo(IST);
    }

    /// The return that IRET takes must be the one on the shadow stack. Slot of the frame that is changed.
    @ParameterizedTest
    @ValueSource(ints = {8, 16, 24})
    void iretComparesWithTheShadowStack(int slot) {
        m.supervisor(ON).code(a -> a.int_(0x80).hlt()).run();
        long at = SUPERVISOR_SSP - slot;
        m.memory.write(at, 8, m.word(at) + 1);
        m.code(cpu.rip, a -> a.iret(8));
        goOn();
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
        assertThat(m.frame(0)).isEqualTo(Cet.CP_FAR_RET_IRET);
    }

    /// A token that is busy, not there, not aligned, or whose frame leaves its 32 bytes: #GP(0), here on a stack of its own.
    @ParameterizedTest
    @CsvSource({"0x118, 1", "0x118, 8", "0x11c, 0", "0x110, 0"})
    void aStackWithoutFreeTokenIsRefused(String offset, long token) {
        long at = SUPERVISOR_SHADOW + Long.decode(offset);
        cpu.cet.plSsp[0] = at;
        m.memory.write(at, 8, at + token);
        m.gate(ExceptionVector.GP, HANDLERS + 16 * ExceptionVector.GP, 1);
        m.user(ON).code(a -> a.int_(0x80)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
        assertThat(m.frame(0)).isZero();
        assertThat(m.frame(1)).as("INT has not happened").isEqualTo(CODE);
        assertThat(m.word(at)).isEqualTo(at + token);
    }

    @Test
    void syscallLeavesNoShadowStackAndSysretFindsTheUsers() {
        cpu.lstar = OTHER;
        m.code(OTHER, a -> a.op(Op.RDSSP, RBX).op(Op.SETSSBSY).op(Op.RDSSP, RDX).op(Op.CLRSSBSY, qwordAt(abs(PL0))).op(8, Op.SYSRET));
        m.user(ON).code(a -> a.syscall().op(Op.RDSSP, RSI).ud2()).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RBX]).isZero();
        assertThat(cpu.r[Cpu.RDX]).isEqualTo(PL0);
        assertThat(cpu.r[Cpu.RSI]).isEqualTo(SSP);
    }

    @Test
    void farCallAndReturn() {
        m.memory.write(DATA, 8, OTHER);
        m.memory.write(DATA + 8, 8, 0x08);
        m.supervisor(ON).code(OTHER, a -> a.op(Op.RDSSP, RBX).retFar(8))
                .code(a -> a.bytes(new byte[] {0x48, (byte) 0xff, 0x1c, 0x25, 0, 0, 5, 0}).op(Op.RDSSP, RCX).hlt()).run();
        assertThat(m.vector()).isEqualTo(-1);
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SUPERVISOR_SSP - 24);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(SUPERVISOR_SSP);
    }

    /// A return to the user that was not entered from there frees nothing and faults on a misaligned SSP.
    @Test
    void iretWantsAnAlignedShadowStack() {
        m.supervisor(ON);
        cpu.cet.ssp -= 4;
        m.code(a -> a.push(0x23).push(0).push(2).push(USER_CS).push((int) OTHER).iret(8)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
        assertThat(m.frame(0)).isEqualTo(Cet.CP_FAR_RET_IRET);
    }

    /// Compatibility mode has no shadow stack above 4 GiB.
    @Test
    void iretToCompatibilityModeWantsALowShadowStack() {
        cpu.cet.uCet = ON;
        cpu.cet.plSsp[3] = 1L << 33;
        m.supervisor(0).code(a -> a.push(0x23).push(0).push(2).push(0x2b).push((int) OTHER).iret(8)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
    }
}
