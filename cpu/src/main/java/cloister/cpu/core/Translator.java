package cloister.cpu.core;

import static cloister.cpu.core.MicroOp.branch;
import static cloister.cpu.core.MicroOp.word;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/// Decodes runs of instructions into micro-ops. A run goes on past conditional branches and ends at an unconditional transfer,
/// at the page end, where it meets decoded code, or after [#RUN_LIMIT] instructions.
///
/// Forms without a micro-op of their own become GENERIC, which calls the slow method. Outside 64-bit mode, everything that
/// touches memory or the stack is GENERIC, because of segment limits.
final class Translator {
    private static final int RUN_LIMIT = 100;
    private static final int PAGE = (int) PhysicalMemory.FRAME_SIZE;
    private static final CodeMode[] MODES = CodeMode.values();

    private final CodeCache cache;
    private final Decoder decoder = new Decoder();
    private final byte[] bytes = new byte[PAGE + 16];

    private CodePage page;
    private CodeMode mode;
    /// [ControlFlow#variant] of the code.
    private int enforced;
    private boolean wide;
    private int offset;
    private int index;
    private Instruction insn;
    private Instruction following;
    /// Slot and immediate of the last [#source].
    private int slot;
    private int immediate;

    private int[] stubBranch = new int[RUN_LIMIT + 4];
    private int[] stubTarget = new int[RUN_LIMIT + 4];
    private int[] stubIndex = new int[RUN_LIMIT + 4];
    private int stubs;

    Translator(CodeCache cache) {
        this.cache = cache;
    }

    /// Translates the run that starts at `start`; returns its place.
    int translate(CodePage codePage, int start) {
        page = codePage;
        mode = MODES[page.mode & 3];
        enforced = page.mode >> 2;
        wide = mode == CodeMode.BITS64;
        MemorySegment.copy(cache.memory.window(PlainAccess.SILICON), ValueLayout.JAVA_BYTE,
                page.frame << PhysicalMemory.FRAME_SHIFT, bytes, 0, PAGE);
        int first = cache.next;
        offset = start;
        index = 0;
        stubs = 0;
        following = null;
        while (step()) {
        }
        for (int i = 0; i < stubs; i++) {
            stub(stubBranch[i], stubTarget[i], stubIndex[i]);
        }
        page.addRun(first, cache.next);
        page.lines |= CodePage.lineMask(start, Math.max(1, Math.min(offset, PAGE) - start));
        return first;
    }

    private Instruction decode(int at) {
        return decoder.decode(mode, bytes, at, PAGE - at);
    }

    /// Translates one instruction, or two fused ones. False when the run ends.
    private boolean step() {
        if (offset >= PAGE) {
            emit(word(MicroOp.JMP_PAGE, Slot.PAGE, 0, 0, PAGE));
            return false;
        }
        int known = page.entry(offset);
        if (known != 0) {
            emit(branch(MicroOp.JMP, 0, known & CodeCache.PLACE_MASK, index - (known >>> CodeCache.PLACE_BITS)));
            return false;
        }
        if (index >= RUN_LIMIT) {
            stub(cache.next, offset, index);
            return false;
        }
        insn = following != null ? following : decode(offset);
        following = null;
        page.entry(offset, cache.next | (index << CodeCache.PLACE_BITS));
        if (insn.op == Op.TRUNCATED) {
            emit(word(MicroOp.CROSS, 0, 0, 0, 0));
            return false;
        }
        boolean goesOn = instruction();
        offset += insn.length;
        index++;
        return goesOn;
    }

    private void emit(long word) {
        cache.ops[cache.next] = (byte) (word & 0x7f);
        cache.code[cache.next] = word;
        cache.info[cache.next++] = offset | (index << CodeCache.INDEX_SHIFT);
    }

    private void emit(long word, long second) {
        emit(word);
        emit(second);
        cache.ops[cache.next - 1] = MicroOp.REFETCH; // no instruction begins here
    }

