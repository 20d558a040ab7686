package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.GuestFault;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Delivers interrupts and exceptions. [SDM Vol. 3 "Interrupt and Exception Handling"]
public final class EventDelivery {
    private static final int CLEARED_FLAGS = (int) (Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM);
    private static final int GATE_TYPE = 0x1f;
    /// The IDT bit of an error code.
    private static final int IDT = 2;

    private EventDelivery() {
    }

    /// Delivers the fault that [cpu#rip] raised. On return `rip` and `nextRip` are the handler's first instruction.
    public static void deliverFault(Cpu cpu, GuestFault f) {
        deliver(cpu, Interruption.HARDWARE_EXCEPTION, f.vector, f.errorCode,
                ExceptionVector.hasErrorCode(f.vector), cpu.rip, f.address, false);
    }

    /// INT n (type 4), INT1 (type 5), INT3 and INTO (type 6), called inside the instruction.
    static void software(Cpu cpu, int type, int vector) {
        long faulting = cpu.rip;
        deliver(cpu, type, vector, 0, false, cpu.nextRip, 0, false);
        cpu.rip = faulting; // the engine looks at nextRip only
    }

    /// Delivers an event through the IDT, serial faults, #DF and triple fault included. On return `rip` and `nextRip` are the
    /// handler's first instruction; after a triple fault outside VMX the processor is in shutdown. In non-root operation this asks
    /// the exception bitmap for every exception but an injected first one. `rip` is the instruction at the boundary, or the one that
    /// causes the event.
    ///
    /// @param type      of [Interruption]
    /// @param errorCode pushed when `hasErrorCode`
    /// @param returnRip the return address to push; for software events the next instruction
    /// @param address   the linear address of #PF, the DR6 bits of #DB, else 0
    /// @param injected  by VM entry: no interception of this event itself, CR2 and DR6 stay
    public static void deliver(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long returnRip,
            long address, boolean injected) {
        PendingEvents events = cpu.events;
        if (!injected) {
            intercept(cpu, type, vector, errorCode, hasErrorCode, address);
        }
        boolean record = !injected;
        while (true) {
            events.startVectoring(type, vector, errorCode, hasErrorCode, (int) (returnRip - cpu.rip));
            try {
                if (record) {
                    recordAddress(cpu, type, vector, address);
                }
                throughTable(cpu, type, vector, errorCode, hasErrorCode && !realMode(cpu), returnRip);
                cpu.rip = cpu.nextRip;
                if (cpu.shadow() != 0) { // of STI or MOV SS: it ends with the event, whoever injected it
                    cpu.shadowAt = -1;
                }
                events.activity = PendingEvents.ACTIVE;
                events.deliveries++;
                return;
            } catch (GuestFault second) {
                returnRip = cpu.rip; // a software event's own instruction, or the new task's after a task switch
                int first = type == Interruption.HARDWARE_EXCEPTION ? vector : -1;
                vector = second.vector;
                errorCode = second.errorCode;
                address = second.address;
                // The bitmap is asked for the fault itself, before it makes a double or triple fault of both. [SDM Vol. 3 "Information
                // for VM Exits That Occur During Event Delivery"]
                intercept(cpu, Interruption.HARDWARE_EXCEPTION, vector, errorCode, ExceptionVector.hasErrorCode(vector), address);
                if (first == ExceptionVector.DF && severity(vector) > 0) {
                    events.endVectoring();
                    cpu.vmx.tripleFault(cpu);
                    events.activity = PendingEvents.SHUTDOWN;
                    events.raise();
                    return;
                }
                if (doubles(first, vector)) {
                    events.endVectoring();
                    vector = ExceptionVector.DF;
                    errorCode = 0;
                    intercept(cpu, Interruption.HARDWARE_EXCEPTION, vector, errorCode, true, address);
                }
                type = Interruption.HARDWARE_EXCEPTION;
                hasErrorCode = ExceptionVector.hasErrorCode(vector);
                record = true;
            } finally {
                events.endVectoring();
            }
        }
    }

