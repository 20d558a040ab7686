package cloister.vmm.fuzz;

import static cloister.isa.Operands.*;
import static cloister.vmm.fuzz.ProgramImage.*;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Op;
import cloister.isa.Operand;
import cloister.isa.Operand.Gpr;
import cloister.spec.x86.Msr;
import cloister.vmm.fuzz.GuestProgram.Piece;
import cloister.vmm.fuzz.GuestProgram.Start;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.function.BiConsumer;

/// Makes random programs. One seed, one program.
public final class ProgramGenerator {
    private static final Gpr[] WIDE = {RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15};
    private static final Gpr[] NARROW = {EAX, ECX, EDX, EBX, EBP, ESI, EDI};
    private static final long[] ADDRESSES = {PML4, PDPT, DIRECTORY, TABLE, GDT_GPA, TSS, IDT_GPA, ENTRY_GPA, COUNTER, DATA_AREA,
            DATA_AREA,
        DATA_AREA, STACK_TOP, PIECES, 0, 0x500, ODD_PAGES, ODD_PAGES | 0x1000, ODD_PAGES | 0x2000, ODD_PAGES | 0x3000, ODD_PAGES
                | 0x4000, ODD_PAGES | 0x5000,
        ODD_PAGES | 0x6000, ODD_PAGES | 0x7000, ODD_PAGES | 0x8000, ODD_PAGES | 0x9000, ODD_PAGES | 0xa000, 0x1ff000, 0x200000,
                0x100000, 0xa0000, 0xb8000,
        0x40000000, 0xc0000000L, 0xe0000000L, 0xfec00000L, 0xfec00010L, 0xfed00000L, 0xfee00000L, 0xfee00020L, 0xfee000b0L,
                0xfee00300L, 0xfee00380L, 0xfee00320L,
        0xfffff000L, 0xffffffffL, 0x100000000L, SHARED_WINDOW, SHARED_WINDOW | 0x100000, SHARED_WINDOW | 0xc0000000L, 1L << 39,
                1L << 47, -1L << 47, -1L,
        1L << 63};
    /// So many of [#ADDRESSES] are in the initial image.
    private static final int ADDED = 14;
    private static final long[] NUMBERS = {0, 1, 2, 3, 4, 8, 0x10, 0x20, 0x3f, 0x40, 0x80, 0xff, 0x100, 0x1ff, 0x200, 0xfff, 0x1000,
            0x1fff, 0x8000, 0xffff,
        0x10000, 0x200000, 0x7fffffff, 0x80000000L, 0xffffffffL, 1L << 32, 1L << 47, 1L << 52, 1L << 62, Long.MAX_VALUE,
                Long.MIN_VALUE, -1, -2, -0x1000};
    private static final int[] PORTS = {0x20, 0x21, 0x40, 0x43, 0x60, 0x61, 0x64, 0x70, 0x71, 0x80, 0x92, 0xa0, 0xb2, 0x2f8, 0x3f8,
            0x3f9, 0x3fa, 0x3fb, 0x3fc,
        0x3fd, 0x402, 0x4d0, 0x510, 0x511, 0x514, 0x600, 0x608, 0xcf8, 0xcf9, 0xcfc, 0xcfe, 0xffff};
    private static final int[] MSRS = {0x10, 0x11, 0x17, Msr.IA32_APIC_BASE, 0x34, 0x3a, 0x3b, 0x48, 0x49, 0x79, 0x8b, 0xc1, 0xcd,
            0xce, 0xcf, 0xe1, 0xe7, 0xfe, 0x10a, 0x10b, 0x122,
        0x123, 0x140, 0x174, 0x175, 0x176, 0x179, 0x17a, 0x17b, 0x186, 0x198, 0x1a0, 0x1a6, 0x1b0, 0x1c4, 0x1c5, 0x1c8, 0x1c9, 0x1d9,
                0x1db, 0x1dd, 0x1f2,
        0x200, 0x201, 0x20f, 0x250, 0x258, 0x26f, 0x277, 0x280, 0x2ff, 0x309, 0x30a, 0x345, 0x38d, 0x38e, 0x38f, 0x390, 0x3f1, 0x400,
                0x401, 0x480, 0x48b, 0x4c1, 0x560,
        0x570, 0x600, 0x6a0, 0x6a2, 0x6a4, 0x6a8, 0x6e0, 0x6e1, 0x800, 0x802, 0x803, 0x808, 0x80b, 0x80d, 0x80f, 0x820, 0x828, 0x82f,
                0x830, 0x832, 0x835, 0x838, 0x83e, 0x83f,
        0x985, 0xda0, 0xdb0, 0xd90, 0x1200, 0x14ce, 0xc0000080, 0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100,
                0xc0000101, 0xc0000102, 0xc0000103,
        0xc0010015, 0x4b564d00, 0x4b564d01, 0x4b564d02, 0x4b564d03, 0x4b564d04, 0x4b564d05, 0x40000000, 0x40000001, 0x40000020};
    private static final int[] VMCALLS = {0x10000, 0x10001, 0x10001, 0x10001, 0x10002, 0x10003, 0x10004, 0x10005, 0x20001, 10, 12, 30,
            30, 31, 32, 36, 48, 65, 1, 2, 16, 18, 28, 55};
    private static final int[] SELECTORS = {0, 1, 3, CODE32, CODE64, DATA, USER_CODE64, USER_DATA, USER_CODE32, TASK64, TASK32,
            OTHER_TASK32, CODE16, TASK_GATE, CALL_GATE, 0x78, 0x80, 0xf8,
        0x100, 0xfff8, 0x1c, 0x14};

