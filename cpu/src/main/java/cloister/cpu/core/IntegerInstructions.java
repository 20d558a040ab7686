package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;

/// General-purpose instructions in every size and mode, as slow methods. The interpreter has micro-ops for the common
/// forms; those must agree with what stands here.
public final class IntegerInstructions {
    private IntegerInstructions() {
    }

    static Handler handler(Op op) {
        Handler h = arithmetic(op);
        if (h == null) {
            h = movement(op);
        }
        if (h == null) {
            h = bits(op);
        }
        return h != null ? h : control(op);
    }

    private static Handler arithmetic(Op op) {
        return switch (op) {
            case ADD -> IntegerInstructions::add;
            case ADC -> IntegerInstructions::adc;
            case SUB -> IntegerInstructions::sub;
            case SBB -> IntegerInstructions::sbb;
            case CMP -> IntegerInstructions::cmp;
            case AND -> IntegerInstructions::and;
            case OR -> IntegerInstructions::or;
            case XOR -> IntegerInstructions::xor;
            case TEST -> IntegerInstructions::test;
            case INC -> IntegerInstructions::inc;
            case DEC -> IntegerInstructions::dec;
            case NEG -> IntegerInstructions::neg;
            case NOT -> IntegerInstructions::not;
            case XADD -> IntegerInstructions::xadd;
            case CMPXCHG -> IntegerInstructions::cmpxchg;
            case CMPXCHG8B, CMPXCHG16B -> IntegerInstructions::cmpxchgWide;
            case ADCX -> IntegerInstructions::adcx;
            case ADOX -> IntegerInstructions::adox;
            case MUL -> MultiplyDivide::mul;
            case IMUL -> MultiplyDivide::imul;
            case MULX -> MultiplyDivide::mulx;
            case DIV -> MultiplyDivide::div;
            case IDIV -> MultiplyDivide::idiv;
            case AAA, AAS -> DecimalInstructions::asciiAdjust;
            case AAM -> DecimalInstructions::aam;
            case AAD -> DecimalInstructions::aad;
            case DAA, DAS -> DecimalInstructions::decimalAdjust;
            case ROL, ROR, RCL, RCR, SHL, SHR, SAR -> ShiftInstructions::shift;
            case SHLD, SHRD -> ShiftInstructions::doubleShift;
            case SHLX, SHRX, SARX, RORX -> ShiftInstructions::withoutFlags;
            default -> null;
        };
    }

    private static Handler movement(Op op) {
        return switch (op) {
            case MOV, MOVNTI -> IntegerInstructions::mov;
            case MOVZX -> IntegerInstructions::movzx;
            case MOVSX, MOVSXD -> IntegerInstructions::movsx;
            case LEA -> IntegerInstructions::lea;
            case XCHG -> IntegerInstructions::xchg;
            case CMOVCC -> IntegerInstructions::cmov;
            case SETCC -> IntegerInstructions::setcc;
            case CBW, CWDE, CDQE -> IntegerInstructions::extendAccumulator;
            case CWD, CDQ, CQO -> IntegerInstructions::extendToDouble;
            case BSWAP -> IntegerInstructions::bswap;
            case MOVBE -> IntegerInstructions::movbe;
            case XLAT -> IntegerInstructions::xlat;
            case LAHF -> IntegerInstructions::lahf;
            case SALC -> IntegerInstructions::salc;
            case SAHF -> IntegerInstructions::sahf;
            case CLC, STC, CMC -> IntegerInstructions::carryFlag;
            case CLD, STD -> IntegerInstructions::directionFlag;
            case ENDBR32, ENDBR64 -> ControlFlow::endBranch;
            case NOP, PAUSE, LFENCE, MFENCE, SFENCE, PREFETCHNTA, PREFETCHT0, PREFETCHT1, PREFETCHT2,
                 PREFETCHW, CLDEMOTE -> IntegerInstructions::nop;
            case RDRAND, RDSEED -> IntegerInstructions::random;
            case MOVS, STOS, LODS, CMPS, SCAS -> StringInstructions::execute;
            default -> null;
        };
    }

