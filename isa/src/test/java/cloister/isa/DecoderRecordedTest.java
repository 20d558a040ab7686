package cloister.isa;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Test;

/// Replays what [ObjdumpRecording] recorded: GNU objdump's length and text of every instruction form.
class DecoderRecordedTest {
    record Sample(CodeMode mode, byte[] code, int length, String text) {
    }

    static List<Sample> samples() throws IOException {
        List<Sample> samples = new ArrayList<>();
        try (BufferedReader in = new BufferedReader(new InputStreamReader(
            new GZIPInputStream(DecoderRecordedTest.class.getResourceAsStream("objdump.txt.gz"))))) {
            for (String line = in.readLine(); line != null; line = in.readLine()) {
                String[] part = line.split(" ", 3);
                String[] reading = part[2].split("\\|", 2);
                samples.add(new Sample(CodeMode.valueOf(part[0]), HexFormat.of().parseHex(part[1]), reading[0].length() / 2, reading[1]));
            }
        }
        return samples;
    }

    @Test
    void lengthsAgree() throws IOException {
        Decoder decoder = new Decoder();
        List<Sample> samples = samples();
        assertThat(samples).hasSizeGreaterThan(8000);
        for (Sample sample : samples) {
            byte[] code = Arrays.copyOf(sample.code, sample.code.length + Decoder.MAX_LENGTH);
            assertThat(decoder.decode(sample.mode, code, 0, Decoder.MAX_LENGTH).length).as("%s %s", sample.mode, sample.text)
                .isEqualTo(sample.length);
        }
    }

    @Test
    void textsAgree() throws IOException {
        Decoder decoder = new Decoder();
        List<String> different = new ArrayList<>();
        List<Sample> samples = samples();
        for (Sample sample : samples) {
            byte[] code = Arrays.copyOf(sample.code, sample.code.length + Decoder.MAX_LENGTH);
            Instruction instruction = decoder.decode(sample.mode, code, 0, Decoder.MAX_LENGTH);
            String expected = normal(sample.text);
            String actual = normal(Disassembler.format(instruction, 0));
            if (instruction.kind0 == OperandKind.REL) {
                expected = expected.split(" ")[0]; // targets depend on where the sample stood
                actual = actual.split(" ")[0];
            }
            if (!actual.equals(expected)) {
                different.add("%s %s: %s, objdump %s".formatted(sample.mode, HexFormat.of().formatHex(sample.code), actual, expected));
            }
        }
        assertThat(different).isEmpty();
    }

    /// Leaves out what decoding does not keep: redundant prefixes, zero displacements, redundant segments, the width of
    /// "1" in shifts, size suffixes where operands do not show the size, names of registers of which only a part counts,
    /// the HLE prefixes, instructions we know as their plain neighbour (PREFETCHWT1, FNDISI).
    private static String normal(String text) {
        return text.replaceAll("\\b([cdes]s):(?=\\[)", "")
            .replaceAll("^((xrelease|xacquire|data16|data32|addr16|addr32|[c-gs]s|rex(\\.[WRXB]+)?|repz|repnz|bnd|lock|rep) )+", "")
            .replaceAll("\\+0x0\\]", "]").replaceAll("\\[([er]..)\\+[er]iz\\*1", "[$1")
            .replaceAll("^((sh|sa|ro|rc)[lr] .*),0x1$", "$1,1").replaceAll(",$", "")
            .replaceAll("prefetchwt1 BYTE", "nop WORD").replaceAll("^nop DWORD", "nop WORD").replaceAll("^(fneni|fndisi|fnsetpm).*", "fnop")
            .replaceAll("^(push|pop|pusha|popa|pushf|popf|ret|retf|leave|enter|call|jmp|iret|fldenv|fnstenv|frstor"
                + "|fnsave|[sl][gi]dt|sysexit)[wdq]\\b", "$1")
            .replaceAll("^(lar|lsl|movsxd) (\\w+),.*", "$1 $2").replaceAll("^(mov [c-gs]s),[er](\\w\\w)$", "$1,$2")
            .replaceAll("OWORD", "XMMWORD").replaceAll("^(l[fgs]s r.*),TBYTE", "$1,FWORD")
            .replaceAll("^(p?movmsk\\w+|umwait|tpause) r", "$1 e").replaceAll("^(pcmpestr[im])q", "$1");
    }
}