    private final SplittableRandom random;
    private final Start start;
    private final InstructionPool pool;
    private final boolean wide;

    /// @param pool of the mode in which `start` runs
    private ProgramGenerator(long seed, Start start, InstructionPool pool) {
        this.random = new SplittableRandom(seed);
        this.start = start;
        this.pool = pool;
        this.wide = start.isTd() || start == Start.LONG;
    }

    /// The pools of the modes, made once for many programs.
    public static final class Pools {
        private final InstructionPool long64 = new InstructionPool(CodeMode.BITS64);
        private final InstructionPool protected32 = new InstructionPool(CodeMode.BITS32);
        private final InstructionPool real16 = new InstructionPool(CodeMode.BITS16);

        private InstructionPool of(Start start) {
            return switch (start) {
                case TD, TD_VE, LONG -> long64;
                case PROTECTED -> protected32;
                case REAL -> real16;
            };
        }
    }

    /// The program of `seed`.
    public static GuestProgram program(long seed, Start start, Pools pools) {
        return new ProgramGenerator(seed, start, pools.of(start)).program();
    }

    private record Kind(String name, int weight, BiConsumer<ProgramGenerator, Assembler> code) {
    }

    private static final List<Kind> KINDS = List.of(
        new Kind("instruction", 8, ProgramGenerator::instruction),
        new Kind("memory", 8, ProgramGenerator::memoryInstruction),
        new Kind("bytes", 3, ProgramGenerator::rawBytes),
        new Kind("port", 3, ProgramGenerator::port),
        new Kind("string-io", 5, ProgramGenerator::stringIo),
        new Kind("string", 4, ProgramGenerator::string),
        new Kind("msr", 6, ProgramGenerator::msr),
        new Kind("tdcall", 6, ProgramGenerator::tdcall),
        new Kind("vmcall", 5, ProgramGenerator::vmcall),
        new Kind("map-gpa", 4, ProgramGenerator::mapGpa),
        new Kind("accept", 4, ProgramGenerator::accept),
        new Kind("page-table", 5, ProgramGenerator::pageTable),
        new Kind("segment", 4, ProgramGenerator::segment),
        new Kind("far", 4, ProgramGenerator::farTransfer),
        new Kind("tables", 3, ProgramGenerator::tables),
        new Kind("interrupt", 3, ProgramGenerator::interrupt),
        new Kind("apic", 5, ProgramGenerator::apic),
        new Kind("control", 5, ProgramGenerator::controlRegister),
        new Kind("debug", 3, ProgramGenerator::debugRegister),
        new Kind("self", 2, ProgramGenerator::selfModifying),
        new Kind("wait", 3, ProgramGenerator::waiting),
        new Kind("cpuid", 2, ProgramGenerator::cpuid),
        new Kind("user", 3, ProgramGenerator::user),
        new Kind("stack", 3, ProgramGenerator::stack),
        new Kind("flags", 2, ProgramGenerator::flags));
    private static final int TOTAL_WEIGHT = KINDS.stream().mapToInt(Kind::weight).sum();

