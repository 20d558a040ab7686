package cloister.cpu.core;

import java.util.Locale;

/// The register dump of messages and debuggers.
final class RegisterDump {
    private static final String[] GPR = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
        "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    private static final String[] SEGMENT = {"ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"};

    private RegisterDump() {
    }

    static String of(Cpu cpu) {
        var out = new StringBuilder(1200);
        out.append(String.format(Locale.ROOT, "RIP %016x  RFLAGS %08x  CPL %d  %s  retired %d%n",
                cpu.rip, cpu.rflags(), cpu.cpl, cpu.codeMode, cpu.retired));
        for (int i = 0; i < 16; i++) {
            out.append(String.format(Locale.ROOT, "%s %016x%s", GPR[i], cpu.r[i], i % 4 == 3 ? System.lineSeparator() : "  "));
        }
        for (int i = 0; i < 8; i++) {
            out.append(String.format(Locale.ROOT, "%-4s %04x base %016x limit %08x ar %05x%s", SEGMENT[i], cpu.segSelector[i],
                    cpu.segBase[i], cpu.segLimit[i], cpu.segAr[i], i % 2 == 1 ? System.lineSeparator() : "  "));
        }
        out.append(String.format(Locale.ROOT, "GDTR %x/%x  IDTR %x/%x%n", cpu.gdtrBase, cpu.gdtrLimit, cpu.idtrBase, cpu.idtrLimit));
        out.append(String.format(Locale.ROOT, "CR0 %x  CR2 %x  CR3 %x  CR4 %x  CR8 %x  EFER %x  XCR0 %x%n",
                cpu.cr0, cpu.cr2, cpu.cr3, cpu.cr4, cpu.cr8, cpu.efer, cpu.xcr0));
        out.append(String.format(Locale.ROOT, "DR6 %x  DR7 %x  VPID %d  EPTP %x%n", cpu.dr6, cpu.dr7, cpu.vpid, cpu.eptp));
        if (cpu.trace != null) {
            out.append(cpu.trace);
        }
        return out.toString();
    }
}
