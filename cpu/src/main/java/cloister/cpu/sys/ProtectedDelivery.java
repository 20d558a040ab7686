package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// Interrupts and exceptions through 16-bit, 32-bit and task gates of legacy protected mode, from virtual-8086 mode too.
/// [SDM Vol. 2 INT n "PROTECTED-MODE"]
final class ProtectedDelivery {
    private static final int CLEARED_FLAGS = (int) (Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM);

    private ProtectedDelivery() {
    }

    static void deliver(Cpu cpu, int type, int vector, int errorCode, boolean hasErrorCode, long returnRip) {
        boolean software = type == Interruption.SOFTWARE_INTERRUPT || type == Interruption.SOFTWARE_EXCEPTION;
        int ext = software ? 0 : 1;
        int gateCode = vector * 8 + 2 + ext;
        if (vector * 8 + 7 > (cpu.idtrLimit & 0xffff)) {
            throw cpu.gp(gateCode);
        }
        long gate = cpu.readSystem((cpu.idtrBase + vector * 8L) & 0xffff_ffffL, 8);
        int gateType = (int) (gate >>> 40) & 0x1f;
        boolean known = gateType == Segments.TYPE_TASK_GATE || (gateType & ~9) == Segments.TYPE_INTERRUPT_GATE16;
        if (!known || (software && Segments.dpl(Segments.ar(gate)) < cpu.cpl)) {
            throw cpu.gp(gateCode);
        }
        if (!Segments.present(gate)) {
            throw cpu.fault(ExceptionVector.NP, gateCode);
        }
        if (gateType == Segments.TYPE_TASK_GATE) {
            TaskSwitch.throughGate(cpu, gate, ext, errorCode, hasErrorCode, returnRip,
                    EventDelivery.pushedFlags(cpu, type, vector));
            return;
        }
        int size = (gateType & 8) != 0 ? 4 : 2;
        int selector = (int) (gate >>> 16) & 0xffff;
        long code = EventDelivery.readTarget(cpu, selector, ext);
        int ar = Segments.ar(code);
        boolean fromV86 = cpu.virtual8086();
        boolean inner = !Segments.isConforming(ar) && Segments.dpl(ar) < cpu.cpl;
        if (fromV86 && (!inner || Segments.dpl(ar) != 0)) {
            throw cpu.gp((selector & 0xfffc) | ext);
        }
        int newCpl = inner ? Segments.dpl(ar) : cpu.cpl;
        long target = size == 4 ? (gate & 0xffff) | ((gate >>> 32) & 0xffff_0000L) : gate & 0xffff;
        if (target > (Segments.limit(code) & 0xffff_ffffL)) {
            throw cpu.gp(ext);
        }
        var frame = inner ? InnerStack.of(cpu, newCpl, ext) : InnerStack.current(cpu, ext);
        int slots = (hasErrorCode ? 4 : 3) + (inner ? 2 : 0) + (fromV86 ? 4 : 0);
        frame.reserve(slots, size);
        var shadowStack = FarShadowStack.enter(cpu, newCpl, 0, code, returnRip);
        if (fromV86) {
            for (int seg : new int[] {Cpu.GS, Cpu.FS, Cpu.DS, Cpu.ES}) {
                frame.push(cpu.segSelector[seg]);
            }
        }
        if (inner) {
            frame.push(cpu.segSelector[Segments.SS]);
            frame.push(cpu.r[Cpu.RSP]);
        }
        frame.push(EventDelivery.pushedFlags(cpu, type, vector));
        frame.push(cpu.segSelector[Segments.CS]);
        frame.push(returnRip);
        if (hasErrorCode) {
            frame.push(errorCode);
        }
        // All checks passed; nothing below may fail.
        if (fromV86) {
            for (int seg : new int[] {Cpu.GS, Cpu.FS, Cpu.DS, Cpu.ES}) {
                Segments.fillNull(cpu, seg, 0);
            }
        }
        cpu.systemFlags(CLEARED_FLAGS | ((gateType & 1) == 0 ? (int) Rflags.IF : 0), 0);
        frame.commit(newCpl);
        Segments.fill(cpu, Segments.CS, (selector & 0xfffc) | newCpl, code);
        cpu.cpl = newCpl;
        cpu.nextRip = target;
        cpu.updateMode();
        shadowStack.commitEntry(cpu);
    }
}
