package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Rflags;

/// IRET, IRETD and IRETQ. [SDM Vol. 2 IRET]
final class InterruptReturn {
    private static final int IOPL = (int) Rflags.IOPL;
    private static final int IF = (int) Rflags.IF;
    private static final int VIF = (int) Rflags.VIF;
    private static final int VIP = (int) Rflags.VIP;
    private static final int VM = (int) Rflags.VM;
    private static final int LOW_FLAGS = (int) (Rflags.STATUS | Rflags.TF | Rflags.DF | Rflags.NT);
    private static final int HIGH_FLAGS = (int) (Rflags.RF | Rflags.AC | Rflags.ID);

    private InterruptReturn() {
    }

    static void iret(Cpu cpu, Instruction insn) {
        unblockNmi(cpu);
        int before = cpu.systemFlags;
        if (!cpu.protectedMode()) {
            real(cpu, insn.operandSize);
        } else if (cpu.virtual8086()) {
            virtual8086(cpu, insn.operandSize);
        } else if ((cpu.systemFlags & (int) Rflags.NT) != 0) {
            if (Segments.longMode(cpu)) {
                throw cpu.gp(0);
            }
            int link = (int) cpu.readSystem(cpu.segBase[Cpu.TR], 2);
            TaskSwitch.switchTo(cpu, link, TaskSwitch.IRET);
        } else {
            protectedMode(cpu, insn.operandSize);
        }
        FlagInstructions.changed(cpu, before);
    }

    private static void unblockNmi(Cpu cpu) {
        if (cpu.vmx.iretUnblocksNmi(cpu)) {
            PendingEvents events = cpu.events;
            events.nmiBlocked = false;
            if (events.nmiPending) {
                events.raise();
            }
        }
    }

    private static void real(Cpu cpu, int size) {
        long rip = FarTransfers.peek(cpu, 0, size);
        int selector = (int) FarTransfers.peek(cpu, size, size) & 0xffff;
        int image = (int) FarTransfers.peek(cpu, 2L * size, size);
        if (rip > (cpu.segLimit[Segments.CS] & 0xffff_ffffL)) {
            throw cpu.gp(0);
        }
        cpu.reg(Cpu.RSP, cpu.stackBits() / 8, cpu.r[Cpu.RSP] + 3L * size);
        Segments.fillReal(cpu, Segments.CS, selector);
        flags(cpu, image, LOW_FLAGS | IF | IOPL | (size == 2 ? 0 : HIGH_FLAGS));
        cpu.nextRip = rip;
    }

    private static void virtual8086(Cpu cpu, int size) {
        boolean iopl3 = (cpu.systemFlags & IOPL) == IOPL;
        if (!iopl3 && (size != 2 || (cpu.cr4 & Cr4.VME) == 0)) {
            throw cpu.gp(0);
        }
        long rip = FarTransfers.peek(cpu, 0, size);
        int selector = (int) FarTransfers.peek(cpu, size, size) & 0xffff;
        int image = (int) FarTransfers.peek(cpu, 2L * size, size);
        if (rip > 0xffff) {
            throw cpu.gp(0);
        }
        if (!iopl3) {
            boolean enables = (image & IF) != 0;
            if ((image & (int) Rflags.TF) != 0 || (enables && (cpu.systemFlags & VIP) != 0)) {
                throw cpu.gp(0);
            }
            cpu.systemFlags(VIF, enables ? VIF : 0);
        }
        cpu.reg(Cpu.RSP, cpu.stackBits() / 8, cpu.r[Cpu.RSP] + 3L * size);
        Segments.fillReal(cpu, Segments.CS, selector);
        flags(cpu, image, LOW_FLAGS | (iopl3 ? IF : 0) | (size == 2 ? 0 : HIGH_FLAGS));
        cpu.nextRip = rip;
    }

    private static void protectedMode(Cpu cpu, int size) {
        long rip = FarTransfers.peek(cpu, 0, size);
        int selector = (int) FarTransfers.peek(cpu, size, size) & 0xffff;
        int image = (int) FarTransfers.peek(cpu, 2L * size, size);
        if ((image & VM) != 0 && size == 4 && cpu.cpl == 0 && !Segments.longMode(cpu)) {
            toVirtual8086(cpu, rip, selector, image);
            return;
        }
        long code = FarTransfers.readReturnTarget(cpu, selector);
        FarTransfers.checkPresentAndTarget(cpu, selector, code, rip);
        int rpl = selector & 3;
        int mask = imageMask(cpu, size);
        FarShadowStack shadowStack;
        if (rpl != cpu.cpl || cpu.is64Bit()) {
            long sp = FarTransfers.peek(cpu, 3L * size, size);
            int ss = (int) FarTransfers.peek(cpu, 4L * size, size) & 0xffff;
            long stack = FarTransfers.readReturnStack(cpu, ss, rpl, code);
            shadowStack = FarShadowStack.leave(cpu, rpl, selector, code, rip, true);
            FarTransfers.loadCode(cpu, selector, code);
            FarTransfers.toOuter(cpu, rpl, ss, stack, sp, size, 0);
        } else {
            shadowStack = FarShadowStack.leave(cpu, rpl, selector, code, rip, false);
            cpu.reg(Cpu.RSP, cpu.stackBits() / 8, cpu.r[Cpu.RSP] + 3L * size);
            FarTransfers.loadCode(cpu, selector, code);
        }
        flags(cpu, image, mask);
        cpu.nextRip = rip;
        shadowStack.commitReturn();
    }

    /// The flags that the image may change at the privilege level that executes IRET.
    private static int imageMask(Cpu cpu, int size) {
        int mask = LOW_FLAGS | (size == 2 ? 0 : HIGH_FLAGS);
        if (cpu.cpl <= (cpu.systemFlags & IOPL) >> Rflags.IOPL_SHIFT) {
            mask |= IF;
        }
        if (cpu.cpl == 0) {
            mask |= IOPL | (size == 2 ? 0 : VIF | VIP);
        }
        return mask;
    }

    private static void toVirtual8086(Cpu cpu, long rip, int selector, int image) {
        boolean enforced = (cpu.cr4 & Cr4.CET) != 0 && (cpu.cet.uCet & (Cet.SH_STK_EN | Cet.ENDBR_EN)) != 0;
        if (rip > 0xffff || enforced) {
            throw cpu.gp(0);
        }
        long[] slots = new long[6]; // ESP, SS, ES, DS, FS, GS
        for (int i = 0; i < slots.length; i++) {
            slots[i] = FarTransfers.peek(cpu, 12 + 4L * i, 4);
        }
        var shadowStack = FarShadowStack.leave(cpu, 3, selector, 0, rip, true);
        flags(cpu, image, LOW_FLAGS | HIGH_FLAGS | IF | IOPL | VIF | VIP | VM);
        cpu.cpl = 3;
        Segments.fillReal(cpu, Segments.CS, selector);
        Segments.fillReal(cpu, Segments.SS, (int) slots[1]);
        Segments.fillReal(cpu, Cpu.ES, (int) slots[2]);
        Segments.fillReal(cpu, Cpu.DS, (int) slots[3]);
        Segments.fillReal(cpu, Cpu.FS, (int) slots[4]);
        Segments.fillReal(cpu, Cpu.GS, (int) slots[5]);
        cpu.r[Cpu.RSP] = slots[0];
        cpu.nextRip = rip;
        shadowStack.commitReturn();
    }

    private static void flags(Cpu cpu, int image, int mask) {
        cpu.rflags((cpu.rflags() & ~(long) mask) | (image & mask));
    }
}
