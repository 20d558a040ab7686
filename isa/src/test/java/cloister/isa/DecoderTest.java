package cloister.isa;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.Arrays;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.Set;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class DecoderTest {
    private final Decoder decoder = new Decoder();

    private Instruction decode(CodeMode mode, String hex) {
        byte[] code = HexFormat.of().parseHex(hex);
        return decoder.decode(mode, Arrays.copyOf(code, Math.max(code.length, 15)), 0, 15);
    }

    @ParameterizedTest
    @CsvSource({
        "BITS64, f390, PAUSE", "BITS64, 90, NOP", "BITS64, 4190, XCHG", "BITS64, f34190, XCHG", "BITS64, 63c8, MOVSXD",
        "BITS32, 63c8, ARPL", "BITS64, 6690, NOP", "BITS64, f30f1efa, ENDBR64", "BITS64, f30f1efb, ENDBR32",
        "BITS64, f3480f1ec8, RDSSP", "BITS64, 660f01cc, TDCALL", "BITS64, 660f01cf, SEAMCALL", "BITS64, 0f01cf, ENCLS",
        "BITS64, 0f01cc, UNKNOWN", "BITS64, f30fb8c1, POPCNT", "BITS64, 0fb8c1, UNKNOWN", "BITS64, f30fbcc1, TZCNT",
        "BITS64, 0fbcc1, BSF", "BITS64, f266 0f58c1, ADDSD", "BITS64, f2f30f58c1, ADDSS", "BITS64, f3f20f58c1, ADDSD",
        "BITS64, f30f14c1, UNKNOWN", "BITS64, 06, UNKNOWN", "BITS32, 06, PUSH_SREG", "BITS64, c5f877, UNKNOWN",
        "BITS32, c501, LDS", "BITS32, c5f877, UNKNOWN", "BITS64, c4e278f2c1, ANDN", "BITS64, c4e27cf2c1, UNKNOWN",
        "BITS64, c4e370f0c901, UNKNOWN", "BITS64, c4e37bf0c901, RORX", "BITS64, c4e373f0c901, UNKNOWN",
        "BITS64, 66c4e278f2c1, UNKNOWN", "BITS32, c4e278f2c1, ANDN",
        "BITS64, f0 0100, ADD", "BITS64, f001c0, UNKNOWN", "BITS64, f08b00, UNKNOWN", "BITS64, f03900, UNKNOWN",
        "BITS64, f0480fc708, CMPXCHG16B", "BITS64, 0fc7f0, RDRAND", "BITS64, f30fc7f8, RDPID", "BITS64, f30fc7f0, UNKNOWN",
        "BITS64, 8ec8, UNKNOWN", "BITS64, 8ef0, UNKNOWN", "BITS64, 0f20c8, UNKNOWN", "BITS64, 0f20d8, MOV_CR",
        "BITS64, 440f20c0, MOV_CR", "BITS64, 440f21c0, UNKNOWN", "BITS64, 8d00, LEA", "BITS64, 8dc0, UNKNOWN",
        "BITS64, 0f05, SYSCALL", "BITS32, 0f05, UNKNOWN", "BITS64, 0fc3c0, UNKNOWN", "BITS64, 0faee8, LFENCE",
        "BITS64, 660fae38, CLFLUSHOPT", "BITS64, f20fae30, UNKNOWN", "BITS64, 6698, CBW", "BITS64, 98, CWDE", "BITS64, 4898, CDQE",
        "BITS64, d6, UNKNOWN", "BITS32, d6, SALC", "BITS64, 0f04, UNKNOWN",
    })
    void theManualsCorners(CodeMode mode, String hex, Op op) {
        assertThat(decode(mode, hex.replace(" ", "")).op).isEqualTo(op);
    }

    @Test
    void rexCountsOnlyDirectlyBeforeTheOpcode() {
        Instruction i = decode(CodeMode.BITS64, "486689c8");
        assertThat(i.operandSize).isEqualTo(2);
        assertThat(i.has(Instruction.PREFIX_REX_W)).isFalse();
        assertThat(decode(CodeMode.BITS64, "664889c8").operandSize).isEqualTo(8);
    }

    @Test
    void nearBranchesAndStackAre64BitIn64BitMode() {
        assertThat(decode(CodeMode.BITS64, "66e800000000").operandSize).isEqualTo(8);
        assertThat(decode(CodeMode.BITS64, "66e800000000").length).isEqualTo(6);
        assertThat(decode(CodeMode.BITS32, "66e80000").length).isEqualTo(4);
        assertThat(decode(CodeMode.BITS64, "50").operandSize).isEqualTo(8);
        assertThat(decode(CodeMode.BITS64, "6650").operandSize).isEqualTo(2);
        assertThat(decode(CodeMode.BITS64, "cf").operandSize).isEqualTo(4);
    }

    @Test
    void segmentsDefaultAndOverride() {
        assertThat(decode(CodeMode.BITS32, "8b4500").segment).isEqualTo(2);
        assertThat(decode(CodeMode.BITS32, "8b0424").segment).isEqualTo(2);
        assertThat(decode(CodeMode.BITS32, "268b4500").segment).isZero();
        assertThat(decode(CodeMode.BITS64, "268b00").segment).isEqualTo(3);
        assertThat(decode(CodeMode.BITS64, "64268b00").segment).isEqualTo(4);
        assertThat(decode(CodeMode.BITS64, "418b4500").segment).as("r13 is no stack register").isEqualTo(3);
        assertThat(decode(CodeMode.BITS16, "8b02").segment).as("bp+si").isEqualTo(2);
        assertThat(decode(CodeMode.BITS32, "65a4").segment).as("string source").isEqualTo(5);
    }

    @Test
    void segmentRegistersInTheOpcode() {
        assertThat(decode(CodeMode.BITS32, "06").reg0).isZero();
        assertThat(decode(CodeMode.BITS32, "0e").reg0).isEqualTo(1);
        assertThat(decode(CodeMode.BITS32, "16").reg0).isEqualTo(2);
        assertThat(decode(CodeMode.BITS32, "1e").reg0).isEqualTo(3);
        assertThat(decode(CodeMode.BITS64, "0fa0").reg0).isEqualTo(4);
        assertThat(decode(CodeMode.BITS64, "0fa9").reg0).isEqualTo(5);
    }

    @Test
    void addressingForms() {
        Instruction rip = decode(CodeMode.BITS64, "8b05f0ffffff");
        assertThat(rip.base).isEqualTo(Instruction.BASE_RIP);
        assertThat(rip.disp).isEqualTo(-16);
        Instruction sib = decode(CodeMode.BITS64, "428b84a510000000");
        assertThat(sib.base).isEqualTo(5);
        assertThat(sib.index).isEqualTo(12);
        assertThat(sib.scale).isEqualTo(2);
        Instruction none = decode(CodeMode.BITS64, "8b042510000000");
        assertThat(none.base).isEqualTo(Instruction.NO_REGISTER);
        assertThat(none.index).isEqualTo(Instruction.NO_REGISTER);
        Instruction offset = decode(CodeMode.BITS64, "48a18877665544332211");
        assertThat(offset.disp).isEqualTo(0x1122334455667788L);
        assertThat(decode(CodeMode.BITS16, "8b4207").index).isEqualTo(6);
    }

    @Test
    void immediatesExtendAsTheInstructionDoes() {
        assertThat(decode(CodeMode.BITS64, "4883c0ff").imm).isEqualTo(-1);
        assertThat(decode(CodeMode.BITS64, "48c7c0000000ff").imm).isEqualTo(0xFFFF_FFFF_FF00_0000L);
        assertThat(decode(CodeMode.BITS64, "e4ff").imm).isEqualTo(255);
        assertThat(decode(CodeMode.BITS64, "c2ffff").imm).isEqualTo(65535);
        Instruction enter = decode(CodeMode.BITS64, "c8341256");
        assertThat(enter.imm).isEqualTo(0x1234);
        assertThat(enter.imm2).isEqualTo(0x56);
        Instruction far = decode(CodeMode.BITS32, "ea785634122010");
        assertThat(far.imm).isEqualTo(0x12345678);
        assertThat(far.imm2).isEqualTo(0x1020);
    }

    @Test
    void byteRegistersDependOnRex() {
        assertThat(decode(CodeMode.BITS64, "88e0").reg1).isEqualTo(16);
        assertThat(decode(CodeMode.BITS64, "4088e0").reg1).isEqualTo(4);
        assertThat(decode(CodeMode.BITS64, "0fb6c4").reg1).isEqualTo(16);
    }

    @Test
    void fifteenBytesAreTheMost() {
        assertThat(decode(CodeMode.BITS64, "2e".repeat(13) + "89c0").length).isEqualTo(15);
        assertThat(decode(CodeMode.BITS64, "2e".repeat(14) + "89c0").op).isEqualTo(Op.TOO_LONG);
        assertThat(decode(CodeMode.BITS64, "2e".repeat(20)).op).isEqualTo(Op.TOO_LONG);
    }

    @Test
    void everyPrefixOfAnInstructionIsTruncated() throws Exception {
        for (DecoderRecordedTest.Sample sample : DecoderRecordedTest.samples()) {
            for (int available = 0; available < sample.length(); available++) {
                assertThat(decoder.decode(sample.mode(), sample.code(), 0, available).op).as(sample.text()).isEqualTo(Op.TRUNCATED);
            }
        }
    }

    /// All of one opcode byte, ModRM and SIB after every prefix pair, and random tails: always an answer, never longer than
    /// what was there, and the same answer when only its own bytes are there.
    @ParameterizedTest
    @EnumSource(CodeMode.class)
    void totalOverTheOpcodeSpace(CodeMode mode) {
        RandomGenerator random = RandomGenerator.of("L64X128MixRandom");
        int[][] starts = {{}, {0x66}, {0xF3}, {0xF2}, {0x48}, {0x0F}, {0x66, 0x0F}, {0xF3, 0x0F}, {0xF2, 0x0F}, {0x48, 0x0F},
            {0x0F, 0x38}, {0x0F, 0x3A}, {0x66, 0x0F, 0x38}, {0xF2, 0x0F, 0x38},
            {0x66, 0x0F, 0x3A}, {0xC4, 0xE2}, {0xC4, 0xC3}, {0xC5}, {0x67}, {0xF0}};
        byte[] code = new byte[20];
        Set<Op> seen = EnumSet.noneOf(Op.class);
        for (int[] start : starts) {
            for (int opcode = 0; opcode < 0x10000; opcode++) {
                random.nextBytes(code);
                int n = 0;
                for (int b : start) {
                    code[n++] = (byte) b;
                }
                code[n++] = (byte) (opcode >> 8);
                code[n] = (byte) opcode;
                Instruction i = decoder.decode(mode, code, 0, 15);
                assertThat(i.length).isBetween(1, 15);
                if (i.op != Op.UNKNOWN && i.op != Op.TOO_LONG && decoder.decode(mode, code, 0, i.length).op != i.op) {
                    throw new AssertionError("depends on bytes after its end: " + HexFormat.of().formatHex(code));
                }
                seen.add(i.op);
                Disassembler.format(i, 0);
            }
        }
        assertThat(seen).doesNotContain(Op.TRUNCATED).hasSizeGreaterThan(450);
    }

    @Test
    void everyOperationHasARow() {
        Set<Op> ops = EnumSet.complementOf(EnumSet.of(Op.UNKNOWN, Op.TRUNCATED, Op.TOO_LONG));
        OpcodeTable.rows().forEach(row -> ops.remove(row.op));
        assertThat(ops).isEmpty();
    }
}
