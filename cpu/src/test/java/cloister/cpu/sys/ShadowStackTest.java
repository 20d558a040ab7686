package cloister.cpu.sys;

import static cloister.cpu.sys.CetMachine.*;
import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.core.Cpu;
import cloister.isa.Assembler;
import cloister.isa.Label;
import cloister.isa.Op;
import cloister.spec.x86.Cet;
import cloister.spec.x86.ExceptionVector;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Shadow stacks of near transfers and the instructions that manage them. [SDM Vol. 1 "Shadow Stacks"; Vol. 2 of each instruction]
class ShadowStackTest {
    private static final long ON = Cet.SH_STK_EN;
    private final CetMachine m = new CetMachine();
    private final Cpu cpu = m.cpu;

    @AfterEach
    void close() {
        m.close();
    }

    private void user(long control, Consumer<Assembler> program) {
        m.user(control).code(program).run();
    }

    @Test
    void callPushesAndReturnComparesAndPops() {
        user(ON, a -> {
            Label function = a.label();
            Label start = a.label();
            a.jmp(start).label(function).op(Op.RDSSP, RBX).ret().label(start).call(function).op(Op.RDSSP, RCX).ud2();
        });
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SSP - 8);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(SSP);
        assertThat(m.word(SSP - 8)).as("the return address").isBetween(CODE, CODE + 32);
    }

    @Test
    void aChangedReturnAddressIsAControlProtectionFault() {
        user(ON, a -> {
            Label function = a.label();
            Label start = a.label();
            a.jmp(start).label(function).lea(RAX, function).mov(mem(RSP), RAX).ret().label(start).call(function);
        });
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
        assertThat(m.frame(0)).isEqualTo(Cet.CP_NEAR_RET);
        assertThat(m.frame(4)).as("RSP as before RET").isEqualTo(STACK - 8);
        assertThat(cpu.cet.plSsp[3]).as("SSP as before RET").isEqualTo(SSP - 8);
    }

    @Test
    void aCallOfTheNextInstructionPushesNothing() {
        user(ON, a -> {
            Label next = a.label();
            a.call(next).label(next).op(Op.RDSSP, RBX).ud2();
        });
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SSP);
    }

    /// Off, the encodings are what they were before there was CET.
    @Test
    void withoutShadowStacksRdsspIsNoOperationAndTheOthersAreUndefined() {
        user(0, a -> a.mov(RBX, 7).op(Op.RDSSP, RBX).op(Op.INCSSP, RBX));
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(7);
    }

    @ParameterizedTest
    @CsvSource({"SAVEPREVSSP, false", "RSTORSSP, true", "CLRSSBSY, true", "SETSSBSY, false"})
    void withoutShadowStacksIsUndefined(Op op, boolean memory) {
        m.supervisor(Cet.ENDBR_EN).code(a -> {
            if (memory) {
                a.op(op, qwordAt(abs(SUPERVISOR_SSP)));
            } else {
                a.op(op);
            }
        }).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
    }

    @ParameterizedTest
    @CsvSource({"3, 3", "0x101, 1", "0, 0"})
    void incsspPopsSlots(String count, int popped) {
        user(ON, a -> a.mov(RAX, Long.decode(count)).op(Op.INCSSP, RAX).op(Op.RDSSP, RBX).ud2());
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(SSP + 8L * popped);
    }

    @Test
    void incsspTouchesTheLastSlot() {
        m.leaf(USER_SHADOW + 0x1000, 0);
        user(ON, a -> a.mov(RAX, 255).op(Op.INCSSP, RAX).op(Op.INCSSP, RAX));
        assertThat(m.vector()).isEqualTo(ExceptionVector.PF);
        assertThat(m.frame(0)).as("a user shadow-stack read of a page that is not present").isEqualTo(0x44);
    }

    /// Switches to another stack and back: RSTORSSP leaves a token of the old one, SAVEPREVSSP makes it one to return by.
    @Test
    void restoreAndSavePreviousSwitchStacks() {
        long other = USER_SHADOW + 0x400;
        m.memory.write(other - 8, 8, other | Cet.TOKEN_64);
        user(ON, a -> a.op(Op.RSTORSSP, qwordAt(abs(other - 8))).op(Op.RDSSP, RBX).op(Op.SAVEPREVSSP).op(Op.RDSSP, RCX)
                .op(Op.RSTORSSP, qwordAt(abs(SSP - 8))).op(Op.SAVEPREVSSP).op(Op.RDSSP, RDX).ud2());
        assertThat(m.vector()).isEqualTo(ExceptionVector.UD);
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(other - 8);
        assertThat(cpu.r[Cpu.RCX]).isEqualTo(other);
        assertThat(cpu.r[Cpu.RDX]).isEqualTo(SSP);
        assertThat(m.word(other - 8)).as("usable again").isEqualTo(other | Cet.TOKEN_64);
    }

    /// What stands at the address that RSTORSSP is given, relative to it.
    @ParameterizedTest
    @CsvSource({"8, 0, 21", "8, 3, 21", "0x10, 1, 21", "0, 1, 21", "8, 1, 6"})
    void restoreWantsTheTokenOfThatAddress(String distance, int low, int vector) {
        long at = USER_SHADOW + 0x400;
        long token = at + Long.decode(distance) + low;
        m.memory.write(at, 8, token);
        user(ON, a -> a.op(Op.RSTORSSP, qwordAt(abs(at))).ud2());
        assertThat(m.vector()).isEqualTo(vector);
        if (vector == ExceptionVector.CP) {
            assertThat(m.frame(0)).isEqualTo(Cet.CP_RSTORSSP);
            assertThat(m.word(at)).isEqualTo(token);
        }
    }

    @Test
    void savePreviousWantsAPreviousToken() {
        m.memory.write(SSP, 8, SSP | Cet.TOKEN_64);
        user(ON, a -> a.test(RAX, RAX).op(Op.SAVEPREVSSP));
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
    }

    @ParameterizedTest
    @CsvSource({"1, 6", "3, 3"})
    void wrssNeedsItsOwnPermission(long control, int vector) {
        user(control, a -> a.mov(RBX, 0x1234).op(Op.WRSS, qwordAt(abs(SSP - 64)), RBX).int3());
        assertThat(m.vector()).isEqualTo(vector);
        assertThat(m.word(SSP - 64)).isEqualTo(vector == ExceptionVector.BP ? 0x1234 : 0);
    }

    @Test
    void wrssWritesShadowStacksOnlyAndAligned() {
        user(3, a -> a.op(Op.WRSS, qwordAt(abs(DATA)), RBX));
        assertThat(m.vector()).isEqualTo(ExceptionVector.PF);
        assertThat(m.frame(0)).isEqualTo(0x47);
        user(3, a -> a.op(Op.WRSS, qwordAt(abs(SSP + 4)), RBX));
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
    }

    @Test
    void wrussWritesUserStacksFromLevelZero() {
        m.supervisor(0).code(a -> a.mov(RBX, 0x77).op(Op.WRUSS, qwordAt(abs(SSP)), RBX).op(Op.WRUSS,
                qwordAt(abs(SUPERVISOR_SSP)), RBX)).run();
        assertThat(m.word(SSP)).isEqualTo(0x77);
        assertThat(m.vector()).isEqualTo(ExceptionVector.PF);
        assertThat(m.frame(0)).as("a user access").isEqualTo(0x47);
        user(3, a -> a.op(Op.WRUSS, qwordAt(abs(SSP)), RBX));
        assertThat(m.vector()).isEqualTo(ExceptionVector.GP);
    }

    @Test
    void busyTokens() {
        m.supervisor(ON);
        cpu.cet.plSsp[0] = m.token(SUPERVISOR_SHADOW + 0x100);
        long at = cpu.cet.plSsp[0];
        m.code(a -> a.op(Op.SETSSBSY).op(Op.RDSSP, RBX).op(Op.CLRSSBSY, qwordAt(abs(at))).op(Op.RDSSP, RCX)
                .op(Op.CLRSSBSY, qwordAt(abs(at))).hlt()).run();
        assertThat(cpu.r[Cpu.RBX]).isEqualTo(at);
        assertThat(cpu.r[Cpu.RCX]).isZero();
        assertThat(m.word(at)).isEqualTo(at);
        assertThat(cpu.rflags() & 1).as("the second found no busy token").isEqualTo(1);
    }

    @Test
    void aBusyStackCannotBeTakenAgain() {
        m.supervisor(ON);
        cpu.cet.plSsp[0] = m.token(SUPERVISOR_SHADOW + 0x100);
        m.memory.write(cpu.cet.plSsp[0], 8, cpu.cet.plSsp[0] | Cet.TOKEN_BUSY);
        m.code(a -> a.op(Op.SETSSBSY)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.CP);
        assertThat(m.frame(0)).isEqualTo(Cet.CP_SETSSBSY);
    }

    /// The pages that shadow-stack and data accesses meet, and the page-fault error code (0: none). Entry bits: P 1, W 2, U 4, D 40.
    /// [SDM Vol. 3 "Determination of Access Rights"]
    @ParameterizedTest
    @CsvSource({
        "CALL, 0x45, 0", "CALL, 0x47, 0x47", "CALL, 5, 0x47", "CALL, 0x41, 0x47", "CALL, 0, 0x46", "RET, 0x45, 0", "RET, 0x47, 0x45",
        "RET, 0x44, 0x44", "MOV, 0x45, 7"})
    void pagesOfShadowStacks(String access, String entry, String code) {
        m.leaf(USER_SHADOW, USER_SHADOW | Long.decode(entry));
        m.memory.write(SSP, 8, OTHER);
        m.memory.write(STACK - 8, 8, OTHER);
        m.code(OTHER, a -> a.ud2());
        user(ON, a -> {
            switch (access) {
                case "CALL" -> a.mov(RAX, OTHER).call(RAX);
                case "RET" -> a.op(Op.LEA, RSP, mem(RSP, -8)).ret();
                default -> a.mov(qwordAt(abs(SSP)), RAX);
            }
        });
        assertThat(m.vector()).isEqualTo(code.equals("0") ? ExceptionVector.UD : ExceptionVector.PF);
        if (!code.equals("0")) {
            assertThat(m.frame(0)).isEqualTo(Long.decode(code));
        }
    }

    /// Every entry above the leaf must be writable: one that is not covers data too, so the stack of the test lies elsewhere.
    @Test
    void upperEntriesOfShadowStacksAreWritable() {
        long other = 0x20_0000 - 0x1000;
        m.memory.write(0x8_2000 + 8, 8, 0x8_4000 | 5);
        m.memory.write(0x8_4000, 8, USER_SHADOW | 0x45);
        m.user(ON);
        cpu.cet.ssp = other + 0x1000 + 0x800;
        m.code(a -> a.mov(RAX, OTHER).call(RAX)).run();
        assertThat(m.vector()).isEqualTo(ExceptionVector.PF);
        assertThat(m.frame(0)).isEqualTo(0x47);
    }
}