    private GuestProgram program() {
        int count = random.nextInt(3, MAX_PIECES / 2);
        var pieces = new ArrayList<Piece>();
        while (pieces.size() < count) {
            var kind = kind();
            var code = new Assembler(start == Start.REAL ? CodeMode.BITS16 : wide ? CodeMode.BITS64 : CodeMode.BITS32, PIECES);
            if (start == Start.REAL) {
                realPiece(code);
            } else {
                kind.code.accept(this, code);
            }
            byte[] bytes = code.assemble();
            if (bytes.length <= PIECE_BYTES) {
                pieces.add(new Piece(start == Start.REAL ? "real" : kind.name, bytes));
            }
        }
        return new GuestProgram(start, List.copyOf(pieces));
    }

    private Kind kind() {
        int n = random.nextInt(TOTAL_WEIGHT);
        for (var kind : KINDS) {
            n -= kind.weight;
            if (n < 0) {
                return kind;
            }
        }
        throw new IllegalStateException("weights");
    }

    // --- values

    private boolean one(int in) {
        return random.nextInt(in) == 0;
    }

    private long pick(long[] from) {
        return from[random.nextInt(from.length)];
    }

    private int pick(int[] from) {
        return from[random.nextInt(from.length)];
    }

    private long address() {
        // Most of a trust domain's addresses should be accepted memory: the others end it.
        long base = start == Start.TD && !one(8) ? ADDRESSES[random.nextInt(ADDED)] : pick(ADDRESSES);
        long a = switch (random.nextInt(6)) {
            case 0 -> base + random.nextInt(0x1000);
            case 1 -> base + 0x1000 - random.nextInt(1, 17);
            case 2 -> base - random.nextInt(1, 17);
            case 3 -> base + (random.nextInt(0x200) << 3);
            default -> base;
        };
        return wide ? a : a & 0xffff_ffffL;
    }

    private long number() {
        return switch (random.nextInt(5)) {
            case 0 -> random.nextLong();
            case 1 -> random.nextInt(0x10000);
            case 2 -> address();
            case 3 -> 1L << random.nextInt(64);
            default -> pick(NUMBERS);
        };
    }

    private void set(Assembler code, Gpr register, long value) {
        if (wide) {
            code.mov(WIDE[indexOf(register)], value);
        } else {
            code.mov(NARROW[indexOf(register)], (int) value & 0xffff_ffffL);
        }
    }

    private static int indexOf(Gpr register) {
        for (int n = 0; n < WIDE.length; n++) {
            if (WIDE[n].number() == register.number()) {
                return n;
            }
        }
        throw new IllegalArgumentException(register.toString());
    }

    private Gpr register(Gpr wideName) {
        return wide ? wideName : NARROW[indexOf(wideName)];
    }

    private void randomRegister(Assembler code) {
        Gpr register = wide ? WIDE[random.nextInt(WIDE.length)] : NARROW[random.nextInt(NARROW.length)];
        set(code, register, number());
    }

    // --- pieces

    private void instruction(Assembler code) {
        randomRegister(code);
        randomRegister(code);
        code.bytes(pool.next(random));
    }

    private void memoryInstruction(Assembler code) {
        set(code, RBX, address());
        if (one(2)) {
            randomRegister(code);
        }
        if (one(8)) {
            code.db(0xF0);
        }
        code.bytes(pool.nextWithMemory(random));
    }

    private void rawBytes(Assembler code) {
        for (int n = random.nextInt(1, 20); n > 0; n--) {
            code.db(random.nextInt(256));
        }
    }

