package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.spec.x86.Efer;
import cloister.spec.x86.Rflags;

/// SYSCALL, SYSRET, SYSENTER and SYSEXIT. They fill CS and SS with fixed flat segments, no descriptor is read.
final class FastCalls {
    private static final int CODE = 0x809b;
    private static final int DATA = 0xc093;
    private static final int DPL3 = 3 << 5;

    private FastCalls() {
    }

    static void syscall(Cpu cpu) {
        if (!cpu.is64Bit() || (cpu.efer & Efer.SCE) == 0) {
            throw cpu.ud();
        }
        int before = cpu.systemFlags;
        long flags = cpu.rflags();
        saveUserSsp(cpu);
        cpu.r[Cpu.RCX] = cpu.nextRip;
        cpu.r[11] = flags;
        cpu.nextRip = cpu.lstar;
        cpu.rflags(flags & ~cpu.fmask & ~Rflags.RF);
        int selector = (int) (cpu.star >>> 32) & 0xfffc;
        flat(cpu, Segments.CS, selector, CODE | Segments.AR_L);
        flat(cpu, Segments.SS, selector + 8, DATA);
        cpu.cpl = 0;
        if ((cpu.fmask & Rflags.TF) != 0) {
            cpu.events.deliveries++; // no single-step trap when SYSCALL clears TF
        }
        FlagInstructions.changed(cpu, before);
        enterSupervisor(cpu);
    }

    static void sysret(Cpu cpu, int operandSize) {
        if (!cpu.is64Bit() || (cpu.efer & Efer.SCE) == 0) {
            throw cpu.ud();
        }
        ControlRegisters.requireCpl0(cpu);
        boolean wide = operandSize == 8;
        long target = wide ? cpu.r[Cpu.RCX] : cpu.r[Cpu.RCX] & 0xffff_ffffL;
        if (!cpu.canonical(target)) {
            throw cpu.gp(0);
        }
        int before = cpu.systemFlags;
        int selector = (int) (cpu.star >>> 48) & 0xffff;
        cpu.nextRip = target;
        cpu.rflags((cpu.r[11] & 0x3c_7fd7) | 2);
        flat(cpu, Segments.CS, (wide ? selector + 16 : selector) | 3, CODE | DPL3 | (wide ? Segments.AR_L : Segments.AR_DB));
        flat(cpu, Segments.SS, (selector + 8) | 3, DATA | DPL3);
        cpu.cpl = 3;
        FlagInstructions.changed(cpu, before);
        enterUser(cpu);
    }

    static void sysenter(Cpu cpu) {
        int selector = (int) cpu.sysenterCs & 0xfffc;
        if (!cpu.protectedMode() || selector == 0) {
            throw cpu.gp(0);
        }
        boolean longMode = Segments.longMode(cpu);
        saveUserSsp(cpu);
        cpu.systemFlags((int) (Rflags.VM | Rflags.IF | Rflags.RF), 0);
        cpu.r[Cpu.RSP] = longMode ? cpu.sysenterEsp : cpu.sysenterEsp & 0xffff_ffffL;
        cpu.nextRip = longMode ? cpu.sysenterEip : cpu.sysenterEip & 0xffff_ffffL;
        flat(cpu, Segments.CS, selector, CODE | (longMode ? Segments.AR_L : Segments.AR_DB));
        flat(cpu, Segments.SS, selector + 8, DATA);
        cpu.cpl = 0;
        cpu.updateMode();
        enterSupervisor(cpu);
    }

    static void sysexit(Cpu cpu, int operandSize) {
        int selector = (int) cpu.sysenterCs & 0xfffc;
        if (!cpu.protectedMode() || selector == 0 || cpu.cpl != 0) {
            throw cpu.gp(0);
        }
        boolean wide = operandSize == 8;
        if (wide && (!cpu.canonical(cpu.r[Cpu.RCX]) || !cpu.canonical(cpu.r[Cpu.RDX]))) {
            throw cpu.gp(0);
        }
        cpu.r[Cpu.RSP] = Segments.size(cpu.r[Cpu.RCX], wide ? 8 : 4);
        cpu.nextRip = Segments.size(cpu.r[Cpu.RDX], wide ? 8 : 4);
        int code = selector + (wide ? 32 : 16);
        flat(cpu, Segments.CS, code | 3, CODE | DPL3 | (wide ? Segments.AR_L : Segments.AR_DB));
        flat(cpu, Segments.SS, (code + 8) | 3, DATA | DPL3);
        cpu.cpl = 3;
        cpu.updateMode();
        enterUser(cpu);
    }

    private static void saveUserSsp(Cpu cpu) {
        if (cpu.cet.shadowStackEnabled(cpu.cpl)) {
            cpu.cet.plSsp[3] = cpu.cet.ssp;
        }
    }

    /// Supervisor code finds no shadow stack (it fetches one by SETSSBSY), and must begin with ENDBRANCH.
    private static void enterSupervisor(Cpu cpu) {
        if (cpu.cet.shadowStackEnabled(0)) {
            cpu.cet.ssp = 0;
        }
        cpu.cet.far();
    }

    private static void enterUser(Cpu cpu) {
        if (cpu.cet.shadowStackEnabled(3)) {
            cpu.cet.ssp = cpu.cet.plSsp[3];
        }
    }

    private static void flat(Cpu cpu, int seg, int selector, int ar) {
        cpu.segSelector[seg] = selector & 0xffff;
        cpu.segBase[seg] = 0;
        cpu.segLimit[seg] = -1;
        cpu.segAr[seg] = ar;
    }
}
