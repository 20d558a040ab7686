package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Task switches of legacy protected mode, between 16-bit and 32-bit tasks. [SDM Vol. 3 "Task Switching"]
///
/// In VMX non-root operation every task switch exits. Faults up to the commit point belong to the old task, later ones to the
/// new one, whose selectors are then all loaded and whose EIP is [Cpu#rip].
public final class TaskSwitch {
    static final int CALL = 0;
    static final int IRET = 1;
    static final int JMP = 2;
    static final int GATE = 3;

    private static final int BUSY = 2;
    private static final int TYPE_32 = 8;
    private static final long LOCAL_BREAKPOINTS = 0x155;
    /// The order of the segment registers in a TSS.
    private static final int[] SEGMENTS = {Cpu.ES, Cpu.CS, Cpu.SS, Cpu.DS, Cpu.FS, Cpu.GS};
    /// Where the parts are in a 32-bit and in a 16-bit TSS. [SDM Vol. 3 "Task-State Segment (TSS)", "16-Bit Task-State Segment"]
    private static final int SSP = 0x68;
    private static final int LAST_BYTE_WITH_SSP = 0x6b;
    private static final Layout WIDE = new Layout(4, 0x20, 0x28, 0x48, 4, 6, 0x60, 0x67);
    private static final Layout NARROW = new Layout(2, 0x0e, 0x12, 0x22, 2, 4, 0x2a, 0x2b);

    /// @param size       bytes of a register
    /// @param segmentGap bytes from one selector to the next
    /// @param lastByte   the least limit of the TSS
    private record Layout(int size, int ip, int registers, int selectors, int segmentGap, int segments, int ldt, int lastByte) {
        static Layout of(int ar) {
            return (ar & TYPE_32) != 0 ? WIDE : NARROW;
        }

        int flags() {
            return ip + size;
        }
    }

    /// What the new TSS holds.
    private static final class Incoming {
        long cr3;
        long ip;
        long flags;
        boolean trap;
        long ssp;
        int ldt;
        final long[] registers = new long[8];
        final int[] selectors = new int[6];
    }

    private TaskSwitch() {
    }

    /// An interrupt or exception through a task gate.
    static void throughGate(Cpu cpu, long gate, int ext, int errorCode, boolean hasErrorCode, long returnRip, long flags) {
        int selector = (int) (gate >>> 16) & 0xffff;
        cpu.vmx.interceptTaskSwitch(cpu, selector, GATE);
        Layout layout = enter(cpu, selector, GATE, ext, returnRip, flags);
        if (hasErrorCode) {
            cpu.push(errorCode & 0xffff_ffffL, layout.size);
        }
    }

    /// For software that carries out the task switch of a VM exit.
    ///
    /// @param source    as the exit qualification has it
    /// @param event     whether a hardware event causes it
    /// @param errorCode what the event leaves on the new task's stack, or -1
    public static void emulate(Cpu cpu, int selector, int source, boolean event, long errorCode) {
        Layout layout = enter(cpu, selector, source, event ? 1 : 0, cpu.nextRip, cpu.rflags());
        if (errorCode >= 0) {
            cpu.push(errorCode, layout.size);
        }
    }

    /// JMP, CALL and IRET; privileges are checked.
    static void switchTo(Cpu cpu, int selector, int source) {
        cpu.vmx.interceptTaskSwitch(cpu, selector, source);
        enter(cpu, selector, source, 0, cpu.nextRip, cpu.rflags());
    }

    private static Layout enter(Cpu cpu, int selector, int source, int ext, long returnRip, long flags) {
        boolean returns = source == IRET;
        long descriptor = target(cpu, selector, returns, ext);
        Layout layout = Layout.of(Segments.ar(descriptor));
        long base = Segments.base(descriptor);
        Incoming task = read(cpu, layout, base);
        long oldAt = Segments.descriptorAddress(cpu, cpu.segSelector[Cpu.TR], 8);
        long newAt = Segments.descriptorAddress(cpu, selector, 8);
        cpu.probeSystemWrite(newAt, 8);
        cpu.probeSystemWrite(base, 2);
        save(cpu, returnRip, returns ? flags & ~Rflags.NT : flags);
        boolean nests = source == CALL || source == GATE;
        if (!nests && oldAt != -1) {
            busy(cpu, oldAt, false);
        }
        if (nests) {
            cpu.writeSystem16(base, cpu.segSelector[Cpu.TR]);
            task.flags |= Rflags.NT;
        }
        if (!returns) {
            busy(cpu, newAt, true);
        }
        var shadowStack = TaskShadowStack.leave(cpu, source, newCpl(task), returnRip);
        Segments.fill(cpu, Cpu.TR, selector & 0xfffc, descriptor | ((long) BUSY << 40));
        // The commit point.
        load(cpu, layout, task, ext);
        shadowStack.enter(task.ssp);
        return layout;
    }

