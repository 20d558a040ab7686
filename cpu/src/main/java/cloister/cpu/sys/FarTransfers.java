package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.ExceptionVector;

/// Far JMP, CALL and RET. [SDM Vol. 3 "Privilege Levels", "Control Transfers Among Code Segments"]
final class FarTransfers {
    private FarTransfers() {
    }

    static void jump(Cpu cpu, Instruction insn) {
        transfer(cpu, insn, false);
    }

    static void call(Cpu cpu, Instruction insn) {
        transfer(cpu, insn, true);
    }

    private static void transfer(Cpu cpu, Instruction insn, boolean call) {
        int size = insn.operandSize;
        long offset;
        int selector;
        if (insn.kind0 == OperandKind.FAR) {
            offset = Segments.size(insn.imm, size);
            selector = (int) insn.imm2 & 0xffff;
        } else {
            long at = cpu.ea(insn);
            offset = cpu.read(cpu.linear(insn.segment, at, size, false), size);
            long selectorAt = Segments.size(at + size, insn.addressSize);
            selector = (int) cpu.read(cpu.linear(insn.segment, selectorAt, 2, false), 2);
        }
        if (cpu.realOrVirtual8086()) {
            realMode(cpu, selector, offset, size, call);
            cpu.updateMode();
            return;
        }
        var shadowStack = protectedMode(cpu, selector, offset, size, call);
        cpu.updateMode();
        if (shadowStack != null) {
            shadowStack.commitEntry(cpu);
        }
    }

    private static void realMode(Cpu cpu, int selector, long offset, int size, boolean call) {
        if (offset > (cpu.segLimit[Segments.CS] & 0xffff_ffffL)) {
            throw cpu.gp(0);
        }
        if (call) {
            probeReturn(cpu, size);
            pushReturn(cpu, size);
        }
        Segments.fillReal(cpu, Segments.CS, selector);
        cpu.nextRip = offset;
    }

    /// Makes sure that [#pushReturn] does not fault.
    private static void probeReturn(Cpu cpu, int size) {
        int width = cpu.stackBits() / 8;
        long first = Segments.size(cpu.r[Cpu.RSP] - size, width);
        long a = cpu.linear(Segments.SS, first, size, true);
        long b = cpu.linear(Segments.SS, Segments.size(first - size, width), size, true);
        cpu.probeWrite(a, size);
        cpu.probeWrite(b, size);
    }

    /// A CALL without change of level to code segment `code`.
    private static FarShadowStack callSameLevel(Cpu cpu, int size, long code) {
        probeReturn(cpu, size);
        var shadowStack = FarShadowStack.enter(cpu, cpu.cpl, 0, code, cpu.nextRip);
        pushReturn(cpu, size);
        return shadowStack;
    }

    /// Pushes CS and the return address on the current stack.
    private static void pushReturn(Cpu cpu, int size) {
        int width = cpu.stackBits() / 8;
        long first = Segments.size(cpu.r[Cpu.RSP] - size, width);
        long second = Segments.size(first - size, width);
        long a = cpu.linear(Segments.SS, first, size, true);
        long b = cpu.linear(Segments.SS, second, size, true);
        cpu.write(a, size, cpu.segSelector[Segments.CS]);
        cpu.write(b, size, cpu.nextRip);
        cpu.reg(Cpu.RSP, width, second);
    }

