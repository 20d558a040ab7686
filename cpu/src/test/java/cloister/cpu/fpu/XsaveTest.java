package cloister.cpu.fpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.memory.PhysicalMemory;
import cloister.spec.x86.ExceptionVector;
import java.lang.foreign.MemorySegment;
import java.util.HexFormat;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class XsaveTest {
    private static final String FXSAVE = "0fae03";
    private static final String FXSAVE64 = "480fae03";
    private static final String FXRSTOR64 = "480fae0b";
    private static final String XSAVE64 = "480fae23";
    private static final String XSAVEOPT64 = "480fae33";
    private static final String XRSTOR64 = "480fae2b";
    private static final String XSAVEC64 = "480fc723";
    private static final String XSAVES64 = "480fc72b";
    private static final String XRSTORS64 = "480fc71b";
    private static final String XGETBV = "0f01d0";
    private static final long AT = SiliconState.MEMORY;
    private static final long ALL = 0x203;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 64);
    private final Cpu cpu = SiliconVectorsTest.longModeCpu(memory);

    @BeforeEach
    void pointAtArea() {
        cpu.r[Cpu.RBX] = AT;
        mask(ALL);
        for (int n = 0; n < 0x1000; n += 8) {
            cpu.write64(AT + n, 0x5555_5555_5555_5555L);
        }
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void mask(long components) {
        cpu.r[Cpu.RAX] = components & 0xffff_ffffL;
        cpu.r[Cpu.RDX] = components >>> 32;
    }

    private void execute(String code) {
        byte[] bytes = HexFormat.of().parseHex(code);
        FpuInstructions.execute(cpu, new Decoder().decode(CodeMode.BITS64, bytes, 0, bytes.length));
    }

    private void fault(String code, int vector) {
        assertThatThrownBy(() -> execute(code)).isInstanceOfSatisfying(GuestFault.class,
                f -> assertThat(f.vector).isEqualTo(vector));
    }

    private void clearHeader() {
        for (int n = XsaveArea.XSTATE_BV; n < XsaveArea.EXTENDED; n += 8) {
            cpu.write64(AT + n, 0);
        }
        // The standard format loads MXCSR even when SSE is not in XSTATE_BV.
        cpu.write32(AT + 24, 0x1f80);
    }

    private FpuState scramble(long seed) {
        Random random = new Random(seed);
        FpuState s = cpu.fpu;
        for (int n = 0; n < 32; n++) {
            s.xmm[n] = random.nextLong() | 1;
        }
        for (int n = 0; n < 8; n++) {
            s.st[n] = random.nextLong();
            s.stExponent[n] = random.nextInt(0x10000);
        }
        s.fcw = 0x27f;
        s.fsw = 0x2800;
        s.tags = 0xa5;
        s.fip = 0x1234_5678_9abc_def0L;
        s.fdp = 0x0fed_cba9_8765_4321L;
        s.fop = 0x5d9;
        s.mxcsr = 0x3fa5;
        FpuState copy = new FpuState();
        copy.copyFrom(s);
        return copy;
    }

    private static void assertSame(FpuState s, FpuState expected) {
        long[] ours = new long[LegacyImage.WORDS];
        long[] theirs = new long[LegacyImage.WORDS];
        for (var pair : new Object[][] {{s, ours}, {expected, theirs}}) {
            LegacyImage.saveX87((FpuState) pair[0], (long[]) pair[1], true);
            LegacyImage.saveMxcsr((FpuState) pair[0], (long[]) pair[1]);
            LegacyImage.saveXmm((FpuState) pair[0], (long[]) pair[1], 16);
        }
        assertThat(ours).isEqualTo(theirs);
    }

    @ParameterizedTest
    @CsvSource({FXSAVE64 + "," + FXRSTOR64, XSAVE64 + "," + XRSTOR64, XSAVEOPT64 + "," + XRSTOR64, XSAVEC64 + "," + XRSTOR64,
            XSAVES64 + "," + XRSTORS64})
    void restoresWhatWasSaved(String save, String restore) {
        clearHeader();
        FpuState saved = scramble(1);
        cpu.pkru = 0x5555_5554;
        execute(save);
        scramble(2);
        if (!save.equals(FXSAVE64)) {
            cpu.pkru = 7;
        }
        execute(restore);
        assertSame(cpu.fpu, saved);
        assertThat(cpu.pkru).isEqualTo(0x5555_5554);
    }

    @Test
    void fxsaveHasTheManualsLayout() {
        scramble(3);
        execute(FXSAVE64);
        assertThat(cpu.read16(AT)).isEqualTo(0x27f);
        assertThat(cpu.read16(AT + 2)).isEqualTo(0x2800);
        assertThat(cpu.read16(AT + 4)).isEqualTo(0xa5);
        assertThat(cpu.read16(AT + 6)).isEqualTo(0x5d9);
        assertThat(cpu.read64(AT + 8)).isEqualTo(0x1234_5678_9abc_def0L);
        assertThat(cpu.read64(AT + 16)).isEqualTo(0x0fed_cba9_8765_4321L);
        assertThat(cpu.read32(AT + 24)).isEqualTo(0x3fa5);
        assertThat(cpu.read32(AT + 28)).isEqualTo(0xffff);
        // ST(0) is physical register 5.
        assertThat(cpu.read64(AT + 32)).isEqualTo(cpu.fpu.st[5]);
        assertThat(cpu.read64(AT + 160 + 16 * 15)).isEqualTo(cpu.fpu.xmm[30]);
        assertThat(cpu.read64(AT + 416)).isEqualTo(0x5555_5555_5555_5555L);
        execute(FXSAVE);
        assertThat(cpu.read64(AT + 8)).as("without REX.W 32 bits of FIP, and FCS 0").isEqualTo(0x9abc_def0L);
    }

    @Test
    void initialComponentsAreMarkedAndRestored() {
        clearHeader();
        cpu.fpu.initX87();
        cpu.fpu.initSse();
        cpu.fpu.mxcsr = FpuState.INITIAL_MXCSR;
        cpu.pkru = 0;
        execute(XSAVES64);
        assertThat(cpu.read64(AT + XsaveArea.XSTATE_BV)).isZero();
        assertThat(cpu.read64(AT + XsaveArea.XCOMP_BV)).isEqualTo(ALL | (1L << 63));
        assertThat(cpu.read64(AT)).as("nothing written").isEqualTo(0x5555_5555_5555_5555L);
        scramble(4);
        cpu.pkru = 3;
        execute(XRSTORS64);
        assertThat(cpu.fpu.x87InUse()).isFalse();
        assertThat(cpu.fpu.sseInUse()).isFalse();
        assertThat(cpu.fpu.mxcsr).isEqualTo(0x1f80);
        assertThat(cpu.pkru).isZero();
    }

    @Test
    void mxcsrAloneMakesXsavecSaveSse() {
        cpu.fpu.initX87();
        cpu.fpu.initSse();
        cpu.fpu.mxcsr = 0x1fa0;
        execute(XSAVEC64);
        assertThat(cpu.read64(AT + XsaveArea.XSTATE_BV)).isEqualTo(2);
        clearHeader();
        execute(XSAVEOPT64);
        assertThat(cpu.read64(AT + XsaveArea.XSTATE_BV)).isZero();
        assertThat(cpu.read32(AT + 24)).isEqualTo(0x1fa0);
    }

    @Test
    void xsaveKeepsTheBitsOfOtherComponents() {
        clearHeader();
        cpu.write64(AT + XsaveArea.XSTATE_BV, ALL);
        cpu.fpu.initX87();
        mask(1);
        execute(XSAVE64);
        assertThat(cpu.read64(AT + XsaveArea.XSTATE_BV)).isEqualTo(ALL & ~1);
        assertThat(cpu.read64(AT + 160)).as("SSE was not asked for").isEqualTo(0x5555_5555_5555_5555L);
    }

    @Test
    void pkruStandsWhereCpuidSays() {
        clearHeader();
        cpu.pkru = 0x1234;
        mask(0x200);
        execute(XSAVE64);
        assertThat(cpu.read32(AT + XsaveArea.PKRU_OFFSET)).isEqualTo(0x1234);
        execute(XSAVEC64);
        assertThat(cpu.read32(AT + XsaveArea.EXTENDED)).isEqualTo(0x1234);
        assertThat(XsaveArea.size(ALL, false)).isEqualTo(XsaveArea.PKRU_OFFSET + 8);
        assertThat(XsaveArea.size(0x1a03, true)).isEqualTo(576 + 8 + 16 + 24);
    }

    @ParameterizedTest
    @CsvSource({
        // offset, value, XRSTOR faults, XRSTORS faults
        "512, 4, true, true",
        "520, 0, false, true",
        "520, 1, true, true",
        "520, -9223372036854774784, true, true",
        "520, -9223372036854775293, false, false",
        "528, 1, true, true",
        "568, 1, true, true"})
    void headerIsChecked(int offset, long value, boolean xrstor, boolean xrstors) {
        clearHeader();
        cpu.write64(AT + XsaveArea.XCOMP_BV, ALL | (1L << 63));
        cpu.write64(AT + offset, value);
        if (xrstor) {
            fault(XRSTOR64, ExceptionVector.GP);
        } else {
            execute(XRSTOR64);
        }
        if (xrstors) {
            fault(XRSTORS64, ExceptionVector.GP);
        } else {
            execute(XRSTORS64);
        }
    }

    @Test
    void standardFormatIgnoresTheHeadersTail() {
        clearHeader();
        cpu.write64(AT + XsaveArea.XSTATE_BV + 24, 1);
        execute(XRSTOR64);
        cpu.write32(AT + 24, 0x1_0000);
        fault(XRSTOR64, ExceptionVector.GP);
        clearHeader();
        cpu.write64(AT + XsaveArea.XSTATE_BV + 16, 1);
        fault(XRSTOR64, ExceptionVector.GP);
    }

    @Test
    void reservedMxcsrBitsFaultAndChangeNothing() {
        clearHeader();
        FpuState before = scramble(5);
        cpu.write64(AT + XsaveArea.XSTATE_BV, 3);
        cpu.write32(AT + 24, 0x10000);
        fault(XRSTOR64, ExceptionVector.GP);
        fault(FXRSTOR64, ExceptionVector.GP);
        assertSame(cpu.fpu, before);
    }

    @Test
    void faultingSavesWriteNothing() {
        scramble(6);
        // The last page of the mapping ends at MEMORY + 0x4000.
        long last = AT + 0x4000 - 0x100;
        cpu.r[Cpu.RBX] = last;
        cpu.write64(last, 0x77);
        cpu.write64(last + 0xf8, 0x77);
        for (String code : new String[] {FXSAVE64, XSAVE64, XSAVEC64, XSAVES64, XSAVEOPT64}) {
            fault(code, ExceptionVector.PF);
            assertThat(cpu.read64(last)).isEqualTo(0x77);
        }
    }

    @Test
    void privilegeModeAndAlignmentAreChecked() {
        cpu.r[Cpu.RBX] = AT + 8;
        fault(FXSAVE64, ExceptionVector.GP);
        cpu.r[Cpu.RBX] = AT + 32;
        execute(FXSAVE64);
        fault(XSAVE64, ExceptionVector.GP);
        cpu.r[Cpu.RBX] = AT;
        cpu.cr0 |= 8;
        fault(FXSAVE64, ExceptionVector.NM);
        fault(XSAVE64, ExceptionVector.NM);
        fault(XRSTORS64, ExceptionVector.NM);
        cpu.cr0 &= ~8;
        cpu.cr4 &= ~(1L << 18);
        fault(XSAVE64, ExceptionVector.UD);
        fault(XGETBV, ExceptionVector.UD);
        cpu.cr4 |= 1 << 18;
        cpu.cpl = 3;
        fault(XSAVES64, ExceptionVector.GP);
        fault(XRSTORS64, ExceptionVector.GP);
        clearHeader();
        execute(XSAVE64);
    }

    @Test
    void xgetbvTellsXcr0AndWhatIsInUse() {
        cpu.r[Cpu.RCX] = 0;
        execute(XGETBV);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(ALL);
        cpu.fpu.initX87();
        cpu.fpu.initSse();
        cpu.pkru = 1;
        cpu.r[Cpu.RCX] = 1;
        execute(XGETBV);
        assertThat(cpu.r[Cpu.RAX]).isEqualTo(0x200);
        cpu.r[Cpu.RCX] = 2;
        fault(XGETBV, ExceptionVector.GP);
    }

    @ParameterizedTest
    @CsvSource({"true", "false"})
    void hostsSaveAndRestore(boolean compacted) {
        MemorySegment area = MemorySegment.ofArray(new byte[XsaveArea.size(ALL, compacted)]);
        FpuState saved = scramble(7);
        XsaveArea.save(cpu.fpu, 0x99, ALL, compacted, area);
        scramble(8);
        assertThat(XsaveArea.valid(area, ALL, compacted)).isTrue();
        assertThat(XsaveArea.valid(area, 1, compacted)).isFalse();
        assertThat(XsaveArea.restore(cpu.fpu, 0, ALL, area)).isEqualTo(0x99);
        assertSame(cpu.fpu, saved);
        assertThat(XsaveArea.restore(cpu.fpu, 0x42, 3, area)).isEqualTo(0x42);
    }

    @Test
    void hostsFxsave() {
        MemorySegment area = MemorySegment.ofArray(new byte[512]);
        FpuState saved = scramble(9);
        XsaveArea.fxsave(cpu.fpu, area);
        scramble(10);
        XsaveArea.fxrstor(cpu.fpu, area);
        assertSame(cpu.fpu, saved);
    }
}
