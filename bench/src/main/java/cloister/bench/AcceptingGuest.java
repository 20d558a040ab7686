package cloister.bench;

import static cloister.isa.Operands.CR0;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.CR4;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.ESI;
import static cloister.isa.Operands.R10D;
import static cloister.isa.Operands.R11D;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.abs;
import static cloister.isa.Operands.far32;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.spec.tdx.TdcallLeaf;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// What a TD runs from its reset vector: long mode on its own tables, then it accepts memory from address 0, 4 KiB at a time.
final class AcceptingGuest {
    /// What it asks for by TDG.VP.VMCALL when it has woken up, and again and again when all is accepted.
    static final int READY = 12;
    /// What it asks for when the module refused a page.
    static final int REFUSED = 13;
    /// Page tables, then the page with the code.
    static final int PAGES = 4;
    static final long BASE = 0xffff_c000L;
    private static final long CODE = 0xffff_f000L;
    private static final long RESET = 0xffff_fff0L;
    private static final long LARGE_PAGE = 0xffe0_0083L;
    private static final int TABLE = 3;
    private static final int LAST_GIB = 3;
    private static final int LAST_ENTRY = 511;
    private static final long CODE_SEGMENT = 0x00af_9b00_0000_ffffL;
    private static final int PASS_R10_TO_R15 = 0xfc00;

    private AcceptingGuest() {
    }

    /// One of its pages.
    static byte[] page(int index, int pagesToAccept) {
        return switch (index) {
            case 0 -> table(0, (BASE + 0x1000) | TABLE);
            case 1 -> table(LAST_GIB, (BASE + 0x2000) | TABLE);
            case 2 -> table(LAST_ENTRY, LARGE_PAGE);
            default -> code(pagesToAccept);
        };
    }

    private static byte[] table(int entry, long value) {
        return ByteBuffer.allocate((int) BuiltTd.PAGE).order(ByteOrder.LITTLE_ENDIAN).putLong(8 * entry, value).array();
    }

    private static byte[] code(int pages) {
        var a = new Assembler(CodeMode.BITS32, CODE);
        var start = a.label();
        var longMode = a.label();
        var next = a.label();
        var refused = a.label();
        var gdt = a.label();
        var gdtPointer = a.label();
        a.label(start).lgdt(abs(gdtPointer)).mov(EAX, CR4).or(EAX, 1 << 5).mov(CR4, EAX);
        a.mov(EAX, BASE).mov(CR3, EAX).mov(EAX, CR0).or(EAX, 1L << 31).mov(CR0, EAX).jmp(far32(8, longMode));
        a.mode(CodeMode.BITS64).label(longMode);
        vmcall(a, READY);
        a.xor(ESI, ESI);
        a.label(next).mov(ECX, ESI).mov(EAX, TdcallLeaf.MEM_PAGE_ACCEPT.number()).xor(EDX, EDX).tdcall();
        a.test(RAX, RAX).jcc(Condition.NE, refused);
        a.add(ESI, BuiltTd.PAGE).cmp(ESI, pages * BuiltTd.PAGE).jcc(Condition.B, next);
        var ready = a.label();
        a.label(ready);
        vmcall(a, READY);
        a.jmp(ready).label(refused);
        vmcall(a, REFUSED);
        a.align(16).label(gdt).dq(0, CODE_SEGMENT);
        a.label(gdtPointer).dw(15).dq(gdt);
        a.padTo(RESET, 0xcc).mode(CodeMode.BITS32).jmp(start);
        a.padTo(CODE + BuiltTd.PAGE, 0xcc);
        return a.assemble();
    }

    private static void vmcall(Assembler a, int subFunction) {
        a.xor(EAX, EAX).mov(ECX, PASS_R10_TO_R15).xor(R10D, R10D).mov(R11D, subFunction).tdcall();
    }
}