    /// What a branch in this page leads to until it is linked.
    private void stub(int branchPc, int target, int number) {
        int at = cache.next;
        int keptOffset = offset;
        int keptIndex = index;
        offset = Math.clamp(target, 0, PAGE);
        index = number;
        if (target >= 0 && target < PAGE) {
            emit(word(MicroOp.LINK, 0, 0, 0, target), branchPc | ((long) page.id << 32));
        } else {
            emit(word(MicroOp.JMP_PAGE, Slot.PAGE, 0, 0, target));
        }
        offset = keptOffset;
        index = keptIndex;
        if (branchPc == at) {
            return;
        }
        long[] code = cache.code;
        if (MicroOp.fused((int) code[branchPc] & 0x7f)) {
            code[branchPc + 1] = (code[branchPc + 1] & (1L << 48)) | at;
        } else {
            code[branchPc] = (code[branchPc] & 0xff0000ffL) | ((long) at << 32);
        }
    }

    private void addStub(int branchPc, int target, int number) {
        stubBranch[stubs] = branchPc;
        stubTarget[stubs] = target;
        stubIndex[stubs++] = number;
    }

    /// Translates [#insn]; false when it ends the run.
    private boolean instruction() {
        boolean done = switch (insn.op) {
            case MOV -> mov();
            case MOVZX -> extend(false);
            case MOVSX, MOVSXD -> extend(true);
            case LEA -> lea();
            case ADD, OR, ADC, SBB, AND, SUB, XOR -> alu();
            case CMP, TEST -> compare();
            case INC, DEC, NEG, NOT -> unary();
            case SHL, SHR, SAR, ROL, ROR -> shift();
            case SHLD, SHRD -> doubleShift();
            case SHLX, SHRX, SARX, RORX, BZHI -> shiftWithoutFlags();
            case ANDN -> andn();
            case TZCNT, LZCNT, POPCNT, BSF, BSR, BLSR -> count();
            case BT, BTS, BTR, BTC -> bitTest();
            case MUL -> mul();
            case IMUL -> imul();
            case SETCC, CMOVCC -> conditional();
            case XCHG, XADD, CMPXCHG -> exchange();
            case BSWAP -> insn.size0 >= 4 && register(RegisterOps.BSWAP, Slot.ZERO, 0);
            case CWDE, CDQE, CDQ, CQO -> widen();
            case ENDBR32, ENDBR64 -> endBranch();
            case NOP, LFENCE, MFENCE, SFENCE, PREFETCHNTA, PREFETCHT0, PREFETCHT1, PREFETCHT2, PREFETCHW,
                 CLDEMOTE -> true; // counted, but no micro-op
            case PUSH, POP, LEAVE -> stack();
            default -> false;
        };
        if (done) {
            return true;
        }
        return switch (insn.op) {
            case JCC -> jcc();
            case JMP -> jmp();
            case CALL -> call();
            case RET -> ret();
            default -> generic();
        };
    }

    /// A target of tracked branches, so that they need not leave the engine to find one. Where tracking may be suppressed, ENDBRANCH has
    /// work to do.
    private boolean endBranch() {
        if ((enforced & ControlFlow.LEGACY) != 0) {
            return false;
        }
        if ((enforced & ControlFlow.TRACKING) != 0 && insn.op == (wide ? Op.ENDBR64 : Op.ENDBR32)) {
            emit(MicroOp.END_BRANCH);
        }
        return true;
    }

    private boolean generic() {
        boolean end = Semantics.endsRun(insn.op);
        emit(word(end ? MicroOp.GENERIC_END : MicroOp.GENERIC, 0, 0, 0, cache.keep(insn)));
        return !end;
    }

    // Operands

    private OperandKind kind(int n) {
        return n == 0 ? insn.kind0 : n == 1 ? insn.kind1 : insn.kind2;
    }

