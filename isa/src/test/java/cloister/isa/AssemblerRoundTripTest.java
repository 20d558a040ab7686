package cloister.isa;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.isa.Operand.Far;
import cloister.isa.Operand.Gpr;
import cloister.isa.Operand.Imm;
import cloister.isa.Operand.Mem;
import cloister.isa.Operand.Register;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Takes every recorded encoding, assembles what it was decoded to, and decodes that again.
class AssemblerRoundTripTest {
    private final Decoder decoder = new Decoder();

    @Test
    void assemblesWhatItDecodes() throws IOException {
        int assembled = 0;
        List<String> wrong = new ArrayList<>();
        for (DecoderRecordedTest.Sample sample : DecoderRecordedTest.samples()) {
            Instruction i = decode(sample.mode(), sample.code());
            if (skipped(i)) {
                continue;
            }
            try {
                Instruction again = decode(sample.mode(), assemble(sample.mode(), i));
                assembled++;
                if (!describe(again).equals(describe(i))) {
                    wrong.add(sample.mode() + " " + describe(i) + " became " + describe(again));
                }
            } catch (IllegalArgumentException e) {
                wrong.add(sample.mode() + " " + describe(i) + ": " + e.getMessage());
            }
        }
        assertThat(wrong).isEmpty();
        assertThat(assembled).isGreaterThan(6000);
    }

    /// Forms that the assembler does not make: moffs, jumps by number, conditions, string instructions with another
    /// address size or segment, EIP-relative operands and prefixes without effect.
    private static boolean skipped(Instruction i) {
        boolean relative = i.kind0 == OperandKind.REL;
        boolean memory = i.kind0 == OperandKind.MEM || i.kind1 == OperandKind.MEM;
        boolean bareAccumulator = i.op == Op.MOV && memory && i.base == Instruction.NO_REGISTER && i.index == Instruction.NO_REGISTER;
        boolean noAddress = (!memory && (i.prefixes & Instruction.PREFIX_ADDRESS_SIZE) != 0) || i.base == Instruction.NO_REGISTER;
        return relative || i.cc != 0 || bareAccumulator || (memory && noAddress) || (i.addressSize == 2 && i.bytes.length > 0 && noAddress)
            || (i.kind0 == OperandKind.NONE && (i.op == Op.NOP || (i.prefixes & 0x16) != 0 || i.segment != 3))
            || (i.base == Instruction.BASE_RIP && i.addressSize == 4);
    }

    private Instruction decode(CodeMode mode, byte[] code) {
        return decoder.decode(mode, Arrays.copyOf(code, code.length + 15), 0, 15);
    }

    private static byte[] assemble(CodeMode mode, Instruction i) {
        Assembler assembler = new Assembler(mode, 0);
        List<Operand> operands = new ArrayList<>();
        add(operands, i, i.kind0, i.reg0, i.size0);
        add(operands, i, i.kind1, i.reg1, i.size1);
        add(operands, i, i.kind2, i.reg2, i.size2);
        if (i.op == Op.ENTER) {
            operands.set(1, new Imm(i.imm2, null));
        }
        if (i.has(Instruction.PREFIX_LOCK)) {
            assembler.lock();
        }
        return assembler.op(i.operandSize, i.op, operands.toArray(Operand[]::new)).assemble();
    }

    private static void add(List<Operand> operands, Instruction i, OperandKind kind, int reg, int size) {
        switch (kind) {
            case NONE -> { }
            case GPR -> operands.add(new Gpr(reg, size));
            case IMM -> operands.add(new Imm(i.imm, null));
            case FAR -> operands.add(new Far((int) i.imm2, i.imm, null, i.operandSize + 2));
            case MEM -> operands.add(memory(i, size));
            default -> operands.add(new Register(kind, reg));
        }
    }

    private static Mem memory(Instruction i, int size) {
        boolean rip = i.base == Instruction.BASE_RIP;
        Gpr base = rip || i.base == Instruction.NO_REGISTER ? null : new Gpr(i.base, i.addressSize);
        Gpr index = i.index == Instruction.NO_REGISTER ? null : new Gpr(i.index, i.addressSize);
        int usual = i.base == 4 || i.base == 5 ? 2 : 3;
        return new Mem(size, base, index, 1 << i.scale, i.disp, null, rip, i.segment == usual ? -1 : i.segment);
    }

    private static String describe(Instruction i) {
        return Disassembler.format(i, 0) + " " + i.operandSize + " " + i.size0 + " " + i.size1 + " " + i.kind0 + i.kind1 + i.kind2;
    }
}
