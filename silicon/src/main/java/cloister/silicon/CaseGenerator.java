package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import cloister.silicon.Case.Change;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;

/// Makes cases of a form: random registers, addressing and immediates, and initial states in which its addresses hit the
/// data window.
final class CaseGenerator {
    private static final int ATTEMPTS = 200;
    /// Nothing is mapped there: targets of jumps.
    private static final long NOWHERE = 0x5000_0000L;
    private static final int RAX = 0, RCX = 1, RDX = 2, RBX = 3, RSP = 4, RBP = 5, RSI = 6, RDI = 7;

    /// XSAVE area with header, of the x87 and SSE components.
    private static final int XSAVE_SIZE = 576;
    private static final int[] EDGES = {0, 1, 0x7F, 0x80, 0xFF, 8, 31, 63};

    private final SplittableRandom random;
    private final SegmentCases segments;
    private final Decoder decoder = new Decoder();
    private final byte[] code = new byte[40];
    private int slot;
    private long seed;

    private Template template;
    private Instruction i;
    private List<Change> changes;
    private final Set<Integer> placed = new HashSet<>();
    private int dispAt;
    private int moffsAt;
    /// Where the instruction stands in a sequence.
    private int offset;
    /// Only memory operands at fixed addresses.
    private boolean fixedAddresses;
    /// Whether addresses have more than 16 bits.
    private boolean wide;

    CaseGenerator(long seed) {
        random = new SplittableRandom(seed);
        segments = new SegmentCases(random);
    }

