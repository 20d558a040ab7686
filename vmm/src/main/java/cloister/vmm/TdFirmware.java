package cloister.vmm;

import static cloister.isa.Operands.CR0;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.CR4;
import static cloister.isa.Operands.CX;
import static cloister.isa.Operands.DS;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.ES;
import static cloister.isa.Operands.ESI;
import static cloister.isa.Operands.FS;
import static cloister.isa.Operands.GS;
import static cloister.isa.Operands.R12;
import static cloister.isa.Operands.R12D;
import static cloister.isa.Operands.R13;
import static cloister.isa.Operands.R13D;
import static cloister.isa.Operands.R15;
import static cloister.isa.Operands.R9D;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.RCX;
import static cloister.isa.Operands.RDX;
import static cloister.isa.Operands.RSI;
import static cloister.isa.Operands.RSP;
import static cloister.isa.Operands.SS;
import static cloister.isa.Operands.abs;
import static cloister.isa.Operands.dwordAt;
import static cloister.isa.Operands.far32;
import static cloister.isa.Operands.mem;
import static cloister.isa.Operands.qwordAt;
import static cloister.isa.Operands.rip;
import static cloister.isa.Operands.wordAt;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.isa.Op;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;

/// The firmware of a trust domain: 64 KiB below 4 GiB, the same bytes on every machine but for the parameter page.
///
/// All vCPUs start at 0xFFFFFFF0 in flat 32-bit protected mode. They enter long mode on the firmware's own identity
/// map; vCPU 0 accepts the memory that the parameter page lists and enters the kernel; the others wait for the
/// kernel at the mailbox of ACPI's multiprocessor wake-up structure. docs/td-firmware.md shows the layout.
/// [TDX-BASE "TD VCPU Initial State"; ACPI "Multiprocessor Wakeup Structure"]
final class TdFirmware {
    static final long BASE_GPA = 0xffff0000L;
    static final int BYTES = 0x10000;
    static final long PAGE_TABLES_GPA = BASE_GPA;
    static final long PARAMETERS_GPA = BASE_GPA + 0x6000;
    static final long MAILBOX_GPA = BASE_GPA + 0x7000;
    static final long STACKS_GPA = BASE_GPA + 0x8000;
    static final long IDT_GPA = BASE_GPA + 0xa000;
    static final long FIVE_LEVEL_ROOT_GPA = BASE_GPA + 0xb000;
    static final long CODE_GPA = BASE_GPA + 0xe000;
    static final long RESET_GPA = 0xfffffff0L;
    static final long PARAMETERS_MAGIC = 0x314d5241504c4354L; // "TCLPARM1" in memory order

    private static final int ENTRY = 8;
    private static final int BOOT_PARAMS = 16;
    private static final int RANGE_COUNT = 24;
    private static final int RANGES = 32;
    private static final int COMMAND = 0;
    private static final int APIC_ID = 4;
    private static final int WAKE_UP_VECTOR = 8;
    private static final int COMMAND_WAKE_UP = 1;
    private static final int COMMAND_TEST = 2;
    private static final int STACK_BYTES = 128;
    private static final int LONG_MODE_SELECTOR = 0x10;
    private static final int DATA_SELECTOR = 0x18;
    private static final int LARGE_PAGE = 0x200000;
    private static final int ALREADY_ACCEPTED = 0x00000b0a;
    private static final int FIRST_INTERRUPT = 0x20;
    private static final int TIMER_VECTOR = FIRST_INTERRUPT;
    private static final int POLL_TICKS = 1_000_000; // 1 ms at the platform's 1 GHz
    private static final int SVR = 0x80f;
    private static final int LVT_TIMER = 0x832;
    private static final int EOI = 0x80b;
    private static final int TSC_DEADLINE = 0x6e0;
    private static final int SVR_ENABLED = 0x1ff;
    private static final int TSC_DEADLINE_MODE = 2 << 17;
    private static final int MASKED = 1 << 16;
    private static final int CR4_PAE = 1 << 5;
    private static final int CR4_CET = 1 << 23;
    private static final int CR4_LA57 = 1 << 12;
    private static final int INTERRUPT_GATE = 0x8e;
    private static final int VECTORS = 256;
    private static final int ACCEPT_FAILED = 1;

    /// Memory that the firmware accepts.
    record Range(long start, long end) {
    }

    private final Assembler code = new Assembler(CodeMode.BITS32, CODE_GPA);
    private final Label longMode = code.label();
    private final Label waitForWakeUp = code.label();
    private final Label gdt = code.label();
    private final Label gdtPointer = code.label();
    private final Label idtPointer = code.label();
    private final Label interrupt = code.label();
    private final Label reset = code.label();

    private TdFirmware() {
    }

    /// Where the kernel sends a CPU that it takes offline: the reset vector of the wake-up structure.
    static long resetVectorGpa() {
        var firmware = new TdFirmware();
        firmware.assemble();
        return firmware.reset.address();
    }

