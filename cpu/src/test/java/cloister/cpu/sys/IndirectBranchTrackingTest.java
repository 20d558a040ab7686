package cloister.cpu.sys;

import static cloister.cpu.sys.CetMachine.*;
import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Op;
import cloister.spec.x86.Cet;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Msr;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// [SDM Vol. 1 "Indirect Branch Tracking"]
class IndirectBranchTrackingTest {
    private static final long ON = Cet.ENDBR_EN;
    private final CetMachine m = new CetMachine();
    private final Cpu cpu = m.cpu;

    @AfterEach
    void close() {
        m.close();
    }

    private void expectControlProtection(long rip) {
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
        assertThat(m.frame(0)).isEqualTo(Cet.CP_ENDBRANCH);
        assertThat(m.frame(1)).isEqualTo(rip);
    }

    /// Branch instruction, what stands at the target, user or supervisor, expected vector.
    @ParameterizedTest
    @CsvSource({
        "CALL, ENDBR64, 3, 6", "CALL, NOP, 3, 21", "CALL, ENDBR32, 3, 21", "CALL, UD2, 3, 21", "JMP, ENDBR64, 3, 6", "JMP, NOP, 3, 21",
        "CALL, ENDBR64, 0, 6", "CALL, NOP, 0, 21", "JMP, ENDBR64, 0, 6", "JMP, NOP, 0, 21", "CALL, INT3, 3, 3"})
    void anIndirectBranchMustFindEndbranch(Op branch, Op target, int cpl, int vector) {
        if (cpl == 3) {
            m.user(ON);
        } else {
            m.supervisor(ON);
        }
        m.code(OTHER, a -> a.op(target).ud2()).code(a -> a.mov(RAX, OTHER).op(branch, RAX)).run();
        if (vector == ExceptionVector.CP) {
            expectControlProtection(OTHER);
        } else {
            assertThat(m.vector()).isEqualTo(vector);
        }
    }

    /// The fast way to a target that is known, after the slow one has found it: 500 calls, the last to a place without ENDBR64.
    @ParameterizedTest
    @ValueSource(ints = {0, 3})
    void hotCallsAreTrackedToo(int cpl) {
        if (cpl == 3) {
            m.user(ON);
        } else {
            m.supervisor(ON);
        }
        m.code(OTHER, a -> a.op(Op.ENDBR64).inc(RBX).ret()).code(a -> {
            var again = a.label();
            a.mov(RAX, OTHER).mov(RCX, 500).label(again).call(RAX).dec(RCX).jcc(cloister.isa.Condition.NE, again)
                    .add(RAX, 4).call(RAX);
        }).run();
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(500);
        expectControlProtection(OTHER + 4);
    }

    @ParameterizedTest
    @ValueSource(longs = {0, Cet.SH_STK_EN, Cet.NO_TRACK_EN})
    void withoutTrackingNothingIsAsked(long control) {
        m.user(control).code(OTHER, a -> a.nop().ud2()).code(a -> a.mov(RAX, OTHER).call(RAX)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
    }

    @Test
    void directBranchesAreNotTracked() {
        m.user(ON).code(a -> {
            var there = a.label();
            a.call(there).label(there).ud2();
        }).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
    }

    @ParameterizedTest
    @CsvSource({"true, CALL, 6", "false, CALL, 21", "true, JMP, 6", "false, JMP, 21"})
    void noTrackCountsWhenEnabled(boolean enabled, Op branch, int vector) {
        m.user(ON | (enabled ? Cet.NO_TRACK_EN : 0)).code(OTHER, a -> a.nop().ud2())
                .code(a -> a.mov(RAX, OTHER).db(0x3e).op(branch, RAX)).run();
        assertThat(m.vector()).isEqualTo(vector);
    }

    /// Legacy code by the bitmap: tracking is then suppressed until the next ENDBRANCH, unless that is disabled.
    @ParameterizedTest
    @CsvSource({"true, false, false, 6", "false, false, false, 21", "true, true, false, 21", "true, false, true, 21"})
    void legacyCodeByTheBitmap(boolean inBitmap, boolean suppressDisabled, boolean endbranch, int vector) {
        m.memory.write(DATA + (OTHER >>> 15), 1, inBitmap ? 1 << ((OTHER >>> 12) & 7) : 0);
        m.user(ON | Cet.LEG_IW_EN | (suppressDisabled ? Cet.SUPPRESS_DIS : 0) | DATA);
        m.code(OTHER, a -> {
            a.nop();
            if (endbranch) {
                a.op(Op.ENDBR64);
            }
            a.mov(RAX, HANDLERS + 0x2000).call(RAX);
        }).code(HANDLERS + 0x2000, a -> a.ud2()).code(a -> a.mov(RAX, OTHER).call(RAX)).run();
        assertThat(m.vector()).isEqualTo(vector);
    }

    /// An event between the branch and its target does not lose a user's tracker.
    @Test
    void theUsersTrackerSurvivesAFaultAtTheTarget() {
        m.leaf(OTHER, 0);
        m.user(ON).code(a -> a.mov(RAX, OTHER).call(RAX)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.PF);
        assertThat(m.waiting(3)).isTrue();
        m.leaf(OTHER, OTHER | 7);
        cpu.tlb.flushAll();
        m.code(OTHER, a -> a.nop());
        m.code(cpu.rip, a -> a.add(RSP, 8).iret(8));
        cpu.events.activity = PendingEvents.ACTIVE;
        m.run();
        expectControlProtection(OTHER);
    }

    /// Handlers of supervisors that track must begin with ENDBRANCH, as must the target of SYSCALL.
    @ParameterizedTest
    @ValueSource(booleans = {false, true})
    void handlersBeginWithEndbranch(boolean syscall) {
        m.supervisor(ON);
        m.gate(ExceptionVector.UD, OTHER, 0);
        cpu.lstar = OTHER;
        m.user(0).code(OTHER, a -> a.nop()).code(a -> {
            if (syscall) {
                a.syscall();
            } else {
                a.ud2();
            }
        }).run();
        expectControlProtection(OTHER);
        assertThat(cpu.cpl).isZero();
    }

    @Test
    void singleStepsSeeTheTrackerWait() {
        m.user(ON).code(OTHER, a -> a.op(Op.ENDBR64).ud2()).code(a -> a.mov(RAX, OTHER).call(RAX));
        cpu.rflags(Rflags.TF);
        m.run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.DB);
        assertThat(m.waiting(3)).as("after MOV").isFalse();
        m.code(cpu.rip, a -> a.iret(8));
        cpu.events.activity = PendingEvents.ACTIVE;
        m.run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.DB);
        assertThat(m.frame(0)).isEqualTo(OTHER);
        assertThat(m.waiting(3)).as("after CALL").isTrue();
    }

    /// A write of the MSR changes what code already decoded does.
    @Test
    void theMsrsDecideAtOnce() {
        m.supervisor(0).code(OTHER, a -> a.nop().ret()).code(a -> a.mov(RSI, OTHER).call(RSI).mov(RCX, Msr.IA32_S_CET)
                .mov(RAX, ON).xor(RDX, RDX).wrmsr().call(RSI)).run();
        expectControlProtection(OTHER);
    }
}
