package cloister.vmm;

import static cloister.isa.Operands.AL;
import static cloister.isa.Operands.AX;
import static cloister.isa.Operands.CR3;
import static cloister.isa.Operands.DX;
import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.EBX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.ESI;
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
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// Guests of our own for tests that must not need the network: flat programs for [MachineConfig#program], and a kernel.
public final class TinyGuest {
    /// What the trust domain prints when everything went well.
    public static final String TD_OUTPUT = "td: hello\ntd: info ok\ntd: shared ok\ntd: private ok\n";
    /// What the ordinary VM prints.
    public static final String VM_OUTPUT = "vm: hello\nvm: memory ok\n";
    /// Where the trust domain leaves [#SHARED_VALUE] for the VMM, until it takes the page back.
    public static final long SHARED_GPA = 0x600000;
    /// What it writes there.
    public static final int SHARED_VALUE = 0x5ec2e75;

    /// What the kernel prints before its command line and a line end.
    public static final String KERNEL_OUTPUT = "kernel: up\nkernel: initrd ok\n";
    /// The first and the last four bytes of an initrd, if there is one, as the kernel wants them.
    public static final int INITRD_MARK = 0x44524e49;

    private static final int SETUP_BYTES = 2 * 512;
    private static final int ENTRY_64 = 0x200;
    private static final int KERNEL_STACK_TOP = (int) (GuestLayout.BOOT_PARAMS_GPA + 2 * GuestLayout.PAGE);
    private static final int HEADER_MAGIC = 0x53726448;
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

    /// The smallest bzImage: a kernel that can be loaded anywhere from 2 MiB on. It looks at what the boot loader gave it,
    /// prints, powers off.
    public static byte[] kernel(VmType type) {
        return bzImage(new TinyGuest(type == VmType.TDX).kernelCode());
    }

    /// A kernel for ordinary VMs that says back what is typed at the first serial port, and powers off at Ctrl-D, or halts for ever at
    /// Ctrl-C.
    public static byte[] echoKernel() {
        return bzImage(new TinyGuest(false).echoCode());
    }

    private byte[] echoCode() {
        var wait = code.label();
        var halt = code.label();
        code.mov(ESP, KERNEL_STACK_TOP).mov(EDX, AcpiTables.COM1_PORT + 4).mov(EAX, 3).out(DX, AL); // DTR and RTS
        say("echo\n");
        code.label(wait).mov(EDX, AcpiTables.COM1_PORT + 5).in(AL, DX).test(EAX, 1).jcc(Condition.E, wait);
        code.mov(EDX, AcpiTables.COM1_PORT).in(AL, DX).cmp(AL, 4).jcc(Condition.E, fail).cmp(AL, 3).jcc(Condition.E, halt);
        code.out(DX, AL).jmp(wait);
        code.label(halt).cli().hlt().jmp(halt);
        code.label(fail);
        code.mov(EAX, POWER_OFF).mov(EDX, AcpiPm.CONTROL_BLOCK).out(DX, AX).jmp(halt);
        printRoutine();
        return code.assemble();
    }

    /// A bzImage of one setup sector around `program`, which is entered in 64-bit mode with RSI at boot_params and must not
    /// care where it is. [LINUX Documentation/arch/x86/boot.rst]
    public static byte[] bzImage(byte[] program) {
        int paragraphs = (ENTRY_64 + program.length + 15) / 16;
        var image = ByteBuffer.allocate(SETUP_BYTES + 16 * paragraphs).order(ByteOrder.LITTLE_ENDIAN);
        image.put(0x1f1, (byte) 1).putInt(0x1f4, paragraphs).putShort(0x1fe, (short) 0xaa55);
        image.put(0x200, (byte) 0xeb).put(0x201, (byte) 0x6a).putInt(0x202, HEADER_MAGIC).putShort(0x206, (short) 0x20f);
        image.put(0x211, (byte) 1).putInt(0x22c, 0x7fffffff).putInt(0x230, TWO_MIB).put(0x234, (byte) 1);
        image.putShort(0x236, (short) 1).putInt(0x238, 2047).putLong(0x258, TWO_MIB).putInt(0x260, TWO_MIB / 2);
        image.put(SETUP_BYTES + ENTRY_64, program);
        return image.array();
    }

    private byte[] kernelCode() {
        var noInitrd = code.label();
        code.mov(ESP, KERNEL_STACK_TOP).mov(RBX, RSI);
        say("kernel: up\n");
        code.cmp(dwordAt(mem(RBX, 0x202)), HEADER_MAGIC).jcc(Condition.NE, fail);
        code.cmp(dwordAt(mem(RBX, 0x23c)), 0).jcc(Condition.NE, fail); // hardware_subarch
        code.cmp(dwordAt(mem(RBX, 0x250)), 0).jcc(Condition.NE, fail); // setup_data
        code.mov(ECX, dwordAt(mem(RBX, 0x21c))).test(ECX, ECX).jcc(Condition.E, noInitrd);
        code.mov(EAX, dwordAt(mem(RBX, 0x218)));
        code.cmp(dwordAt(mem(RAX)), INITRD_MARK).jcc(Condition.NE, fail);
        code.cmp(dwordAt(mem(RAX, RCX, 1, -4)), INITRD_MARK).jcc(Condition.NE, fail);
        code.label(noInitrd);
        say("kernel: initrd ok\n");
        code.mov(ESI, dwordAt(mem(RBX, 0x228))).call(print);
        say("\n");
        powerOff();
        printRoutine();
        return code.assemble();
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