    private static Handler bits(Op op) {
        return switch (op) {
            case BT, BTS, BTR, BTC -> BitInstructions::bitTest;
            case BSF, BSR -> BitInstructions::scan;
            case TZCNT, LZCNT, POPCNT -> BitInstructions::count;
            case ANDN -> BitInstructions::andn;
            case BLSI, BLSMSK, BLSR -> BitInstructions::lowestBit;
            case BEXTR, BZHI -> BitInstructions::extract;
            case PDEP, PEXT -> BitInstructions::scatter;
            case CRC32 -> BitInstructions::crc32;
            default -> null;
        };
    }

    private static Handler control(Op op) {
        return switch (op) {
            case JMP -> BranchInstructions::jmp;
            case JCC -> BranchInstructions::jcc;
            case JCXZ, LOOP, LOOPE, LOOPNE -> BranchInstructions::loop;
            case XBEGIN -> TransactionInstructions::begin;
            case XABORT -> (cpu, insn) -> { };
            case XEND -> TransactionInstructions::end;
            case XTEST -> TransactionInstructions::test;
            case CALL -> BranchInstructions::call;
            case RET -> BranchInstructions::ret;
            case PUSH -> BranchInstructions::push;
            case POP -> BranchInstructions::pop;
            case PUSHA -> BranchInstructions::pusha;
            case POPA -> BranchInstructions::popa;
            case ENTER -> BranchInstructions::enter;
            case LEAVE -> BranchInstructions::leave;
            case BOUND -> BranchInstructions::bound;
            case UD0, UD1, UD2 -> IntegerInstructions::undefined;
            default -> null;
        };
    }

    // Arithmetic and logic

    static long mask(long value, int size) {
        return size == 8 ? value : value & ((1L << (8 * size)) - 1);
    }

    static long signExtend(long value, int size) {
        int shift = 64 - 8 * size;
        return value << shift >> shift;
    }

    /// Reads the destination with intent to write; returns through the linear address of a memory operand.
    private static long target(Cpu cpu, Instruction insn) {
        return insn.kind0 == OperandKind.MEM ? cpu.linear(insn, insn.size0, true) : 0;
    }

    private static long readTarget(Cpu cpu, Instruction insn, long linear) {
        return insn.kind0 == OperandKind.MEM ? cpu.tlb.readForWrite(linear, insn.size0) : cpu.reg(insn.reg0, insn.size0);
    }

    private static void writeTarget(Cpu cpu, Instruction insn, long linear, long value) {
        if (insn.kind0 == OperandKind.MEM) {
            cpu.write(linear, insn.size0, value);
        } else {
            cpu.reg(insn.reg0, insn.size0, value);
        }
    }

    static void add(Cpu cpu, Instruction insn) {
        add(cpu, insn, 0);
    }

    static void adc(Cpu cpu, Instruction insn) {
        add(cpu, insn, Flags.carry(cpu.r) ? 1 : 0);
    }

    private static void add(Cpu cpu, Instruction insn, int carry) {
        long b = cpu.readOperand(insn, 1);
        long linear = target(cpu, insn);
        long a = readTarget(cpu, insn, linear);
        writeTarget(cpu, insn, linear, a + b + carry);
        Flags.add(cpu.r, a, b, carry, insn.size0);
    }

    static void sub(Cpu cpu, Instruction insn) {
        subtract(cpu, insn, 0);
    }

    static void sbb(Cpu cpu, Instruction insn) {
        subtract(cpu, insn, Flags.carry(cpu.r) ? 1 : 0);
    }

    private static void subtract(Cpu cpu, Instruction insn, int borrow) {
        long b = cpu.readOperand(insn, 1);
        long linear = target(cpu, insn);
        long a = readTarget(cpu, insn, linear);
        writeTarget(cpu, insn, linear, a - b - borrow);
        Flags.subtract(cpu.r, a, b, borrow, insn.size0);
    }

