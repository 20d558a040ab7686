package cloister.isa;

import cloister.isa.Operand.Far;
import cloister.isa.Operand.Gpr;
import cloister.isa.Operand.Mem;
import cloister.isa.Operand.Register;
import cloister.isa.Operand.Target;
import java.nio.charset.StandardCharsets;
import java.util.EnumMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;

/// A small assembler over the instruction tables, for firmware and test guests. Each call appends one instruction or
/// datum; labels may be used before they are placed. Of the encodings that fit the shortest is taken; jumps to labels
/// not yet placed are near, not short. Operands that fit no row, or memory operands whose size is open, are errors.
///
/// ```java
/// byte[] code = new Assembler(CodeMode.BITS64, 0x1000)
///     .mov(RAX, 1).label(loop).dec(RCX).jcc(Condition.NE, loop).hlt().assemble();
/// ```
public final class Assembler {
    private static final Map<Op, List<InstructionForm>> FORMS = OpcodeTable.rows().stream()
        .collect(Collectors.groupingBy(row -> row.op, () -> new EnumMap<>(Op.class), Collectors.toUnmodifiableList()));
    private static final int[][] SIZES = {{2, 4, 1}, {4, 2, 1}, {4, 8, 2, 1}};
    private static final int REP = 0xF3;
    private static final int REPNE = 0xF2;

    private final CodeBuffer buffer;
    private CodeMode mode;
    private boolean lock;
    private int repeat;

    /// Starts at address `origin` in `mode`.
    public Assembler(CodeMode mode, long origin) {
        this.mode = mode;
        buffer = new CodeBuffer(origin);
    }

    /// From here on the code runs in `codeMode`.
    public Assembler mode(CodeMode codeMode) {
        mode = codeMode;
        return this;
    }

    public CodeMode mode() {
        return mode;
    }

    /// The bytes, once all labels are placed.
    public byte[] assemble() {
        return buffer.finish();
    }

    /// A label to be placed by [#label(Label)].
    public Label label() {
        return new Label();
    }

    /// Places `label` here.
    public Assembler label(Label label) {
        if (label.bound()) {
            throw new IllegalStateException("label placed twice");
        }
        label.address = buffer.address();
        return this;
    }

    /// The address of the next byte.
    public long address() {
        return buffer.address();
    }

    /// The number of bytes so far.
    public int length() {
        return buffer.length();
    }

    /// The next byte will be at `address`, wherever it lands in the output.
    public Assembler org(long address) {
        buffer.origin(address);
        return this;
    }

    /// Fills with `filler` up to `address`.
    public Assembler padTo(long address, int filler) {
        long count = address - buffer.address();
        if (count < 0) {
            throw new IllegalStateException(String.format(Locale.ROOT, "already at 0x%x, past 0x%x", buffer.address(), address));
        }
        for (long i = 0; i < count; i++) {
            buffer.put(filler);
        }
        return this;
    }

    /// Fills with zeros up to a multiple of `boundary`.
    public Assembler align(int boundary) {
        return padTo(Math.ceilDiv(buffer.address(), boundary) * boundary, 0);
    }

    public Assembler space(int count) {
        return padTo(buffer.address() + count, 0);
    }

    public Assembler db(int... values) {
        for (int value : values) {
            buffer.put(value);
        }
        return this;
    }

    public Assembler bytes(byte[] values) {
        buffer.put(values);
        return this;
    }

    /// The characters of `text`, one byte each.
    public Assembler ascii(String text) {
        return bytes(text.getBytes(StandardCharsets.ISO_8859_1));
    }

    public Assembler dw(int... values) {
        for (int value : values) {
            buffer.put(value, 2);
        }
        return this;
    }

    public Assembler dd(int... values) {
        for (int value : values) {
            buffer.put(value, 4);
        }
        return this;
    }

    public Assembler dq(long... values) {
        for (long value : values) {
            buffer.put(value, 8);
        }
        return this;
    }

    public Assembler dw(Label label) {
        return addressOf(label, 2);
    }

    public Assembler dd(Label label) {
        return addressOf(label, 4);
    }

