package cloister.vmm.fuzz;

import static cloister.isa.Operands.*;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.isa.Op;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/// Where a program of the fuzzer stands in guest memory, with what it needs around it: page tables with odd entries, descriptor tables,
/// handlers of all vectors that go on with the next piece, and an end that powers the guest off.
///
/// | from | what |
/// |---|---|
/// | 0x1000 | PML4, PDPT, page directory, page table of the first 2 MiB |
/// | 0x5000 | GDT, TSS, 32-bit TSS |
/// | 0x6000 | IDT |
/// | 0x7000 | handlers and the way into the program |
/// | 0x8000 | data: the counter of pieces, then what the pieces like |
/// | 0x9000 | stacks |
/// | 0x10000 | the pieces |
/// | 0x1F0000 | pages with odd entries |
/// | 0xFFFFF000 | the reset vector of a trust domain |
public final class ProgramImage {
    /// Longest code of a piece.
    public static final int PIECE_BYTES = 80;
    /// Most pieces of a program.
    public static final int MAX_PIECES = 40;
    /// Where an ordinary VM in 64-bit mode is entered.
    public static final long ENTRY_GPA = 0x7000;
    /// Where an ordinary VM in real-address mode is entered, in segment 0x1000.
    public static final int REAL_SEGMENT = 0x1000;
    /// GDT, for ordinary VMs that start in protected mode.
    public static final long GDT_GPA = 0x5000;
    public static final int GDT_LIMIT = 0xff;
    public static final long IDT_GPA = 0x6000;
    /// Selectors.
    public static final int CODE64 = 0x10, DATA = 0x18, CODE32 = 0x08, USER_CODE64 = 0x33, USER_DATA = 0x2b, USER_CODE32 = 0x23,
        TASK64 = 0x40, TASK32 = 0x50, OTHER_TASK32 = 0x58, CODE16 = 0x60, TASK_GATE = 0x68, CALL_GATE = 0x70;

    /// The task that an ordinary VM in protected mode starts in.
    public static final long TASK32_BASE = 0x5300;

    static final long PML4 = 0x1000, PDPT = 0x2000, DIRECTORY = 0x3000, TABLE = 0x4000, TSS = 0x5200, TSS32 = 0x5300, OTHER_TSS32 = 0x5400;
    static final long COUNTER = 0x8000, DATA_AREA = 0x8100, STACK_TOP = 0x9800, EXCEPTION_STACK_TOP = 0xa000;
    static final long PIECES = 0x10000;
    static final long ODD_PAGES = 0x1f0000;
    /// The window of the shared half of the guest's physical address space, at its own linear address.
    static final long SHARED_WINDOW = 1L << 38;
    /// A trust domain's SHARED bit with GPAW 48.
    static final long SHARED = 1L << 47;
    private static final long RESET_PAGE = 0xfffff000L, RESET_VECTOR = 0xfffffff0L;

    private static final int SLOT = 96;
    private static final int SLOTS = 64;
    private static final int NOP = 0x90;
    private static final int GATE = 0x8e, GATE_FOR_ALL = 0xee, TRAP_GATE_FOR_ALL = 0xef;
    private static final long PRESENT = 1, WRITABLE = 2, USER = 4, LARGE = 1 << 7, NX = 1L << 63, ALL = PRESENT | WRITABLE | USER;
    private static final int POWER_OFF = 0x3400;
    private static final int VEINFO_GET = 3;

    /// Bytes of guest memory.
    ///
    /// @param gpa a multiple of 4096
    public record Part(long gpa, byte[] bytes) {
    }

    private final GuestProgram program;
    private final int powerOffPort;
    private final Assembler way = new Assembler(CodeMode.BITS64, ENTRY_GPA);
    private Label handler;
    private Label handler32;

    private ProgramImage(GuestProgram program, int powerOffPort) {
        this.program = program;
        this.powerOffPort = powerOffPort;
    }

    /// The image of `program`.
    ///
    /// @param powerOffPort the port that turns the machine off with 0x3400
    public static List<Part> of(GuestProgram program, int powerOffPort) {
        return new ProgramImage(program, powerOffPort).parts();
    }

    private List<Part> parts() {
        var parts = new ArrayList<Part>();
        if (program.start() == GuestProgram.Start.REAL) {
            var code = ByteBuffer.allocate(0x2000);
            program.pieces().forEach(piece -> code.put(piece.code()));
            parts.add(new Part(REAL_SEGMENT << 4, code.array()));
            return parts;
        }
        byte[] entry = way();
        parts.add(new Part(PML4, pageTables()));
        parts.add(new Part(GDT_GPA, descriptors()));
        parts.add(new Part(IDT_GPA, program.start() == GuestProgram.Start.PROTECTED ? gates32() : gates()));
        parts.add(new Part(ENTRY_GPA, entry));
        parts.add(new Part(COUNTER, new byte[0x2000]));
        parts.add(new Part(PIECES, pieces()));
        if (program.start().isTd()) {
            parts.add(new Part(RESET_PAGE, resetPage()));
        }
        return parts;
    }

