package cloister.vmm;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.AX;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.DX;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.ESP;
import static cloister.isa.Operands.R10;
import static cloister.isa.Operands.R12;
import static cloister.isa.Operands.R13D;
import static cloister.isa.Operands.R15D;
import static cloister.isa.Operands.RAX;
import static cloister.isa.Operands.RBX;
import static cloister.isa.Operands.RCX;
import static cloister.isa.Operands.RSI;
import static cloister.isa.Operands.byteAt;
import static cloister.isa.Operands.dwordAt;
import static cloister.isa.Operands.mem;

import cloister.devices.AcpiPm;
import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;

/// Guests of our own for tests that must not need the network: flat programs for [MachineConfig#program].
public final class TinyGuest {
    /// What the trust domain prints when everything went well.
    public static final String TD_OUTPUT = "td: hello\ntd: info ok\ntd: shared ok\ntd: private ok\n";
    /// What the ordinary VM prints.
    public static final String VM_OUTPUT = "vm: hello\nvm: memory ok\n";
    /// Where the trust domain leaves [#SHARED_VALUE] for the VMM, until it takes the page back.
    public static final long SHARED_GPA = 0x600000;
    /// What it writes there.
    public static final int SHARED_VALUE = 0x5ec2e75;

    private static final int POWER_OFF = (1 << 13) | (AcpiPm.S5_SLEEP_TYPE << 10);
    private static final int STACK_TOP = 0x9f000;
    private static final long SHARED_BIT = 1L << 47;
    private static final int TWO_MIB = 0x200000;
    private static final int WINDOW = 0x80000000; // its page directory entry is the first of the third directory
    private static final long WINDOW_ENTRY_GPA = TdFirmware.PAGE_TABLES_GPA + 0x4000;
    private static final long LARGE_WRITABLE = 0x83;

    private final Assembler code = new Assembler(CodeMode.BITS64, GuestLayout.HIGH_LOADING_START);
    private final Label print = code.label();
    private final Label fail = code.label();
    private final boolean td;

    private TinyGuest(boolean td) {
        this.td = td;
    }

    /// A trust domain: prints, reads its information, converts memory to shared and back, powers off.
    public static byte[] trustDomain() {
        return new TinyGuest(true).trustDomainCode();
    }

    /// An ordinary VM: prints, touches memory, powers off.
    public static byte[] ordinaryVm() {
        return new TinyGuest(false).ordinaryVmCode();
    }

    private byte[] trustDomainCode() {
        code.mov(ESP, STACK_TOP);
        say("td: hello\n");
        code.mov(EAX, TdCalls.VP_INFO).tdcall().test(RAX, RAX).jcc(Condition.NE, fail);
        code.and(ECX, 0x3f).cmp(ECX, 48).jcc(Condition.NE, fail); // GPA width
        say("td: info ok\n");

        mapGpa(SHARED_GPA | SHARED_BIT);
        window(SHARED_GPA | SHARED_BIT);
        code.mov(EBX, WINDOW & 0xffffffffL).mov(dwordAt(mem(RBX)), SHARED_VALUE);
        code.cmp(dwordAt(mem(RBX)), SHARED_VALUE).jcc(Condition.NE, fail);
        say("td: shared ok\n");

        mapGpa(SHARED_GPA);
        acceptAll();
        code.mov(EBX, SHARED_GPA).cmp(dwordAt(mem(RBX)), 0).jcc(Condition.NE, fail);
        code.mov(dwordAt(mem(RBX)), SHARED_VALUE);
        say("td: private ok\n");
        powerOff();
        printRoutine();
        return code.assemble();
    }

    private byte[] ordinaryVmCode() {
        code.mov(ESP, STACK_TOP);
        say("vm: hello\n");
        code.mov(EBX, SHARED_GPA).mov(dwordAt(mem(RBX)), SHARED_VALUE);
        code.cmp(dwordAt(mem(RBX)), SHARED_VALUE).jcc(Condition.NE, fail);
        say("vm: memory ok\n");
        powerOff();
        printRoutine();
        return code.assemble();
    }

    private void say(String text) {
        var string = code.label();
        var after = code.label();
        code.lea(RSI, string).call(print).jmp(after);
        code.label(string).ascii(text).db(0);
        code.label(after);
    }

    private void mapGpa(long gpa) {
        var retry = code.label();
        code.label(retry).mov(R12, gpa).mov(R13D, TWO_MIB);
        TdCalls.vmcall(code, TdCalls.MAP_GPA);
        code.test(R10, R10).jcc(Condition.NE, fail);
    }

    private void window(long gpa) {
        code.mov(EBX, WINDOW_ENTRY_GPA).mov(RAX, gpa | LARGE_WRITABLE).mov(mem(RBX), RAX);
        code.mov(RAX, CR3).mov(CR3, RAX);
    }

    private void acceptAll() {
        var next = code.label();
        code.mov(EBX, SHARED_GPA);
        code.label(next).mov(RCX, RBX);
        TdCalls.accept(code).test(RAX, RAX).jcc(Condition.NE, fail);
        code.add(EBX, GuestLayout.PAGE).cmp(EBX, SHARED_GPA + TWO_MIB).jcc(Condition.B, next);
    }

    private void powerOff() {
        var stop = code.label();
        var halt = code.label();
        code.jmp(stop);
        code.label(fail);
        say("failed\n");
        code.label(stop);
        if (td) {
            TdCalls.writePort(code.mov(R15D, POWER_OFF), AcpiPm.CONTROL_BLOCK, 2);
            code.label(halt).pause().jmp(halt);
        } else {
            code.mov(EAX, POWER_OFF).mov(EDX, AcpiPm.CONTROL_BLOCK).out(DX, AX);
            code.label(halt).hlt().jmp(halt);
        }
    }

    /// Prints the zero-terminated string at RSI.
    private void printRoutine() {
        var next = code.label();
        var done = code.label();
        code.label(print);
        code.label(next).movzx(EAX, byteAt(mem(RSI))).test(EAX, EAX).jcc(Condition.E, done);
        if (td) {
            TdCalls.writePort(code.mov(R15D, EAX), AcpiTables.COM1_PORT, 1);
        } else {
            code.mov(EDX, AcpiTables.COM1_PORT).out(DX, AL);
        }
        code.inc(RSI).jmp(next);
        code.label(done).ret();
    }
}