    private void port(Assembler code) {
        set(code, RDX, one(4) ? random.nextInt(0x10000) : pick(PORTS));
        set(code, RAX, number());
        int form = random.nextInt(6);
        if (form % 3 == 1) {
            code.db(0x66);
        }
        code.db(one(4) ? new int[] {0xE4 + random.nextInt(4), random.nextInt(256)} : new int[] {(form < 3 ? 0xEC
                : 0xEE) + (form % 3 == 0 ? 0 : 1)});
    }

    private void stringIo(Assembler code) {
        set(code, RDX, one(4) ? random.nextInt(0x10000) : pick(PORTS));
        set(code, one(2) ? RSI : RDI, address());
        set(code, RSI, address());
        set(code, RDI, address());
        set(code, RCX, one(3) ? number() : random.nextInt(20));
        code.db(one(3) ? 0xFD : 0xFC);
        stringPrefixes(code);
        code.db(0x6C + random.nextInt(4));
    }

    private void stringPrefixes(Assembler code) {
        if (one(3)) {
            code.db(0x66);
        }
        if (one(6)) {
            code.db(0x67);
        }
        if (one(8)) {
            code.db(0x64 + random.nextInt(2));
        }
        if (!one(3)) {
            code.db(0xF2 + random.nextInt(2));
        }
    }

    private void string(Assembler code) {
        set(code, RSI, address());
        set(code, RDI, address());
        set(code, RCX, one(8) ? number() : random.nextInt(40));
        code.db(one(3) ? 0xFD : 0xFC);
        stringPrefixes(code);
        code.db(new int[] {0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF}[random.nextInt(10)]);
    }

    private void msr(Assembler code) {
        set(code, RCX, one(4) ? random.nextInt(0x2000) : one(8) ? random.nextInt() : pick(MSRS));
        if (one(3)) {
            code.rdmsr();
            if (one(2)) {
                code.op(Op.XOR, EAX, imm(1 << random.nextInt(31))).wrmsr();
            }
            return;
        }
        long value = number();
        set(code, RAX, value & 0xffff_ffffL);
        set(code, RDX, one(3) ? 0 : value >>> 32);
        code.wrmsr();
    }

    private void tdcall(Assembler code) {
        long leaf = random.nextInt(32);
        set(code, RAX, one(8) ? number() : one(8) ? leaf | ((long) random.nextInt(4) << 16) : leaf);
        for (var register : new Gpr[] {RCX, RDX, R8, R9}) {
            if (wide || indexOf(register) < NARROW.length) {
                set(code, register, one(3) ? number() : address());
            }
        }
        code.tdcall();
    }

    private void vmcall(Assembler code) {
        if (!start.isTd() || one(6)) {
            set(code, RAX, random.nextInt(14));
            set(code, RBX, address());
            set(code, RCX, number());
            set(code, RDX, number());
            if (wide) {
                set(code, RSI, one(2) ? 0x10 : number());
            }
            code.vmcall();
            return;
        }
        set(code, RCX, one(4) ? number() & 0xffffL : 0xfc00);
        code.mov(R10D, one(6) ? random.nextInt(16) : 0);
        code.mov(R11D, one(6) ? random.nextInt() & 0xffffffffL : pick(VMCALLS));
        code.mov(R12, one(3) ? number() : one(2) ? pick(new int[] {1, 2, 4}) : address());
        code.mov(R13, one(2) ? number() : random.nextInt(3));
        code.mov(R14D, one(2) ? pick(PORTS) : random.nextInt(0x10000));
        code.xor(EAX, EAX).tdcall();
    }

    private void mapGpa(Assembler code) {
        long gpa = address();
        if (!wide) {
            vmcall(code);
            return;
        }
        gpa = one(5) ? gpa : gpa & -0x1000;
        gpa = one(2) ? gpa | SHARED : gpa;
        long size = one(4) ? number() : (long) random.nextInt(1, 20) << 12;
        if (start.isTd()) {
            code.mov(R12, gpa).mov(R13, size).xor(R10D, R10D).mov(R11D, 0x10001).mov(ECX, 0xfc00).xor(EAX, EAX).tdcall();
        } else {
            code.mov(EAX, 12).mov(RBX, gpa).mov(RCX, size).mov(EDX, random.nextInt(32)).vmcall();
        }
    }