    private int reg(int n) {
        return n == 0 ? insn.reg0 : n == 1 ? insn.reg1 : insn.reg2;
    }

    private boolean isReg(int n) {
        return kind(n) == OperandKind.GPR && reg(n) < 16;
    }

    private boolean isWideReg(int n) {
        return kind(n) == OperandKind.GPR && insn.size0 >= 4;
    }

    private static boolean fits(long value) {
        return value == (int) value;
    }

    /// Whether the memory operand can be an address form.
    private boolean isMem(int n) {
        return kind(n) == OperandKind.MEM && wide && insn.addressSize == 8 && fits(displacement());
    }

    private long displacement() {
        return insn.base == Instruction.BASE_RIP ? insn.disp + offset + insn.length : insn.disp;
    }

    private long form() {
        int segment = insn.segment == Cpu.FS ? Slot.FS : insn.segment == Cpu.GS ? Slot.GS : Slot.ZERO;
        return form(segment, displacement());
    }

    private long form(int segment, long displacement) {
        int base = insn.base == Instruction.BASE_RIP ? Slot.PAGE : insn.base < 0 ? Slot.ZERO : insn.base;
        int scaled = insn.index < 0 ? Slot.ZERO : insn.index;
        return base | (scaled << 8) | (insn.scale << 16) | ((long) segment << 24) | (displacement << 32);
    }

    private static int load(int size) {
        return switch (size) {
            case 1 -> MicroOp.LOAD8;
            case 2 -> MicroOp.LOAD16;
            case 4 -> MicroOp.LOAD32;
            default -> MicroOp.LOAD64;
        };
    }

    /// Whether operand `n` can be a source; [#source] must follow.
    private boolean isSource(int n) {
        return switch (kind(n)) {
            case GPR -> reg(n) < 16;
            case IMM -> insn.size0 <= 4 || fits(insn.imm);
            case MEM -> isMem(n);
            default -> false;
        };
    }

    /// Makes operand `n` of `size` bytes available as [#slot] plus [#immediate]; memory through scratch slot `scratch`.
    private void source(int n, int size, int scratch) {
        slot = Slot.ZERO;
        immediate = 0;
        switch (kind(n)) {
            case GPR -> slot = reg(n);
            case IMM -> immediate = (int) insn.imm;
            default -> {
                emit(word(load(size), scratch, 0, 0, 0), form());
                slot = scratch;
            }
        }
    }

    // Data movement

    private boolean mov() {
        int size = insn.size0;
        if (isReg(0) && insn.kind1 == OperandKind.IMM && size == 8 && !fits(insn.imm)) {
            emit(word(MicroOp.MOVI, insn.reg0, 0, 0, 0), insn.imm);
            return true;
        }
        if (isMem(0) && (isReg(1) || (insn.kind1 == OperandKind.IMM && isSource(1)))) {
            source(1, size, Slot.T0);
            int op = size == 1 ? MicroOp.STORE8 : size == 2 ? MicroOp.STORE16 : size == 4 ? MicroOp.STORE32 : MicroOp.STORE64;
            emit(word(op, 0, slot, 0, immediate), form());
            return true;
        }
        if (!isReg(0) || !isSource(1)) {
            return false;
        }
        if (insn.kind1 == OperandKind.MEM && size >= 4) {
            emit(word(load(size), insn.reg0, 0, 0, 0), form());
            return true;
        }
        source(1, size, Slot.T0);
        int op = size == 8 ? MicroOp.MOV64 : size == 4 ? MicroOp.MOV32 : size == 2 ? MicroOp.INSERT16 : MicroOp.INSERT8;
        emit(word(op, insn.reg0, slot, 0, immediate));
        return true;
    }

