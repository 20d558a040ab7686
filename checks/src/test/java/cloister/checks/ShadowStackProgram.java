package cloister.checks;

import static cloister.isa.Operands.*;

import cloister.isa.Assembler;
import cloister.isa.CodeMode;
import cloister.isa.Condition;
import cloister.isa.Label;
import cloister.isa.Op;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// A static ELF program for Linux that asks for a shadow stack by arch_prctl(ARCH_SHSTK_ENABLE), prints `shadow stack` when its calls
/// and returns work with one, then changes a return address. It exits with 1 when it gets no shadow stack, with 2 when the changed return
/// goes unnoticed. [LINUX Documentation/arch/x86/shstk.rst]
final class ShadowStackProgram {
    private static final long BASE = 0x40_0000;
    private static final int HEADERS = 0x78;
    private static final int SYS_WRITE = 1;
    private static final int SYS_EXIT = 60;
    private static final int SYS_ARCH_PRCTL = 158;
    private static final int ARCH_SHSTK_ENABLE = 0x5001;
    private static final int ARCH_SHSTK_SHSTK = 1;

    private ShadowStackProgram() {
    }

    private static byte[] code() {
        var a = new Assembler(CodeMode.BITS64, BASE + HEADERS);
        Label none = a.label();
        Label exit = a.label();
        Label good = a.label();
        Label bad = a.label();
        Label text = a.label();
        a.mov(RAX, SYS_ARCH_PRCTL).mov(RDI, ARCH_SHSTK_ENABLE).mov(RSI, ARCH_SHSTK_SHSTK).syscall();
        a.test(RAX, RAX).jcc(Condition.NE, none);
        a.xor(RBX, RBX).op(Op.RDSSP, RBX).test(RBX, RBX).jcc(Condition.E, none);
        a.call(good);
        a.mov(RAX, SYS_WRITE).mov(RDI, 1).lea(RSI, text).mov(RDX, "shadow stack\n".length()).syscall();
        a.call(bad);
        a.mov(RDI, 3);
        a.label(exit).mov(RAX, SYS_EXIT).syscall();
        a.label(none).mov(RDI, 1).jmp(exit);
        a.label(good).ret();
        a.label(bad).lea(RAX, exit).mov(mem(RSP), RAX).mov(RDI, 2).ret();
        a.label(text).ascii("shadow stack\n");
        return a.assemble();
    }

    /// The program as a shell command that writes it to `path`.
    static String writtenTo(String path) {
        byte[] code = code();
        var elf = ByteBuffer.allocate(HEADERS + code.length).order(ByteOrder.LITTLE_ENDIAN);
        elf.putInt(0x464c_457f).putInt(0x0001_0102).putLong(0); // 64-bit, little-endian
        elf.putShort((short) 2).putShort((short) 62).putInt(1).putLong(BASE + HEADERS).putLong(0x40).putLong(0).putInt(0);
        elf.putShort((short) 64).putShort((short) 56).putShort((short) 1).putShort((short) 0).putShort((short) 0).putShort((short) 0);
        elf.putInt(1).putInt(5).putLong(0).putLong(BASE).putLong(BASE).putLong(elf.capacity()).putLong(elf.capacity()).putLong(0x1000);
        elf.put(code);
        var command = new StringBuilder("printf '");
        for (byte b : elf.array()) {
            command.append('\\').append((char) ('0' + ((b >> 6) & 3))).append((char) ('0' + ((b >> 3) & 7)))
                    .append((char) ('0' + (b & 7)));
        }
        return command.append("' > ").append(path).append(" && chmod +x ").append(path).toString();
    }
}