    static void cmp(Cpu cpu, Instruction insn) {
        long b = cpu.readOperand(insn, 1);
        Flags.subtract(cpu.r, cpu.readOperand(insn, 0), b, 0, insn.size0);
    }

    static void and(Cpu cpu, Instruction insn) {
        long b = cpu.readOperand(insn, 1);
        long linear = target(cpu, insn);
        logical(cpu, insn, linear, readTarget(cpu, insn, linear) & b);
    }

    static void or(Cpu cpu, Instruction insn) {
        long b = cpu.readOperand(insn, 1);
        long linear = target(cpu, insn);
        logical(cpu, insn, linear, readTarget(cpu, insn, linear) | b);
    }

    static void xor(Cpu cpu, Instruction insn) {
        long b = cpu.readOperand(insn, 1);
        long linear = target(cpu, insn);
        logical(cpu, insn, linear, readTarget(cpu, insn, linear) ^ b);
    }

    private static void logical(Cpu cpu, Instruction insn, long linear, long result) {
        writeTarget(cpu, insn, linear, result);
        Flags.result(cpu.r, result, insn.size0, 0);
    }

    static void test(Cpu cpu, Instruction insn) {
        Flags.result(cpu.r, cpu.readOperand(insn, 0) & cpu.readOperand(insn, 1), insn.size0, 0);
    }

    static void inc(Cpu cpu, Instruction insn) {
        long linear = target(cpu, insn);
        long result = readTarget(cpu, insn, linear) + 1;
        writeTarget(cpu, insn, linear, result);
        incFlags(cpu.r, result, insn.size0);
    }

    static void incFlags(long[] r, long result, int size) {
        int bits = Flags.carry(r) ? Flags.CF : 0;
        if (mask(result, size) == 1L << (8 * size - 1)) {
            bits |= Flags.OF;
        }
        if ((result & 15) == 0) {
            bits |= Flags.AF;
        }
        Flags.result(r, result, size, bits);
    }

    static void dec(Cpu cpu, Instruction insn) {
        long linear = target(cpu, insn);
        long result = readTarget(cpu, insn, linear) - 1;
        writeTarget(cpu, insn, linear, result);
        decFlags(cpu.r, result, insn.size0);
    }

    static void decFlags(long[] r, long result, int size) {
        int bits = Flags.carry(r) ? Flags.CF : 0;
        if (mask(result + 1, size) == 1L << (8 * size - 1)) {
            bits |= Flags.OF;
        }
        if ((result & 15) == 15) {
            bits |= Flags.AF;
        }
        Flags.result(r, result, size, bits);
    }

    static void neg(Cpu cpu, Instruction insn) {
        long linear = target(cpu, insn);
        long b = readTarget(cpu, insn, linear);
        writeTarget(cpu, insn, linear, -b);
        Flags.subtract(cpu.r, 0, b, 0, insn.size0);
    }

    static void not(Cpu cpu, Instruction insn) {
        long linear = target(cpu, insn);
        writeTarget(cpu, insn, linear, ~readTarget(cpu, insn, linear));
    }

    static void xadd(Cpu cpu, Instruction insn) {
        long linear = target(cpu, insn);
        long a = readTarget(cpu, insn, linear);
        long b = cpu.reg(insn.reg1, insn.size1);
        if (insn.kind0 == OperandKind.MEM) {
            cpu.write(linear, insn.size0, a + b);
            cpu.reg(insn.reg1, insn.size1, a);
        } else {
            cpu.reg(insn.reg1, insn.size1, a);
            cpu.reg(insn.reg0, insn.size0, a + b);
        }
        Flags.add(cpu.r, a, b, 0, insn.size0);
    }