    private boolean extend(boolean signed) {
        int to = insn.size0;
        int from = insn.size1;
        if (to < 4 || (!isReg(1) && !isMem(1))) {
            return false;
        }
        boolean mem = insn.kind1 == OperandKind.MEM;
        int op;
        if (!signed) {
            op = from == 1 ? mem ? MicroOp.LOAD8 : MicroOp.ZERO8 : mem ? MicroOp.LOAD16 : MicroOp.ZERO16;
        } else if (from == 4) {
            op = to == 8 ? mem ? MicroOp.LOAD_S32_64 : MicroOp.SIGN32_64 : mem ? MicroOp.LOAD32 : MicroOp.MOV32;
        } else {
            op = from == 2 ? to == 8 ? MicroOp.SIGN16_64 : MicroOp.SIGN16_32 : to == 8 ? MicroOp.SIGN8_64 : MicroOp.SIGN8_32;
        }
        if (mem && signed && from < 4) {
            source(1, from, Slot.T0);
            emit(word(op, insn.reg0, Slot.T0, 0, 0));
        } else if (mem) {
            emit(word(op, insn.reg0, 0, 0, 0), form());
        } else {
            emit(word(op, insn.reg0, insn.reg1, 0, 0));
        }
        return true;
    }

    private boolean lea() {
        boolean longForm = insn.addressSize == 8 && insn.size0 >= 4;
        boolean shortForm = insn.addressSize == 4 && insn.size0 == 4 && insn.base != Instruction.BASE_RIP;
        if ((!longForm && !shortForm) || !fits(displacement())) {
            return false;
        }
        emit(word(insn.size0 == 8 ? MicroOp.LEA64 : MicroOp.LEA32, insn.reg0, 0, 0, 0), form(Slot.ZERO, displacement()));
        return true;
    }

    // Arithmetic and logic

    private boolean alu() {
        int size = insn.size0;
        if (isMem(0) && isSource(1)) {
            source(1, size, Slot.T1);
            return readModifyWrite(insn.op);
        }
        if (!isReg(0) || !isSource(1)) {
            return false;
        }
        boolean carry = insn.op == Op.ADC || insn.op == Op.SBB;
        if (size < 4 && carry) {
            return false;
        }
        source(1, size, Slot.T1);
        if (carry) {
            return register(insn.op == Op.SBB ? RegisterOps.SBB : RegisterOps.ADC, slot, immediate);
        }
        if (size < 4) {
            emit(word(MicroOp.REGISTER, insn.reg0, slot, small(insn.op) | (size - 1), immediate));
            return true;
        }
        int op = switch (insn.op) {
            case ADD -> MicroOp.ADD64;
            case SUB -> MicroOp.SUB64;
            case AND -> MicroOp.AND64;
            case OR -> MicroOp.OR64;
            default -> MicroOp.XOR64;
        };
        emit(word(size == 8 ? op : op + 1, insn.reg0, slot, 0, immediate));
        return true;
    }

    private static int small(Op op) {
        return switch (op) {
            case ADD -> RegisterOps.ADD_SMALL;
            case OR -> RegisterOps.OR_SMALL;
            case AND -> RegisterOps.AND_SMALL;
            case SUB -> RegisterOps.SUB_SMALL;
            default -> RegisterOps.XOR_SMALL;
        };
    }

    /// A [RegisterOps] operation on the first operand, 4 or 8 bytes.
    private boolean register(int operation, int source, int constant) {
        emit(word(MicroOp.REGISTER, insn.reg0, source, operation | (insn.size0 == 8 ? 0 : 1), constant));
        return true;
    }

    private boolean readModifyWrite(Op op) {
        emit(word(MicroOp.RMW, 0, slot, ReadModifyWrite.code(op, insn.size0), immediate), form());
        return true;
    }

    private boolean compare() {
        int size = insn.size0;
        if ((!isReg(0) && !isMem(0)) || !isSource(1)) {
            return false;
        }
        int a = insn.reg0;
        if (insn.kind0 == OperandKind.MEM) {
            emit(word(load(size), Slot.T0, 0, 0, 0), form());
            a = Slot.T0;
        }
        source(1, size, Slot.T1);
        int shift = 64 - 8 * size;
        int after = offset + insn.length;
        if (after < PAGE && index + 1 < RUN_LIMIT) {
            following = decode(after);
            if (following.op == Op.JCC && fuse(a, shift, after)) {
                return true;
            }
        }
        emit(word(insn.op == Op.CMP ? MicroOp.CMP : MicroOp.TEST, a, slot, shift, immediate));
        return true;
    }

