package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Rflags;

/// CLI, STI, PUSHF, POPF, CLAC and STAC, with the virtual-8086 and protected-mode virtual interrupt flag.
final class FlagInstructions {
    private static final int IF = (int) Rflags.IF;
    private static final int VIF = (int) Rflags.VIF;
    private static final int VIP = (int) Rflags.VIP;
    private static final int TF = (int) Rflags.TF;
    private static final int IOPL = (int) Rflags.IOPL;
    /// What POPF never changes.
    private static final int UNTOUCHED = (int) (Rflags.VM | Rflags.VIF | Rflags.VIP);

    private FlagInstructions() {
    }

    /// Follows up on a change of RFLAGS from `before` (system flags): single-stepping, interrupts that waited for IF, mode.
    static void changed(Cpu cpu, int before) {
        int now = cpu.systemFlags;
        if ((now & IF & ~before) != 0) {
            cpu.events.interruptFlagSet();
        }
        if ((now & TF) != 0) {
            cpu.events.raise();
        }
        cpu.updateMode();
    }

    static int iopl(Cpu cpu) {
        return (cpu.systemFlags & IOPL) >> Rflags.IOPL_SHIFT;
    }

    /// Whether IF (else VIF) is what CLI and STI change; faults when neither is.
    private static boolean real(Cpu cpu) {
        if (!cpu.protectedMode() || (cpu.virtual8086() ? iopl(cpu) == 3 : cpu.cpl <= iopl(cpu))) {
            return true;
        }
        boolean virtual = cpu.virtual8086() ? (cpu.cr4 & Cr4.VME) != 0 : cpu.cpl == 3 && (cpu.cr4 & Cr4.PVI) != 0;
        if (!virtual) {
            throw cpu.gp(0);
        }
        return false;
    }

    static void cli(Cpu cpu) {
        cpu.systemFlags(real(cpu) ? IF : VIF, 0);
    }

    static void sti(Cpu cpu) {
        if (real(cpu)) {
            if ((cpu.systemFlags & IF) == 0) {
                cpu.systemFlags(IF, IF);
                cpu.startShadow(Cpu.SHADOW_STI);
                cpu.events.interruptFlagSet();
            }
            return;
        }
        if ((cpu.systemFlags & VIP) != 0) {
            throw cpu.gp(0);
        }
        cpu.systemFlags(VIF, VIF);
    }

    static void pushf(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int flags = (int) cpu.rflags() & ~(int) (Rflags.VM | Rflags.RF);
        if (cpu.virtual8086() && iopl(cpu) < 3) {
            if (size != 2 || (cpu.cr4 & Cr4.VME) == 0) {
                throw cpu.gp(0);
            }
            flags = (flags & ~IF) | IOPL | ((flags & VIF) != 0 ? IF : 0);
        }
        cpu.push(flags & 0xffff_ffffL, size);
    }

    static void popf(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int before = cpu.systemFlags;
        boolean withVif = cpu.virtual8086() && iopl(cpu) < 3;
        if (withVif && (size != 2 || (cpu.cr4 & Cr4.VME) == 0)) {
            throw cpu.gp(0);
        }
        int image = (int) FarTransfers.peek(cpu, 0, size);
        int mask = size == 2 ? 0xffff : ~UNTOUCHED;
        if (withVif) {
            if ((image & TF) != 0 || ((image & IF) != 0 && (before & VIP) != 0)) {
                throw cpu.gp(0);
            }
            cpu.systemFlags(VIF, (image & IF) != 0 ? VIF : 0);
            mask &= ~(IF | IOPL);
        } else if (cpu.protectedMode()) {
            if (cpu.cpl != 0 || cpu.virtual8086()) {
                mask &= ~IOPL;
            }
            if (cpu.cpl > iopl(cpu)) {
                mask &= ~IF;
            }
        }
        cpu.reg(Cpu.RSP, cpu.stackBits() / 8, cpu.r[Cpu.RSP] + size);
        if (size != 2) {
            image &= ~(int) Rflags.RF;
        }
        cpu.rflags((cpu.rflags() & ~(mask & 0xffff_ffffL)) | (image & mask & 0xffff_ffffL));
        if (((cpu.systemFlags ^ before) & (IF | TF | (int) Rflags.AC)) != 0 || (cpu.systemFlags & TF) != 0) {
            changed(cpu, before);
        }
    }

    static void alignmentCheckFlag(Cpu cpu, boolean set) {
        if (cpu.cpl != 0 || cpu.virtual8086()) {
            throw cpu.ud();
        }
        int ac = (int) Rflags.AC;
        cpu.systemFlags(ac, set ? ac : 0);
        cpu.updateMode();
    }
}