    /// Adds the firmware to an image: it will enter `image`'s entry point and accepts all memory that the image does
    /// not hold.
    static void addTo(GuestImage image, GuestLayout layout) {
        image.add("TD firmware", BASE_GPA, build(image.entryGpa(), toAccept(image, layout)));
    }

    /// The gaps between the chunks of the initial image.
    static List<Range> toAccept(GuestImage image, GuestLayout layout) {
        var ranges = new ArrayList<Range>();
        long from = 0;
        for (var chunk : image.chunks()) {
            if (chunk.gpa() > from) {
                ranges.add(new Range(from, chunk.gpa()));
            }
            from = chunk.end();
        }
        if (from < layout.lowEnd()) {
            ranges.add(new Range(from, layout.lowEnd()));
        }
        if (layout.highBytes() > 0) {
            ranges.add(new Range(GuestLayout.HIGH_RAM_START, layout.end()));
        }
        return ranges;
    }

    /// The whole image.
    static byte[] build(long entryGpa, List<Range> toAccept) {
        var image = ByteBuffer.allocate(BYTES).order(ByteOrder.LITTLE_ENDIAN);
        image.put(0, IdentityMap.build(PAGE_TABLES_GPA, 4));
        int at = (int) (PARAMETERS_GPA - BASE_GPA);
        image.putLong(at, PARAMETERS_MAGIC).putLong(at + ENTRY, entryGpa).putLong(at + BOOT_PARAMS, GuestLayout.BOOT_PARAMS_GPA);
        image.putLong(at + RANGE_COUNT, toAccept.size());
        at += RANGES;
        for (var range : toAccept) {
            image.putLong(at, range.start()).putLong(at + 8, range.end());
            at += 16;
        }
        var firmware = new TdFirmware();
        image.put((int) (CODE_GPA - BASE_GPA), firmware.assemble());
        at = (int) (IDT_GPA - BASE_GPA);
        for (int vector = FIRST_INTERRUPT; vector < VECTORS; vector++) {
            long handler = firmware.interrupt.address();
            image.putLong(at + 16 * vector, (handler & 0xffff) | ((long) LONG_MODE_SELECTOR << 16)
                    | ((long) INTERRUPT_GATE << 40) | (handler >>> 16 << 48));
        }
        image.putLong((int) (FIVE_LEVEL_ROOT_GPA - BASE_GPA), PAGE_TABLES_GPA | 3);
        return image.array();
    }

    private byte[] assemble() {
        var start = code.label();
        code.label(start);
        enterLongMode();
        code.mode(CodeMode.BITS64).label(longMode);
        loadDataSegments();
        code.test(ESI, ESI).jcc(Condition.NE, waitForWakeUp);
        acceptMemory();
        enterKernel();
        applicationProcessor();
        offlineProcessor();
        tables();
        code.padTo(RESET_GPA, 0xcc).mode(CodeMode.BITS32).jmp(start);
        return code.padTo(BASE_GPA + BYTES, 0xcc).assemble();
    }

    private void loadDataSegments() {
        code.mov(EAX, DATA_SELECTOR);
        for (var segment : List.of(DS, ES, SS, FS, GS)) {
            code.mov(segment, EAX);
        }
    }

    /// ESI holds the vCPU's index. IA32_EFER.LME is set already and a TD cannot write EFER.
    private void enterLongMode() {
        code.lgdt(abs(gdtPointer));
        code.mov(EAX, CR4).or(EAX, CR4_PAE).mov(CR4, EAX);
        code.mov(EAX, PAGE_TABLES_GPA).mov(CR3, EAX);
        code.mov(EAX, CR0).or(EAX, 1L << 31).mov(CR0, EAX);
        code.jmp(far32(LONG_MODE_SELECTOR, longMode));
    }

    /// RBX: the range's entry; R15: ranges left; R12: address; R13: end.
    private void acceptMemory() {
        var nextRange = code.label();
        var nextPage = code.label();
        var smallPage = code.label();
        var accepted = code.label();
        var rangeDone = code.label();
        var done = code.label();
        code.mov(EBX, PARAMETERS_GPA + RANGES);
        code.mov(R15, qwordAt(mem(RBX, RANGE_COUNT - RANGES)));
        code.label(nextRange).test(R15, R15).jcc(Condition.E, done);
        code.mov(R12, qwordAt(mem(RBX))).mov(R13, qwordAt(mem(RBX, 8)));
        code.label(nextPage).cmp(R12, R13).jcc(Condition.AE, rangeDone);
        code.test(R12D, LARGE_PAGE - 1).jcc(Condition.NE, smallPage);
        code.lea(RAX, mem(R12, LARGE_PAGE)).cmp(RAX, R13).jcc(Condition.A, smallPage);
        code.lea(RCX, mem(R12, 1)); // level 1
        TdCalls.accept(code).test(RAX, RAX).jcc(Condition.NE, smallPage);
        code.add(R12, LARGE_PAGE).jmp(nextPage);
        code.label(smallPage).mov(RCX, R12);
        TdCalls.accept(code).test(RAX, RAX).jcc(Condition.E, accepted);
        code.shr(RAX, 32).cmp(EAX, ALREADY_ACCEPTED).jcc(Condition.E, accepted);
        fatal(ACCEPT_FAILED);
        code.label(accepted).add(R12, GuestLayout.PAGE).jmp(nextPage);
        code.label(rangeDone).add(RBX, 16).dec(R15).jmp(nextRange);
        code.label(done);
    }

