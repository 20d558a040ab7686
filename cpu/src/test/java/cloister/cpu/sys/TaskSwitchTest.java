package cloister.cpu.sys;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.catchThrowableOfType;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.Operand;
import cloister.isa.Operands;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Task switches between two 32-bit tasks of protected mode. [SDM Vol. 3 "Task Switching"]
class TaskSwitchTest {
    private static final int GDT = 0x800;
    private static final int IDT = 0x5000;
    private static final int OLD = 0x3000;
    private static final int NEW = 0x4000;
    private static final int NEW_SELECTOR = 0x30;
    private static final int OLD_SELECTOR = 0x28;
    private static final long AVAILABLE = 0x0000_8900_4000_0067L;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @BeforeEach
    void twoTasks() {
        Reset.powerUp(cpu);
        cpu.cr0 = Cr0.PE | Cr0.ET;
        long[] gdt = {0, 0x00cf9b000000ffffL, 0x00cf93000000ffffL, 0x00cffb000000ffffL, 0x00cff3000000ffffL, // 08, 10; 18, 20 user
            0x0000_8b00_3000_0067L, AVAILABLE, // 28 running, 30 new
            0x0000_8500_0030_0000L, // 38 task gate
            0x0000_8200_6000_000fL}; // 40 LDT
        for (int i = 0; i < gdt.length; i++) {
            memory.write(GDT + i * 8, 8, gdt[i]);
        }
        cpu.gdtrBase = GDT;
        cpu.gdtrLimit = gdt.length * 8 - 1;
        Segments.fill(cpu, Cpu.TR, OLD_SELECTOR, gdt[5]);
        Segments.fill(cpu, Cpu.CS, 0x08, gdt[1]);
        for (int seg : new int[] {Cpu.SS, Cpu.DS, Cpu.ES}) {
            Segments.fill(cpu, seg, 0x10, gdt[2]);
        }
        for (int i = 0; i < 8; i++) {
            cpu.r[i] = 0x100 + i;
            memory.write(NEW + 0x28 + 4 * i, 4, 0x7000 + i);
        }
        memory.write(NEW + 0x20, 4, 0x9000);
        memory.write(NEW + 0x24, 4, 0x202);
        segments(0x1b, 0x23);
        memory.write(NEW + 0x60, 2, 0x40);
        cpu.updateMode();
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void segments(int cs, int data) {
        for (int i = 0; i < 4; i++) {
            memory.write(NEW + 0x48 + 4 * i, 4, i == 1 ? cs : data);
        }
    }

    private void execute(Op op, Operand... operands) {
        byte[] bytes = new Assembler(CodeMode.BITS32, 0x1000).op(4, op, operands).assemble();
        Instruction insn = new Decoder().decode(CodeMode.BITS32, bytes, 0, bytes.length);
        cpu.rip = 0x1000;
        cpu.nextRip = 0x1000 + insn.length;
        SystemInstructions.execute(cpu, insn);
    }

    private int accessOf(int selector) {
        return (int) memory.read(GDT + selector + 5, 1);
    }

    private void assertInNewTask() {
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(NEW_SELECTOR);
        assertThat(cpu.nextRip).isEqualTo(0x9000);
        assertThat(cpu.cpl).isEqualTo(3);
        assertThat(cpu.segSelector[Cpu.SS]).isEqualTo(0x23);
        assertThat(cpu.segBase[Cpu.LDTR]).isEqualTo(0x6000);
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(0x7007);
        assertThat(cpu.cr0 & Cr0.TS).isNotZero();
        assertThat(accessOf(NEW_SELECTOR)).isEqualTo(0x8b);
    }

    @ParameterizedTest
    @CsvSource({"0x30", "0x38"}) // TSS, task gate
    void jump(String selector) {
        cpu.dr7 = 0x403;
        execute(Op.JMP_FAR, Operands.far32(Integer.decode(selector), 0));
        assertInNewTask();
        assertThat(accessOf(OLD_SELECTOR)).as("no longer busy").isEqualTo(0x89);
        assertThat(cpu.rflags()).isEqualTo(0x202);
        assertThat(cpu.dr7).as("local breakpoints").isEqualTo(0x402);
        assertThat(memory.read(OLD + 0x20, 4)).isEqualTo(0x1007);
        assertThat(memory.read(OLD + 0x28 + 4 * 3, 4)).isEqualTo(0x103);
        assertThat(memory.read(OLD + 0x4c, 2)).isEqualTo(0x08);
    }

    @Test
    void callNestsAndIretReturns() {
        execute(Op.CALL_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertInNewTask();
        assertThat(accessOf(OLD_SELECTOR)).isEqualTo(0x8b);
        assertThat(cpu.rflags()).isEqualTo(0x202 | Rflags.NT);
        assertThat(memory.read(NEW, 2)).isEqualTo(OLD_SELECTOR);
        cpu.r[Cpu.RDI] = 0x55;
        execute(Op.IRET);
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(OLD_SELECTOR);
        assertThat(cpu.nextRip).isEqualTo(0x1007);
        assertThat(cpu.cpl).isZero();
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(0x107);
        assertThat(accessOf(NEW_SELECTOR)).isEqualTo(0x89);
        assertThat(memory.read(NEW + 0x24, 4)).as("NT is cleared in the task that returns").isEqualTo(0x202);
        assertThat(memory.read(NEW + 0x44, 4)).isEqualTo(0x55);
    }

    @Test
    void exceptionThroughTaskGatePushesItsErrorCode() {
        cpu.idtrBase = IDT;
        cpu.idtrLimit = 0x7ff;
        memory.write(IDT + 13 * 8, 8, 0x0000_8500_0030_0000L);
        cpu.rip = 0x1234;
        EventDelivery.deliverFault(cpu, cpu.gp(0x18));
        assertInNewTask();
        assertThat(cpu.rip).isEqualTo(0x9000);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x7000);
        assertThat(memory.read(0x7000, 4)).isEqualTo(0x18);
        assertThat(memory.read(OLD + 0x20, 4)).isEqualTo(0x1234);
        assertThat(memory.read(OLD + 0x24, 4) & Rflags.RF).isNotZero();
    }

    private static final long OLD_SSP = 0x1_2800;
    private static final long NEW_SSP = 0x1_3800;

    /// Both tasks at CPL 0 with supervisor shadow stacks, in pages that are read-only and dirty; a free token on the new one.
    private void shadowStacks() {
        for (int page = 0; page < 256; page++) {
            boolean shadow = page == OLD_SSP >> 12 || page == NEW_SSP >> 12;
            memory.write(0x1_1000 + (4 * page), 4, ((long) page << 12) | (shadow ? 0x61 : 0x63));
        }
        memory.write(0x1_0000, 4, 0x1_1003);
        memory.write(OLD + 0x1c, 4, 0x1_0000);
        memory.write(NEW + 0x1c, 4, 0x1_0000);
        memory.write(NEW + 0x68, 4, NEW_SSP);
        memory.write(NEW_SSP, 8, NEW_SSP);
        memory.write(GDT + OLD_SELECTOR, 8, 0x0000_8b00_3000_006bL);
        memory.write(GDT + NEW_SELECTOR, 8, 0x0000_8900_4000_006bL);
        Segments.fill(cpu, Cpu.TR, OLD_SELECTOR, 0x0000_8b00_3000_006bL);
        segments(0x08, 0x10);
        memory.write(NEW + 0x60, 2, 0);
        cpu.cr3 = 0x1_0000;
        cpu.cr4 = Cr4.CET;
        cpu.cr0 |= Cr0.PG | Cr0.WP;
        cpu.cet.sCet = Cet.SH_STK_EN;
        cpu.cet.ssp = OLD_SSP;
        cpu.updateMode();
        cpu.tlb.flushAll();
    }

    /// The frame on the new shadow stack: CS, linear address, SSP. [SDM Vol. 3 "Task Switching"]
    @Test
    void aCallLeavesItsFrameOnTheNewShadowStackAndIretFindsIt() {
        shadowStacks();
        execute(Op.CALL_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(NEW_SELECTOR);
        assertThat(cpu.cet.ssp).isEqualTo(NEW_SSP - 24);
        assertThat(memory.read(NEW_SSP, 8)).as("the token is busy").isEqualTo(NEW_SSP | Cet.TOKEN_BUSY);
        assertThat(new long[] {memory.read(NEW_SSP - 8, 8), memory.read(NEW_SSP - 16, 8), memory.read(NEW_SSP - 24, 8)})
                .containsExactly(0x08, 0x1007, OLD_SSP);
        execute(Op.IRET);
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(OLD_SELECTOR);
        assertThat(cpu.cet.ssp).isEqualTo(OLD_SSP);
        assertThat(memory.read(NEW_SSP, 8)).as("the token is free").isEqualTo(NEW_SSP);
    }

    @Test
    void aJumpTakesTheNewShadowStackAndLeavesNothingThere() {
        shadowStacks();
        execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertThat(cpu.cet.ssp).isEqualTo(NEW_SSP);
        assertThat(memory.read(NEW_SSP, 8)).isEqualTo(NEW_SSP | Cet.TOKEN_BUSY);
        assertThat(memory.read(NEW_SSP - 8, 8)).isZero();
    }

    @Test
    void anIretThatComesToAnotherPlaceIsAControlProtectionException() {
        shadowStacks();
        execute(Op.CALL_FAR, Operands.far32(NEW_SELECTOR, 0));
        memory.write(OLD + 0x20, 4, 0x2000);
        var fault = catchThrowableOfType(GuestFault.class, () -> execute(Op.IRET));
        assertThat(fault.vector).isEqualTo(ExceptionVector.CP);
        assertThat(fault.errorCode).isEqualTo(Cet.CP_FAR_RET_IRET);
    }

    /// The word where the token should be, the SSP of the TSS, and the fault.
    @ParameterizedTest
    @CsvSource({"0x13801, 0x13800, 13, 0", "0x13808, 0x13800, 13, 0", "0, 0x13800, 13, 0", "0x13800, 0x13804, 10, 0x30"})
    void aShadowStackWithoutAFreeTokenIsNotTaken(String token, String ssp, int vector, String errorCode) {
        shadowStacks();
        memory.write(NEW_SSP, 8, Long.decode(token));
        memory.write(NEW + 0x68, 4, Long.decode(ssp));
        var fault = catchThrowableOfType(GuestFault.class, () -> execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0)));
        assertThat(fault.vector).isEqualTo(vector);
        assertThat(fault.errorCode).isEqualTo(Integer.decode(errorCode));
        assertThat(cpu.segSelector[Cpu.TR]).as("the fault is the new task's").isEqualTo(NEW_SELECTOR);
    }

