package cloister.cpu.fpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.cpu.core.ModelLimit;
import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.spec.x86.ExceptionVector;
import java.util.HexFormat;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Which exceptions the FPU instructions raise, and that a faulting one changes nothing.
class FpuFaultsTest {
    private static final long EM = 4;
    private static final long TS = 8;
    private static final long MP = 2;
    private static final long OSFXSR = 1 << 9;
    private static final long OSXMMEXCPT = 1 << 10;

    private final PhysicalMemory memory = new PhysicalMemory(1 << 20, 64);
    private final Cpu cpu = SiliconVectorsTest.longModeCpu(memory);

    @BeforeEach
    void pointAtMemory() {
        cpu.r[Cpu.RBX] = SiliconState.MEMORY;
        cpu.fpu.finit();
    }

    @AfterEach
    void close() {
        memory.close();
    }

    private void execute(String code) {
        byte[] bytes = HexFormat.of().parseHex(code);
        FpuInstructions.execute(cpu, new Decoder().decode(CodeMode.BITS64, bytes, 0, bytes.length));
    }

    private int vector(String code) {
        try {
            execute(code);
            return -1;
        } catch (GuestFault f) {
            return f.vector;
        }
    }

    // Code; vectors with CR0.TS, CR0.EM, without CR4.OSFXSR; -1 none.
    @ParameterizedTest
    @CsvSource({
        "0f58c1,   7, 6, 6", // addps
        "660fefc0, 7, 6, 6", // pxor xmm
        "0fefc0,   7, 6, -1", // pxor mm
        "0f77,     7, 6, -1", // emms
        "0fae1b,   7, 6, 6", // stmxcsr
        "660f38dcc1, 7, 6, 6", // aesenc
        "660f3a63c100, 7, 6, 6", // pcmpistri
        "d9e8,     7, 7, -1", // fld1
        "dbe3,     7, 7, -1", // fninit
        "dfe0,     7, 7, -1", // fnstsw ax
        "9b,       7, -1, -1", // fwait, MP = 1
        "0fae03,   7, 7, -1"}) // fxsave
    void availability(String code, int withTs, int withEm, int withoutOsfxsr) {
        assertThat(vector(code)).isEqualTo(-1);
        cpu.fpu.finit();
        cpu.cr0 |= TS | MP;
        assertThat(vector(code)).isEqualTo(withTs);
        cpu.cr0 = (cpu.cr0 & ~TS) | EM;
        assertThat(vector(code)).isEqualTo(withEm);
        cpu.cr0 &= ~EM;
        cpu.cr4 &= ~OSFXSR;
        assertThat(vector(code)).isEqualTo(withoutOsfxsr);
    }

    @Test
    void fwaitNeedsMpAndTs() {
        cpu.cr0 = (cpu.cr0 & ~MP) | TS;
        assertThat(vector("9b")).isEqualTo(-1);
    }

    @Test
    void unmaskedSimdExceptionsKeepTheDestination() {
        cpu.fpu.xmm[0] = Double.doubleToRawLongBits(1);
        cpu.fpu.xmm[2] = 0;
        cpu.fpu.mxcsr = 0x1f80 & ~0x200;
        assertThat(vector("f20f5ec1")).isEqualTo(ExceptionVector.XM);
        assertThat(cpu.fpu.xmm[0]).isEqualTo(Double.doubleToRawLongBits(1));
        assertThat(cpu.fpu.mxcsr & 0x3f).isEqualTo(SoftFloat.ZE);
        cpu.cr4 &= ~OSXMMEXCPT;
        assertThat(vector("f20f5ec1")).isEqualTo(ExceptionVector.UD);
        cpu.fpu.mxcsr = 0x1f80;
        assertThat(vector("f20f5ec1")).isEqualTo(-1);
        assertThat(cpu.fpu.xmm[0]).isEqualTo(Double.doubleToRawLongBits(Double.POSITIVE_INFINITY));
    }

    @Test
    void x87ExceptionsWaitForTheNextWaitingInstruction() {
        cpu.fpu.fcw = 0x37b; // divide by zero unmasked
        execute("d9e8"); // fld1
        execute("d9ee"); // fldz
        cpu.rip = 0x1000;
        execute("def9"); // fdivp
        assertThat(cpu.fpu.fsw & 0x80ff).isEqualTo(0x8084);
        assertThat(cpu.fpu.fop).isEqualTo(0x6f9);
        assertThat(cpu.fpu.fip).isEqualTo(0x1000);
        assertThat(cpu.fpu.top()).as("not popped").isEqualTo(6);
        assertThat(vector("dfe0")).as("FNSTSW does not wait").isEqualTo(-1);
        assertThat(vector("d9e8")).isEqualTo(ExceptionVector.MF);
        assertThat(vector("9b")).isEqualTo(ExceptionVector.MF);
        assertThat(vector("0fefc0")).as("MMX waits").isEqualTo(ExceptionVector.MF);
        cpu.cr0 &= ~(1L << 5);
        assertThatThrownBy(() -> execute("9b")).isInstanceOf(ModelLimit.class).hasMessageContaining("CR0.NE");
        execute("dbe2"); // fnclex
        assertThat(vector("9b")).isEqualTo(-1);
    }

    @ParameterizedTest
    @CsvSource({
        "0f1043, -1", "0f2843, 13", "0f5843, 13", "660fef43, 13", "660f6f43, 13", "f30f6f43, -1", "f20ff043, -1",
        "0f2943, 13", "0f1143, -1", "660fe743, 13", "f20f5843, -1", "660f38dc43, 13", "660f3a6343, -1"})
    void alignment(String code, int expected) {
        String whole = code + "01" + (code.startsWith("660f3a") ? "00" : "");
        assertThat(vector(whole)).isEqualTo(expected);
    }