    public Assembler dq(Label label) {
        return addressOf(label, 8);
    }

    private Assembler addressOf(Label label, int size) {
        buffer.absolute(buffer.length(), size, label, 0);
        buffer.put(0, size);
        return this;
    }

    /// LOCK for the next instruction.
    public Assembler lock() {
        lock = true;
        return this;
    }

    /// REP or REPE for the next instruction.
    public Assembler rep() {
        repeat = REP;
        return this;
    }

    /// REPNE for the next instruction.
    public Assembler repne() {
        repeat = REPNE;
        return this;
    }

    /// Any instruction by its operation and operands.
    public Assembler op(Op op, Operand... operands) {
        return emit(0, op, 0, false, operands);
    }

    /// Any instruction with an explicit operand size, as for string instructions, IRET or PUSHF.
    public Assembler op(int operandSize, Op op, Operand... operands) {
        return emit(operandSize, op, 0, false, operands);
    }

    private Assembler emit(int operandSize, Op op, int condition, boolean shortTarget, Operand... operands) {
        Encoder best = null;
        int memorySize = -1;
        boolean ambiguous = false;
        // A 16-bit branch would be shorter, but it cuts EIP to 16 bits.
        boolean branch = mode != CodeMode.BITS64 && operands.length == 1 && operands[0] instanceof Target;
        int natural = mode == CodeMode.BITS32 ? 4 : 2;
        for (InstructionForm form : FORMS.getOrDefault(op, List.of())) {
            for (int size : SIZES[mode.ordinal()]) {
                size = size == 4 && mode == CodeMode.BITS64 && (form.default64 || form.force64) ? 8
                    : size == 8 && (form.default64 || form.force64) ? 4 : size;
                if ((operandSize != 0 && size != operandSize) || (branch && size != natural)) {
                    continue;
                }
                Encoder attempt = new Encoder(mode, form, size, operands, shortTarget);
                if (attempt.encode(condition, lock, repeat)) {
                    ambiguous |= memorySize >= 0 && memorySize != attempt.memorySize();
                    memorySize = attempt.memorySize();
                    best = best == null || attempt.bytes.length < best.bytes.length ? attempt : best;
                }
            }
        }
        if (best == null || ambiguous) {
            throw new IllegalArgumentException(String.format(Locale.ROOT,
                    best == null ? "no encoding in %s for %s %s" : "open memory size in %s: %s %s", mode, op, List.of(operands)));
        }
        best.appendTo(buffer);
        lock = false;
        repeat = 0;
        return this;
    }

    /// Whether a short jump from here reaches `label`, as far as is known.
    private boolean near(Label label) {
        long distance = label.bound() ? label.address() - buffer.address() : -1000;
        return distance <= 0 && distance > -120;
    }

    public Assembler jcc(Condition condition, Label label) {
        return emit(0, Op.JCC, condition.ordinal(), near(label), new Target(label));
    }

    public Assembler jccShort(Condition condition, Label label) {
        return emit(0, Op.JCC, condition.ordinal(), true, new Target(label));
    }

    public Assembler jmp(Label label) {
        return emit(0, Op.JMP, 0, near(label), new Target(label));
    }

    public Assembler jmpShort(Label label) {
        return emit(0, Op.JMP, 0, true, new Target(label));
    }

    public Assembler jmp(Operand target) {
        return op(Op.JMP, target);
    }

    /// JMP selector:offset.
    public Assembler jmp(Far target) {
        return op(target.size() - 2, Op.JMP_FAR, target);
    }

    /// JMP through a far pointer in memory with an offset of `offsetSize` bytes.
    public Assembler jmpFar(int offsetSize, Mem pointer) {
        return op(offsetSize, Op.JMP_FAR, pointer);
    }

    public Assembler call(Label label) {
        return emit(0, Op.CALL, 0, false, new Target(label));
    }

    public Assembler call(Operand target) {
        return op(Op.CALL, target);
    }

    public Assembler call(Far target) {
        return op(target.size() - 2, Op.CALL_FAR, target);
    }

