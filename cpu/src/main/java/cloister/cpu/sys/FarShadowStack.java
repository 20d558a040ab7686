package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ShadowStack;
import cloister.spec.x86.Cet;
import cloister.spec.x86.ExceptionVector;

/// What far transfers do with shadow stacks. [SDM Vol. 1 "Shadow Stack Usage on Far Transfers"; Vol. 2 CALL, INT n, RET, IRET]
///
/// A transfer asks first ([#enter], [#leave]), when nothing has changed yet: everything that can fault does so there. When it has
/// loaded its registers it commits.
final class FarShadowStack {
    /// CS, the linear return address and the old SSP.
    private static final int FRAME = 24;
    private static final long TOKEN_AND_FRAME = -32;
    private static final FarShadowStack OFF = new FarShadowStack(null);

    private final Cpu cpu;
    private boolean savesUser;
    private boolean switches;
    private boolean pushes;
    private boolean frees;
    private boolean changes;
    /// SSP before the transfer; when it returns, what is above its frame.
    private long old;
    /// SSP afterwards, without a frame.
    private long next;
    private boolean user;
    private long linearIp;
    private int selector;

    private FarShadowStack(Cpu cpu) {
        this.cpu = cpu;
    }

    private static boolean possible(Cpu cpu) {
        return cpu.cet.shadowStackEnabledOutsideVirtual8086(3) || cpu.cet.shadowStackEnabledOutsideVirtual8086(0);
    }

    /// The linear address of `ip` in the code that runs.
    static long linear(Cpu cpu, long ip) {
        return cpu.is64Bit() ? ip : (ip + cpu.segBase[Cpu.CS]) & 0xffff_ffffL;
    }

    /// The linear address of `ip` in the segment of descriptor `code`.
    private static long linear(Cpu cpu, long code, long ip) {
        return wide(cpu, code) ? ip : (ip + Segments.base(code)) & 0xffff_ffffL;
    }

    private static boolean wide(Cpu cpu, long code) {
        return Segments.longMode(cpu) && (Segments.ar(code) & Segments.AR_L) != 0;
    }

    // Calls, interrupts and exceptions

    /// A far CALL, interrupt or exception to `newCpl` and code segment `code`.
    ///
    /// @param ist       the gate's IST index
    /// @param returnRip the return address in the code that runs
    static FarShadowStack enter(Cpu cpu, int newCpl, int ist, long code, long returnRip) {
        if (!possible(cpu)) {
            return OFF;
        }
        var s = new FarShadowStack(cpu);
        s.savesUser = cpu.cpl == 3 && newCpl != 3 && cpu.cet.shadowStackEnabled(3);
        if (!cpu.cet.shadowStackEnabledOutsideVirtual8086(newCpl)) {
            return s;
        }
        boolean inner = newCpl != cpu.cpl;
        s.old = cpu.cet.ssp;
        s.user = newCpl == 3;
        s.selector = cpu.segSelector[Cpu.CS];
        s.linearIp = linear(cpu, returnRip);
        s.pushes = !inner || cpu.cpl != 3;
        s.switches = inner || ist != 0;
        if (s.switches) {
            s.next = ist != 0 ? cpu.readSystem64(cpu.cet.interruptSspTable + 8L * ist) : cpu.cet.plSsp[newCpl];
            s.checkToken(code);
        } else {
            s.checkReachable(s.old, code);
            s.next = s.old & ~7L;
            if ((s.old & 7) != 0) {
                ShadowStack.probeWrite(cpu, s.old - 4, 4, s.user);
            }
        }
        if (s.pushes) {
            ShadowStack.probeWrite(cpu, s.next - FRAME, FRAME, s.user);
        }
        return s;
    }