    @ParameterizedTest
    @CsvSource({"0f1103", "f30f7f03", "dd1b", "db3b", "dd33", "d933", "f20f1103", "0f1303", "df33", "df3b", "dd0b"})
    void storesThatFaultChangeNothing(String code) {
        long end = SiliconState.MEMORY + 0x4000;
        cpu.fpu.fcw = 0x37f;
        execute("d9eb"); // fldpi
        FpuState before = new FpuState();
        before.copyFrom(cpu.fpu);
        cpu.write64(end - 8, 0x1122_3344_5566_7788L);
        // Four bytes are on the last mapped page.
        cpu.r[Cpu.RBX] = end - 4;
        assertThat(vector(code)).isEqualTo(ExceptionVector.PF);
        assertThat(cpu.read64(end - 8)).isEqualTo(0x1122_3344_5566_7788L);
        assertThat(cpu.fpu.fsw).isEqualTo(before.fsw);
        assertThat(cpu.fpu.fcw).isEqualTo(before.fcw);
        assertThat(cpu.fpu.tags).isEqualTo(before.tags);
    }

    @Test
    void environmentRoundTripInEveryLayout() {
        for (String prefix : new String[] {"", "66"}) {
            for (boolean real : new boolean[] {false, true}) {
                cpu.cr0 = real ? cpu.cr0 & ~1 : cpu.cr0 | 1;
                execute("dbe3");
                execute("d9e8");
                execute("d9eb");
                cpu.fpu.fip = 0x5678;
                cpu.fpu.fdp = 0x4321;
                FpuState before = new FpuState();
                before.copyFrom(cpu.fpu);
                execute(prefix + "dd33"); // fnsave
                assertThat(cpu.fpu.tags).isZero();
                execute("d9ee");
                execute(prefix + "dd23"); // frstor
                assertThat(cpu.fpu.fsw).isEqualTo(before.fsw);
                assertThat(cpu.fpu.tags).isEqualTo(before.tags);
                assertThat(cpu.fpu.fip).isEqualTo(0x5678);
                assertThat(cpu.fpu.fdp).isEqualTo(0x4321);
                assertThat(cpu.fpu.st[6]).isEqualTo(before.st[6]);
                assertThat(cpu.fpu.stExponent[6]).isEqualTo(before.stExponent[6]);
                cpu.cr0 |= 1;
            }
        }
    }

    /// [SDM Vol. 1 "Approximation of Reciprocals"]: relative error at most 1.5 * 2^-12.
    @Test
    void approximationsKeepTheirBound() {
        double bound = 1.5 / 4096;
        for (int bits = 0x0100_0000; bits < 0x7e00_0000; bits += 0x1_2345) {
            float x = Float.intBitsToFloat(bits);
            double reciprocal = Float.intBitsToFloat(SseArithmetic.reciprocal(bits));
            assertThat(Math.abs(reciprocal * x - 1)).isLessThanOrEqualTo(bound);
            double root = Float.intBitsToFloat(SseArithmetic.reciprocalRoot(bits));
            assertThat(Math.abs(root * Math.sqrt(x) - 1)).isLessThanOrEqualTo(bound);
        }
        assertThat(SseArithmetic.reciprocal(0x8000_0001)).as("denormals are zeros").isEqualTo(0xff80_0000);
        assertThat(SseArithmetic.reciprocal(0x7f00_0000)).as("tiny results are zero").isZero();
        assertThat(SseArithmetic.reciprocalRoot(0xbf80_0000)).isEqualTo(0xffc0_0000);
    }

    /// Transcendental results against StrictMath, to the precision that a double allows.
    @ParameterizedTest
    @CsvSource({"d9fe, sin", "d9ff, cos", "d9f0, f2xm1", "d9f1, fyl2x", "d9f9, fyl2xp1", "d9f3, fpatan", "d9f2, fptan"})
    void transcendentals(String code, String function) {
        for (int n = 1; n < 200; n++) {
            double x = n / 211.0;
            double y = 1.25;
            double expected = switch (function) {
                case "sin" -> StrictMath.sin(x);
                case "cos" -> StrictMath.cos(x);
                case "f2xm1" -> StrictMath.expm1(x * StrictMath.log(2));
                case "fyl2x" -> y * StrictMath.log(x) / StrictMath.log(2);
                case "fyl2xp1" -> y * StrictMath.log1p(x * 0.25) / StrictMath.log(2);
                case "fpatan" -> StrictMath.atan2(y, x);
                default -> StrictMath.tan(x);
            };
            execute("dbe3");
            push(y);
            push(function.equals("fyl2xp1") ? x * 0.25 : x);
            execute(code);
            if (function.equals("fptan")) {
                execute("ddd8"); // the 1.0
            }
            execute("dd1b");
            double ours = Double.longBitsToDouble(cpu.read64(SiliconState.MEMORY));
            assertThat(Math.abs(ours - expected)).isLessThanOrEqualTo(4 * Math.ulp(expected));
        }
    }

    private void push(double value) {
        cpu.write64(SiliconState.MEMORY, Double.doubleToRawLongBits(value));
        execute("dd03");
    }

    @Test
    void everyOperationOfThePackageHasAHandler() {
        for (Op op : Op.values()) {
            String name = op.name();
            if (name.matches("F[A-Z0-9]+|P(ADD|SUB|MUL|CMP|MIN|MAX|SHUF|UNPCK|ACK|MOV|BLEND)[A-Z0-9]*|(AES|SHA\\d|XSAVE|XRSTOR|CVT).*")) {
                assertThat(FpuInstructions.handles(op)).as(name).isTrue();
            }
        }
    }
}