    public Assembler ret() {
        return op(Op.RET);
    }

    /// RETF with an operand size of `operandSize` bytes.
    public Assembler retFar(int operandSize) {
        return op(operandSize, Op.RET_FAR);
    }

    /// IRET, IRETD or IRETQ: `operandSize` 2, 4 or 8.
    public Assembler iret(int operandSize) {
        return op(operandSize, Op.IRET);
    }

    public Assembler pushf() {
        return op(Op.PUSHF);
    }

    public Assembler popf() {
        return op(Op.POPF);
    }

    public Assembler loop(Label label) {
        return emit(0, Op.LOOP, 0, true, new Target(label));
    }

    /// JCXZ, JECXZ or JRCXZ, by the address size of the mode.
    public Assembler jcxz(Label label) {
        return emit(0, Op.JCXZ, 0, true, new Target(label));
    }

    public Assembler setcc(Condition condition, Operand destination) {
        return emit(0, Op.SETCC, condition.ordinal(), false, destination);
    }

    public Assembler cmov(Condition condition, Gpr destination, Operand source) {
        return emit(0, Op.CMOVCC, condition.ordinal(), false, destination, source);
    }

    /// A string instruction on elements of `size` bytes: MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS.
    public Assembler string(Op op, int size) {
        return op(size, op);
    }

    public Assembler movs(int size) {
        return string(Op.MOVS, size);
    }

    public Assembler stos(int size) {
        return string(Op.STOS, size);
    }

    public Assembler lods(int size) {
        return string(Op.LODS, size);
    }

    public Assembler in(Gpr destination, int port) {
        return op(Op.IN, destination, Operands.imm(port));
    }

    public Assembler out(int port, Gpr source) {
        return op(Op.OUT, Operands.imm(port), source);
    }

    /// LEA of a label, RIP-relative in 64-bit mode, else its absolute address.
    public Assembler lea(Gpr destination, Label label) {
        return op(Op.LEA, destination, mode == CodeMode.BITS64 ? Operands.rip(label) : Operands.abs(label));
    }

    private static boolean isSegment(Operand operand) {
        return operand instanceof Register register && register.kind() == OperandKind.SREG;
    }

    private static Op moveOp(Operand destination, Operand source) {
        Operand special = destination instanceof Register ? destination : source;
        return !(special instanceof Register register) ? Op.MOV : switch (register.kind()) {
            case SREG -> Op.MOV_SREG;
            case CREG -> Op.MOV_CR;
            case DREG -> Op.MOV_DR;
            default -> Op.MOV;
        };
    }

    /// LGDT and LIDT load the whole base in 16-bit mode only with a 32-bit operand size.
    private int fullSize() {
        return mode == CodeMode.BITS64 ? 8 : 4;
    }

    public Assembler mov(Operand destination, Operand source) {
        boolean loadsSegment = isSegment(destination) && source instanceof Gpr;
        // The upper bits of a register do not matter to a segment load: any width will do.
        return op(moveOp(destination, source), destination, loadsSegment ? new Gpr(((Gpr) source).number(), 2) : source);
    }

    public Assembler mov(Operand destination, long immediate) {
        return mov(destination, Operands.imm(immediate));
    }

    public Assembler add(Operand destination, Operand source) {
        return op(Op.ADD, destination, source);
    }

    public Assembler add(Operand destination, long immediate) {
        return add(destination, Operands.imm(immediate));
    }

    public Assembler or(Operand destination, Operand source) {
        return op(Op.OR, destination, source);
    }

    public Assembler or(Operand destination, long immediate) {
        return or(destination, Operands.imm(immediate));
    }

    public Assembler adc(Operand destination, Operand source) {
        return op(Op.ADC, destination, source);
    }

    public Assembler adc(Operand destination, long immediate) {
        return adc(destination, Operands.imm(immediate));
    }

    public Assembler sbb(Operand destination, Operand source) {
        return op(Op.SBB, destination, source);
    }

    public Assembler sbb(Operand destination, long immediate) {
        return sbb(destination, Operands.imm(immediate));
    }