    /// TDG.VP.VMCALL<ReportFatalError>, for ever.
    private void fatal(int errorCode) {
        var again = code.label();
        code.label(again).mov(R12D, errorCode).xor(R13D, R13D);
        TdCalls.vmcall(code, TdCalls.REPORT_FATAL_ERROR).jmp(again);
    }

    private void enterKernel() {
        code.mov(EBX, PARAMETERS_GPA);
        code.mov(RSI, qwordAt(mem(RBX, BOOT_PARAMS)));
        code.mov(RAX, qwordAt(mem(RBX, ENTRY)));
        code.jmp(RAX);
    }

    /// Looks at the mailbox every few milliseconds and halts in between, so that waiting costs nothing. The local
    /// APIC's timer interrupt is taken for real: nothing is left pending for the kernel to find.
    private void applicationProcessor() {
        var poll = code.label();
        var wait = code.label();
        var test = code.label();
        code.label(waitForWakeUp);
        code.lea(EAX, mem(RSI, 0)).shl(EAX, 7); // STACK_BYTES each, growing down from the end of its own
        code.mov(ECX, STACKS_GPA).lea(RSP, mem(RAX, RCX, 1, STACK_BYTES));
        code.lidt(rip(idtPointer));
        TdCalls.writeMsr(code.mov(R13D, SVR_ENABLED), SVR);
        TdCalls.writeMsr(code.mov(R13D, TSC_DEADLINE_MODE | TIMER_VECTOR), LVT_TIMER);
        code.mov(EBX, MAILBOX_GPA);
        code.label(poll);
        code.cmp(dwordAt(mem(RBX, APIC_ID)), ESI).jcc(Condition.NE, wait);
        code.movzx(EAX, wordAt(mem(RBX, COMMAND)));
        code.cmp(EAX, COMMAND_TEST).jcc(Condition.E, test);
        code.cmp(EAX, COMMAND_WAKE_UP).jcc(Condition.NE, wait);
        TdCalls.writeMsr(code.xor(R13D, R13D), TSC_DEADLINE);
        TdCalls.writeMsr(code.mov(R13D, MASKED), LVT_TIMER);
        code.sti().nop().cli();
        code.mov(RAX, qwordAt(mem(RBX, WAKE_UP_VECTOR)));
        code.xor(ECX, ECX).mov(wordAt(mem(RBX, COMMAND)), CX); // the acknowledgement
        code.jmp(RAX);

        code.label(test).xor(ECX, ECX).mov(wordAt(mem(RBX, COMMAND)), CX);
        code.label(wait);
        code.rdtsc().shl(RDX, 32).or(RAX, RDX).lea(R13, mem(RAX, POLL_TICKS));
        TdCalls.writeMsr(code, TSC_DEADLINE);
        TdCalls.vmcall(code.xor(R12D, R12D), TdCalls.HLT);
        code.sti().nop().cli().jmp(poll);

        code.label(interrupt).push(RAX).push(RCX).push(RDX);
        code.mov(ECX, EOI).xor(EAX, EAX).xor(EDX, EDX).wrmsr();
        code.pop(RDX).pop(RCX).pop(RAX).iret(8);
    }

    /// The kernel comes here on its own page tables, which map this page only, in 4- or 5-level mode, by an indirect branch that it may
    /// track. The firmware does not track its own.
    private void offlineProcessor() {
        var fourLevels = code.label();
        var pointer = code.label();
        code.label(reset).op(Op.ENDBR64).cli();
        code.mov(RAX, CR4).and(RAX, ~(long) CR4_CET).mov(CR4, RAX);
        code.mov(EBX, PAGE_TABLES_GPA).test(EAX, CR4_LA57).jcc(Condition.E, fourLevels);
        code.mov(EBX, FIVE_LEVEL_ROOT_GPA);
        code.label(fourLevels).mov(CR3, RBX);
        code.lgdt(rip(gdtPointer));
        loadDataSegments();
        code.mov(EAX, TdCalls.VP_INFO).tdcall().mov(ESI, R9D); // the index is R9's low half
        code.jmpFar(4, rip(pointer));
        code.label(pointer).dd(waitForWakeUp).dw(LONG_MODE_SELECTOR);
    }

    private void tables() {
        code.align(16).label(gdt);
        code.dq(0, 0x00cf9b000000ffffL, 0x00af9b000000ffffL, 0x00cf93000000ffffL); // null, 32-bit code, 64-bit code, data
        code.label(gdtPointer).dw(4 * 8 - 1).dq(gdt);
        code.label(idtPointer).dw(16 * VECTORS - 1).dq(IDT_GPA);
    }
}