    /// @return what is left to do with the shadow stack; null after a task switch
    private static FarShadowStack protectedMode(Cpu cpu, int selector, long offset, int size, boolean call) {
        if (Segments.isNull(selector)) {
            throw cpu.gp(0);
        }
        long descriptor = Segments.read(cpu, selector, ExceptionVector.GP, 0);
        int ar = Segments.ar(descriptor);
        if (Segments.isCode(ar)) {
            boolean allowed = Segments.isConforming(ar) ? Segments.dpl(ar) <= cpu.cpl
                    : (selector & 3) <= cpu.cpl && Segments.dpl(ar) == cpu.cpl;
            if (!allowed) {
                throw cpu.gp(selector & 0xfffc);
            }
            checkPresentAndTarget(cpu, selector, descriptor, offset);
            var shadowStack = call ? callSameLevel(cpu, size, descriptor) : FarShadowStack.jump(cpu, descriptor);
            loadCode(cpu, (selector & 0xfffc) | cpu.cpl, descriptor);
            cpu.nextRip = offset;
            return shadowStack;
        }
        if ((ar & Segments.AR_S) != 0) {
            throw cpu.gp(selector & 0xfffc);
        }
        return systemTarget(cpu, selector, descriptor, call);
    }

    private static FarShadowStack systemTarget(Cpu cpu, int selector, long descriptor, boolean call) {
        int ar = Segments.ar(descriptor);
        boolean longMode = Segments.longMode(cpu);
        int type = ar & 0xf;
        boolean gate = type == Segments.TYPE_CALL_GATE || (!longMode
                && (type == Segments.TYPE_CALL_GATE16 || type == Segments.TYPE_TASK_GATE));
        boolean task = !longMode && (type == Segments.TYPE_TSS || type == Segments.TYPE_TSS16);
        if ((!gate && !task) || Segments.dpl(ar) < Math.max(cpu.cpl, selector & 3)) {
            throw cpu.gp(selector & 0xfffc);
        }
        if (!Segments.present(descriptor)) {
            throw cpu.fault(ExceptionVector.NP, selector & 0xfffc);
        }
        if (task || type == Segments.TYPE_TASK_GATE) {
            TaskSwitch.switchTo(cpu, task ? selector : (int) (descriptor >>> 16) & 0xffff,
                    call ? TaskSwitch.CALL : TaskSwitch.JMP);
            return null;
        }
        return throughCallGate(cpu, selector, descriptor, call);
    }

    private static FarShadowStack throughCallGate(Cpu cpu, int gateSelector, long gate, boolean call) {
        boolean longMode = Segments.longMode(cpu);
        int size = longMode ? 8 : (Segments.ar(gate) & 8) != 0 ? 4 : 2;
        int selector = (int) (gate >>> 16) & 0xffff;
        long offset = size == 2 ? gate & 0xffff : (gate & 0xffff) | ((gate >>> 32) & 0xffff_0000L);
        if (longMode) {
            long at = Segments.descriptorAddress(cpu, gateSelector, 16);
            long upper = at == -1 ? -1 : cpu.readSystem(at + 8, 8);
            if (at == -1 || (upper & 0x1f00_0000_0000L) != 0) {
                throw cpu.gp(gateSelector & 0xfffc);
            }
            offset |= upper << 32;
        }
        long code = EventDelivery.readTarget(cpu, selector, 0);
        int ar = Segments.ar(code);
        boolean inner = !Segments.isConforming(ar) && Segments.dpl(ar) < cpu.cpl;
        if ((inner && !call) || (longMode && (ar & (Segments.AR_L | Segments.AR_DB)) != Segments.AR_L)) {
            throw cpu.gp(selector & 0xfffc);
        }
        checkPresentAndTarget(cpu, selector, code, offset);
        int newCpl = inner ? Segments.dpl(ar) : cpu.cpl;
        FarShadowStack shadowStack;
        if (inner && longMode) {
            shadowStack = innerCall64(cpu, newCpl, code);
        } else if (inner) {
            shadowStack = innerCall(cpu, newCpl, code, size, (int) (gate >>> 32) & 0x1f);
        } else {
            shadowStack = call ? callSameLevel(cpu, size, code) : FarShadowStack.jump(cpu, code);
        }
        cpu.cpl = newCpl;
        loadCode(cpu, (selector & 0xfffc) | newCpl, code);
        cpu.nextRip = offset;
        return shadowStack;
    }

