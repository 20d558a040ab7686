package cloister.silicon;

import static cloister.isa.Operands.*;
import static cloister.silicon.Layout.*;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.isa.Op;
import cloister.isa.Operand.Gpr;
import cloister.isa.Operand.Register;

/// The native child, as a static ELF executable for Linux on x86-64: reads cases, runs each, writes the outcomes.
///
/// To run a case it returns from a signal that never was: rt_sigreturn loads all registers from the case, with RFLAGS.TF
/// set. After one instruction, or at its fault, the kernel delivers a signal with all registers on another stack, and the
/// handler writes them out. So nothing of the case's state has to survive in the child.
final class ChildProgram {
    private static final int TEXT = 0x0040_0000;
    private static final int INPUT = 0x3000_0000;
    private static final int OUTPUT = INPUT + 0x1000;
    private static final int MAIN_STACK = INPUT + 0x3000;
    private static final int SIGNAL_STACK = INPUT + 0x4000;
    private static final int SIGNAL_STACK_SIZE = 0x10000;
    private static final int BUFFERS_SIZE = 0x4000 + SIGNAL_STACK_SIZE;

    private static final int READ = 0, WRITE = 1, RT_SIGACTION = 13, RT_SIGRETURN = 15, EXIT = 60, SIGALTSTACK = 131,
        MODIFY_LDT = 154, ARCH_PRCTL = 158;
    private static final int SIGTRAP = 5;
    private static final int TF = 0x100;
    private static final int EXECUTE = 1, WRITABLE = 2, READABLE = 4;

    private final Assembler a = new Assembler(CodeMode.BITS64, TEXT);
    private final Label start = a.label();
    private final Label nextCase = a.label();
    private final Label handler = a.label();
    private final Label restorer = a.label();
    private final Label alternateStack = a.label();
    private final Label action = a.label();
    private final Label code16 = a.label();
    private final Label data16 = a.label();
    private final Label textEnd = a.label();

    private ChildProgram() {
    }

    /// The executable's bytes.
    static byte[] elf() {
        return new ChildProgram().build();
    }

    /// The address of the case's FXSAVE image in the child, for the pointer in its ucontext.
    static long fpstate() {
        return INPUT + IN_FX;
    }

    static long signalStack() {
        return SIGNAL_STACK;
    }

    static long signalStackSize() {
        return SIGNAL_STACK_SIZE;
    }

    private byte[] build() {
        headers();
        setUp();
        readCase();
        handle();
        a.align(8).label(alternateStack).dq(SIGNAL_STACK, 0, SIGNAL_STACK_SIZE);
        // SA_SIGINFO | SA_RESTORER | SA_ONSTACK | SA_NODEFER
        a.label(action).dq(handler).dq(0x4C00_0004L).dq(restorer).dq(0);
        // struct user_desc: contents code or data, useable
        a.label(code16).dd(LDT_CS16 >> 3, CODE, 0xFFFF, (2 << 1) | (1 << 6));
        a.label(data16).dd(LDT_DATA16 >> 3, DATA16_BASE, 0xFFFF, 1 << 6);
        a.label(textEnd);
        return a.assemble();
    }

    private void headers() {
        a.db(0x7F).ascii("ELF").db(2, 1, 1, 0).dq(0);
        a.dw(2, 62).dd(1).dq(start).dq(64, 0).dd(0).dw(64, 56, 4, 64, 0, 0);
        segment(READABLE | EXECUTE, TEXT, 0, 0x1000);
        segment(READABLE | WRITABLE | EXECUTE, CODE, 0, CODE_SIZE);
        segment(READABLE | WRITABLE, DATA_PAGE, 0, 0x1000);
        segment(READABLE | WRITABLE, INPUT, 0, BUFFERS_SIZE);
    }

    private void segment(int flags, long address, long fileSize, long size) {
        a.dd(1, flags);
        a.dq(0, address, address, address == TEXT ? size : fileSize, size, 0x1000);
    }

    private Assembler syscall(int number) {
        return a.mov(EAX, number).syscall();
    }

    private void setUp() {
        a.align(16).label(start);
        for (Label descriptor : new Label[] {code16, data16}) {
            a.mov(EDI, 0x11).lea(RSI, descriptor).mov(EDX, 16);
            syscall(MODIFY_LDT);
        }
        a.lea(RDI, alternateStack).xor(ESI, ESI);
        syscall(SIGALTSTACK);
        for (int signal : new int[] {4, SIGTRAP, 7, 8, 11}) { // ILL, TRAP, BUS, FPE, SEGV
            a.mov(EDI, signal).lea(RSI, action).xor(EDX, EDX).mov(R10D, 8);
            syscall(RT_SIGACTION);
        }
    }