    public Assembler and(Operand destination, Operand source) {
        return op(Op.AND, destination, source);
    }

    public Assembler and(Operand destination, long immediate) {
        return and(destination, Operands.imm(immediate));
    }

    public Assembler sub(Operand destination, Operand source) {
        return op(Op.SUB, destination, source);
    }

    public Assembler sub(Operand destination, long immediate) {
        return sub(destination, Operands.imm(immediate));
    }

    public Assembler xor(Operand destination, Operand source) {
        return op(Op.XOR, destination, source);
    }

    public Assembler xor(Operand destination, long immediate) {
        return xor(destination, Operands.imm(immediate));
    }

    public Assembler cmp(Operand destination, Operand source) {
        return op(Op.CMP, destination, source);
    }

    public Assembler cmp(Operand destination, long immediate) {
        return cmp(destination, Operands.imm(immediate));
    }

    public Assembler test(Operand destination, Operand source) {
        return op(Op.TEST, destination, source);
    }

    public Assembler test(Operand destination, long immediate) {
        return test(destination, Operands.imm(immediate));
    }

    public Assembler xchg(Operand destination, Operand source) {
        return op(Op.XCHG, destination, source);
    }

    public Assembler cmpxchg(Operand destination, Operand source) {
        return op(Op.CMPXCHG, destination, source);
    }

    public Assembler lea(Operand destination, Operand source) {
        return op(Op.LEA, destination, source);
    }

    public Assembler movzx(Operand destination, Operand source) {
        return op(Op.MOVZX, destination, source);
    }

    public Assembler movsx(Operand destination, Operand source) {
        return op(Op.MOVSX, destination, source);
    }

    public Assembler movsxd(Operand destination, Operand source) {
        return op(Op.MOVSXD, destination, source);
    }

    public Assembler imul(Operand destination, Operand source) {
        return op(Op.IMUL, destination, source);
    }

    public Assembler imul(Operand destination, long immediate) {
        return imul(destination, Operands.imm(immediate));
    }

    public Assembler bt(Operand destination, Operand source) {
        return op(Op.BT, destination, source);
    }

    public Assembler bt(Operand destination, long immediate) {
        return bt(destination, Operands.imm(immediate));
    }

    public Assembler bts(Operand destination, Operand source) {
        return op(Op.BTS, destination, source);
    }

    public Assembler bts(Operand destination, long immediate) {
        return bts(destination, Operands.imm(immediate));
    }

    public Assembler btr(Operand destination, Operand source) {
        return op(Op.BTR, destination, source);
    }

    public Assembler btr(Operand destination, long immediate) {
        return btr(destination, Operands.imm(immediate));
    }

    public Assembler btc(Operand destination, Operand source) {
        return op(Op.BTC, destination, source);
    }

    public Assembler btc(Operand destination, long immediate) {
        return btc(destination, Operands.imm(immediate));
    }

    public Assembler shl(Operand destination, Operand source) {
        return op(Op.SHL, destination, source);
    }

    public Assembler shl(Operand destination, long immediate) {
        return shl(destination, Operands.imm(immediate));
    }

    public Assembler shr(Operand destination, Operand source) {
        return op(Op.SHR, destination, source);
    }

    public Assembler shr(Operand destination, long immediate) {
        return shr(destination, Operands.imm(immediate));
    }

    public Assembler sar(Operand destination, Operand source) {
        return op(Op.SAR, destination, source);
    }

    public Assembler sar(Operand destination, long immediate) {
        return sar(destination, Operands.imm(immediate));
    }

    public Assembler in(Gpr destination, Operand source) {
        return op(Op.IN, destination, source);
    }

    public Assembler out(Operand destination, Operand source) {
        return op(Op.OUT, destination, source);
    }

    public Assembler inc(Operand operand) {
        return op(Op.INC, operand);
    }

    public Assembler dec(Operand operand) {
        return op(Op.DEC, operand);
    }

    public Assembler neg(Operand operand) {
        return op(Op.NEG, operand);
    }