    private static FarShadowStack innerCall64(Cpu cpu, int newCpl, long code) {
        long sp = EventDelivery.tssStack(cpu, 4 + newCpl * 8, 0);
        if (!cpu.canonical(sp - 32)) {
            throw cpu.fault(ExceptionVector.SS, 0);
        }
        cpu.probeSystemWrite(sp - 32, 32);
        var shadowStack = FarShadowStack.enter(cpu, newCpl, 0, code, cpu.nextRip);
        cpu.writeSystem64(sp - 8, cpu.segSelector[Segments.SS]);
        cpu.writeSystem64(sp - 16, cpu.r[Cpu.RSP]);
        cpu.writeSystem64(sp - 24, cpu.segSelector[Segments.CS]);
        cpu.writeSystem64(sp - 32, cpu.nextRip);
        cpu.r[Cpu.RSP] = sp - 32;
        Segments.fillNullStack(cpu, newCpl, newCpl);
        return shadowStack;
    }

    private static FarShadowStack innerCall(Cpu cpu, int newCpl, long code, int size, int parameters) {
        var stack = InnerStack.of(cpu, newCpl, 0);
        int width = cpu.stackBits() / 8;
        long[] copied = new long[parameters];
        for (int i = 0; i < parameters; i++) {
            long at = Segments.size(cpu.r[Cpu.RSP] + (long) i * size, width);
            copied[i] = cpu.read(cpu.linear(Segments.SS, at, size, false), size);
        }
        stack.reserve(4 + parameters, size);
        var shadowStack = FarShadowStack.enter(cpu, newCpl, 0, code, cpu.nextRip);
        stack.push(cpu.segSelector[Segments.SS]);
        stack.push(cpu.r[Cpu.RSP]);
        for (int i = parameters - 1; i >= 0; i--) {
            stack.push(copied[i]);
        }
        stack.push(cpu.segSelector[Segments.CS]);
        stack.push(cpu.nextRip);
        stack.commit(newCpl);
        return shadowStack;
    }

    static void checkPresentAndTarget(Cpu cpu, int selector, long code, long offset) {
        if (!Segments.present(code)) {
            throw cpu.fault(ExceptionVector.NP, selector & 0xfffc);
        }
        checkTarget(cpu, selector, code, offset);
    }

    /// The long-mode rules of CS.L and CS.D, and the offset within the segment.
    static void checkTarget(Cpu cpu, int selector, long code, long offset) {
        int ar = Segments.ar(code);
        boolean wide = Segments.longMode(cpu) && (ar & Segments.AR_L) != 0;
        if (wide && (ar & Segments.AR_DB) != 0) {
            throw cpu.gp(selector & 0xfffc);
        }
        if (wide ? !cpu.canonical(offset) : Long.compareUnsigned(offset, Segments.limit(code) & 0xffff_ffffL) > 0) {
            throw cpu.gp(0);
        }
    }

    static void loadCode(Cpu cpu, int selector, long code) {
        Segments.fill(cpu, Segments.CS, selector, Segments.markAccessed(cpu, selector, code));
    }

    /// RET far, with `insn.imm` bytes of parameters to release.
    static void ret(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        long release = insn.kind0 == OperandKind.IMM ? insn.imm & 0xffff : 0;
        int width = cpu.stackBits() / 8;
        long rip = peek(cpu, 0, size);
        int selector = (int) peek(cpu, size, size) & 0xffff;
        if (cpu.realOrVirtual8086()) {
            if (rip > (cpu.segLimit[Segments.CS] & 0xffff_ffffL)) {
                throw cpu.gp(0);
            }
            cpu.reg(Cpu.RSP, width, cpu.r[Cpu.RSP] + 2L * size + release);
            Segments.fillReal(cpu, Segments.CS, selector);
            cpu.nextRip = rip;
            cpu.updateMode();
            return;
        }
        long code = readReturnTarget(cpu, selector);
        checkPresentAndTarget(cpu, selector, code, rip);
        int rpl = selector & 3;
        FarShadowStack shadowStack;
        if (rpl == cpu.cpl) {
            shadowStack = FarShadowStack.leave(cpu, rpl, selector, code, rip, false);
            cpu.reg(Cpu.RSP, width, cpu.r[Cpu.RSP] + 2L * size + release);
            loadCode(cpu, selector, code);
        } else {
            long sp = peek(cpu, 2L * size + release, size);
            int ss = (int) peek(cpu, 3L * size + release, size) & 0xffff;
            long stack = readReturnStack(cpu, ss, rpl, code);
            shadowStack = FarShadowStack.leave(cpu, rpl, selector, code, rip, false);
            loadCode(cpu, selector, code);
            toOuter(cpu, rpl, ss, stack, sp, size, release);
        }
        cpu.nextRip = rip;
        cpu.updateMode();
        shadowStack.commitReturn();
    }

