package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.spec.x86.ExceptionVector;

/// The stack on which a legacy-mode gate pushes: the current one, or that of an inner privilege level from the TSS. Checks come
/// first ([#of], [#reserve]), then pushes that cannot fail, then [#commit].
final class InnerStack {
    private final Cpu cpu;
    private final int ext;
    private final boolean inner;
    private int selector;
    private long descriptor;
    private long base;
    private long limit;
    private int ar;
    private long sp;
    private int size;

    private InnerStack(Cpu cpu, int ext, boolean inner) {
        this.cpu = cpu;
        this.ext = ext;
        this.inner = inner;
    }

    static InnerStack current(Cpu cpu, int ext) {
        var stack = new InnerStack(cpu, ext, false);
        stack.base = cpu.segBase[Segments.SS];
        stack.limit = cpu.segLimit[Segments.SS] & 0xffff_ffffL;
        stack.ar = cpu.segAr[Segments.SS];
        stack.sp = cpu.r[Cpu.RSP];
        return stack;
    }

    /// The stack for `newCpl` in the TSS. [SDM Vol. 3 "Stack Switching"]
    static InnerStack of(Cpu cpu, int newCpl, int ext) {
        var stack = new InnerStack(cpu, ext, true);
        boolean wide = (cpu.segAr[Cpu.TR] & 8) != 0;
        int offset = wide ? 4 + newCpl * 8 : 2 + newCpl * 4;
        int bytes = wide ? 4 : 2;
        if (offset + bytes + 1 > (cpu.segLimit[Cpu.TR] & 0xffff_ffffL)) {
            throw cpu.fault(ExceptionVector.TS, (cpu.segSelector[Cpu.TR] & 0xfffc) | ext);
        }
        stack.sp = cpu.readSystem(Segments.wrap(cpu, cpu.segBase[Cpu.TR] + offset), bytes);
        stack.selector = (int) cpu.readSystem(Segments.wrap(cpu, cpu.segBase[Cpu.TR] + offset + bytes), 2);
        if (Segments.isNull(stack.selector)) {
            throw cpu.fault(ExceptionVector.TS, ext);
        }
        stack.descriptor = Segments.checkStack(cpu, stack.selector, newCpl, ExceptionVector.TS, ext);
        stack.base = Segments.base(stack.descriptor);
        stack.limit = Segments.limit(stack.descriptor) & 0xffff_ffffL;
        stack.ar = Segments.ar(stack.descriptor);
        return stack;
    }

    /// Makes sure that `slots` pushes of `slotSize` bytes will succeed.
    void reserve(int slots, int slotSize) {
        size = slotSize;
        long at = sp;
        for (int i = 0; i < slots; i++) {
            at = wrapSp(at - size);
            long last = at + size - 1;
            boolean big = (ar & Segments.AR_DB) != 0;
            boolean outside = (ar & 4) != 0 ? at <= limit || last > (big ? 0xffff_ffffL : 0xffff) : last > limit;
            if (outside || (ar & Cpu.AR_UNUSABLE) != 0) {
                throw cpu.fault(ExceptionVector.SS, (inner ? selector & 0xfffc : 0) | ext);
            }
            probe(linear(at));
        }
    }

    void push(long value) {
        sp = wrapSp(sp - size);
        if (inner) {
            cpu.writeSystem(linear(sp), size, value);
        } else {
            cpu.write(linear(sp), size, value);
        }
    }

    /// Makes this the stack in force.
    void commit(int newCpl) {
        if (inner) {
            Segments.fill(cpu, Segments.SS, (selector & 0xfffc) | newCpl, Segments.markAccessed(cpu, selector, descriptor));
        }
        cpu.reg(Cpu.RSP, (ar & Segments.AR_DB) != 0 ? 4 : 2, sp);
    }

    private void probe(long linear) {
        if (inner) {
            cpu.probeSystemWrite(linear, size);
        } else {
            cpu.probeWrite(linear, size);
        }
    }

    private long wrapSp(long value) {
        return (ar & Segments.AR_DB) != 0 ? value & 0xffff_ffffL : value & 0xffff;
    }

    private long linear(long at) {
        return (base + at) & 0xffff_ffffL;
    }
}
