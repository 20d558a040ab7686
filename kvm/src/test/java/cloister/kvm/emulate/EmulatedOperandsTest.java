package cloister.kvm.emulate;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.emulation.EmulatedProcessor;
import cloister.cpu.emulation.MemoryAndPorts.Access;
import cloister.cpu.emulation.MemoryAndPorts.Right;
import cloister.cpu.fpu.FpuState;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRun;
import cloister.sim.VirtualClock;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Memory operands of emulated instructions at the edges of pages: memory, MMIO, nothing.
class EmulatedOperandsTest {
    private static final int CODE = 0x100;
    private static final long APIC = 0xfee0_0000L;
    private static final int RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RSI = 6, RDI = 7;
    private static final int PAGE_FAULT_OF_WRITE = 2;

    private final Machine machine = new Machine();
    private final InstructionEmulator emulator = new InstructionEmulator(machine, new VirtualClock(1_000_000_000L));

    /// 64-bit code. Linear pages: 0 and 0x1000 are memory, 0x2000 is memory at 0x5000, 0x3000 is not present, 0x4000 is MMIO at
    /// 0xD0000000, and the page behind it, too; 0x6000 is the local APIC.
    private static final class Machine implements EmulatedMachine {
        private static final int CODE_64 = 0xa09b;
        private static final int DATA = 0xc093;
        final long[] gprs = new long[16];
        final byte[] memory = new byte[0x6000];
        final KvmRun run = new KvmRun();
        final List<String> apicWrites = new ArrayList<>();
        final List<String> raised = new ArrayList<>();
        final FpuState fpu = new FpuState();
        long rip = CODE;
        long rflags = 2;
        int cpl;
        int trapped;
        int idtLimit;

        @Override public void load(EmulatedProcessor p) {
            p.loadGeneral(gprs);
            p.load(rip, rflags);
            for (int i = 0; i < EmulatedProcessor.SEGMENTS; i++) {
                p.segment(i, 8, 0, -1, (i == 1 ? CODE_64 : DATA) | (cpl << 5));
            }
            p.control(Cr0.PE | Cr0.PG, 0, 0, Cr4.PAE | Cr4.OSFXSR, 0, Efer.LME | Efer.LMA, cpl);
        }

        @Override public void store(EmulatedProcessor p) {
            p.storeGeneral(gprs);
            rip = p.rip();
            rflags = p.rflags();
            idtLimit = p.idtLimit();
        }

        @Override public void retired(EmulatedProcessor p, boolean traps) {
            trapped += traps ? 1 : 0;
        }

        @Override public void taskSwitched(EmulatedProcessor p) {
            throw new AssertionError();
        }

        @Override public void loadFpu(EmulatedProcessor p) {
            p.fpu().copyFrom(fpu);
        }

        @Override public void storeFpu(EmulatedProcessor p) {
            fpu.copyFrom(p.fpu());
        }

        @Override public long translate(EmulatedProcessor p, long linear, Access access, Right right) {
            return switch ((int) (linear >>> 12)) {
                case 0, 1 -> linear;
                case 2 -> linear + 0x3000;
                case 6 -> linear - 0x6000 + APIC;
                case 4, 5 -> linear - 0x4000 + 0xd000_0000L;
                default -> Long.MIN_VALUE | (access == Access.WRITE ? PAGE_FAULT_OF_WRITE : 0);
            };
        }

        @Override public boolean isMemory(long gpa) {
            return gpa < memory.length;
        }

        @Override public boolean isWritable(long gpa) {
            return isMemory(gpa);
        }

        @Override public long readMemory(long gpa, int bytes) {
            long value = 0;
            for (int i = 0; i < bytes; i++) {
                value |= (memory[(int) gpa + i] & 0xffL) << (8 * i);
            }
            return value;
        }

        @Override public void writeMemory(long gpa, int bytes, long value) {
            for (int i = 0; i < bytes; i++) {
                memory[(int) gpa + i] = (byte) (value >>> (8 * i));
            }
        }