    /// The first 2 MiB in pages of 4 KiB with some odd ones, the first GiB in pages of 2 MiB, then pages of 1 GiB, of which one has the
    /// SHARED bit.
    private byte[] pageTables() {
        var tables = ByteBuffer.allocate(0x4000).order(ByteOrder.LITTLE_ENDIAN);
        tables.putLong(0, PDPT | ALL);
        tables.putLong(0x1000, DIRECTORY | ALL);
        for (int n = 1; n < 512; n++) {
            tables.putLong(0x1000 + 8 * n, ((long) n << 30) | LARGE | ALL);
            tables.putLong(0x2000 + 8 * n, ((long) n << 21) | LARGE | ALL);
            tables.putLong(0x3000 + 8 * n, ((long) n << 12) | ALL);
        }
        tables.putLong(0x3000, ALL);
        tables.putLong(0x1000 + 8 * 256, SHARED | LARGE | ALL);
        tables.putLong(0x2000, TABLE | ALL);
        int odd = 0x3000 + 8 * (int) (ODD_PAGES >> 12);
        tables.putLong(odd, 0);
        tables.putLong(odd + 8, ODD_PAGES | 0x1000 | PRESENT | USER);
        tables.putLong(odd + 16, ODD_PAGES | 0x2000 | ALL | NX);
        tables.putLong(odd + 24, ODD_PAGES | 0x3000 | PRESENT | WRITABLE);
        tables.putLong(odd + 32, ODD_PAGES | 0x4000 | ALL | (1L << 51));
        tables.putLong(odd + 40, 0xc0000000L | ALL);
        tables.putLong(odd + 48, (1L << 50) | ALL);
        tables.putLong(odd + 56, SHARED | ODD_PAGES | 0x7000 | ALL);
        tables.putLong(odd + 64, PIECES | ALL);
        tables.putLong(odd + 72, 0xfee00000L | ALL);
        tables.putLong(odd + 80, PML4 | ALL);
        return tables.array();
    }

    private byte[] descriptors() {
        var page = ByteBuffer.allocate(0x1000).order(ByteOrder.LITTLE_ENDIAN);
        long[] gdt = {0, 0x00cf9b000000ffffL, 0x00af9b000000ffffL, 0x00cf93000000ffffL, 0x00cffb000000ffffL, 0x00cff3000000ffffL,
            0x00affb000000ffffL, 0x00cff7000000ffffL, system(TSS, 0x67, 0x89), 0, system(TSS32, 0x67, 0x89),
            system(OTHER_TSS32, 0x67, 0x89),
            0x00009b010000ffffL, ((long) OTHER_TASK32 << 16) | 0x0000e500_0000_0000L, ((long) CODE32 << 16) | 0x0000ec00_0000_7100L, 0};
        for (int n = 0; n < gdt.length; n++) {
            page.putLong(8 * n, gdt[n]);
        }
        int tss = (int) (TSS - GDT_GPA);
        page.putLong(tss + 4, STACK_TOP).putLong(tss + 0x24, EXCEPTION_STACK_TOP).putShort(tss + 0x66, (short) 0x68);
        for (long at : new long[] {TSS32, OTHER_TSS32}) {
            int task = (int) (at - GDT_GPA);
            page.putInt(task + 4, (int) STACK_TOP).putInt(task + 8, DATA).putShort(task + 0x66, (short) 0x68);
            page.putInt(task + 0x1c, (int) PML4).putInt(task + 0x20, handler32 == null ? (int) PIECES : (int) handler32.address());
            page.putInt(task + 0x24, 2).putInt(task + 0x38, (int) STACK_TOP);
            for (int segment = 0; segment < 6; segment++) {
                page.putInt(task + 0x48 + 4 * segment, segment == 1 ? CODE32 : DATA);
            }
        }
        return page.array();
    }

    private static long system(long base, int limit, int type) {
        return limit | (base << 16) | ((long) type << 40);
    }

    private byte[] gates() {
        var page = ByteBuffer.allocate(0x1000).order(ByteOrder.LITTLE_ENDIAN);
        long at = handler.address();
        for (int vector = 0; vector < 256; vector++) {
            long type = vector % 8 == 3 ? GATE_FOR_ALL : vector % 8 == 4 ? TRAP_GATE_FOR_ALL : GATE;
            page.putLong(16 * vector, (at & 0xffff) | (CODE64 << 16) | (1L << 32) | (type << 40) | ((at >>> 16) << 48));
        }
        return page.array();
    }