    /// The TSS descriptor. [SDM Vol. 3 "Exception Conditions Checked During a Task Switch"]
    private static long target(Cpu cpu, int selector, boolean returns, int ext) {
        int code = (selector & 0xfffc) | ext;
        int vector = returns ? ExceptionVector.TS : ExceptionVector.GP;
        if (Segments.isNull(selector) || (selector & 4) != 0) {
            throw cpu.fault(vector, code);
        }
        long descriptor = Segments.read(cpu, selector, vector, ext);
        int ar = Segments.ar(descriptor);
        int wanted = Segments.TYPE_TSS16 | (returns ? BUSY : 0);
        if ((ar & 0x1f & ~TYPE_32) != wanted) {
            throw cpu.fault(vector, code);
        }
        if (!Segments.present(descriptor)) {
            throw cpu.fault(ExceptionVector.NP, code);
        }
        boolean enforcing = (cpu.cr4 & Cr4.CET) != 0; // then tasks are 32-bit ones and have an SSP
        int lastByte = enforcing ? LAST_BYTE_WITH_SSP : Layout.of(ar).lastByte;
        if ((enforcing && (ar & TYPE_32) == 0) || (Segments.limit(descriptor) & 0xffff_ffffL) < lastByte) {
            throw cpu.fault(ExceptionVector.TS, code);
        }
        return descriptor;
    }

    private static Incoming read(Cpu cpu, Layout layout, long base) {
        var task = new Incoming();
        int size = layout.size;
        boolean wide = size == 4;
        task.cr3 = wide ? cpu.readSystem32(base + 0x1c) : cpu.cr3;
        task.ip = cpu.readSystem(base + layout.ip, size);
        task.flags = cpu.readSystem(base + layout.flags(), size);
        for (int i = 0; i < 8; i++) {
            task.registers[i] = cpu.readSystem(base + layout.registers + (long) size * i, size);
        }
        for (int i = 0; i < layout.segments; i++) {
            task.selectors[i] = (int) cpu.readSystem16(base + layout.selectors + (long) layout.segmentGap * i);
        }
        task.ldt = (int) cpu.readSystem16(base + layout.ldt);
        task.trap = wide && (cpu.readSystem16(base + 0x64) & 1) != 0;
        task.ssp = (cpu.cr4 & Cr4.CET) != 0 ? cpu.readSystem32(base + SSP) : 0;
        return task;
    }

    private static void save(Cpu cpu, long returnRip, long flags) {
        Layout layout = Layout.of(cpu.segAr[Cpu.TR]);
        long base = cpu.segBase[Cpu.TR];
        int size = layout.size;
        cpu.probeSystemWrite(base + layout.ip, layout.ldt - layout.ip);
        cpu.writeSystem(base + layout.ip, size, returnRip);
        cpu.writeSystem(base + layout.flags(), size, flags);
        for (int i = 0; i < 8; i++) {
            cpu.writeSystem(base + layout.registers + (long) size * i, size, cpu.r[i]);
        }
        for (int i = 0; i < layout.segments; i++) {
            cpu.writeSystem16(base + layout.selectors + (long) layout.segmentGap * i, cpu.segSelector[SEGMENTS[i]]);
        }
    }

    private static void busy(Cpu cpu, long descriptorAt, boolean busy) {
        long access = cpu.readSystem8(descriptorAt + 5);
        cpu.writeSystem8(descriptorAt + 5, busy ? access | BUSY : access & ~BUSY);
    }

    private static int newCpl(Incoming task) {
        return (task.flags & Rflags.VM) != 0 ? 3 : task.selectors[1] & 3;
    }

    // The new task