        @Override public boolean isApic(long gpa) {
            return gpa >>> 12 == APIC >>> 12;
        }

        @Override public int readApic(int offset) {
            return 0x8765_4321;
        }

        @Override public void writeApic(int offset, int value) {
            apicWrites.add(Integer.toHexString(offset) + " " + Integer.toHexString(value));
        }

        @Override public KvmRun run() {
            return run;
        }

        @Override public long controlFlow(boolean user) {
            return 0;
        }

        @Override public void raise(int vector, int errorCode, long address) {
            raised.add(vector + " " + errorCode + " " + Long.toHexString(address));
        }

        @Override public long[] failureData(byte[] code) {
            return new long[] {code.length};
        }

        @Override public boolean writeControl(int register, long value) {
            throw new AssertionError();
        }

        @Override public boolean writeExtendedControl(int register, long value) {
            throw new AssertionError();
        }

        @Override public OptionalLong readMsr(int index) {
            return index == 0x1b ? OptionalLong.of(0xfee0_0900L) : OptionalLong.empty();
        }

        @Override public boolean writeMsr(int index, long value) {
            return false;
        }

        @Override public long debugRegister(int number) {
            return number == 7 ? 0x400 : number;
        }

        @Override public void debugRegister(int number, long value) {
        }

        @Override public void cpuid(int leaf, int subleaf, int[] out) {
            out[0] = leaf;
            out[3] = subleaf;
        }

        @Override public long tsc() {
            return 0x1_0000_0002L;
        }

        @Override public void halt() {
            throw new AssertionError();
        }

        @Override public void unmaskNmis() {
            throw new AssertionError();
        }

        @Override public void invalidatePage(long linear) {
            throw new AssertionError();
        }
    }

    /// INS or OUTS of port 0x80.
    private KvmExit start(boolean in, int size, boolean rep) {
        machine.gprs[RDX] = 0x80;
        int operandSize = size == 2 ? 0x66 : 0x2e; // CS, which means nothing here
        return emulate(operandSize, rep ? 0xf3 : 0x2e, (in ? 0x6c : 0x6e) + (size == 1 ? 0 : 1));
    }

    @Test void outsReadsAcrossPages() {
        machine.memory[0x1fff] = 0x34;
        machine.memory[0x5000] = 0x12;
        machine.gprs[RSI] = 0x1fff;
        assertThat(start(false, 2, false)).isEqualTo(new KvmExit.Io(true, 2, 0x80, 1));
        assertThat(machine.run.item(0, 2)).isEqualTo(0x1234);
        assertThat(emulator.answered()).isNull();
        assertThat(machine.gprs[RSI]).isEqualTo(0x2001);
        assertThat(machine.rip).isEqualTo(CODE + 3);
        assertThat(machine.raised).isEmpty();
    }

    /// The port is not read when its item has no place to go.
    @Test void insFaultsBeforeItTouchesThePort() {
        machine.gprs[RDI] = 0x2ffe;
        assertThat(start(true, 4, false)).isNull();
        assertThat(machine.raised).containsExactly("14 2 3000");
        assertThat(machine.rip).isEqualTo(CODE);
        assertThat(machine.gprs[RDI]).isEqualTo(0x2ffe);
    }

    @Test void outsOfAnUnmappedPageOrANonCanonicalAddressFaults() {
        machine.gprs[RSI] = 0x3010;
        assertThat(start(false, 1, false)).isNull();
        machine.gprs[RSI] = 1L << 62;
        assertThat(start(false, 1, false)).isNull();
        assertThat(machine.raised).containsExactly("14 0 3010", "13 0 0");
    }