    private static boolean realMode(Cpu cpu) {
        return (cpu.cr0 & Cr0.PE) == 0;
    }

    private static void intercept(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long address) {
        if (cpu.vmx.active() && type != Interruption.EXTERNAL && type != Interruption.SOFTWARE_INTERRUPT
                && type != Interruption.NMI) {
            cpu.vmx.interceptException(cpu, vector, type, errorCode, hasErrorCode, address);
        }
    }

    private static void recordAddress(Cpu cpu, int type, int vector, long address) {
        if (vector == ExceptionVector.PF && type == Interruption.HARDWARE_EXCEPTION) {
            cpu.cr2 = address;
        } else if (vector == ExceptionVector.DB && type != Interruption.SOFTWARE_INTERRUPT) {
            if (type == Interruption.HARDWARE_EXCEPTION) {
                cpu.dr6 = (cpu.dr6 & ~(0xfL | (address & DebugRegisters.PENDING_BUS_LOCK))) | (address & 0xe00f);
            }
            cpu.dr7 &= ~DebugRegisters.DR7_GD;
            cpu.debugctl &= ~3L; // LBR and BTF
        }
    }

    private static boolean isSoftware(int type) {
        return type == Interruption.SOFTWARE_INTERRUPT || type == Interruption.SOFTWARE_EXCEPTION
                || type == Interruption.PRIVILEGED_SOFTWARE_EXCEPTION;
    }

    /// 0 benign, 1 contributory, 2 page fault and virtualization exception. [SDM Vol. 3 "Interrupt 8—Double Fault Exception"]
    private static int severity(int vector) {
        return switch (vector) {
            case ExceptionVector.DE, ExceptionVector.TS, ExceptionVector.NP, ExceptionVector.SS, ExceptionVector.GP,
                    ExceptionVector.CP -> 1;
            case ExceptionVector.PF, ExceptionVector.VE -> 2;
            default -> 0;
        };
    }

    static boolean doubles(int first, int second) {
        if (first < 0) {
            return false;
        }
        int a = severity(first);
        int b = severity(second);
        return (a == 1 && b == 1) || (a == 2 && b >= 1);
    }

    private static void throughTable(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long returnRip) {
        if (realMode(cpu)) {
            realMode(cpu, type, vector, returnRip);
        } else if (Segments.longMode(cpu)) {
            longMode(cpu, type, vector, errorCode, hasErrorCode, returnRip);
        } else if (type == Interruption.SOFTWARE_INTERRUPT && cpu.virtual8086() && virtual8086Interrupt(cpu, vector, returnRip)) {
            cpu.updateMode();
        } else {
            ProtectedDelivery.deliver(cpu, type, vector, errorCode, hasErrorCode, returnRip);
        }
    }

    // Real-address mode

    private static void realMode(Cpu cpu, int type, int vector, long returnRip) {
        if (vector * 4 + 3 > (cpu.idtrLimit & 0xffff)) {
            throw cpu.gp(vector * 8 + IDT + (isSoftware(type) ? 0 : 1));
        }
        long entry = cpu.readSystem((cpu.idtrBase + vector * 4L) & 0xffff_ffffL, 4);
        int flags = (int) cpu.rflags();
        pushThree(cpu, flags, returnRip);
        cpu.systemFlags((int) (Rflags.IF | Rflags.TF | Rflags.AC | Rflags.RF), 0);
        Segments.fillReal(cpu, Segments.CS, (int) (entry >>> 16));
        cpu.nextRip = entry & 0xffff;
        cpu.updateMode();
    }

    private static void pushThree(Cpu cpu, int flags, long returnRip) {
        int width = cpu.stackBits() / 8;
        long sp = cpu.r[Cpu.RSP];
        long[] at = new long[3];
        for (int i = 0; i < 3; i++) {
            sp = Segments.size(sp - 2, width);
            at[i] = cpu.linear(Segments.SS, sp, 2, true);
            cpu.probeWrite(at[i], 2);
        }
        cpu.write(at[0], 2, flags);
        cpu.write(at[1], 2, cpu.segSelector[Segments.CS]);
        cpu.write(at[2], 2, returnRip);
        cpu.reg(Cpu.RSP, width, sp);
    }