    static void cmpxchg(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        long linear = target(cpu, insn);
        long old = readTarget(cpu, insn, linear);
        long accumulator = cpu.reg(Cpu.RAX, size);
        if (old == accumulator) {
            writeTarget(cpu, insn, linear, cpu.reg(insn.reg1, size));
        } else {
            // The processor writes the old value back; a register destination of 4 bytes is not touched then, so that
            // its upper half stays, but RAX is written.
            if (insn.kind0 == OperandKind.MEM) {
                cpu.write(linear, size, old);
            }
            cpu.reg(Cpu.RAX, size, old);
        }
        Flags.subtract(cpu.r, accumulator, old, 0, size);
    }

    static void cmpxchgWide(Cpu cpu, Instruction insn) {
        int half = insn.op == Op.CMPXCHG16B ? 8 : 4;
        long linear = cpu.linear(insn, 2 * half, true);
        if (half == 8 && (linear & 15) != 0) {
            throw cpu.gp(0);
        }
        long low;
        long high;
        if (half == 4) {
            long both = cpu.tlb.readForWrite(linear, 8);
            low = both & 0xffff_ffffL;
            high = both >>> 32;
        } else {
            cpu.probeWrite(linear, 16);
            low = cpu.read(linear, 8);
            high = cpu.read(linear + 8, 8);
        }
        int flags = Flags.arithmetic(cpu.r) & ~Flags.ZF;
        if (low == cpu.reg(Cpu.RAX, half) && high == cpu.reg(Cpu.RDX, half)) {
            writeWide(cpu, linear, half, cpu.r[Cpu.RBX], cpu.r[Cpu.RCX]);
            flags |= Flags.ZF;
        } else { // the destination is written all the same
            writeWide(cpu, linear, half, low, high);
            cpu.reg(Cpu.RAX, half, low);
            cpu.reg(Cpu.RDX, half, high);
        }
        Flags.set(cpu.r, flags);
    }

    private static void writeWide(Cpu cpu, long linear, int half, long low, long high) {
        if (half == 4) {
            cpu.write(linear, 8, (low & 0xffff_ffffL) | (high << 32));
        } else {
            cpu.write(linear, 8, low);
            cpu.write(linear + 8, 8, high);
        }
    }

    static void adcx(Cpu cpu, Instruction insn) {
        addWithFlag(cpu, insn, Flags.CF);
    }

    static void adox(Cpu cpu, Instruction insn) {
        addWithFlag(cpu, insn, Flags.OF);
    }

    private static void addWithFlag(Cpu cpu, Instruction insn, int flag) {
        int flags = Flags.arithmetic(cpu.r);
        long a = cpu.readOperand(insn, 0);
        long b = cpu.readOperand(insn, 1);
        long result = a + b + ((flags & flag) != 0 ? 1 : 0);
        boolean carry = insn.size0 == 4 ? result >>> 32 != 0
                : ((a & b) | ((a | b) & ~result)) < 0;
        cpu.writeOperand(insn, 0, result);
        Flags.set(cpu.r, (flags & ~flag) | (carry ? flag : 0));
    }

    // Data movement

    static void mov(Cpu cpu, Instruction insn) {
        cpu.writeOperand(insn, 0, cpu.readOperand(insn, 1));
    }

    static void movzx(Cpu cpu, Instruction insn) {
        cpu.reg(insn.reg0, insn.size0, cpu.readOperand(insn, 1));
    }

    static void movsx(Cpu cpu, Instruction insn) {
        cpu.reg(insn.reg0, insn.size0, signExtend(cpu.readOperand(insn, 1), insn.size1));
    }

    static void lea(Cpu cpu, Instruction insn) {
        cpu.reg(insn.reg0, insn.size0, cpu.ea(insn));
    }

