package cloister.isa;

import static cloister.isa.Operands.*;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.HexFormat;
import java.util.function.UnaryOperator;
import org.junit.jupiter.api.Test;

class AssemblerTest {
    private static String hex(CodeMode mode, UnaryOperator<Assembler> program) {
        return HexFormat.of().formatHex(program.apply(new Assembler(mode, 0x1000)).assemble());
    }

    private static String hex64(UnaryOperator<Assembler> program) {
        return hex(CodeMode.BITS64, program);
    }

    /// Encodings as GNU as makes them.
    @Test
    void movesInEveryForm() {
        assertThat(hex64(a -> a.mov(RAX, RBX))).isIn("4889d8", "488bc3");
        assertThat(hex64(a -> a.mov(EAX, 0x12345678))).isEqualTo("b878563412");
        assertThat(hex64(a -> a.mov(RAX, -1))).isEqualTo("48c7c0ffffffff");
        assertThat(hex64(a -> a.mov(RCX, 0x123456789abcdef0L))).isEqualTo("48b9f0debc9a78563412");
        assertThat(hex64(a -> a.mov(byteAt(mem(R12)), 7))).isEqualTo("41c6042407");
        assertThat(hex64(a -> a.mov(mem(R13, R9, 4, 0x1000), R8D))).isEqualTo("4789848d00100000");
        assertThat(hex64(a -> a.mov(CR3, RAX))).isEqualTo("0f22d8");
        assertThat(hex64(a -> a.mov(R9, CR8))).isEqualTo("450f20c1");
        assertThat(hex64(a -> a.mov(DS, EAX))).isIn("8ed8");
        assertThat(hex64(a -> a.mov(SPL, 1))).isEqualTo("40b401");
        assertThat(hex64(a -> a.mov(EAX, mem(RAX).through(GS)))).isEqualTo("658b00");
        assertThat(hex64(a -> a.mov(EAX, abs(0x100)))).isEqualTo("8b042500010000");
        assertThat(hex(CodeMode.BITS16, a -> a.mov(AX, mem(BX, SI, 1, 5)))).isEqualTo("8b4005");
        assertThat(hex(CodeMode.BITS16, a -> a.mov(EAX, CR0))).isEqualTo("0f20c0");
        assertThat(hex(CodeMode.BITS16, a -> a.mov(EAX, mem(EBX, 4)))).isEqualTo("67668b4304");
    }

    @Test
    void jumpsFindTheirLabels() {
        assertThat(hex64(a -> {
            Label forward = a.label();
            Label back = a.label();
            return a.label(back).nop().jcc(Condition.NE, back).jmp(forward).call(back).label(forward).hlt().loop(back);
        })).isEqualTo("90" + "75fd" + "e905000000" + "e8f3ffffff" + "f4" + "e2f0");
        assertThat(hex(CodeMode.BITS16, a -> {
            Label next = a.label();
            return a.jmp(far32(0x10, next)).mode(CodeMode.BITS32).label(next).hlt();
        })).isEqualTo("66ea081000001000" + "f4");
        assertThat(hex64(a -> {
            Label data = a.label();
            return a.lea(RSI, data).label(data).dq(data);
        })).isEqualTo("488d3500000000" + "0710000000000000");
    }

    @Test
    void systemAndStringInstructions() {
        assertThat(hex64(Assembler::tdcall)).isEqualTo("660f01cc");
        assertThat(hex64(a -> a.iret(8))).isEqualTo("48cf");
        assertThat(hex64(a -> a.rep().movs(8))).isEqualTo("f348a5");
        assertThat(hex64(a -> a.rep().stos(1))).isEqualTo("f3aa");
        assertThat(hex64(a -> a.lock().cmpxchg(mem(RDI), RSI))).isEqualTo("f0480fb137");
        assertThat(hex64(a -> a.out(0xF4, AL).in(EAX, DX))).isEqualTo("e6f4ed");
        assertThat(hex(CodeMode.BITS16, a -> a.lgdt(abs(0x1234)))).isEqualTo("660f01163412");
        assertThat(hex64(a -> a.push(RAX).pop(R9).push(-1).push(FS))).isEqualTo("5041596aff0fa0");
        assertThat(hex64(a -> a.shl(EAX, 3).shr(RAX, CL).sar(EDX, 1))).isEqualTo("c1e00348d3e8d1fa");
    }

    @Test
    void refusesWhatNoRowEncodes() {
        assertThatThrownBy(() -> hex64(a -> a.mov(RAX, EBX))).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> hex64(a -> a.inc(mem(RAX)))).hasMessageContaining("open memory size");
        assertThatThrownBy(() -> hex64(a -> a.mov(AH, R8B))).isInstanceOf(IllegalArgumentException.class);
        assertThatThrownBy(() -> hex64(a -> a.jmp(a.label()))).hasMessageContaining("never placed");
    }
}
