package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;

/// IN, OUT, INS and OUTS. [SDM Vol. 1 "Input/Output"]
final class PortInstructions {
    private static final int IO_MAP_BASE = 102;

    private PortInstructions() {
    }

    static void in(Cpu cpu, Instruction insn) {
        int bytes = insn.size0;
        int port = port(cpu, insn.kind1, insn.imm);
        check(cpu, port, bytes);
        cpu.vmx.interceptIo(cpu, insn, port, bytes, true, 0);
        cpu.reg(Cpu.RAX, bytes, cpu.vmx.portIn(cpu, port, bytes));
        DebugRegisters.portAccess(cpu, port, bytes);
    }

    static void out(Cpu cpu, Instruction insn) {
        int bytes = insn.size1;
        int port = port(cpu, insn.kind0, insn.imm);
        check(cpu, port, bytes);
        cpu.vmx.interceptIo(cpu, insn, port, bytes, false, 0);
        cpu.vmx.portOut(cpu, port, bytes, (int) cpu.reg(Cpu.RAX, bytes));
        DebugRegisters.portAccess(cpu, port, bytes);
    }

    private static int port(Cpu cpu, OperandKind kind, long imm) {
        return kind == OperandKind.IMM ? (int) imm & 0xff : (int) cpu.r[Cpu.RDX] & 0xffff;
    }

    /// INS and OUTS, one element at a time: with REP the instruction stays until the count is 0.
    static void string(Cpu cpu, Instruction insn, boolean in) {
        cpu.systemFlags &= ~(int) Rflags.RF;
        int bytes = Math.min(insn.operandSize, 4);
        int width = insn.addressSize;
        boolean rep = insn.has(Instruction.PREFIX_REP) || insn.has(Instruction.PREFIX_REPNE);
        int port = (int) cpu.r[Cpu.RDX] & 0xffff;
        check(cpu, port, bytes);
        if (rep && Segments.size(cpu.r[Cpu.RCX], width) == 0) {
            return;
        }
        int pointer = in ? Cpu.RDI : Cpu.RSI;
        long offset = Segments.size(cpu.r[pointer], width);
        int segment = in ? Cpu.ES : insn.segment;
        if (cpu.vmx.active()) {
            long base = cpu.is64Bit() && segment < Cpu.FS ? 0 : cpu.segBase[segment];
            cpu.vmx.interceptIo(cpu, insn, port, bytes, in, base + offset);
        }
        long linear = cpu.linear(segment, offset, bytes, in);
        if (in) {
            cpu.probeWrite(linear, bytes);
            cpu.write(linear, bytes, cpu.vmx.portIn(cpu, port, bytes));
        } else {
            cpu.vmx.portOut(cpu, port, bytes, (int) cpu.read(linear, bytes));
        }
        DebugRegisters.portAccess(cpu, port, bytes);
        boolean down = (cpu.systemFlags & (int) Rflags.DF) != 0;
        advance(cpu, pointer, width, down ? -bytes : bytes);
        if (rep) {
            advance(cpu, Cpu.RCX, width, -1);
            if (Segments.size(cpu.r[Cpu.RCX], width) != 0) {
                cpu.nextRip = cpu.rip;
                cpu.systemFlags |= (int) Rflags.RF; // for what interrupts it here
            }
        }
    }

    /// With 16-bit addressing the upper part of the register stays.
    private static void advance(Cpu cpu, int register, int width, int step) {
        cpu.reg(register, width, cpu.r[register] + step);
    }

    /// The I/O permission bit map. [SDM Vol. 1 "I/O Permission Bit Map"]
    private static void check(Cpu cpu, int port, int bytes) {
        if (!cpu.protectedMode() || (!cpu.virtual8086() && cpu.cpl <= FlagInstructions.iopl(cpu))) {
            return;
        }
        long limit = cpu.segLimit[Cpu.TR] & 0xffff_ffffL;
        boolean tss32 = (cpu.segAr[Cpu.TR] & 0x1000d) == 9 && limit >= IO_MAP_BASE + 1;
        if (!tss32) {
            throw cpu.fault(ExceptionVector.GP, 0);
        }
        long base = cpu.segBase[Cpu.TR];
        long at = cpu.readSystem(Segments.wrap(cpu, base + IO_MAP_BASE), 2) + port / 8;
        if (at + 1 > limit) {
            throw cpu.gp(0);
        }
        long bits = cpu.readSystem(Segments.wrap(cpu, base + at), 2);
        if (((bits >>> (port % 8)) & ((1 << bytes) - 1)) != 0) {
            throw cpu.gp(0);
        }
    }
}