    private byte[] gates32() {
        var page = ByteBuffer.allocate(0x1000).order(ByteOrder.LITTLE_ENDIAN);
        long at = handler32.address();
        for (int vector = 0; vector < 256; vector++) {
            long type = vector % 8 == 3 ? GATE_FOR_ALL : GATE;
            boolean task = vector == 8 || vector == 0x45;
            page.putLong(8 * vector, task ? ((long) OTHER_TASK32 << 16) | 0x0000e500_0000_0000L
                : (at & 0xffff) | (CODE32 << 16) | (type << 40) | ((at >>> 16) << 48));
        }
        return page.array();
    }

    /// The way into the program in 64-bit and protected mode, and the handlers.
    private byte[] way() {
        handler = way.label();
        handler32 = way.label();
        var tables = way.label();
        var interrupts = way.label();
        way.mov(EAX, PML4).mov(CR3, RAX).lgdt(rip(tables));
        way.lidt(rip(interrupts));
        way.mov(EAX, DATA).mov(DS, EAX).mov(ES, EAX).mov(SS, EAX).mov(EAX, TASK64).op(Op.LTR, AX).xor(EAX, EAX);
        way.label(handler).mov(RSP, EXCEPTION_STACK_TOP - 0x100);
        if (program.start().isTd()) {
            way.mov(EAX, VEINFO_GET).tdcall(); // else the next #VE becomes a double fault
        }
        next();
        way.push(DATA).push(STACK_TOP).push(2).push(CODE64).push(RAX).iret(8);
        way.align(8).label(tables).dw(GDT_LIMIT).dq(GDT_GPA);
        way.align(8).label(interrupts).dw(0xfff).dq(IDT_GPA);
        way.padTo(ENTRY_GPA + 0x100, NOP).mode(CodeMode.BITS32).label(handler32);
        way.mov(EAX, DATA).mov(DS, EAX).mov(ES, EAX).mov(SS, EAX).mov(ESP, STACK_TOP);
        next();
        way.push(2).push(CODE32).push(EAX).iret(4);
        return way.assemble();
    }

    /// EAX: where the next piece starts.
    private void next() {
        var inside = way.label();
        way.mov(EAX, dwordAt(abs(COUNTER))).cmp(EAX, program.pieces().size()).jcc(Condition.BE, inside);
        way.mov(EAX, program.pieces().size());
        way.label(inside).op(Op.IMUL, EAX, EAX, imm(SLOT)).add(EAX, PIECES);
    }

    /// Each piece counts itself, so that an exception's handler knows where to go on.
    private byte[] pieces() {
        var code = ByteBuffer.allocate((SLOT * SLOTS + 0xfff) & -0x1000).order(ByteOrder.LITTLE_ENDIAN);
        byte[] end = end();
        for (int n = 0; n < SLOTS; n++) {
            int at = n * SLOT;
            for (int k = 0; k < SLOT; k++) {
                code.put(at + k, (byte) NOP);
            }
            if (n < program.pieces().size()) {
                code.putInt(at, 0x2504ff).put(at + 3, (byte) 0).putInt(at + 3, (int) COUNTER); // INC DWORD PTR [COUNTER]
                code.put(at + 7, program.pieces().get(n).code());
            } else {
                code.put(at, end);
            }
        }
        return code.array();
    }

    /// Turns the machine off; it may stand anywhere.
    private byte[] end() {
        boolean td = program.start().isTd();
        var code = new Assembler(program.start() == GuestProgram.Start.PROTECTED ? CodeMode.BITS32 : CodeMode.BITS64, PIECES);
        var halt = code.label();
        if (td) { // TDG.VP.VMCALL<Instruction.IO>
            code.mov(R12D, 2).mov(R13D, 1).mov(R14D, powerOffPort).mov(R15D, POWER_OFF);
            code.xor(EAX, EAX).mov(ECX, 0xfc00).xor(R10D, R10D).mov(R11D, 30).tdcall();
        } else {
            code.mov(EAX, POWER_OFF).mov(EDX, powerOffPort).out(DX, AX);
        }
        code.label(halt).cli().hlt().jmp(halt);
        return code.assemble();
    }

    /// From the flat 32-bit mode of a trust domain's start into 64-bit mode.
    private byte[] resetPage() {
        var code = new Assembler(CodeMode.BITS32, RESET_PAGE);
        var start = code.label();
        var table = code.label();
        code.label(start).lgdt(abs(table));
        code.mov(EAX, CR4).or(EAX, 1 << 5).mov(CR4, EAX).mov(EAX, PML4).mov(CR3, EAX);
        code.mov(EAX, CR0).or(EAX, 1L << 31).mov(CR0, EAX);
        var entry = code.label();
        code.jmp(far32(CODE64, entry));
        code.mode(CodeMode.BITS64).label(entry).mov(EAX, ENTRY_GPA).jmp(RAX);
        code.align(8).label(table).dw(GDT_LIMIT).dq(GDT_GPA);
        code.padTo(RESET_VECTOR, 0xcc).mode(CodeMode.BITS32).jmp(start);
        return code.padTo(RESET_PAGE + 0x1000, 0xcc).assemble();
    }
}