    /// Emits the comparison together with the JCC behind it.
    private boolean fuse(int a, int shift, int after) {
        Instruction jump = following;
        long target = after + jump.length + jump.imm;
        if (!reachable(jump, target)) {
            return false;
        }
        int op = insn.op == Op.CMP ? afterCompare(jump.cc) : afterTest(jump.cc);
        if (op == 0 && insn.op == Op.TEST && insn.kind0 == OperandKind.GPR && insn.kind1 == OperandKind.GPR
                && insn.reg0 == insn.reg1) {
            op = afterCompare(jump.cc); // TEST r,r sets the flags that CMP r,0 does
            slot = op != 0 ? Slot.ZERO : slot;
        }
        if (op == 0) {
            return false;
        }
        int at = cache.next;
        emit(word(op, a, slot, shift, immediate), (long) (jump.cc & 1) << 48);
        index++;
        addStub(at, (int) target, index + 1);
        offset += jump.length; // the caller adds the comparison's
        following = null;
        return true;
    }

    private static int afterCompare(int cc) {
        return switch (cc >> 1) {
            case 1 -> MicroOp.CMPJ_B;
            case 2 -> MicroOp.CMPJ_Z;
            case 3 -> MicroOp.CMPJ_BE;
            case 6 -> MicroOp.CMPJ_L;
            case 7 -> MicroOp.CMPJ_LE;
            default -> 0;
        };
    }

    private static int afterTest(int cc) {
        return switch (cc >> 1) {
            case 2 -> MicroOp.TESTJ_Z;
            case 4, 6 -> MicroOp.TESTJ_S;
            default -> 0;
        };
    }

    private boolean unary() {
        if (isMem(0)) {
            slot = Slot.ZERO;
            immediate = 0;
            return readModifyWrite(insn.op);
        }
        if (!isWideReg(0)) {
            return false;
        }
        return register(switch (insn.op) {
            case INC -> RegisterOps.INC;
            case DEC -> RegisterOps.DEC;
            case NEG -> RegisterOps.NEG;
            default -> RegisterOps.NOT;
        }, Slot.ZERO, 0);
    }

    private boolean shift() {
        if (!isWideReg(0)) {
            return false;
        }
        boolean wideOperand = insn.size0 == 8;
        if (insn.kind1 != OperandKind.IMM) {
            return switch (insn.op) {
                case SHL -> register(RegisterOps.SHL_CL, Slot.ZERO, 0);
                case SHR -> register(RegisterOps.SHR_CL, Slot.ZERO, 0);
                case SAR -> register(RegisterOps.SAR_CL, Slot.ZERO, 0);
                case ROL -> register(RegisterOps.ROL_CL, Slot.ZERO, 0);
                default -> register(RegisterOps.ROR_CL, Slot.ZERO, 0);
            };
        }
        int count = (int) insn.imm & (wideOperand ? 63 : 31);
        if (count == 0) {
            return false;
        }
        int op = switch (insn.op) {
            case SHL -> MicroOp.SHL64;
            case SHR -> MicroOp.SHR64;
            case SAR -> MicroOp.SAR64;
            case ROL -> -RegisterOps.ROL;
            default -> -RegisterOps.ROR;
        };
        if (op < 0) {
            return register(-op, Slot.ZERO, count);
        }
        emit(word(wideOperand ? op : op + 1, insn.reg0, 0, count, 0));
        return true;
    }

