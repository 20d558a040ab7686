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
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Rflags;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Segment loads and far transfers of 32-bit protected mode without paging.
class FarTransferTest {
    private static final int GDT = 0x800;
    private static final int TSS = 0x3000;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 32);
    private final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());

    @BeforeEach
    void protectedMode() {
        Reset.powerUp(cpu);
        cpu.cr0 = Cr0.PE | Cr0.ET;
        long[] gdt = {0,
            0x00cf9b000000ffffL, 0x00cf93000000ffffL, // 08 code 0, 10 data 0
            0x00cffb000000ffffL, 0x00cff3000000ffffL, // 18 code 3, 20 data 3
            0x00cf9f000000ffffL, 0x00cf91000000ffffL, // 28 conforming code 0, 30 read-only data 0
            0x00cf99000000ffffL, 0x00cf13000000ffffL, // 38 execute-only code 0, 40 data not present
            0x0000_ec02_0008_9000L, 0x0000_8c00_0008_9000L, // 48 call gate DPL 3, 2 parameters; 50 call gate DPL 0
            0x0000_8b00_3000_0067L, 0x0000_8200_4000_0017L, // 58 busy TSS, 60 LDT
            0x0000_8900_3000_0067L, 0x00cfbb000000ffffL}; // 68 available TSS, 70 code 1
        for (int i = 0; i < gdt.length; i++) {
            memory.write(GDT + i * 8, 8, gdt[i]);
        }
        cpu.gdtrBase = GDT;
        cpu.gdtrLimit = gdt.length * 8 - 1;
        cpu.segBase[Cpu.TR] = TSS;
        cpu.segLimit[Cpu.TR] = 0x67;
        cpu.segAr[Cpu.TR] = 0x8b;
        memory.write(TSS + 4, 4, 0x7000);
        memory.write(TSS + 8, 4, 0x10);
        level(0);
        cpu.r[Cpu.RSP] = 0x6000;
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void level(int cpl) {
        cpu.cpl = cpl;
        int code = cpl == 0 ? 0x08 : 0x1b;
        int data = cpl == 0 ? 0x10 : 0x23;
        Segments.fill(cpu, Cpu.CS, code, memory.read(GDT + (code & ~7), 8));
        for (int seg : new int[] {Cpu.SS, Cpu.DS, Cpu.ES}) {
            Segments.fill(cpu, seg, data, memory.read(GDT + (data & ~7), 8));
        }
        cpu.updateMode();
    }

    private void execute(Op op, int size, Operand... operands) {
        byte[] bytes = new Assembler(CodeMode.BITS32, 0x1000).op(size, op, operands).assemble();
        Instruction insn = new Decoder().decode(CodeMode.BITS32, bytes, 0, bytes.length);
        cpu.rip = 0x1000;
        cpu.nextRip = 0x1000 + insn.length;
        SystemInstructions.execute(cpu, insn);
    }

    private String outcome(Runnable action) {
        var fault = catchThrowableOfType(GuestFault.class, action::run);
        return fault == null ? "ok" : fault.vector + ":" + Integer.toHexString(fault.errorCode);
    }

    /// Selector, CPL, what loading DS does, what loading SS does. [SDM Vol. 2 MOV, "Protected Mode Exceptions"]
    @ParameterizedTest
    @CsvSource({"0x00, 0, ok, 13:0", "0x03, 3, ok, 13:0", "0x10, 0, ok, ok", "0x13, 0, 13:10, 13:10", "0x20, 0, ok, 13:20",
        "0x23, 3, ok, ok", "0x10, 3, 13:10, 13:10", "0x08, 0, ok, 13:8", "0x38, 0, 13:38, 13:38", "0x30, 0, ok, 13:30",
        "0x40, 0, 11:40, 12:40", "0x28, 3, ok, 13:28", "0x58, 0, 13:58, 13:58", "0x100, 0, 13:100, 13:100",
        "0x14, 0, 13:14, 13:14"})
    void dataSegmentLoads(String selector, int cpl, String ds, String ss) {
        level(cpl);
        int value = Integer.decode(selector);
        assertThat(outcome(() -> Segments.load(cpu, Cpu.DS, value))).isEqualTo(ds);
        assertThat(outcome(() -> Segments.load(cpu, Cpu.SS, value))).isEqualTo(ss);
    }

    /// Selector, CPL, outcome of JMP FAR to offset 9000H, CPL and CS afterwards.
    @ParameterizedTest
    @CsvSource({"0x08, 0, ok, 8", "0x0b, 0, 13:8, 0", "0x18, 0, 13:18, 0", "0x1b, 3, ok, 1b", "0x08, 3, 13:8, 0", "0x28, 3, ok, 2b",
        "0x10, 0, 13:10, 0", "0x00, 0, 13:0, 0", "0x50, 0, ok, 8", "0x50, 3, 13:50, 0", "0x48, 3, 13:8, 0",
        "0x60, 0, 13:60, 0", "0x58, 0, 13:58, 0"})
    void farJumps(String selector, int cpl, String expected, String cs) {
        level(cpl);
        String outcome = outcome(() -> execute(Op.JMP_FAR, 4, Operands.far32(Integer.decode(selector), 0x9000)));
        assertThat(outcome).isEqualTo(expected);
        if (outcome.equals("ok")) {
            assertThat(cpu.nextRip).isEqualTo(0x9000);
            assertThat(Integer.toHexString(cpu.segSelector[Cpu.CS])).isEqualTo(cs);
            assertThat(cpu.cpl).isEqualTo(cpl);
        } else {
            assertThat(cpu.nextRip).isEqualTo(0x1007);
        }
    }

    @Test
    void callGateToInnerLevelCopiesParametersAndReturnReleasesThem() {
        level(3);
        memory.write(0x6000, 4, 0x1111);
        memory.write(0x6004, 4, 0x2222);
        execute(Op.CALL_FAR, 4, Operands.far32(0x48, 0));
        assertThat(cpu.cpl).isZero();
        assertThat(cpu.nextRip).isEqualTo(0x9000);
        assertThat(cpu.segSelector[Cpu.SS]).isEqualTo(0x10);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x7000 - 24);
        int[] frame = new int[6];
        for (int i = 0; i < 6; i++) {
            frame[i] = (int) memory.read(cpu.r[Cpu.RSP] + 4 * i, 4);
        }
        assertThat(frame).containsExactly(0x1007, 0x1b, 0x1111, 0x2222, 0x6000, 0x23);
        Segments.load(cpu, Cpu.DS, 0x10);
        execute(Op.RET_FAR, 4, Operands.imm(8));
        assertThat(cpu.cpl).isEqualTo(3);
        assertThat(cpu.nextRip).isEqualTo(0x1007);
        assertThat(cpu.segSelector[Cpu.SS]).isEqualTo(0x23);
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x6008);
        assertThat(cpu.segAr[Cpu.DS] & Cpu.AR_UNUSABLE).as("DS of the inner level is taken away").isNotZero();
        assertThat(cpu.segSelector[Cpu.ES]).isEqualTo(0x23);
    }

    @Test
    void returnToInnerLevelIsRefused() {
        level(3);
        memory.write(0x6000, 4, 0x9000);
        memory.write(0x6004, 4, 0x08);
        assertThat(outcome(() -> execute(Op.RET_FAR, 4))).isEqualTo("13:8");
        assertThat(cpu.r[Cpu.RSP]).isEqualTo(0x6000);
    }

    @Test
    void iretToVirtual8086ModeAndInterruptBack() {
        int[] frame = {0x100, 0x2000, (int) (Rflags.VM | Rflags.FIXED_1 | Rflags.IOPL), 0xfff0, 0x3000, 0x11, 0x22, 0x33, 0x44};
        for (int i = 0; i < frame.length; i++) {
            memory.write(0x6000 + 4 * i, 4, frame[i]);
        }
        execute(Op.IRET, 4);
        assertThat(cpu.virtual8086()).isTrue();
        assertThat(cpu.cpl).isEqualTo(3);
        assertThat(cpu.nextRip).isEqualTo(0x100);
        assertThat(cpu.segBase[Cpu.CS]).isEqualTo(0x20000);
        assertThat(cpu.segBase[Cpu.SS]).isEqualTo(0x30000);
        assertThat(cpu.segSelector[Cpu.GS]).isEqualTo(0x44);
        cpu.idtrBase = 0x5000;
        cpu.idtrLimit = 0x7ff;
        memory.write(0x5000 + 13 * 8, 8, 0x0000_8e00_0008_9000L);
        cpu.rip = 0x100;
        EventDelivery.deliverFault(cpu, cpu.gp(0));
        assertThat(cpu.virtual8086()).isFalse();
        assertThat(cpu.cpl).isZero();
        int[] pushed = new int[10];
        for (int i = 0; i < pushed.length; i++) {
            pushed[i] = (int) memory.read(cpu.r[Cpu.RSP] + 4 * i, 4);
        }
        assertThat(pushed).containsExactly(0, 0x100, 0x2000, (int) (Rflags.VM | Rflags.RF | Rflags.FIXED_1 | Rflags.IOPL), 0xfff0,
                0x3000, 0x11, 0x22, 0x33, 0x44);
        assertThat(cpu.segAr[Cpu.DS] & Cpu.AR_UNUSABLE).isNotZero();
    }

    /// Selector, CPL, whether LAR and LSL see it, whether VERR and VERW accept it.
    @ParameterizedTest
    @CsvSource({"0x10, 0, true, true, true, true", "0x10, 3, false, false, false, false", "0x23, 3, true, true, true, true",
        "0x08, 0, true, true, true, false", "0x38, 0, true, true, false, false", "0x30, 0, true, true, true, false",
        "0x28, 3, true, true, true, false", "0x48, 3, true, false, false, false", "0x58, 0, true, true, false, false",
        "0x00, 0, false, false, false, false", "0x200, 0, false, false, false, false"})
    void larLslVerrVerw(String selector, int cpl, boolean lar, boolean lsl, boolean verr, boolean verw) {
        level(cpl);
        cpu.r[Cpu.RCX] = Integer.decode(selector);
        execute(Op.LAR, 4, Operands.EAX, Operands.CX);
        assertThat((cpu.rflags() & Rflags.ZF) != 0).isEqualTo(lar);
        execute(Op.LSL, 4, Operands.EAX, Operands.CX);
        assertThat((cpu.rflags() & Rflags.ZF) != 0).isEqualTo(lsl);
        execute(Op.VERR, 0, Operands.CX);
        assertThat((cpu.rflags() & Rflags.ZF) != 0).isEqualTo(verr);
        execute(Op.VERW, 0, Operands.CX);
        assertThat((cpu.rflags() & Rflags.ZF) != 0).isEqualTo(verw);
    }

    @Test
    void ltrMarksTheTssBusyAndLldtChecksTheType() {
        cpu.r[Cpu.RAX] = 0x68;
        execute(Op.LTR, 0, Operands.AX);
        assertThat(cpu.segSelector[Cpu.TR]).isEqualTo(0x68);
        assertThat(memory.read(GDT + 0x68 + 5, 1)).isEqualTo(0x8b);
        assertThat(outcome(() -> execute(Op.LTR, 0, Operands.AX))).isEqualTo("13:68");
        cpu.r[Cpu.RAX] = 0x60;
        execute(Op.LLDT, 0, Operands.AX);
        assertThat(cpu.segBase[Cpu.LDTR]).isEqualTo(0x4000);
        cpu.r[Cpu.RAX] = 0x10;
        assertThat(outcome(() -> execute(Op.LLDT, 0, Operands.AX))).isEqualTo("13:10");
        level(3);
        assertThat(outcome(() -> execute(Op.LLDT, 0, Operands.AX))).isEqualTo("13:0");
    }
}
