package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.Efer;
import cloister.spec.x86.ExceptionVector;

/// Descriptors, and what loads them into segment registers. [SDM Vol. 3 "Protected-Mode Memory Management"]
///
/// A descriptor is its 64-bit word in memory; [#ar] and the like take it apart. The hidden part of a segment register is kept
/// in the VMCS's format.
final class Segments {
    static final int CS = Cpu.CS;
    static final int SS = Cpu.SS;
    static final int AR_ACCESSED = 1;
    static final int AR_WRITABLE = 2; // data
    static final int AR_READABLE = 2; // code
    static final int AR_CONFORMING = 4;
    static final int AR_CODE = 8;
    static final int AR_S = 1 << 4;
    static final int AR_P = 1 << 7;
    static final int AR_L = 1 << 13;
    static final int AR_DB = 1 << 14;
    static final int AR_G = 1 << 15;

    static final int TYPE_TSS16 = 1;
    static final int TYPE_LDT = 2;
    static final int TYPE_TSS16_BUSY = 3;
    static final int TYPE_CALL_GATE16 = 4;
    static final int TYPE_TASK_GATE = 5;
    static final int TYPE_INTERRUPT_GATE16 = 6;
    static final int TYPE_TRAP_GATE16 = 7;
    static final int TYPE_TSS = 9;
    static final int TYPE_TSS_BUSY = 11;
    static final int TYPE_CALL_GATE = 12;
    static final int TYPE_INTERRUPT_GATE = 14;
    static final int TYPE_TRAP_GATE = 15;

    private static final int AR_REAL_DATA = 0xf3;

    private Segments() {
    }

    // Descriptors

    static int ar(long descriptor) {
        return (int) (descriptor >>> 40) & 0xf0ff;
    }

    static int type(long descriptor) {
        return (int) (descriptor >>> 40) & 0xf;
    }

    static int dpl(int ar) {
        return (ar >>> 5) & 3;
    }

    static boolean present(long descriptor) {
        return (descriptor & (1L << 47)) != 0;
    }

    static boolean isCode(int ar) {
        return (ar & (AR_S | AR_CODE)) == (AR_S | AR_CODE);
    }

    static boolean isWritableData(int ar) {
        return (ar & (AR_S | AR_CODE | AR_WRITABLE)) == (AR_S | AR_WRITABLE);
    }

    static boolean isReadable(int ar) {
        return (ar & AR_S) != 0 && ((ar & AR_CODE) == 0 || (ar & AR_READABLE) != 0);
    }

    /// Whether a data segment register may not hold the segment at the current CPL.
    static boolean outranks(Cpu cpu, int selector, int ar) {
        return !(isCode(ar) && isConforming(ar)) && Math.max(cpu.cpl, selector & 3) > dpl(ar);
    }

    static boolean isConforming(int ar) {
        return (ar & AR_CONFORMING) != 0;
    }

    static long base(long descriptor) {
        return ((descriptor >>> 16) & 0xff_ffff) | ((descriptor >>> 32) & 0xff00_0000L);
    }

    /// In bytes, granularity applied.
    static int limit(long descriptor) {
        int limit = (int) ((descriptor & 0xffff) | ((descriptor >>> 32) & 0xf_0000));
        return (descriptor & (1L << 55)) != 0 ? (limit << 12) | 0xfff : limit;
    }

    static boolean isNull(int selector) {
        return (selector & 0xfffc) == 0;
    }

    static boolean longMode(Cpu cpu) {
        return (cpu.efer & Efer.LMA) != 0;
    }

    /// The linear address of the descriptor that `selector` names, or -1 when `bytes` of it do not lie within the table.
    static long descriptorAddress(Cpu cpu, int selector, int bytes) {
        long base = cpu.gdtrBase;
        long limit = cpu.gdtrLimit & 0xffff;
        if ((selector & 4) != 0) {
            if ((cpu.segAr[Cpu.LDTR] & Cpu.AR_UNUSABLE) != 0) {
                return -1;
            }
            base = cpu.segBase[Cpu.LDTR];
            limit = cpu.segLimit[Cpu.LDTR] & 0xffff_ffffL;
        }
        int offset = selector & 0xfff8;
        return offset + bytes - 1 > limit ? -1 : wrap(cpu, base + offset);
    }

    static long wrap(Cpu cpu, long linear) {
        return longMode(cpu) ? linear : linear & 0xffff_ffffL;
    }