    /// Access byte and limit of the new TSS; CS, other selectors and EIP in it; the fault, and whose it is.
    /// [SDM Vol. 3 "Exception Conditions Checked During a Task Switch"]
    @ParameterizedTest
    @CsvSource({
        "89, 67, 1b, 23, 9000, -1,  0, true",
        "8b, 67, 1b, 23, 9000, 13, 30, false",
        "09, 67, 1b, 23, 9000, 11, 30, false",
        "89, 66, 1b, 23, 9000, 10, 30, false",
        "92, 67, 1b, 23, 9000, 13, 30, false",
        "89, 67, 10, 23, 9000, 10, 10, true",
        "89, 67, 00, 23, 9000, 10,  0, true",
        "89, 67, 0b, 23, 9000, 10,  8, true",
        "89, 67, 1b, 10, 9000, 10, 10, true",
        "89, 67, 1b, 00, 9000, 10,  0, true",
        "89, 67, 08, 10, 9000, -1,  0, true",
        "89, 67, ff, 23, 9000, 10, fc, true",
    })
    void checks(String access, String limit, String cs, String data, String ip, int vector, String code, boolean inNewTask) {
        memory.write(GDT + NEW_SELECTOR + 5, 1, Integer.parseInt(access, 16));
        memory.write(GDT + NEW_SELECTOR, 1, Integer.parseInt(limit, 16));
        memory.write(NEW + 0x20, 4, Integer.parseInt(ip, 16));
        segments(Integer.parseInt(cs, 16), Integer.parseInt(data, 16));
        var fault = catchThrowableOfType(GuestFault.class, () -> execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0)));
        assertThat(fault == null ? -1 : fault.vector).isEqualTo(vector);
        if (fault != null) {
            assertThat(fault.errorCode).isEqualTo(Integer.parseInt(code, 16));
        }
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(inNewTask ? NEW_SELECTOR : OLD_SELECTOR);
        assertThat(cpu.rip).isEqualTo(inNewTask ? 0x9000 : 0x1000);
        assertThat(accessOf(OLD_SELECTOR)).isEqualTo(inNewTask ? 0x89 : 0x8b);
    }

    @Test
    void trapFlagOfTheTss() {
        memory.write(NEW + 0x64, 1, 1);
        execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertThat(cpu.events.pendingDebug).isEqualTo(DebugRegisters.DR6_BT);
    }

    @Test
    void virtual8086Task() {
        memory.write(NEW + 0x24, 4, Rflags.VM | 0x202);
        segments(0x2000, 0x3000);
        memory.write(NEW + 0x20, 4, 0x100);
        execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertThat(cpu.virtual8086()).isTrue();
        assertThat(cpu.cpl).isEqualTo(3);
        assertThat(cpu.segBase[Cpu.CS]).isEqualTo(0x20000);
        assertThat(cpu.segBase[Cpu.DS]).isEqualTo(0x30000);
    }

    @Test
    void sixteenBitTask() {
        memory.write(GDT + NEW_SELECTOR, 8, 0x0000_8100_4000_002bL);
        memory.write(NEW + 0x0e, 2, 0x9100);
        memory.write(NEW + 0x10, 2, 2);
        for (int i = 0; i < 8; i++) {
            memory.write(NEW + 0x12 + 2 * i, 2, 0x40 + i);
        }
        int[] selectors = {0x10, 0x08, 0x10, 0x10, 0};
        for (int i = 0; i < selectors.length; i++) {
            memory.write(NEW + 0x22 + 2 * i, 2, selectors[i]);
        }
        execute(Op.JMP_FAR, Operands.far32(NEW_SELECTOR, 0));
        assertThat(cpu.nextRip).isEqualTo(0x9100);
        assertThat(cpu.r[Cpu.RDI]).isEqualTo(0x47);
        assertThat(cpu.segAr[Cpu.FS] & Cpu.AR_UNUSABLE).isNotZero();
        assertThat(accessOf(NEW_SELECTOR)).isEqualTo(0x83);
    }
}