    /// The stack slot `offset` bytes above the top.
    static long peek(Cpu cpu, long offset, int size) {
        int width = cpu.stackBits() / 8;
        return cpu.read(cpu.linear(Segments.SS, Segments.size(cpu.r[Cpu.RSP] + offset, width), size, false), size);
    }

    /// The code segment to which RET or IRET returns, checked but for presence and limit.
    static long readReturnTarget(Cpu cpu, int selector) {
        if (Segments.isNull(selector)) {
            throw cpu.gp(0);
        }
        long code = Segments.read(cpu, selector, ExceptionVector.GP, 0);
        int ar = Segments.ar(code);
        int rpl = selector & 3;
        boolean privileged = Segments.isConforming(ar) ? Segments.dpl(ar) > rpl : Segments.dpl(ar) != rpl;
        if (!Segments.isCode(ar) || rpl < cpu.cpl || privileged) {
            throw cpu.gp(selector & 0xfffc);
        }
        return code;
    }

    /// The stack segment to which RET or IRET returns; 0 for a null selector, which 64-bit code below CPL 3 may have.
    static long readReturnStack(Cpu cpu, int selector, int rpl, long code) {
        if (Segments.isNull(selector)) {
            boolean wide = Segments.longMode(cpu) && (Segments.ar(code) & Segments.AR_L) != 0;
            if (!wide || rpl == 3 || (selector & 3) != rpl) {
                throw cpu.gp(0);
            }
            return 0;
        }
        return Segments.checkStack(cpu, selector, rpl, ExceptionVector.GP, 0);
    }

    /// Loads SS:RSP (CS is loaded) and takes from the data segment registers what the outer level may not see.
    static void toOuter(Cpu cpu, int rpl, int ss, long stack, long sp, int size, long release) {
        boolean outer = rpl != cpu.cpl;
        cpu.cpl = rpl;
        if (stack == 0) {
            Segments.fillNullStack(cpu, ss, rpl);
        } else {
            Segments.fill(cpu, Segments.SS, ss, Segments.markAccessed(cpu, ss, stack));
        }
        boolean wide = Segments.longMode(cpu) && (cpu.segAr[Segments.CS] & Segments.AR_L) != 0;
        boolean big = (cpu.segAr[Segments.SS] & Segments.AR_DB) != 0;
        cpu.reg(Cpu.RSP, wide ? 8 : big ? 4 : 2, Segments.size(sp, size) + release);
        if (outer) {
            hideSegments(cpu, rpl);
        }
    }

    private static void hideSegments(Cpu cpu, int cpl) {
        for (int seg = Cpu.ES; seg <= Cpu.GS; seg++) {
            if (seg == Segments.CS || seg == Segments.SS) {
                continue;
            }
            int ar = cpu.segAr[seg];
            boolean dataOrNonconforming = !(Segments.isCode(ar) && Segments.isConforming(ar));
            if ((ar & Cpu.AR_UNUSABLE) == 0 && dataOrNonconforming && Segments.dpl(ar) < cpl) {
                Segments.fillNull(cpu, seg, 0);
            }
        }
    }
}