    private void accept(Assembler code) {
        long gpa = address() & -0x1000;
        set(code, RCX, gpa | (one(3) ? random.nextInt(8) : 0));
        set(code, RDX, one(6) ? number() : 0);
        set(code, RAX, 6);
        code.tdcall();
        if (one(2)) {
            set(code, RBX, gpa);
            code.op(Op.ADD, dwordAt(mem(register(RBX))), EAX);
        }
    }

    private void pageTable(Assembler code) {
        long table = pick(new long[] {PML4, PDPT, DIRECTORY, TABLE, TABLE, TABLE});
        int index = one(2) ? random.nextInt(4) : table == TABLE ? 0x1f0 + random.nextInt(16) : random.nextInt(512);
        long target = one(3) ? number() : address() & -0x1000;
        long entry = (target & 0x000f_ffff_ffff_f000L) | (random.nextInt(0x1000) & (one(3) ? 0xfff : 0x87)) | (one(3) ? 0 : 7)
                | (one(6) ? 1L << 63 : 0);
        set(code, RBX, table + 8L * index);
        if (wide) {
            code.mov(RAX, entry).mov(mem(RBX), RAX);
            if (!one(3)) {
                code.mov(RAX, CR3).mov(CR3, RAX);
            }
            long linear = table == PML4 ? (long) index << 39 : table == PDPT ? (long) index << 30 : table == DIRECTORY
                    ? (long) index << 21 : (long) index << 12;
            linear = linear << 16 >> 16;
            code.mov(RSI, linear + (one(2) ? 0 : random.nextInt(0x1000)));
            code.bytes(new byte[][] {{(byte) 0x8B, 0x06}, {(byte) 0x89, 0x06}, {(byte) 0xFF, 0x06}, {(byte) 0xFF,
                    (byte) 0xE6}}[random.nextInt(4)]);
        } else {
            code.mov(EAX, (int) entry & 0xffff_ffffL).mov(mem(EBX), EAX);
        }
    }

    private void segment(Assembler code) {
        set(code, RAX, one(4) ? random.nextInt(0x10000) : pick(SELECTORS));
        switch (random.nextInt(5)) {
            case 0 -> code.op(Op.LLDT, AX);
            case 1 -> code.op(Op.LTR, AX);
            case 2 -> code.db(0x0F, random.nextInt(4), 0xC0 | random.nextInt(64));
            default -> code.db(0x8E, 0xC0 | (random.nextInt(8) << 3));
        }
    }

    /// Far jumps, calls and returns, task switches among them.
    private void farTransfer(Assembler code) {
        int selector = one(4) ? random.nextInt(0x10000) : pick(SELECTORS);
        long target = one(3) ? address() : PIECES + 96L * random.nextInt(MAX_PIECES / 2);
        set(code, RBX, DATA_AREA + random.nextInt(64));
        if (!wide && one(2)) {
            code.db(one(2) ? 0xEA : 0x9A).dd((int) target).dw(selector);
            return;
        }
        code.mov(dwordAt(mem(register(RBX))), (int) target).mov(wordAt(mem(register(RBX), 4)), selector);
        switch (random.nextInt(4)) {
            case 0 -> code.push(selector).push((int) target).retFar(wide ? 8 : 4);
            case 1 -> code.push(one(2) ? DATA : random.nextInt(0x100)).push((int) STACK_TOP).push((int) number() & 0x3ffff).push(selector)
                .push((int) target).iret(wide ? 8 : 4);
            default -> code.db(0xFF, one(2) ? 0x2B : 0x1B);
        }
    }