    /// The descriptor of a selector that is not null.
    ///
    /// @param vector raised with the selector as error code when it lies outside its table
    /// @param ext    the EXT bit of the error code
    static long read(Cpu cpu, int selector, int vector, int ext) {
        long at = descriptorAddress(cpu, selector, 8);
        if (at == -1) {
            throw cpu.fault(vector, (selector & 0xfffc) | ext);
        }
        return cpu.readSystem(at, 8);
    }

    /// Sets the accessed flag in the descriptor of `selector` if it is clear.
    static long markAccessed(Cpu cpu, int selector, long descriptor) {
        if ((descriptor & (1L << 40)) == 0) {
            long at = descriptorAddress(cpu, selector, 8);
            cpu.writeSystem(at + 5, 1, ((descriptor >>> 40) & 0xff) | AR_ACCESSED);
            return descriptor | (1L << 40);
        }
        return descriptor;
    }

    /// Fills the register from a descriptor; no checks.
    static void fill(Cpu cpu, int seg, int selector, long descriptor) {
        cpu.segSelector[seg] = selector;
        cpu.segBase[seg] = base(descriptor);
        cpu.segLimit[seg] = limit(descriptor);
        cpu.segAr[seg] = ar(descriptor);
    }

    /// A null selector: unusable.
    static void fillNull(Cpu cpu, int seg, int selector) {
        cpu.segSelector[seg] = selector;
        cpu.segBase[seg] = 0;
        cpu.segLimit[seg] = 0;
        cpu.segAr[seg] = Cpu.AR_UNUSABLE;
    }

    static void fillReal(Cpu cpu, int seg, int selector) {
        cpu.segSelector[seg] = selector & 0xffff;
        cpu.segBase[seg] = (long) (selector & 0xffff) << 4;
        if (cpu.virtual8086()) {
            cpu.segLimit[seg] = 0xffff;
            cpu.segAr[seg] = AR_REAL_DATA;
        }
    }

    // Loading DS, ES, FS, GS, SS

    /// Loads data segment register `seg` as MOV, POP and LxS do.
    static void load(Cpu cpu, int seg, int selector) {
        selector &= 0xffff;
        if (cpu.realOrVirtual8086()) {
            fillReal(cpu, seg, selector);
        } else if (seg == SS) {
            loadStack(cpu, selector, cpu.cpl, ExceptionVector.GP, 0);
        } else {
            loadData(cpu, seg, selector);
        }
        cpu.updateMode();
    }

    private static void loadData(Cpu cpu, int seg, int selector) {
        if (isNull(selector)) {
            fillNull(cpu, seg, selector);
            return;
        }
        long descriptor = read(cpu, selector, ExceptionVector.GP, 0);
        int ar = ar(descriptor);
        if (!isReadable(ar) || outranks(cpu, selector, ar)) {
            throw cpu.gp(selector & 0xfffc);
        }
        if (!present(descriptor)) {
            throw cpu.fault(ExceptionVector.NP, selector & 0xfffc);
        }
        fill(cpu, seg, selector, markAccessed(cpu, selector, descriptor));
    }

    /// Loads SS for privilege level `cpl`.
    ///
    /// @param vector #GP, or #TS for stacks that come from a TSS
    static void loadStack(Cpu cpu, int selector, int cpl, int vector, int ext) {
        if (isNull(selector)) {
            if (!cpu.is64Bit() || cpl == 3 || (selector & 3) != cpl) {
                throw cpu.fault(vector, ext);
            }
            fillNullStack(cpu, selector, cpl);
            return;
        }
        long descriptor = checkStack(cpu, selector, cpl, vector, ext);
        fill(cpu, SS, selector, markAccessed(cpu, selector, descriptor));
    }

    static void fillNullStack(Cpu cpu, int selector, int cpl) {
        fillNull(cpu, SS, selector);
        cpu.segAr[SS] = Cpu.AR_UNUSABLE | (cpl << 5);
    }

    static long checkStack(Cpu cpu, int selector, int cpl, int vector, int ext) {
        long descriptor = read(cpu, selector, vector, ext);
        int ar = ar(descriptor);
        if ((selector & 3) != cpl || !isWritableData(ar) || dpl(ar) != cpl) {
            throw cpu.fault(vector, (selector & 0xfffc) | ext);
        }
        if (!present(descriptor)) {
            throw cpu.fault(ExceptionVector.SS, (selector & 0xfffc) | ext);
        }
        return descriptor;
    }

    // Instructions