    /// The new stack must hold a supervisor token that is not busy. Token and frame lie within 32 aligned bytes.
    private void checkToken(long code) {
        if ((next & 7) != 0 || (next & TOKEN_AND_FRAME) != ((next - FRAME) & TOKEN_AND_FRAME)) {
            throw cpu.gp(0);
        }
        checkReachable(next, code);
        ShadowStack.probeWrite(cpu, next, 8, user);
        if (ShadowStack.read(cpu, next, 8, user) != next) {
            throw cpu.gp(0);
        }
    }

    /// Code outside 64-bit mode has its shadow stack below 4 GiB.
    private void checkReachable(long ssp, long code) {
        if (!wide(cpu, code) && ssp >>> 32 != 0) {
            throw cpu.gp(0);
        }
    }

    /// A far JMP to code segment `code`, which must be able to address the shadow stack.
    static FarShadowStack jump(Cpu cpu, long code) {
        if (cpu.cet.shadowStackEnabled(cpu.cpl) && !wide(cpu, code) && cpu.cet.ssp >>> 32 != 0) {
            throw cpu.gp(0);
        }
        return OFF;
    }

    /// Carries out what was asked for and lets the tracker wait; CPL and CS are the new ones.
    void commitEntry(Cpu processor) {
        if (savesUser) {
            cpu.cet.plSsp[3] = cpu.cet.ssp;
        }
        if (switches) {
            ShadowStack.write(cpu, next, 8, next | Cet.TOKEN_BUSY, user);
            cpu.cet.ssp = next;
        } else if (pushes && (old & 7) != 0) {
            ShadowStack.write(cpu, old - 4, 4, 0, user);
        }
        if (pushes) {
            ShadowStack.write(cpu, next - 8, 8, selector, user);
            ShadowStack.write(cpu, next - 16, 8, linearIp, user);
            ShadowStack.write(cpu, next - FRAME, 8, old, user);
            cpu.cet.ssp = next - FRAME;
        }
        processor.cet.far();
    }

    // Returns

    /// A far RET or IRET to `rpl`, `selector`:`rip` in code segment `code`.
    ///
    /// @param frees whether a return to the same level may leave a stack of its own (IRET of 64-bit mode)
    static FarShadowStack leave(Cpu cpu, int rpl, int selector, long code, long rip, boolean frees) {
        if (!possible(cpu)) {
            return OFF;
        }
        var s = new FarShadowStack(cpu);
        boolean outer = rpl != cpu.cpl;
        s.old = cpu.cet.ssp;
        if (cpu.cet.shadowStackEnabled(cpu.cpl)) {
            if ((s.old & 7) != 0) {
                throw cpu.fault(ExceptionVector.CP, Cet.CP_FAR_RET_IRET);
            }
            s.user = cpu.cpl == 3;
            if (!outer || rpl != 3) {
                s.pop(selector, linear(cpu, code, rip), code);
            }
            s.frees = outer || (frees && s.next != s.old);
            if (s.frees) {
                ShadowStack.probeWrite(cpu, s.old, 8, s.user);
            }
        }
        if (outer && rpl == 3 && cpu.cet.shadowStackEnabled(3)) {
            s.next = cpu.cet.plSsp[3];
            s.changes = true;
            s.checkReachable(s.next, code);
        }
        return s;
    }

    /// The frame that the matching call or event pushed.
    private void pop(int returnSelector, long returnLinear, long code) {
        long previous = ShadowStack.read(cpu, old, 8, user);
        long pushedLinear = ShadowStack.read(cpu, old + 8, 8, user);
        long pushedSelector = ShadowStack.read(cpu, old + 16, 8, user);
        if (pushedSelector != returnSelector || pushedLinear != returnLinear || (previous & 3) != 0) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_FAR_RET_IRET);
        }
        checkReachable(previous, code);
        old += FRAME;
        next = previous;
        changes = true;
    }

    /// Loads SSP and gives the stack that is left free. Faults are behind; the token of a stack that had none stays as it is.
    void commitReturn() {
        if (frees) {
            ShadowStack.compareAndSet(cpu, old, old | Cet.TOKEN_BUSY, old, user);
        }
        if (changes) {
            cpu.cet.ssp = next;
        }
    }
}