    @Test void insToMmioWritesWhatThePortGave() {
        machine.gprs[RDI] = 0x4010;
        assertThat(start(true, 2, false)).isEqualTo(new KvmExit.Io(false, 2, 0x80, 1));
        machine.run.data[0] = 0x77;
        machine.run.data[1] = 0x66;
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 2, true));
        assertThat(machine.run.item(0, 2)).isEqualTo(0x6677);
        assertThat(emulator.isPending()).isFalse();
        assertThat(machine.rip).isEqualTo(CODE + 3);
    }

    @Test void repeatsDownwardsUntilRcxIsUsedUp() {
        machine.rflags = 2 | Rflags.DF;
        machine.gprs[RSI] = 0x1004;
        machine.gprs[RCX] = 2;
        start(false, 4, true);
        assertThat(emulator.answered()).isNull();
        assertThat(machine.rip).as("the guest executes it again").isEqualTo(CODE);
        start(false, 4, true);
        assertThat(emulator.answered()).isNull();
        assertThat(machine.rip).isEqualTo(CODE + 3);
        assertThat(machine.gprs[RSI]).isEqualTo(0xffc);
        assertThat(start(false, 4, true)).as("RCX is 0").isNull();
    }

    private KvmExit emulate(int... code) {
        machine.rip = CODE;
        for (int n = 0; n < code.length; n++) {
            machine.memory[CODE + n] = (byte) code[n];
        }
        return emulator.emulate(InstructionEmulator.Scope.UPSTREAM);
    }

    /// MOV [RBX], RAX over the edge of two MMIO pages leaves in two exits.
    @Test void mmioWriteAcrossPagesIsTwoExits() {
        machine.gprs[RBX] = 0x4ffd;
        machine.gprs[RAX] = 0x8877_6655_4433_2211L;
        assertThat(emulate(0x48, 0x89, 0x03)).isEqualTo(new KvmExit.Mmio(0xd000_0ffdL, 3, true));
        assertThat(machine.run.item(0, 3)).isEqualTo(0x33_2211);
        assertThat(emulator.isPending()).isTrue();
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_1000L, 5, true));
        assertThat(machine.run.item(0, 5)).isEqualTo(0x88_7766_5544L);
        assertThat(emulator.isPending()).isFalse();
        assertThat(machine.rip).isEqualTo(CODE + 3);
    }

    /// MOV RAX, [RBX] likewise, each half answered by the VMM.
    @Test void mmioReadAcrossPagesIsTwoExits() {
        machine.gprs[RBX] = 0x4ffe;
        assertThat(emulate(0x48, 0x8B, 0x03)).isEqualTo(new KvmExit.Mmio(0xd000_0ffeL, 2, false));
        machine.run.data[0] = 0x11;
        machine.run.data[1] = 0x22;
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_1000L, 6, false));
        for (int i = 0; i < 6; i++) {
            machine.run.data[i] = (byte) (0x33 + 0x11 * i);
        }
        assertThat(emulator.answered()).isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(0x8877_6655_4433_2211L);
    }

    /// MOVSB from MMIO to a page that is not present: the fault comes, nothing else happens.
    @Test void faultOfTheOtherOperandIsTheGuests() {
        machine.gprs[RSI] = 0x4000;
        machine.gprs[RDI] = 0x3000;
        assertThat(emulate(0xA4)).isEqualTo(new KvmExit.Mmio(0xd000_0000L, 1, false));
        assertThat(emulator.answered()).isNull();
        assertThat(machine.raised).containsExactly("14 2 3000");
        assertThat(machine.gprs[RSI]).isEqualTo(0x4000);
        assertThat(machine.rip).isEqualTo(CODE);
    }

    /// BTS [RBX], RAX with a bit offset beyond the operand.
    @Test void bitStringReachesBeyondItsOperand() {
        machine.gprs[RBX] = 0x4000;
        machine.gprs[RAX] = 0x85;
        assertThat(emulate(0x48, 0x0F, 0xAB, 0x03)).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 8, false));
        for (int i = 0; i < 8; i++) {
            machine.run.data[i] = 0;
        }
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 8, true));
        assertThat(machine.run.item(0, 8)).isEqualTo(1 << 5);
    }

    /// What the emulator lacks is #UD for a user program, and ends the run of a kernel. [LINUX handle_emulation_failure]
    @Test void unknownInstructionsAreTheUsersFault() {
        machine.gprs[RBX] = 0x4000;
        machine.cpl = 3;
        assertThat(emulate(0xD9, 0x03)).isNull();
        assertThat(machine.raised).containsExactly("6 0 0");
        machine.cpl = 0;
        assertThat(emulate(0xD9, 0x03)).isInstanceOfSatisfying(KvmExit.InternalError.class,
                exit -> assertThat(exit.suberror()).isEqualTo(KvmAbi.INTERNAL_ERROR_EMULATION));
    }

    /// REP INSB asks for all items of its page at once; the rest is no exit any more.
    @Test void repeatedInputComesInOneExit() {
        machine.gprs[RDI] = 0x1ff0;
        machine.gprs[RCX] = 0x20;
        assertThat(start(true, 1, true)).isEqualTo(new KvmExit.Io(false, 1, 0x80, 0x10));
        for (int i = 0; i < 0x10; i++) {
            machine.run.data[i] = (byte) (0x40 + i);
        }
        assertThat(emulator.answered()).as("the next page").isEqualTo(new KvmExit.Io(false, 1, 0x80, 0x10));
        for (int i = 0; i < 0x10; i++) {
            machine.run.data[i] = (byte) (0x60 + i);
        }
        assertThat(emulator.answered()).isNull();
        assertThat(machine.gprs[RCX]).isZero();
        assertThat(machine.rip).isEqualTo(CODE + 3);
        assertThat(machine.memory[0x1fff]).isEqualTo((byte) 0x4f);
        assertThat(machine.memory[0x5000]).isEqualTo((byte) 0x60);
    }

    /// LOCK CMPXCHG8B [RBX] on MMIO: one read, one write.
    @Test void wideExchangeReadsAndWrites() {
        machine.gprs[RBX] = 0x4008;
        machine.gprs[RAX] = 0x2222_1111L;
        machine.gprs[RDX] = 0x4444_3333L;
        machine.gprs[RCX] = 0x8888_7777L;
        assertThat(emulate(0xF0, 0x0F, 0xC7, 0x0B)).isEqualTo(new KvmExit.Mmio(0xd000_0008L, 8, false));
        machine.run.item(0, 8, 0x4444_3333_2222_1111L);
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0008L, 8, true));
        assertThat(machine.run.item(0, 8)).isEqualTo(0x8888_7777_0000_4008L);
        assertThat(machine.rflags & Rflags.ZF).isNotZero();
    }

    /// MOVUPS XMM1, [RBX] and MOVUPS [RBX], XMM1: 16 bytes in two exits.
    @Test void vectorMovesLeaveInHalves() {
        machine.gprs[RBX] = 0x4010;
        assertThat(emulate(0x0F, 0x10, 0x0B)).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 8, false));
        machine.run.item(0, 8, 5);
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0018L, 8, false));
        machine.run.item(0, 8, 7);
        assertThat(emulator.answered()).isNull();
        assertThat(machine.fpu.xmm[2]).isEqualTo(5);
        assertThat(machine.fpu.xmm[3]).isEqualTo(7);
        assertThat(emulate(0x0F, 0x11, 0x0B)).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 8, true));
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0018L, 8, true));
        assertThat(emulator.answered()).isNull();
    }

    /// PUSH QWORD [RBX] with the stack on a page that is not present: asked first, then the fault; nothing is written.
    @Test void pushOfMmioFaultsOnItsStack() {
        machine.gprs[RBX] = 0x4000;
        machine.gprs[RSP] = 0x4000;
        assertThat(emulate(0xFF, 0x33)).isEqualTo(new KvmExit.Mmio(0xd000_0000L, 8, false));
        assertThat(emulator.answered()).isNull();
        assertThat(machine.raised).containsExactly("14 2 3ff8");
        assertThat(machine.gprs[RSP]).isEqualTo(0x4000);
    }

    /// REP STOSB to MMIO leaves byte by byte, registers up to date at each exit.
    @Test void repeatedStoreLeavesByteByByte() {
        machine.gprs[RDI] = 0x4000;
        machine.gprs[RCX] = 2;
        machine.gprs[RAX] = 0x5a;
        assertThat(emulate(0xF3, 0xAA)).isEqualTo(new KvmExit.Mmio(0xd000_0000L, 1, true));
        assertThat(machine.gprs[RCX]).isEqualTo(1);
        assertThat(machine.rip).isEqualTo(CODE);
        assertThat(emulator.answered()).isNull();
        assertThat(emulate(0xF3, 0xAA)).isEqualTo(new KvmExit.Mmio(0xd000_0001L, 1, true));
        assertThat(emulator.answered()).isNull();
        assertThat(machine.rip).isEqualTo(CODE + 2);
    }

    /// What Linux's emulator does not know it does not emulate: CMPXCHG16B, x87 arithmetic, vector arithmetic, TDX and VMX.
    @ParameterizedTest
    @ValueSource(strings = {"48 0f c7 0b", "d8 03", "66 0f fe 03", "0f 38 f9 03", "0f c7 f0", "0f ae 23", "cd 80", "0f 01 c1"})
    void otherInstructionsEndWithTheirBytes(String code) {
        machine.gprs[RBX] = 0x4000;
        byte[] bytes = HexFormat.ofDelimiter(" ").parseHex(code);
        int[] values = new int[bytes.length];
        Arrays.setAll(values, i -> bytes[i] & 0xff);
        assertThat(emulate(values)).isInstanceOfSatisfying(KvmExit.InternalError.class, exit -> {
            assertThat(exit.suberror()).isEqualTo(KvmAbi.INTERNAL_ERROR_EMULATION);
            assertThat(exit.text()).contains(code);
            assertThat(exit.data()).containsExactly(15);
        });
        assertThat(machine.rip).isEqualTo(CODE);
    }

    /// Parts of APIC registers, and writes of less than a register, which are lost.
    @Test void apicRegisters() {
        machine.gprs[RBX] = 0x6020;
        assertThat(emulate(0x0F, 0xB7, 0x03)).as("MOVZX EAX, WORD PTR [RBX]").isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(0x4321);
        assertThat(emulate(0x0F, 0xB6, 0x43, 0x02)).as("MOVZX EAX, BYTE PTR [RBX + 2]").isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(0x65);
        assertThat(emulate(0x66, 0x0F, 0x01, 0x1B)).as("LIDT [RBX]").isNull();
        assertThat(machine.idtLimit).isEqualTo(0x4321);
        assertThat(emulate(0x66, 0x89, 0x03)).isNull();
        assertThat(emulate(0x89, 0x03)).isNull();
        assertThat(machine.apicWrites).containsExactly("20 65");
    }

    /// Reads of what the processor keeps itself go to KVM.
    @Test void systemInstructionsAskKvm() {
        machine.gprs[RCX] = 0x1b;
        assertThat(emulate(0x0F, 0x32)).isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(0xfee0_0900L);
        machine.gprs[RCX] = 0x1c;
        assertThat(emulate(0x0F, 0x32)).isNull();
        assertThat(machine.raised).containsExactly("13 0 0");
        assertThat(emulate(0x0F, 0x31)).isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(2);
        assertThat(machine.gprs[RDX]).isEqualTo(1);
        machine.gprs[RAX] = 7;
        assertThat(emulate(0x0F, 0xA2)).isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(7);
        assertThat(machine.gprs[RDX]).isEqualTo(0x1c);
        assertThat(emulate(0x0F, 0x21, 0xD0)).as("MOV RAX, DR2").isNull();
        assertThat(machine.gprs[RAX]).isEqualTo(2);
    }

    /// RFLAGS.TF: the trap follows each element of a repeated instruction.
    @Test void singleStepsTrapAfterEachElement() {
        machine.rflags = 2 | Rflags.TF;
        machine.gprs[RSI] = 0x1000;
        machine.gprs[RCX] = 3;
        assertThat(emulate(0xF3, 0xAC)).isNull();
        assertThat(machine.trapped).isEqualTo(1);
        assertThat(machine.gprs[RCX]).isEqualTo(2);
        assertThat(machine.rip).isEqualTo(CODE);
    }
}