    /// INT n in virtual-8086 mode. [SDM Vol. 3 "Software Interrupt Handling Methods While Operating in Virtual-8086 Mode"]
    ///
    /// @return whether it was redirected to the virtual-8086 program's own handler
    private static boolean virtual8086Interrupt(Cpu cpu, int vector, long returnRip) {
        boolean iopl3 = (cpu.systemFlags & (int) Rflags.IOPL) == (int) Rflags.IOPL;
        if ((cpu.cr4 & Cr4.VME) == 0 || redirectionBit(cpu, vector)) {
            if (!iopl3) {
                throw cpu.gp(0);
            }
            return false;
        }
        int flags = (int) cpu.rflags();
        if (!iopl3) {
            flags = (flags & ~(int) Rflags.IF) | (int) Rflags.IOPL
                    | ((flags & (int) Rflags.VIF) != 0 ? (int) Rflags.IF : 0);
        }
        long entry = cpu.read(vector * 4L, 4);
        pushThree(cpu, flags, returnRip);
        cpu.systemFlags((int) (Rflags.TF | (iopl3 ? Rflags.IF : Rflags.VIF)), 0);
        Segments.fillReal(cpu, Segments.CS, (int) (entry >>> 16));
        cpu.nextRip = entry & 0xffff;
        return true;
    }

    private static boolean redirectionBit(Cpu cpu, int vector) {
        int bitmapEnd = (int) cpu.readSystem(cpu.segBase[Cpu.TR] + 102, 2);
        long at = bitmapEnd - 32L + vector / 8;
        if (at < 0 || at > (cpu.segLimit[Cpu.TR] & 0xffff_ffffL)) {
            throw cpu.gp(0);
        }
        return ((cpu.readSystem(cpu.segBase[Cpu.TR] + at, 1) >>> (vector % 8)) & 1) != 0;
    }

    // 64-bit

    private static void longMode(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long returnRip) {
        boolean software = isSoftware(type) && type != Interruption.PRIVILEGED_SOFTWARE_EXCEPTION;
        int ext = software ? 0 : 1;
        int gateCode = vector * 8 + IDT + ext;
        if (vector * 16 + 15 > (cpu.idtrLimit & 0xffff)) {
            throw cpu.gp(gateCode);
        }
        long gate = cpu.readSystem(cpu.idtrBase + vector * 16L, 8);
        long upper = cpu.readSystem(cpu.idtrBase + vector * 16L + 8, 8);
        int gateType = (int) (gate >>> 40) & GATE_TYPE;
        if ((gateType != Segments.TYPE_INTERRUPT_GATE && gateType != Segments.TYPE_TRAP_GATE)
                || (software && Segments.dpl(Segments.ar(gate)) < cpu.cpl)) {
            throw cpu.gp(gateCode);
        }
        if (!Segments.present(gate)) {
            throw cpu.fault(ExceptionVector.NP, gateCode);
        }
        int selector = (int) (gate >>> 16) & 0xffff;
        long code = readTarget(cpu, selector, ext);
        int ar = Segments.ar(code);
        if ((ar & (Segments.AR_L | Segments.AR_DB)) != Segments.AR_L) {
            throw cpu.gp((selector & 0xfffc) | ext);
        }
        long target = (gate & 0xffff) | ((gate >>> 32) & 0xffff_0000L) | (upper << 32);
        if (!cpu.canonical(target)) {
            throw cpu.gp(ext);
        }
        int newCpl = Segments.isConforming(ar) ? cpu.cpl : Segments.dpl(ar);
        int ist = (int) (gate >>> 32) & 7;
        long top = newStack(cpu, newCpl, ist, ext) & -16;
        long sp = probeFrame(cpu, top, newCpl, hasErrorCode, ext);
        var shadowStack = FarShadowStack.enter(cpu, newCpl, ist, code, returnRip);
        pushFrame(cpu, top, newCpl, pushedFlags(cpu, type, vector), returnRip, errorCode, hasErrorCode);
        // All checks passed; nothing below may fail.
        boolean inner = newCpl != cpu.cpl;
        Segments.fill(cpu, Segments.CS, (selector & 0xfffc) | newCpl, code);
        if (inner) {
            Segments.fillNullStack(cpu, newCpl, newCpl);
        }
        cpu.cpl = newCpl;
        cpu.r[Cpu.RSP] = sp;
        cpu.systemFlags(CLEARED_FLAGS | (gateType == Segments.TYPE_INTERRUPT_GATE ? (int) Rflags.IF : 0), 0);
        cpu.nextRip = target;
        cpu.updateMode();
        shadowStack.commitEntry(cpu);
    }

