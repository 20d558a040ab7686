package cloister.kvm.emulate;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.kvm.KvmExit;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.Rflags;
import java.util.Locale;

/// Carries out an instruction that accesses MMIO: moves, string moves and the arithmetic that drivers use on registers of
/// devices. [LINUX x86_emulate_instruction]
///
/// A read that the VMM must answer ends the emulation; when the answer is there, the instruction is emulated from its start
/// with the answer at hand.
public final class MmioEmulator {
    private static final int CS = 1;
    private static final int RAX = 0;
    private static final int RCX = 1;
    private static final int RSI = 6;
    private static final int RDI = 7;
    private static final long LOW = 0xffff_ffffL;
    private static final int PAGE = 0x1000;

    private final EmulatedMachine machine;
    private final Decoder decoder = new Decoder();
    private final byte[] code = new byte[Decoder.MAX_LENGTH];

    private long readGpa;
    private long readValue;
    private int readSize;
    private boolean readDone;

    /// @param machine whose instructions are emulated
    public MmioEmulator(EmulatedMachine machine) {
        this.machine = machine;
    }

    /// Emulates the current instruction, which touched `gpa`.
    ///
    /// @return an exit to the VMM, or null when the instruction is done
    public KvmExit emulate(long gpa) {
        readDone = false;
        return step(gpa);
    }

    /// Goes on when the VMM has answered the read of the last exit. [LINUX complete_emulated_mmio]
    ///
    /// @return a further exit, or null when the instruction is done
    public KvmExit readAnswered() {
        readValue = ItemBytes.load(machine.exitData(), readSize);
        readDone = true;
        return step(readGpa);
    }

    private KvmExit step(long gpa) {
        int available = fetch();
        var insn = decoder.decode(machine.codeMode(), code, 0, available);
        return switch (insn.op) {
            case MOV, MOVNTI, MOVDIRI -> move(insn, gpa);
            case MOVZX -> load(insn, gpa, false);
            case MOVSX, MOVSXD -> load(insn, gpa, true);
            case STOS, MOVS, LODS -> string(insn);
            case ADD, OR, AND, SUB, XOR, CMP, TEST, NOT, INC, DEC, XCHG, BT, BTS, BTR, BTC, ADC, SBB -> arithmetic(insn, gpa);
            default -> refuse(insn, gpa);
        };
    }