    private void tables(Assembler code) {
        set(code, RBX, DATA_AREA);
        Operand limit = wordAt(mem(register(RBX)));
        long base = one(2) ? pick(new long[] {GDT_GPA, IDT_GPA}) : address();
        code.mov(limit, one(2) ? 0xfff : random.nextInt(0x10000));
        set(code, RAX, base);
        code.mov(mem(register(RBX), 2), register(RAX));
        if (one(3)) { // an entry instead of the table
            set(code, RBX, GDT_GPA + 8L * random.nextInt(32) + (one(2) ? IDT_GPA - GDT_GPA : 0));
            set(code, RAX, number());
            code.mov(mem(register(RBX)), register(RAX));
            return;
        }
        code.db(0x0F, 0x01, one(2) ? 0x13 : 0x1B);
    }

    private void interrupt(Assembler code) {
        switch (random.nextInt(5)) {
            case 0 -> code.db(0xCC);
            case 1 -> code.db(0xF1);
            case 2 -> code.db(0x0F, new int[] {0x0B, 0xB9, 0xFF}[random.nextInt(3)], 0xC0);
            default -> code.db(0xCD, one(2) ? random.nextInt(256) : new int[] {2, 3, 4, 8, 0x43, 0x45}[random.nextInt(6)]);
        }
    }

    private void apic(Assembler code) {
        int offset = one(3) ? random.nextInt(0x400) & -4 : new int[] {0x20, 0x80, 0xb0, 0xd0, 0xe0, 0xf0, 0x280, 0x300, 0x310, 0x320,
                0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0,
            0x3f0}[random.nextInt(17)];
        long value = one(3) ? number() : pick(new long[] {0, 0x1ff, 0x100ff, 0x40030, 0x20030, 0x4500, 0xc4500, 0x4600, 0x600, 0x4030,
                0x400, 0x30, 0x700, 100, 0xb});
        if (one(2)) {
            set(code, RBX, 0xfee00000L + offset);
            set(code, RAX, value);
            code.bytes(new byte[][] {{(byte) 0x89, 0x03}, {(byte) 0x8B, 0x03}, {(byte) 0x87, 0x03}, {0x48, (byte) 0x89, 0x03},
                    {(byte) 0x88, 0x03}, {0x31, 0x03}}[random.nextInt(6)]);
            return;
        }
        if (one(6)) {
            set(code, RCX, Msr.IA32_APIC_BASE);
            set(code, RAX, pick(new long[] {0xfee00900L, 0xfee00800L, 0xfee00d00L, 0xfee00c00L, 0xfee00000L, 0x8900L, 0xc0000900L}));
            set(code, RDX, 0);
            code.wrmsr();
            return;
        }
        set(code, RCX, 0x800 + (offset >> 4));
        set(code, RAX, value & 0xffff_ffffL);
        set(code, RDX, one(4) ? value >>> 32 : 0);
        code.bytes(new byte[][] {{0x0F, 0x30}, {0x0F, 0x32}}[random.nextInt(2)]);
    }

    private void controlRegister(Assembler code) {
        int number = new int[] {0, 2, 3, 4, 8}[random.nextInt(wide ? 5 : 4)];
        Operand register = new Operand[] {CR0, CR2, CR3, CR4, CR8}[number == 8 ? 4 : number == 0 ? 0 : number - 1];
        if (one(8)) {
            set(code, RCX, one(4) ? random.nextInt(3) : 0);
            set(code, RAX, number() & 0xfff);
            set(code, RDX, 0);
            code.xsetbv();
            return;
        }
        if (one(8)) {
            set(code, RAX, number());
            code.db(0x0F, 0x01, one(2) ? 0xF0 : 0xE0);
            return;
        }
        Gpr rax = register(RAX);
        if (one(3)) {
            set(code, RAX, number());
        } else {
            code.mov(rax, register);
            set(code, RBX, 1L << random.nextInt(number == 0 ? 32 : 26));
            code.op(Op.XOR, rax, register(RBX));
        }
        code.mov(register, rax);
    }

    private void debugRegister(Assembler code) {
        set(code, RAX, address());
        code.db(0x0F, 0x23, 0xC0 | (random.nextInt(4) << 3));
        set(code, RAX, one(3) ? number() : 0x400 | random.nextInt(1 << 30));
        code.db(0x0F, 0x23, one(3) ? 0xF0 : 0xF8);
        if (one(2)) {
            code.bytes(new byte[] {(byte) 0x8B, 0x03, 0x0F, 0x21, (byte) 0xF0});
        }
    }