    private boolean doubleShift() {
        int count = (int) insn.imm & (insn.size0 == 8 ? 63 : 31);
        if (!isWideReg(0) || insn.kind2 != OperandKind.IMM || count == 0) {
            return false;
        }
        return register(insn.op == Op.SHLD ? RegisterOps.SHLD : RegisterOps.SHRD, insn.reg1, count);
    }

    /// SHLX, SHRX, SARX, RORX, BZHI: the source may be memory, the count is a register or an immediate.
    private boolean shiftWithoutFlags() {
        if (!isSource(1)) {
            return false;
        }
        source(1, insn.size0, Slot.T0);
        return switch (insn.op) {
            case SHLX -> register(RegisterOps.SHLX, slot, insn.reg2);
            case SHRX -> register(RegisterOps.SHRX, slot, insn.reg2);
            case SARX -> register(RegisterOps.SARX, slot, insn.reg2);
            case BZHI -> register(RegisterOps.BZHI, slot, insn.reg2);
            default -> register(RegisterOps.RORX, slot, (int) insn.imm & 63);
        };
    }

    private boolean andn() {
        if (!isSource(2)) {
            return false;
        }
        source(2, insn.size0, Slot.T0);
        return register(RegisterOps.ANDN, insn.reg1, slot);
    }

    /// Instructions that make the first operand from the second.
    private boolean count() {
        if (insn.size0 < 4 || !isSource(1)) {
            return false;
        }
        source(1, insn.size0, Slot.T0);
        return register(switch (insn.op) {
            case TZCNT -> RegisterOps.TZCNT;
            case LZCNT -> RegisterOps.LZCNT;
            case POPCNT -> RegisterOps.POPCNT;
            case BSF -> RegisterOps.BSF;
            case BSR -> RegisterOps.BSR;
            default -> RegisterOps.BLSR;
        }, slot, 0);
    }

    private boolean bitTest() {
        if (!isWideReg(0) || !isSource(1)) {
            return false;
        }
        source(1, insn.size0, Slot.T0);
        return register(switch (insn.op) {
            case BT -> RegisterOps.BT;
            case BTS -> RegisterOps.BTS;
            case BTR -> RegisterOps.BTR;
            default -> RegisterOps.BTC;
        }, slot, immediate);
    }

    private boolean mul() {
        if (insn.size0 < 4 || !isSource(0)) {
            return false;
        }
        source(0, insn.size0, Slot.T0);
        return register(RegisterOps.MUL, slot, 0);
    }

    private boolean imul() {
        if (insn.size0 < 4 || insn.kind1 == OperandKind.NONE || !isSource(1)) {
            return false;
        }
        source(1, insn.size0, Slot.T0);
        return insn.kind2 != OperandKind.NONE ? register(RegisterOps.IMUL_IMMEDIATE, slot, (int) insn.imm)
                : register(RegisterOps.IMUL, slot, 0);
    }

    private boolean conditional() {
        if (insn.op == Op.SETCC) {
            return isReg(0) && register(RegisterOps.SETCC, Slot.ZERO, insn.cc);
        }
        if (insn.size0 < 4 || !isSource(1)) {
            return false;
        }
        source(1, insn.size0, Slot.T1);
        return register(RegisterOps.CMOV, slot, insn.cc);
    }

    private boolean exchange() {
        boolean first = isMem(0) && isReg(1);
        boolean second = insn.op == Op.XCHG && isMem(1) && isReg(0);
        if (first || second) {
            slot = first ? insn.reg1 : insn.reg0;
            immediate = 0;
            return readModifyWrite(insn.op);
        }
        if (insn.op != Op.XCHG || !isWideReg(0) || insn.kind1 != OperandKind.GPR) {
            return false;
        }
        return register(RegisterOps.XCHG, insn.reg1, 0);
    }