    public Assembler not(Operand operand) {
        return op(Op.NOT, operand);
    }

    public Assembler mul(Operand operand) {
        return op(Op.MUL, operand);
    }

    public Assembler div(Operand operand) {
        return op(Op.DIV, operand);
    }

    public Assembler idiv(Operand operand) {
        return op(Op.IDIV, operand);
    }

    public Assembler push(Operand operand) {
        return op(isSegment(operand) ? Op.PUSH_SREG : Op.PUSH, operand);
    }

    public Assembler push(long immediate) {
        return push(Operands.imm(immediate));
    }

    public Assembler pop(Operand operand) {
        return op(isSegment(operand) ? Op.POP_SREG : Op.POP, operand);
    }

    /// INT n.
    public Assembler int_(int vector) {
        return op(Op.INT, Operands.imm(vector));
    }

    public Assembler bswap(Operand operand) {
        return op(Op.BSWAP, operand);
    }

    public Assembler lgdt(Operand operand) {
        return op(fullSize(), Op.LGDT, operand);
    }

    public Assembler lidt(Operand operand) {
        return op(fullSize(), Op.LIDT, operand);
    }

    public Assembler sgdt(Operand operand) {
        return op(Op.SGDT, operand);
    }

    public Assembler sidt(Operand operand) {
        return op(Op.SIDT, operand);
    }

    public Assembler lldt(Operand operand) {
        return op(Op.LLDT, operand);
    }

    public Assembler ltr(Operand operand) {
        return op(Op.LTR, operand);
    }

    public Assembler invlpg(Operand operand) {
        return op(Op.INVLPG, operand);
    }

    public Assembler fxsave(Operand operand) {
        return op(Op.FXSAVE, operand);
    }

    public Assembler fxrstor(Operand operand) {
        return op(Op.FXRSTOR, operand);
    }

    public Assembler nop() {
        return op(Op.NOP);
    }

    public Assembler hlt() {
        return op(Op.HLT);
    }

    public Assembler cli() {
        return op(Op.CLI);
    }

    public Assembler sti() {
        return op(Op.STI);
    }

    public Assembler cld() {
        return op(Op.CLD);
    }

    public Assembler std() {
        return op(Op.STD);
    }

    public Assembler pause() {
        return op(Op.PAUSE);
    }

    public Assembler cpuid() {
        return op(Op.CPUID);
    }

    public Assembler rdmsr() {
        return op(Op.RDMSR);
    }

    public Assembler wrmsr() {
        return op(Op.WRMSR);
    }

    public Assembler rdtsc() {
        return op(Op.RDTSC);
    }

    public Assembler rdtscp() {
        return op(Op.RDTSCP);
    }

    public Assembler wbinvd() {
        return op(Op.WBINVD);
    }

    public Assembler int3() {
        return op(Op.INT3);
    }

    public Assembler ud2() {
        return op(Op.UD2);
    }

    public Assembler leave() {
        return op(Op.LEAVE);
    }

    public Assembler pusha() {
        return op(Op.PUSHA);
    }

    public Assembler popa() {
        return op(Op.POPA);
    }

    public Assembler mfence() {
        return op(Op.MFENCE);
    }

    public Assembler monitor() {
        return op(Op.MONITOR);
    }

    public Assembler mwait() {
        return op(Op.MWAIT);
    }

    public Assembler xgetbv() {
        return op(Op.XGETBV);
    }

    public Assembler xsetbv() {
        return op(Op.XSETBV);
    }

    public Assembler swapgs() {
        return op(Op.SWAPGS);
    }

    public Assembler syscall() {
        return op(Op.SYSCALL);
    }

    public Assembler sysret() {
        return op(Op.SYSRET);
    }

    public Assembler sysenter() {
        return op(Op.SYSENTER);
    }

    public Assembler sysexit() {
        return op(Op.SYSEXIT);
    }

    public Assembler vmcall() {
        return op(Op.VMCALL);
    }

    public Assembler tdcall() {
        return op(Op.TDCALL);
    }

    public Assembler fninit() {
        return op(Op.FNINIT);
    }
}