    private static void load(Cpu cpu, Layout layout, Incoming task, int ext) {
        cpu.cr0 |= Cr0.TS;
        cpu.dr7 &= ~LOCAL_BREAKPOINTS;
        cpu.rip = task.ip;
        cpu.nextRip = task.ip;
        cpu.rflags(task.flags | Rflags.FIXED_1);
        System.arraycopy(task.registers, 0, cpu.r, 0, 8);
        for (int i = 0; i < SEGMENTS.length; i++) {
            Segments.fillNull(cpu, SEGMENTS[i], task.selectors[i]);
        }
        Segments.fillNull(cpu, Cpu.LDTR, task.ldt);
        boolean virtual8086 = (task.flags & Rflags.VM) != 0;
        cpu.cpl = newCpl(task);
        if (layout.size == 4 && (cpu.cr0 & Cr0.PG) != 0 && task.cr3 != cpu.cr3) {
            ControlRegisters.writeCr3(cpu, task.cr3);
        }
        if (task.trap) {
            cpu.events.pendingDebug |= DebugRegisters.DR6_BT;
        }
        cpu.events.raise();
        loadLdt(cpu, task.ldt, ext);
        if (virtual8086) {
            for (int i = 0; i < SEGMENTS.length; i++) {
                Segments.fillReal(cpu, SEGMENTS[i], task.selectors[i]);
            }
        } else {
            loadSegments(cpu, task, ext);
        }
        cpu.updateMode();
        if (task.ip > (cpu.segLimit[Cpu.CS] & 0xffff_ffffL)) {
            throw cpu.gp(ext);
        }
    }

    private static void loadLdt(Cpu cpu, int selector, int ext) {
        if (Segments.isNull(selector)) {
            return;
        }
        long at = (selector & 4) != 0 ? -1 : Segments.descriptorAddress(cpu, selector, 8);
        long descriptor = at == -1 ? 0 : cpu.readSystem64(at);
        if (at == -1 || (Segments.ar(descriptor) & 0x1f) != Segments.TYPE_LDT || !Segments.present(descriptor)) {
            throw cpu.fault(ExceptionVector.TS, (selector & 0xfffc) | ext);
        }
        Segments.fill(cpu, Cpu.LDTR, selector, descriptor);
    }

    private static void loadSegments(Cpu cpu, Incoming task, int ext) {
        int cs = task.selectors[1];
        long code = descriptor(cpu, cs, ext);
        int ar = Segments.ar(code);
        int rpl = cs & 3;
        boolean allowed = Segments.isConforming(ar) ? Segments.dpl(ar) <= rpl : Segments.dpl(ar) == rpl;
        if (!Segments.isCode(ar) || !allowed) {
            throw cpu.fault(ExceptionVector.TS, (cs & 0xfffc) | ext);
        }
        if (!Segments.present(code)) {
            throw cpu.fault(ExceptionVector.NP, (cs & 0xfffc) | ext);
        }
        Segments.fill(cpu, Cpu.CS, cs, Segments.markAccessed(cpu, cs, code));
        cpu.updateMode();
        Segments.loadStack(cpu, task.selectors[2], cpu.cpl, ExceptionVector.TS, ext);
        for (int i : new int[] {0, 3, 4, 5}) {
            loadData(cpu, SEGMENTS[i], task.selectors[i], ext);
        }
    }

    private static long descriptor(Cpu cpu, int selector, int ext) {
        if (Segments.isNull(selector)) {
            throw cpu.fault(ExceptionVector.TS, (selector & 0xfffc) | ext);
        }
        return Segments.read(cpu, selector, ExceptionVector.TS, ext);
    }

    private static void loadData(Cpu cpu, int seg, int selector, int ext) {
        if (Segments.isNull(selector)) {
            return;
        }
        long descriptor = descriptor(cpu, selector, ext);
        int ar = Segments.ar(descriptor);
        if (!Segments.isReadable(ar) || Segments.outranks(cpu, selector, ar)) {
            throw cpu.fault(ExceptionVector.TS, (selector & 0xfffc) | ext);
        }
        if (!Segments.present(descriptor)) {
            throw cpu.fault(ExceptionVector.NP, (selector & 0xfffc) | ext);
        }
        Segments.fill(cpu, seg, selector, Segments.markAccessed(cpu, selector, descriptor));
    }
}