    static void movSreg(Cpu cpu, Instruction insn) {
        if (insn.kind0 == OperandKind.SREG) {
            int seg = insn.reg0;
            if (seg == CS || seg > Cpu.GS) {
                throw cpu.ud();
            }
            int selector = insn.kind1 == OperandKind.GPR ? (int) cpu.r[insn.reg1] & 0xffff
                    : (int) cpu.read(cpu.linear(insn, 2, false), 2);
            load(cpu, seg, selector);
            if (seg == SS) {
                cpu.startShadow(Cpu.SHADOW_MOV_SS);
            }
            return;
        }
        if (insn.reg1 > Cpu.GS) {
            throw cpu.ud();
        }
        int selector = cpu.segSelector[insn.reg1];
        if (insn.kind0 == OperandKind.GPR) {
            cpu.reg(insn.reg0, insn.operandSize, selector);
        } else {
            cpu.write(cpu.linear(insn, 2, true), 2, selector);
        }
    }

    static void popSreg(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = cpu.stackBits() / 8;
        long sp = size(cpu.r[Cpu.RSP], width);
        int selector = (int) cpu.read(cpu.linear(SS, sp, size, false), size) & 0xffff;
        load(cpu, insn.reg0, selector);
        cpu.reg(Cpu.RSP, width, sp + size);
        if (insn.reg0 == SS) {
            cpu.startShadow(Cpu.SHADOW_MOV_SS);
        }
    }

    static void pushSreg(Cpu cpu, Instruction insn) {
        int selector = cpu.segSelector[insn.reg0];
        if (insn.operandSize == 4) {
            // Recent processors write only the low half of the slot. [SDM Vol. 2 PUSH]
            int width = cpu.stackBits() / 8;
            long sp = size(cpu.r[Cpu.RSP] - 4, width);
            cpu.write(cpu.linear(SS, sp, 4, true), 2, selector);
            cpu.reg(Cpu.RSP, width, sp);
        } else {
            cpu.push(selector, insn.operandSize);
        }
    }

    /// LDS, LES, LFS, LGS, LSS.
    static void loadFarPointer(Cpu cpu, Instruction insn, int seg) {
        int size = insn.operandSize;
        long at = cpu.ea(insn);
        long offset = cpu.read(cpu.linear(insn.segment, at, size, false), size);
        long selectorAt = size(at + size, insn.addressSize);
        int selector = (int) cpu.read(cpu.linear(insn.segment, selectorAt, 2, false), 2);
        load(cpu, seg, selector);
        cpu.reg(insn.reg0, size, offset);
    }

    static void arpl(Cpu cpu, Instruction insn) {
        if (cpu.realOrVirtual8086()) {
            throw cpu.ud();
        }
        long destination;
        long linear = 0;
        if (insn.kind0 == OperandKind.MEM) {
            linear = cpu.linear(insn, 2, true);
            destination = cpu.read(linear, 2);
        } else {
            destination = cpu.reg(insn.reg0, 2);
        }
        long source = cpu.reg(insn.reg1, 2);
        boolean raise = (destination & 3) < (source & 3);
        if (raise) {
            long value = (destination & ~3L) | (source & 3);
            if (insn.kind0 == OperandKind.MEM) {
                cpu.write(linear, 2, value);
            } else {
                cpu.reg(insn.reg0, 2, value);
            }
        }
        zeroFlag(cpu, raise);
    }

    /// LAR and LSL.
    static void loadRights(Cpu cpu, Instruction insn, boolean limit) {
        int selector = protectedOperand(cpu, insn, 1);
        long descriptor = visible(cpu, selector, limit ? LSL_TYPES : LAR_TYPES, limit ? LSL_LONG_TYPES : LAR_LONG_TYPES);
        if (descriptor != 0) {
            long value = limit ? limit(descriptor) & 0xffff_ffffL : (descriptor >>> 32) & 0xff_ff00L;
            cpu.reg(insn.reg0, insn.operandSize, value);
        }
        zeroFlag(cpu, descriptor != 0);
    }

    /// VERR and VERW.
    static void verify(Cpu cpu, Instruction insn, boolean write) {
        int selector = protectedOperand(cpu, insn, 0);
        long descriptor = visible(cpu, selector, 0, 0);
        int ar = ar(descriptor);
        boolean ok = descriptor != 0
                && (write ? isWritableData(ar) : (ar & AR_CODE) == 0 || (ar & AR_READABLE) != 0);
        zeroFlag(cpu, ok);
    }