    /// The code segment that a gate names, accessed.
    static long readTarget(Cpu cpu, int selector, int ext) {
        if (Segments.isNull(selector)) {
            throw cpu.gp(ext);
        }
        long code = Segments.read(cpu, selector, ExceptionVector.GP, ext);
        int ar = Segments.ar(code);
        if (!Segments.isCode(ar) || Segments.dpl(ar) > cpu.cpl) {
            throw cpu.gp((selector & 0xfffc) | ext);
        }
        if (!Segments.present(code)) {
            throw cpu.fault(ExceptionVector.NP, (selector & 0xfffc) | ext);
        }
        return Segments.markAccessed(cpu, selector, code);
    }

    private static long newStack(Cpu cpu, int newCpl, int ist, int ext) {
        if (ist == 0 && newCpl == cpu.cpl) {
            return cpu.r[Cpu.RSP];
        }
        return tssStack(cpu, ist != 0 ? 36 + (ist - 1) * 8 : 4 + newCpl * 8, ext);
    }

    /// A stack pointer of the 64-bit TSS.
    static long tssStack(Cpu cpu, int offset, int ext) {
        if (offset + 7 > (cpu.segLimit[Cpu.TR] & 0xffff_ffffL)) {
            throw cpu.fault(ExceptionVector.TS, (cpu.segSelector[Cpu.TR] & 0xfffc) | ext);
        }
        long sp = cpu.readSystem(cpu.segBase[Cpu.TR] + offset, 8);
        if (!cpu.canonical(sp)) {
            throw cpu.fault(ExceptionVector.SS, ext);
        }
        return sp;
    }

    /// RFLAGS as pushed: RF is set for faults, so that an instruction breakpoint does not hit twice.
    static long pushedFlags(Cpu cpu, int type, int vector) {
        long flags = cpu.rflags();
        return type == Interruption.HARDWARE_EXCEPTION && vector != ExceptionVector.DB ? flags | Rflags.RF : flags;
    }

    /// Makes sure that the frame can be pushed; returns where it ends.
    private static long probeFrame(Cpu cpu, long top, int newCpl, boolean hasErrorCode, int ext) {
        int bytes = hasErrorCode ? 48 : 40;
        long sp = top - bytes;
        if (!cpu.canonical(sp) || !cpu.canonical(top - 1)) {
            throw cpu.fault(ExceptionVector.SS, ext);
        }
        if (newCpl == 3) {
            cpu.probeWrite(sp, bytes);
        } else {
            cpu.probeSystemWrite(sp, bytes);
        }
        return sp;
    }

    private static void pushFrame(Cpu cpu, long top, int newCpl, long flags, long returnRip, int errorCode, boolean hasErrorCode) {
        boolean user = newCpl == 3;
        put(cpu, user, top - 8, cpu.segSelector[Segments.SS]);
        put(cpu, user, top - 16, cpu.r[Cpu.RSP]);
        put(cpu, user, top - 24, flags);
        put(cpu, user, top - 32, cpu.segSelector[Segments.CS]);
        put(cpu, user, top - 40, returnRip);
        if (hasErrorCode) {
            put(cpu, user, top - 48, errorCode & 0xffff_ffffL);
        }
    }

    private static void put(Cpu cpu, boolean user, long linear, long value) {
        if (user) {
            cpu.write(linear, 8, value);
        } else {
            cpu.writeSystem(linear, 8, value);
        }
    }
}