    static void xchg(Cpu cpu, Instruction insn) {
        if (insn.kind1 == OperandKind.MEM) {
            long linear = cpu.linear(insn, insn.size1, true);
            long old = cpu.tlb.readForWrite(linear, insn.size1);
            cpu.write(linear, insn.size1, cpu.reg(insn.reg0, insn.size0));
            cpu.reg(insn.reg0, insn.size0, old);
            return;
        }
        long linear = target(cpu, insn);
        long old = readTarget(cpu, insn, linear);
        long other = cpu.reg(insn.reg1, insn.size1);
        writeTarget(cpu, insn, linear, other);
        cpu.reg(insn.reg1, insn.size1, old);
    }

    static void cmov(Cpu cpu, Instruction insn) {
        long value = cpu.readOperand(insn, 1);
        // A 32-bit CMOVcc clears the upper half even when the condition is false.
        cpu.reg(insn.reg0, insn.size0, cpu.condition(insn.cc) ? value : cpu.reg(insn.reg0, insn.size0));
    }

    static void setcc(Cpu cpu, Instruction insn) {
        cpu.writeOperand(insn, 0, cpu.condition(insn.cc) ? 1 : 0);
    }

    static void extendAccumulator(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        cpu.reg(Cpu.RAX, size, signExtend(cpu.r[Cpu.RAX], size / 2));
    }

    static void extendToDouble(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        cpu.reg(Cpu.RDX, size, signExtend(cpu.r[Cpu.RAX], size) >> 63);
    }

    static void bswap(Cpu cpu, Instruction insn) {
        switch (insn.size0) {
            case 8 -> cpu.r[insn.reg0] = Long.reverseBytes(cpu.r[insn.reg0]);
            case 4 -> cpu.reg(insn.reg0, 4, Integer.reverseBytes((int) cpu.r[insn.reg0]));
            default -> cpu.reg(insn.reg0, 2, 0); // undefined by the manual; processors clear the register's low word
        }
    }

    static void movbe(Cpu cpu, Instruction insn) {
        int size = insn.size0;
        cpu.writeOperand(insn, 0, Long.reverseBytes(cpu.readOperand(insn, 1)) >>> (64 - 8 * size));
    }

    static void xlat(Cpu cpu, Instruction insn) {
        long offset = Cpu.truncate(cpu.r[Cpu.RBX] + (cpu.r[Cpu.RAX] & 0xff), insn.addressSize);
        cpu.reg(Cpu.RAX, 1, cpu.read8(cpu.linear(insn.segment, offset, 1, false)));
    }

    static void lahf(Cpu cpu, Instruction insn) {
        cpu.reg(16, 1, (Flags.arithmetic(cpu.r) & 0xd5) | 2);
    }

    /// AL becomes all ones or all zeros with CF. Processors have it since the 8086; the manual leaves the opcode out.
    static void salc(Cpu cpu, Instruction insn) {
        cpu.reg(Cpu.RAX, 1, Flags.carry(cpu.r) ? 0xff : 0);
    }

    static void sahf(Cpu cpu, Instruction insn) {
        Flags.set(cpu.r, (Flags.arithmetic(cpu.r) & Flags.OF) | ((int) cpu.reg(16, 1) & 0xd5));
    }

    static void carryFlag(Cpu cpu, Instruction insn) {
        int flags = Flags.arithmetic(cpu.r);
        Flags.set(cpu.r, switch (insn.op) {
            case CLC -> flags & ~Flags.CF;
            case STC -> flags | Flags.CF;
            default -> flags ^ Flags.CF;
        });
    }

    static void directionFlag(Cpu cpu, Instruction insn) {
        cpu.systemFlags(Flags.DF, insn.op == Op.STD ? Flags.DF : 0);
    }

    static void nop(Cpu cpu, Instruction insn) {
    }

    static void undefined(Cpu cpu, Instruction insn) {
        throw cpu.ud();
    }

    static void random(Cpu cpu, Instruction insn) {
        cpu.reg(insn.reg0, insn.size0, cpu.entropy.nextLong());
        Flags.set(cpu.r, Flags.CF);
    }
}