    private static final int LAR_TYPES = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 4) | (1 << 5) | (1 << 9) | (1 << 11) | (1 << 12);
    private static final int LAR_LONG_TYPES = (1 << 2) | (1 << 9) | (1 << 11) | (1 << 12);
    private static final int LSL_TYPES = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 9) | (1 << 11);
    private static final int LSL_LONG_TYPES = (1 << 2) | (1 << 9) | (1 << 11);

    /// The descriptor if CPL and RPL may see it and a system descriptor has a type in the mask; else 0.
    private static long visible(Cpu cpu, int selector, int systemTypes, int systemTypesLong) {
        long at = isNull(selector) ? -1 : descriptorAddress(cpu, selector, 8);
        if (at == -1) {
            return 0;
        }
        long descriptor = cpu.readSystem(at, 8);
        int ar = ar(descriptor);
        if ((ar & AR_S) == 0) {
            int types = longMode(cpu) ? systemTypesLong : systemTypes;
            if (((types >>> type(descriptor)) & 1) == 0) {
                return 0;
            }
        }
        boolean always = isCode(ar) && isConforming(ar);
        return always || Math.max(cpu.cpl, selector & 3) <= dpl(ar) ? descriptor : 0;
    }

    private static int protectedOperand(Cpu cpu, Instruction insn, int n) {
        if (cpu.realOrVirtual8086()) {
            throw cpu.ud();
        }
        return selectorOperand(cpu, insn, n);
    }

    /// A 16-bit selector operand in a register of any size or in memory.
    static int selectorOperand(Cpu cpu, Instruction insn, int n) {
        OperandKind kind = n == 0 ? insn.kind0 : insn.kind1;
        return kind == OperandKind.MEM ? (int) cpu.read(cpu.linear(insn, 2, false), 2)
                : (int) cpu.r[n == 0 ? insn.reg0 : insn.reg1] & 0xffff;
    }

    static void lldt(Cpu cpu, Instruction insn) {
        requireSystemProtected(cpu);
        cpu.vmx.intercept(cpu, insn);
        int selector = selectorOperand(cpu, insn, 0);
        if (isNull(selector)) {
            fillNull(cpu, Cpu.LDTR, selector);
            return;
        }
        loadSystem(cpu, Cpu.LDTR, selector, 1 << TYPE_LDT);
    }

    static void ltr(Cpu cpu, Instruction insn) {
        requireSystemProtected(cpu);
        cpu.vmx.intercept(cpu, insn);
        int selector = selectorOperand(cpu, insn, 0);
        if (isNull(selector)) {
            throw cpu.gp(0);
        }
        loadSystem(cpu, Cpu.TR, selector, longMode(cpu) ? 1 << TYPE_TSS : (1 << TYPE_TSS) | (1 << TYPE_TSS16));
    }

    private static void requireSystemProtected(Cpu cpu) {
        if (cpu.realOrVirtual8086()) {
            throw cpu.ud();
        }
        if (cpu.cpl != 0) {
            throw cpu.gp(0);
        }
    }

    private static void loadSystem(Cpu cpu, int seg, int selector, int types) {
        boolean wide = longMode(cpu);
        long at = (selector & 4) != 0 ? -1 : descriptorAddress(cpu, selector, wide ? 16 : 8);
        if (at == -1) {
            throw cpu.gp(selector & 0xfffc);
        }
        long descriptor = cpu.readSystem(at, 8);
        if ((ar(descriptor) & AR_S) != 0 || ((types >>> type(descriptor)) & 1) == 0) {
            throw cpu.gp(selector & 0xfffc);
        }
        long upper = wide ? cpu.readSystem(at + 8, 8) : 0;
        long base = base(descriptor) | (upper << 32);
        if (wide && ((upper & 0x1f00_0000_0000L) != 0 || !cpu.canonical(base))) {
            throw cpu.gp(selector & 0xfffc);
        }
        if (!present(descriptor)) {
            throw cpu.fault(ExceptionVector.NP, selector & 0xfffc);
        }
        if (seg == Cpu.TR) {
            descriptor |= 2L << 40; // busy
            cpu.writeSystem(at + 5, 1, (descriptor >>> 40) & 0xff);
        }
        fill(cpu, seg, selector, descriptor);
        cpu.segBase[seg] = base;
    }

    // Small parts

    static void zeroFlag(Cpu cpu, boolean set) {
        int flags = (int) cpu.rflags();
        cpu.arithmeticFlags(set ? flags | (1 << 6) : flags & ~(1 << 6));
    }

    static long size(long value, int bytes) {
        return bytes == 8 ? value : bytes == 4 ? value & 0xffff_ffffL : value & 0xffff;
    }
}