    private boolean widen() {
        emit(switch (insn.op) {
            case CWDE -> word(MicroOp.SIGN16_32, Cpu.RAX, Cpu.RAX, 0, 0);
            case CDQE -> word(MicroOp.SIGN32_64, Cpu.RAX, Cpu.RAX, 0, 0);
            case CDQ -> word(MicroOp.REGISTER, 0, 0, RegisterOps.SIGN + 1, 0);
            default -> word(MicroOp.REGISTER, 0, 0, RegisterOps.SIGN, 0);
        });
        return true;
    }

    // Stack and transfers

    private boolean stack() {
        if (!wide || insn.operandSize != 8) {
            return false;
        }
        switch (insn.op) {
            case PUSH -> {
                if (!isSource(0)) {
                    return false;
                }
                source(0, 8, Slot.T0);
                emit(word(MicroOp.PUSH, Cpu.RSP, slot, 0, immediate));
            }
            case POP -> {
                if (!isReg(0)) {
                    return false;
                }
                emit(word(MicroOp.POP, insn.reg0, Cpu.RSP, 0, 0));
            }
            default -> emit(word(MicroOp.LEAVE, 0, 0, 0, 0));
        }
        return true;
    }

    private long target() {
        return offset + insn.length + insn.imm;
    }

    /// Whether a direct branch does: not where it leaves the page of a segment, whose limit counts, nor where a 16-bit operand
    /// size cuts EIP.
    private boolean reachable(Instruction jump, long target) {
        boolean cuts = jump.operandSize == 2 && mode == CodeMode.BITS32;
        return wide ? fits(target) : target >= 0 && target < PAGE && !cuts;
    }

    private boolean jcc() {
        long target = target();
        if (!reachable(insn, target)) {
            return generic();
        }
        int op = insn.cc == 4 ? MicroOp.JZ : insn.cc == 5 ? MicroOp.JNZ : MicroOp.JCC;
        int at = cache.next;
        emit(branch(op, op == MicroOp.JCC ? insn.cc : Slot.RESULT, 0, 0));
        addStub(at, (int) target, index + 1);
        return true;
    }

    private boolean jmp() {
        if (insn.kind0 == OperandKind.REL) {
            long target = target();
            if (!reachable(insn, target)) {
                return generic();
            }
            if (target < 0 || target >= PAGE) {
                emit(word(MicroOp.JMP_PAGE, Slot.PAGE, 0, 1, (int) target));
            } else {
                int at = cache.next;
                emit(branch(MicroOp.JMP, 0, 0, 0));
                addStub(at, (int) target, index + 1);
            }
            return false;
        }
        if (!wide || insn.operandSize != 8 || !isSource(0) || (enforced & ControlFlow.TRACKING) != 0) {
            return generic();
        }
        source(0, 8, Slot.T0);
        emit(word(MicroOp.JMP_REG, slot, 0, 0, 0));
        return false;
    }

    private boolean call() {
        if (!wide || insn.operandSize != 8 || (enforced & ControlFlow.SHADOW_STACK) != 0) {
            return generic();
        }
        if (insn.kind0 == OperandKind.REL) {
            if (!fits(target())) {
                return generic();
            }
            emit(word(MicroOp.CALL, Cpu.RSP, Slot.PAGE, 0, (int) target()), offset + insn.length);
            return false;
        }
        boolean tracked = (enforced & ControlFlow.TRACKING) != 0;
        if (!isSource(0) || (tracked && ((enforced & ControlFlow.LEGACY) != 0 || insn.has(Instruction.PREFIX_NOTRACK)))) {
            return generic();
        }
        source(0, 8, Slot.T0);
        emit(word(MicroOp.CALL_REG, slot, 0, tracked ? 1 : 0, 0), offset + insn.length);
        return false;
    }

    private boolean ret() {
        if (!wide || insn.operandSize != 8 || (enforced & ControlFlow.SHADOW_STACK) != 0) {
            return generic();
        }
        emit(word(MicroOp.RET, Cpu.RSP, 0, 0, insn.kind0 == OperandKind.IMM ? (int) insn.imm & 0xffff : 0));
        return false;
    }
}
