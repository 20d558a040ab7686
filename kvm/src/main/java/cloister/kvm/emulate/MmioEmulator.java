package cloister.kvm.emulate;

import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.kvm.KvmExit;
import cloister.kvm.emulate.EmulatedMachine.Access;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.Locale;

/// Carries out an instruction that accesses MMIO: moves, string moves and the arithmetic that drivers use on registers of
/// devices. [LINUX x86_emulate_instruction]
///
/// A read that the VMM must answer ends the emulation; when the answer is there, the instruction is emulated from its start
/// with the answer at hand.
public final class MmioEmulator implements Persistent {
    private static final int ES = 0;
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
    private final OperandMemory memory;
    private final GuestException failure = new GuestException();
    /// Why [#fetch] ended early.
    private boolean fetchFaulted;

    /// @param machine whose instructions are emulated
    public MmioEmulator(EmulatedMachine machine) {
        this.machine = machine;
        this.memory = new OperandMemory(machine);
    }

    /// Emulates the current instruction, which touched `gpa`.
    ///
    /// @return an exit to the VMM, or null when the guest goes on
    public KvmExit emulate(long gpa) {
        memory.begin();
        return step(gpa);
    }

    /// Whether the last exit's answer is needed here.
    public boolean isPending() {
        return memory.isPending();
    }

    /// Goes on when the VMM has answered the last exit. [LINUX complete_emulated_mmio]
    ///
    /// @return a further exit, or null when the guest goes on
    public KvmExit answered() {
        if (!memory.answer()) {
            return memory.nextWrite();
        }
        memory.again();
        return step(0);
    }

    /// Whether the current instruction is one that can be emulated.
    public boolean knowsInstruction() {
        var op = decoder.decode(machine.codeMode(), code, 0, fetch()).op;
        return switch (op) {
            case MOV, MOVNTI, MOVDIRI, MOVZX, MOVSX, MOVSXD, STOS, MOVS, LODS, ADD, OR, AND, SUB, XOR, CMP, TEST, NOT, INC, DEC, XCHG,
                 BT, BTS, BTR, BTC, ADC, SBB -> true;
            default -> false;
        };
    }

    private KvmExit step(long gpa) {
        try {
            int available = fetch();
            var insn = decoder.decode(machine.codeMode(), code, 0, available);
            if (insn.op == Op.TRUNCATED && fetchFaulted) {
                throw failure;
            }
            return switch (insn.op) {
                case MOV, MOVNTI, MOVDIRI -> move(insn);
                case MOVZX -> load(insn, false);
                case MOVSX, MOVSXD -> load(insn, true);
                case STOS, MOVS, LODS -> string(insn);
                case ADD, OR, AND, SUB, XOR, CMP, TEST, NOT, INC, DEC, XCHG, BT, BTS, BTR, BTC, ADC, SBB -> arithmetic(insn);
                default -> refuse(insn, gpa);
            };
        } catch (GuestException exception) {
            machine.raise(exception);
            return null;
        }
    }