    private KvmExit refuse(Instruction insn, long gpa) {
        var bytes = new StringBuilder();
        for (byte b : insn.bytes) {
            bytes.append(String.format(Locale.ROOT, "%02x ", b));
        }
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_EMULATION, "cannot emulate " + insn.op + " (" + bytes
                + ") on MMIO at 0x" + Long.toHexString(gpa) + ", RIP 0x" + Long.toHexString(machine.rip()));
    }

    private int fetch() {
        long linear = machine.segmentBase(CS) + machine.rip();
        for (int i = 0; i < code.length;) {
            long gpa = machine.translate(linear + i);
            if (gpa == EmulatedMachine.NO_TRANSLATION || !machine.isMemory(gpa)) {
                return i;
            }
            int chunk = (int) Math.min(code.length - i, PAGE - (gpa & 0xfff));
            for (int end = i + chunk; i < end; i++, gpa++) {
                code[i] = (byte) machine.readMemory(gpa, 1);
            }
        }
        return code.length;
    }

    // --- forms

    private KvmExit move(Instruction insn, long gpa) {
        if (insn.kind0 != OperandKind.MEM) {
            return load(insn, gpa, false);
        }
        long value = insn.kind1 == OperandKind.IMM ? insn.imm : register(insn.reg1, insn.size1);
        return finish(insn, write(gpa, insn.size0, value));
    }

    private KvmExit load(Instruction insn, long gpa, boolean signed) {
        if (insn.kind1 != OperandKind.MEM || insn.kind0 != OperandKind.GPR) {
            return refuse(insn, gpa);
        }
        var exit = read(gpa, insn.size1);
        if (exit != null) {
            return exit;
        }
        long value = readValue;
        if (signed) {
            int shift = 64 - 8 * insn.size1;
            value = value << shift >> shift;
        }
        register(insn.reg0, insn.size0, value);
        return finish(insn, null);
    }

    private KvmExit arithmetic(Instruction insn, long gpa) {
        boolean memoryFirst = insn.kind0 == OperandKind.MEM;
        int size = memoryFirst ? insn.size0 : insn.size1;
        var exit = read(gpa, size);
        if (exit != null) {
            return exit;
        }
        long memory = readValue;
        if (insn.op == Op.XCHG) {
            int reg = memoryFirst ? insn.reg1 : insn.reg0;
            long old = register(reg, size);
            register(reg, size, memory);
            return finish(insn, write(gpa, size, old));
        }
        long other = memoryFirst ? source(insn, size) : register(insn.reg0, size);
        long a = memoryFirst ? memory : other;
        long b = memoryFirst ? other : memory;
        long result = compute(insn.op, a, b, size);
        if (insn.op == Op.CMP || insn.op == Op.TEST || insn.op == Op.BT) {
            return finish(insn, null);
        }
        if (memoryFirst) {
            return finish(insn, write(gpa, size, result));
        }
        register(insn.reg0, size, result);
        return finish(insn, null);
    }

    private long source(Instruction insn, int size) {
        return switch (insn.kind1) {
            case IMM -> insn.imm;
            case GPR -> register(insn.reg1, size);
            default -> 1;
        };
    }

    /// The result, and its flags into RFLAGS.
    private long compute(Op op, long a, long b, int size) {
        long mask = size == 8 ? -1 : (1L << (8 * size)) - 1;
        long flags = machine.rflags();
        long carryIn = op == Op.ADC || op == Op.SBB ? flags & Rflags.CF : 0;
        long x = a & mask;
        long y = b & mask;
        long bit = 1L << (y & (8 * size - 1));
        long result = switch (op) {
            case ADD, ADC -> x + y + carryIn;
            case SUB, CMP, SBB -> x - y - carryIn;
            case AND, TEST -> x & y;
            case OR -> x | y;
            case XOR -> x ^ y;
            case NOT -> ~x;
            case INC -> x + 1;
            case DEC -> x - 1;
            case BTS -> x | bit;
            case BTR -> x & ~bit;
            case BTC -> x ^ bit;
            default -> x;
        } & mask;
        switch (op) {
            case NOT -> {
            }
            case BT, BTS, BTR, BTC -> machine.rflags((flags & ~Rflags.CF) | ((x & bit) != 0 ? Rflags.CF : 0));
            case INC -> machine.rflags((statusFlags(flags, x, 1, result, size, true) & ~Rflags.CF) | (flags & Rflags.CF));
            case DEC -> machine.rflags((statusFlags(flags, x, 1, result, size, false) & ~Rflags.CF) | (flags & Rflags.CF));
            case ADD, ADC -> machine.rflags(statusFlags(flags, x, y, result, size, true));
            case SUB, CMP, SBB -> machine.rflags(statusFlags(flags, x, y, result, size, false));
            default -> machine.rflags(logicFlags(flags, result, size));
        }
        return result;
    }

    private static long logicFlags(long flags, long result, int size) {
        long sign = 1L << (8 * size - 1);
        return (flags & ~Rflags.STATUS) | (result == 0 ? Rflags.ZF : 0) | ((result & sign) != 0 ? Rflags.SF : 0)
                | ((Long.bitCount(result & 0xff) & 1) == 0 ? Rflags.PF : 0);
    }

    private static long statusFlags(long flags, long x, long y, long result, int size, boolean add) {
        long sign = 1L << (8 * size - 1);
        long carries = add ? (x & y) | ((x | y) & ~result) : (~x & y) | ((~x | y) & result);
        long overflow = add ? (x ^ result) & (y ^ result) : (x ^ y) & (x ^ result);
        return logicFlags(flags, result, size) | ((carries & sign) != 0 ? Rflags.CF : 0)
                | ((overflow & sign) != 0 ? Rflags.OF : 0) | ((carries & 8) != 0 ? Rflags.AF : 0);
    }

    // --- string instructions, one item at a time

    private KvmExit string(Instruction insn) {
        long mask = insn.addressSize == 8 ? -1 : insn.addressSize == 4 ? LOW : 0xffffL;
        boolean rep = insn.has(Instruction.PREFIX_REP) || insn.has(Instruction.PREFIX_REPNE);
        if (rep && (machine.gpr(RCX) & mask) == 0) {
            return finish(insn, null);
        }
        int size = insn.operandSize;
        long value = register(RAX, size);
        if (insn.op != Op.STOS) {
            long from = address(insn.segment, machine.gpr(RSI) & mask);
            if (from == EmulatedMachine.NO_TRANSLATION) {
                return refuse(insn, from);
            }
            var exit = read(from, size);
            if (exit != null) {
                return exit;
            }
            value = readValue;
        }
        long to = EmulatedMachine.NO_TRANSLATION;
        if (insn.op != Op.LODS) {
            to = address(0, machine.gpr(RDI) & mask);
            if (to == EmulatedMachine.NO_TRANSLATION) {
                return refuse(insn, to);
            }
        } else {
            register(RAX, size, value);
        }
        long step = (machine.rflags() & Rflags.DF) != 0 ? -size : size;
        if (insn.op != Op.STOS) {
            machine.gpr(RSI, ItemBytes.merge(machine.gpr(RSI), machine.gpr(RSI) + step, mask));
        }
        if (insn.op != Op.LODS) {
            machine.gpr(RDI, ItemBytes.merge(machine.gpr(RDI), machine.gpr(RDI) + step, mask));
        }
        boolean last = true;
        if (rep) {
            machine.gpr(RCX, ItemBytes.merge(machine.gpr(RCX), machine.gpr(RCX) - 1, mask));
            last = (machine.gpr(RCX) & mask) == 0;
        }
        var exit = to == EmulatedMachine.NO_TRANSLATION ? null : write(to, size, value);
        if (last) {
            return finish(insn, exit);
        }
        readDone = false;
        return exit;
    }

    private long address(int segment, long offset) {
        long linear = machine.segmentBase(segment) + offset;
        return machine.translate(machine.codeMode() == CodeMode.BITS64 ? linear : linear & LOW);
    }

    // --- accesses

    /// Reads into [#readValue].
    ///
    /// @return an exit when the VMM must answer first
    private KvmExit read(long gpa, int size) {
        if (readDone && readGpa == gpa) {
            return null;
        }
        if (machine.isMemory(gpa)) {
            readValue = machine.readMemory(gpa, size);
            return null;
        }
        if (machine.isApic(gpa)) {
            readValue = (machine.readApic((int) gpa & 0xff0) >>> (8 * ((int) gpa & 3))) & LOW;
            return null;
        }
        readGpa = gpa;
        readSize = size;
        return new KvmExit.Mmio(gpa, size, false);
    }

    private KvmExit write(long gpa, int size, long value) {
        if (machine.isWritable(gpa)) {
            machine.writeMemory(gpa, size, value);
            return null;
        }
        if (machine.isApic(gpa)) {
            if ((gpa & 0xf) == 0 && size >= 4) {
                machine.writeApic((int) gpa & 0xff0, (int) value);
            }
            return null;
        }
        ItemBytes.store(machine.exitData(), size, value);
        return new KvmExit.Mmio(gpa, size, true);
    }

    private KvmExit finish(Instruction insn, KvmExit exit) {
        machine.advance(insn.length);
        return exit;
    }

    // --- registers

    private long register(int number, int size) {
        if (size == 1 && number >= 16) {
            return (machine.gpr(number - 16) >>> 8) & 0xff;
        }
        long value = machine.gpr(number);
        return size == 8 ? value : value & ((1L << (8 * size)) - 1);
    }

    private void register(int number, int size, long value) {
        if (size == 1 && number >= 16) {
            machine.gpr(number - 16, (machine.gpr(number - 16) & ~0xff00L) | ((value & 0xff) << 8));
            return;
        }
        long mask = (1L << (8 * size)) - 1;
        machine.gpr(number, switch (size) {
            case 8 -> value;
            case 4 -> value & LOW;
            default -> (machine.gpr(number) & ~mask) | (value & mask);
        });
    }
}
