package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.Watchpoints;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.Cr4;

/// The debug registers and what they match. [SDM Vol. 3 "Debug Registers"]
public final class DebugRegisters {
    static final long DR7_GD = 1L << 13;
    static final long DR6_BD = 1L << 13;
    static final long DR6_BS = 1L << 14;
    static final long DR6_BT = 1L << 15;
    /// DR6 bits that read as 1.
    public static final long DR6_FIXED = 0xffff_07f0L;
    public static final long DR6_RESET = 0xffff_0ff0L;
    public static final long DR7_RESET = 0x400;
    private static final long DR6_WRITABLE = 0xe80fL;
    private static final long DR7_WRITABLE = 0xffff_23ffL;
    private static final long ENABLES = 0xff;
    private static final int IO = 2;
    /// In pending debug exceptions: some enabled breakpoint has been met. [SDM Vol. 3 "Guest Non-Register State"]
    static final long PENDING_ENABLED = 1L << 12;
    /// A bus lock; DR6 has the bit inverted.
    static final long PENDING_BUS_LOCK = 1L << 11;
    /// Pending debug exceptions without any of these cause none: a breakpoint met but not enabled.
    static final long PENDING_CAUSES = PENDING_ENABLED | DR6_BS | DR6_BT | PENDING_BUS_LOCK | (1L << 16);

    private DebugRegisters() {
    }

    static void mov(Cpu cpu, Instruction insn) {
        boolean store = insn.kind1 == OperandKind.DREG;
        int number = store ? insn.reg1 : insn.reg0;
        int gpr = store ? insn.reg0 : insn.reg1;
        if (number > 7) {
            throw cpu.ud();
        }
        if (number == 4 || number == 5) {
            if ((cpu.cr4 & Cr4.DE) != 0) {
                throw cpu.ud();
            }
            number += 2;
        }
        ControlRegisters.requireCpl0(cpu);
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        if ((cpu.dr7 & DR7_GD) != 0) {
            throw cpu.debug(DR6_BD);
        }
        int size = cpu.is64Bit() ? 8 : 4;
        if (store) {
            cpu.reg(gpr, size, read(cpu, number));
            return;
        }
        long value = cpu.reg(gpr, size);
        if (number >= 6 && value >>> 32 != 0) {
            throw cpu.gp(0);
        }
        write(cpu, number, value);
    }

    /// DR0-DR3, DR6 or DR7.
    public static long read(Cpu cpu, int number) {
        return switch (number) {
            case 0 -> cpu.dr0;
            case 1 -> cpu.dr1;
            case 2 -> cpu.dr2;
            case 3 -> cpu.dr3;
            case 6 -> cpu.dr6;
            default -> cpu.dr7;
        };
    }

    /// Sets DR0-DR3, DR6 or DR7, fixed bits applied.
    public static void write(Cpu cpu, int number, long value) {
        switch (number) {
            case 0 -> cpu.dr0 = value;
            case 1 -> cpu.dr1 = value;
            case 2 -> cpu.dr2 = value;
            case 3 -> cpu.dr3 = value;
            case 6 -> cpu.dr6 = (value & DR6_WRITABLE) | DR6_FIXED;
            default -> {
                cpu.dr7 = (value & DR7_WRITABLE) | DR7_RESET;
                cpu.events.raise();
            }
        }
        if (armed(cpu)) {
            cpu.watchpoints.follow(cpu);
        }
    }

    /// Whether any breakpoint is enabled.
    static boolean armed(Cpu cpu) {
        return (cpu.dr7 & ENABLES) != 0;
    }

    /// DR6 bits of the enabled instruction breakpoints at linear address `linear`.
    static long instructionHits(Cpu cpu, long linear) {
        long hits = 0;
        for (int i = 0; i < 4; i++) {
            if (Watchpoints.enabled(cpu.dr7, i) && Watchpoints.kind(cpu.dr7, i) == 0 && read(cpu, i) == linear) {
                hits |= 1L << i;
            }
        }
        return hits;
    }

    /// An access to `bytes` ports from `port` has been made: I/O breakpoints. [SDM Vol. 3 "Debug Control Register (DR7)"]
    static void portAccess(Cpu cpu, int port, int bytes) {
        if (!armed(cpu) || (cpu.cr4 & Cr4.DE) == 0) {
            return;
        }
        for (int i = 0; i < 4; i++) {
            if (Watchpoints.enabled(cpu.dr7, i) && Watchpoints.kind(cpu.dr7, i) == IO) {
                int length = Watchpoints.length(cpu.dr7, i);
                long first = read(cpu, i) & -length;
                if (port < first + length && first < port + bytes) {
                    cpu.watchpoints.hit(i);
                }
            }
        }
    }
}