    /// User programs get #UD, what runs at CPL 0 ends the run. [LINUX handle_emulation_failure]
    private KvmExit refuse(Instruction insn, long gpa) {
        machine.raise(failure.of(ExceptionVector.UD, 0));
        if (machine.cpl() > 0) {
            return null;
        }
        var bytes = new StringBuilder();
        for (byte b : insn.bytes) {
            bytes.append(String.format(Locale.ROOT, "%02x ", b));
        }
        String what = insn.op == Op.TRUNCATED ? "instructions that are not in memory" : insn.op + " (" + bytes.toString().trim() + ")";
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_EMULATION, "cannot emulate " + what + " on MMIO at 0x"
                + Long.toHexString(gpa) + ", RIP 0x" + Long.toHexString(machine.rip()));
    }

    /// @return how many bytes could be had
    private int fetch() {
        fetchFaulted = false;
        for (int i = 0; i < code.length;) {
            long gpa;
            try {
                gpa = machine.translate(machine.linear(CS, machine.rip() + i, 1, Access.FETCH), Access.FETCH);
            } catch (GuestException exception) {
                failure.copy(exception);
                fetchFaulted = true;
                return i;
            }
            if (!machine.isMemory(gpa)) {
                return i;
            }
            int chunk = (int) Math.min(code.length - i, PAGE - (gpa & 0xfff));
            for (int end = i + chunk; i < end; i++, gpa++) {
                code[i] = (byte) machine.readMemory(gpa, 1);
            }
        }
        return code.length;
    }

    /// The linear address of the memory operand.
    private long operand(Instruction insn, int size, Access access) {
        long offset = insn.disp;
        if (insn.base == Instruction.BASE_RIP) {
            offset += machine.rip() + insn.length;
        } else if (insn.base != Instruction.NO_REGISTER) {
            offset += machine.gpr(insn.base);
        }
        if (insn.index != Instruction.NO_REGISTER) {
            offset += machine.gpr(insn.index) << insn.scale;
        }
        return machine.linear(insn.segment, offset & mask(insn.addressSize), size, access);
    }

    private static long mask(int bytes) {
        return bytes == 8 ? -1 : (1L << (8 * bytes)) - 1;
    }

    // --- forms

    private KvmExit move(Instruction insn) {
        if (insn.kind0 != OperandKind.MEM) {
            return load(insn, false);
        }
        long value = insn.kind1 == OperandKind.IMM ? insn.imm : register(insn.reg1, insn.size1);
        memory.write(operand(insn, insn.size0, Access.WRITE), insn.size0, value);
        return finish(insn);
    }

    private KvmExit load(Instruction insn, boolean signed) {
        if (insn.kind1 != OperandKind.MEM || insn.kind0 != OperandKind.GPR) {
            return refuse(insn, 0);
        }
        var exit = memory.read(operand(insn, insn.size1, Access.READ), insn.size1);
        if (exit != null) {
            return exit;
        }
        long value = memory.value();
        if (signed) {
            int shift = 64 - 8 * insn.size1;
            value = value << shift >> shift;
        }
        register(insn.reg0, insn.size0, value);
        return finish(insn);
    }

    private KvmExit arithmetic(Instruction insn) {
        boolean memoryFirst = insn.kind0 == OperandKind.MEM;
        if (!memoryFirst && insn.kind1 != OperandKind.MEM) {
            return refuse(insn, 0);
        }
        int size = memoryFirst ? insn.size0 : insn.size1;
        boolean onlyReads = insn.op == Op.CMP || insn.op == Op.TEST || insn.op == Op.BT || (!memoryFirst && insn.op != Op.XCHG);
        long linear = operand(insn, size, onlyReads ? Access.READ : Access.WRITE) + bitStringOffset(insn, size);
        if (!onlyReads) {
            memory.probe(linear, size);
        }
        var exit = memory.read(linear, size);
        if (exit != null) {
            return exit;
        }
        long operand = memory.value();
        if (insn.op == Op.XCHG) {
            int reg = memoryFirst ? insn.reg1 : insn.reg0;
            memory.write(linear, size, register(reg, size));
            register(reg, size, operand);
            return finish(insn);
        }
        long other = memoryFirst ? source(insn, size) : register(insn.reg0, size);
        long result = compute(insn.op, memoryFirst ? operand : other, memoryFirst ? other : operand, size);
        if (!onlyReads) {
            memory.write(linear, size, result);
        } else if (!memoryFirst && insn.op != Op.CMP && insn.op != Op.TEST) {
            register(insn.reg0, size, result);
        }
        return finish(insn);
    }

    /// BT and its like with an offset in a register reach beyond the operand. [SDM Vol. 2 BT]
    private long bitStringOffset(Instruction insn, int size) {
        boolean bits = insn.op == Op.BT || insn.op == Op.BTS || insn.op == Op.BTR || insn.op == Op.BTC;
        if (!bits || insn.kind1 != OperandKind.GPR) {
            return 0;
        }
        int unused = 64 - 8 * size;
        long offset = machine.gpr(insn.reg1) << unused >> unused;
        return offset >> (3 + Integer.numberOfTrailingZeros(size)) << Integer.numberOfTrailingZeros(size);
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
        long mask = mask(insn.addressSize);
        boolean rep = insn.has(Instruction.PREFIX_REP) || insn.has(Instruction.PREFIX_REPNE);
        if (rep && (machine.gpr(RCX) & mask) == 0) {
            return finish(insn);
        }
        int size = insn.operandSize;
        long value = register(RAX, size);
        if (insn.op != Op.STOS) {
            var exit = memory.read(machine.linear(insn.segment, machine.gpr(RSI) & mask, size, Access.READ), size);
            if (exit != null) {
                return exit;
            }
            value = memory.value();
        }
        if (insn.op == Op.LODS) {
            register(RAX, size, value);
        } else {
            memory.write(machine.linear(ES, machine.gpr(RDI) & mask, size, Access.WRITE), size, value);
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
        return last ? finish(insn) : memory.nextWrite();
    }

    private KvmExit finish(Instruction insn) {
        machine.advance(insn.length);
        return memory.nextWrite();
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

    @Override public String stateName() {
        return "emulator";
    }

    @Override public void describe(StateSink to) {
        to.part(memory);
    }
}