    /// A case of `form`, or null if no attempt succeeded.
    Case next(Template form) {
        template = form;
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            changes = new ArrayList<>();
            placed.clear();
            slot = (slot + 1) % Layout.SLOTS;
            encode();
            i = decoder.decode(form.mode(), code, 0, 15);
            if (!Template.form(i).equals(form.form()) || !Eligibility.testable(form.mode(), i) || (i.segment >= 4 && !long64())) {
                continue;
            }
            if (!addressing()) {
                continue;
            }
            i = decoder.decode(form.mode(), code, 0, 15); // with its displacement patched
            if (!special()) {
                continue;
            }
            i = decoder.decode(form.mode(), code, 0, 15);
            byte[] bytes = Arrays.copyOf(code, i.length);
            Case c = new Case(form.mode(), bytes, slot, ++seed, List.copyOf(changes));
            if (!Undefined.result(template.mode(), i, c.initial())) {
                return c;
            }
        }
        return null;
    }

    /// A straight sequence of up to six instructions out of `forms`, which have one mode.
    Case sequence(List<Template> forms) {
        slot = (slot + 1) % Layout.SLOTS;
        changes = new ArrayList<>();
        placed.clear();
        fixedAddresses = true;
        byte[] bytes = new byte[Layout.CODE_BYTES];
        offset = 0;
        for (int attempt = 0, count = random.nextInt(2, 7); attempt < ATTEMPTS && count > 0; attempt++) {
            template = forms.get(random.nextInt(forms.size()));
            encode();
            i = decoder.decode(template.mode(), code, 0, 15);
            boolean usable = Template.form(i).equals(template.form()) && Eligibility.inSequence(template.mode(), i)
                && (!isMemory() || i.op == Op.LEA || i.op == Op.NOP || addressing());
            if (usable && offset + i.length <= bytes.length) {
                System.arraycopy(code, 0, bytes, offset, i.length);
                offset += i.length;
                count--;
            }
        }
        if (offset + 2 <= bytes.length && random.nextBoolean()) {
            bytes[offset++] = (byte) (0x70 | random.nextInt(16)); // JCC to a place behind its end
            bytes[offset++] = (byte) random.nextInt(60);
        }
        Case c = new Case(template.mode(), Arrays.copyOf(bytes, offset), slot, ++seed, List.of());
        offset = 0;
        fixedAddresses = false;
        return c;
    }

    private boolean long64() {
        return template.mode() == CodeMode.BITS64;
    }

    // Encoding

    private void encode() {
        byte[] start = template.start();
        int n = 0;
        wide = template.mode() != CodeMode.BITS16;
        if (template.modRm() >= 0 && template.modRm() < 0xC0 && template.mode() != CodeMode.BITS32) {
            n = decoration(n);
        }
        boolean vex = ((start[0] & 0xFF) == 0xC4 && template.mode() == CodeMode.BITS64) || isVex32(start);
        for (int k = 0; k < start.length; k++) {
            int b = start[k] & 0xFF;
            boolean rexHere = long64() && !vex && (b & 0xF0) == 0x40;
            boolean opcodeHere = long64() && !vex && !hasRex(start) && k == opcodeStart(start) && random.nextInt(3) == 0;
            if (opcodeHere) {
                code[n++] = (byte) (0x40 | random.nextInt(8));
            }
            code[n++] = (byte) (rexHere ? b | random.nextInt(8) : vex && k == 1 && long64() ? b ^ (random.nextInt(8) << 5)
                : vex && k == 2 ? b ^ vvvv() : k == start.length - 1 ? vary(b) : b);
        }
        dispAt = -1;
        moffsAt = n;
        if (template.modRm() >= 0) {
            n = modRm(n);
        }
        while (n < code.length) {
            code[n++] = (byte) (random.nextInt(3) == 0 ? random.nextInt(256) : EDGES[random.nextInt(EDGES.length)]);
        }
    }

    private static boolean isVex32(byte[] start) {
        return start.length == 4 && (start[0] & 0xFF) == 0xC4 && (start[1] & 0xC0) == 0xC0;
    }

    private static boolean hasRex(byte[] start) {
        return Arrays.equals(start, 0, 1, new byte[] {0x48}, 0, 1) || (start.length > 1 && start[1] == 0x48 && isPrefix(start[0]));
    }

    private static int opcodeStart(byte[] start) {
        int k = 0;
        while (k < start.length - 1 && isPrefix(start[k])) {
            k++;
        }
        return k;
    }

    private static boolean isPrefix(byte b) {
        return switch (b & 0xFF) {
            case 0x66, 0xF2, 0xF3, 0xF0 -> true;
            default -> false;
        };
    }

    /// Opcodes with a register in them.
    private int vary(int b) {
        boolean plain = template.modRm() < 0 && random.nextBoolean();
        return plain && template.form().contains("GPR") ? (b & 0xF8) | random.nextInt(8) : b;
    }

    private int vvvv() {
        return random.nextInt(2) == 0 || template.form().startsWith("RORX") ? 0 : random.nextInt(16) << 3;
    }

    private int decoration(int start) {
        int n = start;
        if (random.nextInt(8) == 0 && long64()) {
            code[n++] = (byte) (random.nextBoolean() ? 0x64 : 0x65);
        }
        if (random.nextInt(8) == 0 && !fixedAddresses) {
            code[n++] = 0x67;
            wide = true;
        }
        return n;
    }

    private int modRm(int start) {
        int n = start;
        int fixed = template.modRm();
        int reg = random.nextInt(2) == 0 ? random.nextInt(8) << 3 : fixed & 0x38;
        if (fixed >= 0xC0) {
            code[n++] = (byte) (0xC0 | reg | (random.nextInt(4) == 0 ? fixed & 7 : random.nextInt(8)));
            return n;
        }
        if (!wide) {
            return modRm16(n, reg);
        }
        int mod = fixedAddresses ? 0 : random.nextInt(3);
        int rm = fixedAddresses ? 5 : random.nextInt(8);
        code[n++] = (byte) ((mod << 6) | reg | rm);
        int base = rm;
        if (rm == 4) {
            int sib = random.nextInt(256);
            base = sib & 7;
            code[n++] = (byte) sib;
        }
        if (mod == 1) {
            code[n++] = (byte) random.nextInt(-16, 16);
        } else if (mod == 2 || (base == 5 && mod == 0)) {
            dispAt = n;
            int disp = random.nextInt(3) == 0 ? random.nextInt() : random.nextInt(-4096, 4096);
            for (int k = 0; k < 4; k++) {
                code[n++] = (byte) (disp >> (8 * k));
            }
        }
        return n;
    }

    private int modRm16(int start, int reg) {
        int n = start;
        int mod = fixedAddresses ? 0 : random.nextInt(3);
        int rm = fixedAddresses ? 6 : random.nextInt(8);
        code[n++] = (byte) ((mod << 6) | reg | rm);
        if (mod == 1) {
            code[n++] = (byte) random.nextInt(-16, 16);
        } else if (mod == 2 || (rm == 6 && mod == 0)) {
            dispAt = n;
            int disp = random.nextInt();
            code[n++] = (byte) disp;
            code[n++] = (byte) (disp >> 8);
        }
        return n;
    }

    private void putInt(int at, int value) {
        for (int k = 0; k < Math.min(i.addressSize, 4); k++) {
            code[at + k] = (byte) (value >> (8 * k));
        }
    }

    // Addresses

    private boolean place(int where, long value) {
        if (!placed.add(where)) {
            return false;
        }
        changes.add(new Change(where, value));
        return true;
    }

    private boolean isMemory() {
        return i.kind0 == OperandKind.MEM || i.kind1 == OperandKind.MEM || i.kind2 == OperandKind.MEM;
    }

    private int memorySize() {
        int size = i.kind0 == OperandKind.MEM ? i.size0 : i.kind1 == OperandKind.MEM ? i.size1 : i.size2;
        return switch (i.op) {
            case XSAVE, XSAVEC, XRSTOR, XSAVES, XRSTORS -> XSAVE_SIZE;
            default -> Math.max(size, 1);
        };
    }

    /// Makes the memory operand hit the data window, or now and then fault.
    private boolean addressing() {
        if (!isMemory() || i.op == Op.LEA || i.op == Op.NOP) {
            return true;
        }
        int size = memorySize();
        int room = Layout.DATA_BYTES - 0x40 - size;
        long target = Layout.DATA + random.nextInt(0x40, Math.max(0x41, Math.min(room, 0x3A0)));
        boolean image = i.op == Op.FXSAVE || i.op == Op.FXRSTOR;
        if (size == XSAVE_SIZE && random.nextInt(8) != 0) {
            target &= -64;
        }
        if (random.nextInt(4) != 0 || (image && random.nextInt(8) != 0)) {
            target &= -16;
        }
        int kind = random.nextInt(40);
        if (kind == 0 && (template.mode() != CodeMode.BITS16 || (size <= 4 && i.op != Op.BOUND))) { // the segment ends where the page does
            target = Layout.DATA + Layout.DATA_BYTES - random.nextInt(1, size + 1);
            target += random.nextInt(4) == 0 ? 4096 : 0;
        } else if (kind == 1 && long64() && i.addressSize == 8 && i.base >= 0 && i.base < 16 && i.segment < 4) {
            target = random.nextBoolean() ? 1L << 48 : (random.nextLong() & 0x7FFF_FFFF_FFFF_FFC0L) | (1L << 60);
        }
        return aim(target - Addressing.segmentBase(template.mode(), i));
    }

    private boolean aim(long address) {
        boolean bare = i.base == Instruction.NO_REGISTER && i.index == Instruction.NO_REGISTER;
        if (i.base == Instruction.BASE_RIP || bare) {
            return patch(address);
        }
        long rest = address - i.disp;
        if (i.index != Instruction.NO_REGISTER) {
            if (i.base == i.index) {
                return false;
            }
            if (i.base == Instruction.NO_REGISTER) {
                long value = rest >> i.scale;
                return value << i.scale == rest && place(i.index, register(value));
            }
            long index = random.nextBoolean() || template.mode() == CodeMode.BITS16 ? random.nextInt(-64, 64) : random.nextLong();
            if (!place(i.index, register(index))) {
                return false;
            }
            rest -= index << i.scale;
        }
        return place(i.base, register(rest));
    }

    /// With a smaller address size the upper part of a register must not matter.
    private long register(long value) {
        if (i.addressSize == 2) {
            return (value & 0xFFFF) | ((long) random.nextInt() << 16);
        }
        return i.addressSize == 4 && long64() ? (value & 0xFFFF_FFFFL) | (random.nextBoolean() ? (long) random.nextInt() << 32 : 0) : value;
    }

    private boolean patch(long address) {
        boolean moffs = i.op == Op.MOV && template.modRm() < 0;
        if (moffs) {
            for (int k = 0; k < i.addressSize; k++) {
                code[moffsAt + k] = (byte) (address >> (8 * k));
            }
            return true;
        }
        if (dispAt < 0) {
            return false;
        }
        long origin = i.base == Instruction.BASE_RIP ? Layout.CODE + (long) slot * Layout.SLOT + Layout.SLOT_START + offset + i.length : 0;
        putInt(dispAt, (int) (address - origin));
        return true;
    }

    /// The place of the quadword at `address` in the data window, or -1.
    private static int memoryPlace(long address) {
        long at = address - Layout.DATA;
        return at >= 0 && at <= Layout.DATA_BYTES - 8 ? Change.MEMORY + (int) at : -1;
    }

    private boolean memory(long address, long value) {
        int place = memoryPlace(address);
        return place < 0 || place(place, value);
    }

    /// Where the memory operand is, given the changes so far.
    private long target() {
        MachineState state = new Case(template.mode(), new byte[0], slot, 0, changes).initial();
        return Addressing.effective(template.mode(), i, state);
    }

    // Instructions that need a special state

    private boolean special() {
        return switch (i.op) {
            case SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD -> shiftCount();
            case DIV, IDIV -> dividend();
            case BT, BTS, BTR, BTC -> bitOffset();
            case MOVS, CMPS, STOS, LODS, SCAS -> string();
            case XLAT -> place(RBX, Layout.DATA + 0x100 - (long) segment());
            case ENTER -> enter();
            case LEAVE -> place(RBP, pointer(0x200 + random.nextInt(64)));
            case RET -> returnAddress();
            case JMP, CALL -> branchTarget();
            case JCC, LOOP, LOOPE, LOOPNE, JCXZ -> relative();
            case LDMXCSR -> memory(target(), random.nextInt(16) == 0 ? random.nextInt(0x20000) : random.nextInt(0x10000));
            case FXRSTOR -> memory(target() + 24, random.nextInt(0x10000));
            case XSAVE, XSAVEC -> place(RAX, random.nextInt(4)) & place(RDX, 0);
            case XRSTOR -> xrstor();
            case MASKMOVQ, MASKMOVDQU -> place(RDI, Layout.DATA + 0x100 + random.nextInt(64) - (long) segment());
            case PCMPESTRI, PCMPESTRM -> maybe(place(RAX, random.nextInt(-20, 21)), place(RDX, random.nextInt(-20, 21)));
            case CMPXCHG -> exchange();
            case CMPXCHG8B, CMPXCHG16B -> exchangePair();
            case BOUND -> random.nextBoolean() || memory(target(), random.nextLong());
            case INS, OUTS -> place(RSI, pointer(0x100)) | place(RDI, pointer(0x180));
            case MOV_SREG, LAR, LSL, VERR, VERW -> selectorOperand();
            case POP_SREG -> frame(new byte[] {(byte) segments.selector(), 0, 0, 0, 0, 0, 0, 0});
            case LDS, LES, LFS, LGS -> memory(target(), segments.pointer(template.mode(), i, random.nextInt()));
            case JMP_FAR, CALL_FAR -> farTarget();
            case RET_FAR -> farReturn();
            case IRET -> frame(segments.frame(template.mode(), i, nowhere()));
            default -> true;
        };
    }

    private boolean selectorOperand() {
        if (SegmentCases.takesMemory(i)) {
            return (i.kind0 == OperandKind.MEM && i.op == Op.MOV_SREG) || memory(target(), segments.selector());
        }
        int register = i.kind1 == OperandKind.GPR ? i.reg1 : i.reg0;
        return (i.kind0 == OperandKind.GPR && i.op == Op.MOV_SREG)
                || place(register, segments.selector() | ((long) random.nextInt() << 16));
    }

    /// The stack holds `frame`.
    private boolean frame(byte[] frame) {
        long stack = Layout.DATA + 0x180 + 8 * random.nextInt(16);
        for (int at = 0; at + 8 <= frame.length; at += 8) {
            long word = 0;
            for (int k = 0; k < 8; k++) {
                word |= (frame[at + k] & 0xFFL) << (8 * k);
            }
            memory(stack + at, word);
        }
        return place(RSP, stack - Layout.dataBase(template.mode()));
    }

    private boolean farReturn() {
        if (i.kind0 == OperandKind.IMM) {
            code[i.length - 2] = (byte) (8 * random.nextInt(8)); // AMD looks for an outer stack behind it before it checks CS
            code[i.length - 1] = 0;
        }
        return frame(segments.frame(template.mode(), i, nowhere()));
    }

    private boolean farTarget() {
        long pointer = segments.pointer(template.mode(), i, nowhere());
        if (SegmentCases.takesMemory(i)) {
            return memory(target(), pointer);
        }
        for (int k = 0; k < i.operandSize + 2; k++) {
            code[i.length - i.operandSize - 2 + k] = (byte) (pointer >> (8 * k));
        }
        return true;
    }

    /// The offset in DS of the byte at `at` of the data window.
    private long pointer(int at) {
        return Layout.DATA + at - Layout.dataBase(template.mode());
    }

    private int segment() {
        return (int) Addressing.segmentBase(template.mode(), i);
    }

    private static boolean maybe(boolean first, boolean second) {
        return first | second | true;
    }

    private boolean shiftCount() {
        int[] counts = {0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 255};
        place(RCX, random.nextInt(4) == 0 ? random.nextLong() : (random.nextLong() << 8) | counts[random.nextInt(counts.length)]);
        return true;
    }

    private boolean dividend() {
        if (random.nextInt(4) != 0 && placed.add(RDX)) {
            boolean negative = i.op == Op.IDIV && random.nextBoolean();
            long low = random.nextLong() >> random.nextInt(1, 60);
            low = negative ? low | Long.MIN_VALUE : low & Long.MAX_VALUE;
            long high = negative ? -1 : random.nextInt(8) == 0 ? random.nextInt(64) : 0;
            if (i.operandSize == 1) {
                low = random.nextInt(-3000, 3000);
            }
            changes.add(new Change(RDX, high));
            place(RAX, low);
        }
        return true;
    }

    private boolean bitOffset() {
        if (i.kind0 != OperandKind.MEM || i.kind1 != OperandKind.GPR) {
            return true;
        }
        return place(i.reg1, random.nextInt(-400, 400));
    }

    private boolean string() {
        boolean far = random.nextInt(30) == 0;
        boolean same = random.nextInt(3) == 0;
        long source = Layout.DATA + 0x100 + random.nextInt(64);
        long destination = same ? source : far ? Layout.DATA + Layout.DATA_BYTES - random.nextInt(40)
            : Layout.DATA + 0x100 + random.nextInt(0x180);
        place(RSI, register(source - segment()));
        place(RDI, register(destination - Layout.dataBase(template.mode())));
        place(RCX, register(random.nextInt(14)));
        if (random.nextInt(3) == 0 && i.op == Op.SCAS) {
            memory(destination & -8, 0x1111_1111_1111_1111L);
            place(RAX, 0x1111_1111_1111_1111L);
        }
        return place(Change.FLAGS, 0x202 | (random.nextInt(3) == 0 ? 0x400 : 0) | (random.nextInt() & 0x8D5));
    }

    /// An area in the standard or, sometimes, the compacted format; now and then one that is not valid.
    private boolean xrstor() {
        long area = target();
        memory(area + 24, random.nextInt(0x10000));
        memory(area + 512, random.nextInt(16) == 0 ? random.nextInt() : random.nextInt(4));
        memory(area + 520, random.nextInt(4) == 0 ? (1L << 63) | 3 : 0);
        for (int at = 528; at < XSAVE_SIZE; at += 8) {
            memory(area + at, random.nextInt(100) == 0 ? 1 : 0);
        }
        return place(RAX, random.nextInt(4)) & place(RDX, 0);
    }

    private boolean enter() {
        int at = i.length - 3;
        code[at] = (byte) (random.nextInt(8) * 8);
        code[at + 1] = 0;
        code[at + 2] = (byte) (random.nextInt(3) == 0 ? random.nextInt(32) : random.nextInt(3));
        return place(RSP, pointer(0x280 + random.nextInt(16))) & place(RBP, pointer(0x300 + random.nextInt(16)));
    }

    private long nowhere() {
        return template.mode() == CodeMode.BITS16 ? random.nextInt(0xF000, 0xFFF0) : NOWHERE + random.nextInt(0x1000_0000);
    }

    private boolean returnAddress() {
        long stack = Layout.DATA + 0x180 + random.nextInt(64);
        return place(RSP, stack - Layout.dataBase(template.mode())) && memory(stack, nowhere());
    }

    private boolean branchTarget() {
        return switch (i.kind0) {
            case REL -> relative();
            case GPR -> i.reg0 != RSP && place(i.reg0, nowhere());
            default -> memory(target(), nowhere());
        };
    }

    /// A short jump lands in its own slot, outside the instruction.
    private boolean relative() {
        if (i.op != Op.JMP && i.op != Op.CALL && i.op != Op.JCC) {
            place(RCX, random.nextInt(3) == 0 ? random.nextLong() : random.nextInt(3));
        }
        if (template.mode() == CodeMode.BITS16) {
            return relative16();
        }
        long target = i.length + i.imm;
        boolean near = target > -Layout.SLOT && target < Layout.SLOT;
        boolean inSlot = target >= -Layout.SLOT_START && target < Layout.SLOT - Layout.SLOT_START;
        boolean inCode = (i.imm > -Layout.CODE_SIZE && i.imm < Layout.CODE_SIZE)
            || (i.imm > Layout.DATA_PAGE - Layout.CODE - Layout.CODE_SIZE && i.imm < 0x4000_0000);
        boolean inside = target >= 0 && target < i.length;
        return near ? inSlot && !inside : !inCode;
    }

    private boolean relative16() {
        long start = (long) slot * Layout.SLOT + Layout.SLOT_START;
        long target = start + i.length + i.imm;
        long ip = i.operandSize == 2 ? target & 0xFFFF : target & 0xFFFF_FFFFL;
        boolean inside = ip >= start && ip < start + i.length;
        return !inside && (ip / Layout.SLOT == slot || ip >= 0xF000);
    }

    private boolean exchange() {
        if (random.nextBoolean()) {
            return true;
        }
        long value = random.nextLong() >> random.nextInt(64);
        place(RAX, value);
        if (i.kind0 == OperandKind.GPR) {
            place(i.reg0 & 15, value);
        } else {
            memory(target(), value);
        }
        return true;
    }

    private boolean exchangePair() {
        if (random.nextBoolean()) {
            return true;
        }
        long address = target();
        long low = random.nextLong();
        long high = random.nextLong();
        boolean wide = i.op == Op.CMPXCHG16B;
        place(RAX, wide ? low : low & 0xFFFF_FFFFL);
        place(RDX, wide ? high : low >>> 32);
        memory(address, low);
        if (wide) {
            memory(address + 8, high);
        }
        return true;
    }
}