    /// FS and GS with a null selector and a base.
    private void segmentBases() {
        a.mov(EDI, 0x1002).mov(ESI, FS_BASE);
        syscall(ARCH_PRCTL);
        a.mov(EDI, 0x1001).mov(ESI, GS_BASE);
        syscall(ARCH_PRCTL);
    }

    private void readCase() {
        Label more = a.label();
        Label ended = a.label();
        a.label(nextCase).mov(RSP, MAIN_STACK).xor(EBX, EBX);
        a.label(more).xor(EDI, EDI).lea(RSI, mem(RBX, INPUT)).mov(EDX, IN_SIZE).sub(RDX, RBX);
        syscall(READ);
        a.test(RAX, RAX).jcc(Condition.LE, ended).add(RBX, RAX).cmp(RBX, IN_SIZE).jcc(Condition.B, more);
        copy(INPUT + IN_DATA, DATA, DATA_BYTES);
        a.mov(ESI, INPUT + IN_CODE).mov(RDI, abs(INPUT + IN_CODE_ADDRESS)).mov(ECX, CODE_BYTES).rep().movs(1);
        segmentBases();
        a.mov(EAX, abs(INPUT + IN_DS)).mov(DS, EAX).mov(ES, EAX);
        a.mov(RSP, INPUT + IN_UCONTEXT);
        syscall(RT_SIGRETURN);
        a.label(ended).xor(EDI, EDI);
        syscall(EXIT);
        a.label(restorer);
        syscall(RT_SIGRETURN);
    }

    private void copy(int from, int to, int bytes) {
        a.mov(ESI, from).mov(EDI, to).mov(ECX, bytes / 8).rep().movs(8);
    }

    /// The handler: EDI signal number, RDX ucontext. Nothing here may depend on flags of the case: clear AC and DF first.
    private void handle() {
        Label report = a.label();
        Label write = a.label();
        Gpr context = RDX;
        a.label(handler).push(2).popf();
        a.cmp(EDI, SIGTRAP).jcc(Condition.NE, report);
        a.cmp(dwordAt(mem(context, UC_TRAP)), 1).jcc(Condition.NE, report);
        a.mov(RAX, mem(context, UC_RIP)).cmp(RAX, abs(INPUT + IN_START)).jcc(Condition.B, report);
        a.cmp(RAX, abs(INPUT + IN_END)).jcc(Condition.AE, report);
        a.dec(qwordAt(abs(INPUT + IN_STEPS))).jcc(Condition.E, report);
        a.or(dwordAt(mem(context, UC_EFLAGS)), TF).mov(RSP, context);
        syscall(RT_SIGRETURN);

        a.label(report).mov(abs(OUTPUT + OUT_SIGNAL), RDI);
        a.mov(RBX, mem(context, UC_FPSTATE));
        a.lea(RSI, mem(context, UC_REGISTERS)).mov(EDI, OUTPUT + OUT_REGISTERS).mov(ECX, UC_REGISTERS_SIZE / 8).rep().movs(8);
        a.mov(RSI, RBX).mov(EDI, OUTPUT + OUT_FX).mov(ECX, 512 / 8).rep().movs(8);
        copy(DATA, OUTPUT + OUT_DATA, DATA_BYTES);
        for (int n = 0; n < 4; n++) {
            a.mov(EAX, new Register[] {DS, ES, FS, GS}[n]).mov(abs(OUTPUT + OUT_SEGMENTS + 8 * n), RAX);
        }
        a.op(Op.RDFSBASE, RAX).mov(abs(OUTPUT + OUT_SEGMENTS + 32), RAX);
        a.op(Op.RDGSBASE, RAX).mov(abs(OUTPUT + OUT_SEGMENTS + 40), RAX);
        a.xor(EBX, EBX);
        a.label(write).mov(EDI, 1).lea(RSI, mem(RBX, OUTPUT)).mov(EDX, OUT_SIZE).sub(RDX, RBX);
        syscall(WRITE);
        a.add(RBX, RAX).cmp(RBX, OUT_SIZE).jcc(Condition.B, write).jmp(nextCase);
    }
}
