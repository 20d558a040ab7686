package cloister.kvm.emulate;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.CodeMode;
import cloister.kvm.KvmExit;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Memory operands of emulated instructions at the edges of pages: memory, MMIO, nothing.
class EmulatedOperandsTest {
    private static final int CODE = 0x100;
    private static final int RAX = 0, RCX = 1, RBX = 3, RSI = 6, RDI = 7;
    private static final int PAGE_FAULT_OF_WRITE = 2;

    private final Machine machine = new Machine();
    private final PortStrings strings = new PortStrings(machine);
    private final MmioEmulator emulator = new MmioEmulator(machine);

    /// Linear pages: 0 and 0x1000 are memory, 0x2000 is memory at 0x5000, 0x3000 is not present, 0x4000 is MMIO at 0xD0000000, and the
    /// page behind it, too.
    private static final class Machine implements EmulatedMachine {
        final long[] gprs = new long[16];
        final byte[] memory = new byte[0x6000];
        final byte[] data = new byte[64];
        final List<String> raised = new ArrayList<>();
        private final GuestException exception = new GuestException();
        long rip = CODE;
        long rflags = 2;
        int cpl;

        @Override public long gpr(int number) {
            return gprs[number];
        }

        @Override public void gpr(int number, long value) {
            gprs[number] = value;
        }

        @Override public long rip() {
            return rip;
        }

        @Override public void advance(int length) {
            rip += length;
        }

        @Override public long rflags() {
            return rflags;
        }

        @Override public void rflags(long value) {
            rflags = value;
        }

        @Override public int cpl() {
            return cpl;
        }

        @Override public CodeMode codeMode() {
            return CodeMode.BITS64;
        }

        @Override public long linear(int number, long offset, int bytes, Access access) {
            if (offset < 0) {
                throw exception.of(ExceptionVector.GP, 0);
            }
            return offset;
        }

        @Override public long translate(long linear, Access access) {
            return switch ((int) (linear >>> 12)) {
                case 0, 1 -> linear;
                case 2 -> linear + 0x3000;
                case 4, 5 -> linear - 0x4000 + 0xd000_0000L;
                default -> throw exception.pageFault(access == Access.WRITE ? PAGE_FAULT_OF_WRITE : 0, linear);
            };
        }

        @Override public boolean isMemory(long gpa) {
            return gpa < memory.length;
        }

        @Override public boolean isWritable(long gpa) {
            return isMemory(gpa);
        }

        @Override public long readMemory(long gpa, int bytes) {
            return ItemBytes.load(memory, (int) gpa, bytes);
        }

        @Override public void writeMemory(long gpa, int bytes, long value) {
            for (int i = 0; i < bytes; i++) {
                memory[(int) gpa + i] = (byte) (value >>> (8 * i));
            }
        }

        @Override public boolean isApic(long gpa) {
            return false;
        }

        @Override public int readApic(int offset) {
            throw new AssertionError();
        }

        @Override public void writeApic(int offset, int value) {
            throw new AssertionError();
        }

        @Override public byte[] exitData() {
            return data;
        }

        @Override public void raise(GuestException raise) {
            raised.add(raise.vector() + " " + raise.errorCode() + " " + Long.toHexString(raise.address()));
        }
    }

    private KvmExit start(boolean in, int size, boolean rep) {
        return strings.start(new PortStrings.Request(in, size, 0x80, rep, in ? 0 : 3, -1, 2));
    }

    @Test void outsReadsAcrossPages() {
        machine.memory[0x1fff] = 0x34;
        machine.memory[0x5000] = 0x12;
        machine.gprs[RSI] = 0x1fff;
        assertThat(start(false, 2, false)).isEqualTo(new KvmExit.Io(true, 2, 0x80, 1));
        assertThat(ItemBytes.load(machine.data, 2)).isEqualTo(0x1234);
        assertThat(strings.answered()).isNull();
        assertThat(machine.gprs[RSI]).isEqualTo(0x2001);
        assertThat(machine.rip).isEqualTo(CODE + 2);
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
        machine.gprs[RSI] = -8;
        assertThat(start(false, 1, false)).isNull();
        assertThat(machine.raised).containsExactly("14 0 3010", "13 0 0");
    }

    @Test void insToMmioWritesWhatThePortGave() {
        machine.gprs[RDI] = 0x4010;
        assertThat(start(true, 2, false)).isEqualTo(new KvmExit.Io(false, 2, 0x80, 1));
        machine.data[0] = 0x77;
        machine.data[1] = 0x66;
        assertThat(strings.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 2, true));
        assertThat(ItemBytes.load(machine.data, 2)).isEqualTo(0x6677);
        assertThat(strings.isPending()).isFalse();
        assertThat(machine.rip).isEqualTo(CODE + 2);
    }

    @Test void repeatsDownwardsUntilRcxIsUsedUp() {
        machine.rflags = 2 | Rflags.DF;
        machine.gprs[RSI] = 0x1004;
        machine.gprs[RCX] = 2;
        start(false, 4, true);
        assertThat(strings.answered()).isNull();
        assertThat(machine.rip).as("the guest executes it again").isEqualTo(CODE);
        start(false, 4, true);
        assertThat(strings.answered()).isNull();
        assertThat(machine.rip).isEqualTo(CODE + 2);
        assertThat(machine.gprs[RSI]).isEqualTo(0xffc);
        assertThat(start(false, 4, true)).as("RCX is 0").isNull();
    }

    private KvmExit emulate(int... code) {
        for (int n = 0; n < code.length; n++) {
            machine.memory[CODE + n] = (byte) code[n];
        }
        return emulator.emulate(0xd000_0000L);
    }

    /// MOV [RBX], RAX over the edge of two MMIO pages leaves in two exits.
    @Test void mmioWriteAcrossPagesIsTwoExits() {
        machine.gprs[RBX] = 0x4ffd;
        machine.gprs[RAX] = 0x8877_6655_4433_2211L;
        assertThat(emulate(0x48, 0x89, 0x03)).isEqualTo(new KvmExit.Mmio(0xd000_0ffdL, 3, true));
        assertThat(ItemBytes.load(machine.data, 3)).isEqualTo(0x33_2211);
        assertThat(emulator.isPending()).isTrue();
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_1000L, 5, true));
        assertThat(ItemBytes.load(machine.data, 5)).isEqualTo(0x88_7766_5544L);
        assertThat(emulator.isPending()).isFalse();
        assertThat(machine.rip).isEqualTo(CODE + 3);
    }

    /// MOV RAX, [RBX] likewise, each half answered by the VMM.
    @Test void mmioReadAcrossPagesIsTwoExits() {
        machine.gprs[RBX] = 0x4ffe;
        assertThat(emulate(0x48, 0x8B, 0x03)).isEqualTo(new KvmExit.Mmio(0xd000_0ffeL, 2, false));
        machine.data[0] = 0x11;
        machine.data[1] = 0x22;
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_1000L, 6, false));
        for (int i = 0; i < 6; i++) {
            machine.data[i] = (byte) (0x33 + 0x11 * i);
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
            machine.data[i] = 0;
        }
        assertThat(emulator.answered()).isEqualTo(new KvmExit.Mmio(0xd000_0010L, 8, true));
        assertThat(ItemBytes.load(machine.data, 8)).isEqualTo(1 << 5);
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
}