    private void selfModifying(Assembler code) {
        set(code, RBX, PIECES + random.nextInt(96 * MAX_PIECES / 2));
        set(code, RAX, number());
        code.bytes(new byte[][] {{(byte) 0x88, 0x03}, {(byte) 0x89, 0x03}, {0x48, (byte) 0x89, 0x03}}[random.nextInt(wide ? 3 : 2)]);
    }

    private void waiting(Assembler code) {
        switch (random.nextInt(6)) {
            case 0 -> code.hlt();
            case 1 -> code.sti().hlt();
            case 2 -> code.cli().hlt();
            case 3 -> {
                set(code, RAX, address());
                set(code, RCX, random.nextInt(2));
                set(code, RDX, 0);
                code.monitor().xor(EAX, EAX).mwait();
            }
            case 4 -> {
                set(code, RAX, number());
                set(code, RDX, 0);
                code.db(0x66, 0x0F, 0xAE, 0xF0);
            }
            default -> {
                code.mov(ECX, random.nextInt(1, 2000));
                var again = code.label();
                code.label(again).pause().dec(ECX).jcc(Condition.NE, again);
            }
        }
    }

    private void cpuid(Assembler code) {
        set(code, RAX, one(2) ? random.nextInt(0x24) : pick(new long[] {0x40000000, 0x40000001, 0x40000010, 0x80000000L, 0x80000001L,
                0x80000008L, 0x21, 0xffffffffL}));
        set(code, RCX, one(2) ? 0 : number());
        code.cpuid();
    }

    /// To CPL 3, where the next piece runs.
    private void user(Assembler code) {
        var after = code.label();
        boolean compatible = one(3);
        if (wide) {
            code.lea(RAX, after).push(USER_DATA).push((int) STACK_TOP).push(0x202).push(compatible ? USER_CODE32
                    : USER_CODE64).push(RAX).iret(8);
        } else {
            code.push(USER_DATA).push((int) STACK_TOP).push(0x202 | (one(4) ? 0x3000
                    : 0)).push(USER_CODE32).push((int) PIECES + 96 * random.nextInt(10)).iret(4);
        }
        code.label(after).bytes(pool.next(random));
    }

    private void stack(Assembler code) {
        long address = address();
        if (wide) {
            code.mov(RSP, address);
        } else {
            code.mov(ESP, (int) address & 0xffff_ffffL);
        }
        code.bytes(new byte[][] {{0x50}, {0x58}, {(byte) 0xCF}, {(byte) 0xC3}, {(byte) 0xCB}, {(byte) 0xC8, 8, 0, 3}, {(byte) 0xC9},
                {(byte) 0x9C, (byte) 0x9D}, {(byte) 0xE8, 0, 0, 0, 0},
            {(byte) 0xCC}, {(byte) 0xFF, 0x34, 0x24}}[random.nextInt(11)]);
    }

    private void flags(Assembler code) {
        code.push((int) number() & 0x3f7fff).popf().nop().nop();
        if (one(2)) {
            code.bytes(pool.next(random));
        }
    }

    /// 16-bit code.
    private void realPiece(Assembler code) {
        if (one(3)) {
            code.db(0xB8 | random.nextInt(8)).dw(one(2) ? random.nextInt(0x10000) : 0xffff - random.nextInt(4));
        }
        switch (random.nextInt(8)) {
            case 0 -> code.db(0x8E, 0xC0 | (random.nextInt(6) << 3));
            case 1 -> code.db(0xBA).dw(pick(PORTS)).db(0xEC + random.nextInt(4));
            case 2 -> code.db(0xBA).dw(pick(PORTS)).db(0xF3, 0x6C + random.nextInt(4));
            case 3 -> code.db(0x66, 0xB8).dd((int) number()).db(0x0F, 0x22, 0xC0);
            case 4 -> rawBytes(code);
            case 5 -> code.db(0xCD, random.nextInt(256));
            default -> code.bytes(pool.next(random));
        }
    }
}
