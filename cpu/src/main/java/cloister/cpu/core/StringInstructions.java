package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import java.lang.foreign.MemorySegment;

/// MOVS, STOS, LODS, CMPS, SCAS, with and without REP.
///
/// A repeated instruction does at most [Cpu#stringLimit] elements, or what lies in one page, before it returns with RIP on itself: so
/// interrupts get in between, as on a processor, and a fault finds RCX, RSI and RDI exact. It retires when it is done.
/// [SDM Vol. 2 "REP/REPE/REPZ/REPNE/REPNZ"]
final class StringInstructions {
    static final int CHUNK = 4096;
    /// Elements that weigh as much as one instruction in the budget of a slice.
    private static final int ELEMENTS_PER_TICK = 16;
    private static final int PAGE = (int) PhysicalMemory.FRAME_SIZE;

    private StringInstructions() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        int width = insn.addressSize;
        cpu.systemFlags &= ~Flags.RF;
        if (!insn.has(Instruction.PREFIX_REP | Instruction.PREFIX_REPNE)) {
            step(cpu, insn);
            return;
        }
        long count = Cpu.truncate(cpu.r[Cpu.RCX], width);
        if (count == 0) {
            return;
        }
        boolean compares = insn.op == Op.CMPS || insn.op == Op.SCAS;
        boolean until = insn.has(Instruction.PREFIX_REPNE);
        // Single-stepping traps after every iteration.
        int limit = cpu.systemFlag(Flags.TF) ? 1 : count < 0 ? cpu.stringLimit : (int) Math.min(count, cpu.stringLimit);
        int done = 0;
        while (done < limit) {
            int bulk = compares || insn.op == Op.LODS || cpu.systemFlag(Flags.DF) ? 0 : bulk(cpu, insn, limit - done);
            if (bulk == 0) {
                step(cpu, insn);
                bulk = 1;
            }
            done += bulk;
            count -= bulk;
            cpu.reg(Cpu.RCX, width, count);
            if (compares && (cpu.r[Slot.RESULT] == 0) == until) {
                cpu.spent += done / ELEMENTS_PER_TICK;
                return;
            }
            if (cpu.watchpoints.met()) {
                break;
            }
        }
        cpu.spent += done / ELEMENTS_PER_TICK;
        if (count != 0) {
            cpu.repeatInstruction();
        }
    }

    /// One element.
    private static void step(Cpu cpu, Instruction insn) {
        int size = insn.operandSize;
        int width = insn.addressSize;
        long delta = cpu.systemFlag(Flags.DF) ? -size : size;
        long si = Cpu.truncate(cpu.r[Cpu.RSI], width);
        long di = Cpu.truncate(cpu.r[Cpu.RDI], width);
        switch (insn.op) {
            case MOVS -> {
                long value = cpu.read(cpu.linear(insn.segment, si, size, false), size);
                cpu.write(cpu.linear(Cpu.ES, di, size, true), size, value);
                cpu.reg(Cpu.RSI, width, si + delta);
                cpu.reg(Cpu.RDI, width, di + delta);
            }
            case STOS -> {
                cpu.write(cpu.linear(Cpu.ES, di, size, true), size, cpu.r[Cpu.RAX]);
                cpu.reg(Cpu.RDI, width, di + delta);
            }
            case LODS -> {
                cpu.reg(Cpu.RAX, size, cpu.read(cpu.linear(insn.segment, si, size, false), size));
                cpu.reg(Cpu.RSI, width, si + delta);
            }
            case CMPS -> {
                long a = cpu.read(cpu.linear(insn.segment, si, size, false), size);
                long b = cpu.read(cpu.linear(Cpu.ES, di, size, false), size);
                Flags.subtract(cpu.r, a, b, 0, size);
                cpu.reg(Cpu.RSI, width, si + delta);
                cpu.reg(Cpu.RDI, width, di + delta);
            }
            default -> {
                long b = cpu.read(cpu.linear(Cpu.ES, di, size, false), size);
                Flags.subtract(cpu.r, cpu.reg(Cpu.RAX, size), b, 0, size);
                cpu.reg(Cpu.RDI, width, di + delta);
            }
        }
    }

    /// Moves or stores up to `limit` elements within one page of plain memory on each side, upwards. Returns how many, 0
    /// when the next element needs care.
    private static int bulk(Cpu cpu, Instruction insn, int limit) {
        int size = insn.operandSize;
        int width = insn.addressSize;
        long di = Cpu.truncate(cpu.r[Cpu.RDI], width);
        long to = cpu.linear(Cpu.ES, di, size, true);
        long bytes = Math.min((long) limit * size, PAGE - (to & (PAGE - 1)));
        bytes = Math.min(bytes, room(cpu, Cpu.ES, di, width));
        long target;
        if (insn.op == Op.STOS) {
            bytes -= bytes % size;
            target = bytes == 0 ? -1 : cpu.tlb.directWrite(to);
            if (target < 0) {
                return 0;
            }
            fill(cpu, target, bytes, size);
        } else {
            long si = Cpu.truncate(cpu.r[Cpu.RSI], width);
            long from = cpu.linear(insn.segment, si, size, false);
            bytes = Math.min(bytes, PAGE - (from & (PAGE - 1)));
            bytes = Math.min(bytes, room(cpu, insn.segment, si, width));
            bytes -= bytes % size;
            long source = bytes == 0 ? -1 : cpu.tlb.directRead(from);
            target = source < 0 ? -1 : cpu.tlb.directWrite(to);
            if (target < 0 || (source < target && target < source + bytes)) {
                return 0;
            }
            MemorySegment window = cpu.memory.window(PlainAccess.SILICON);
            MemorySegment.copy(window, source, window, target, bytes);
            cpu.reg(Cpu.RSI, width, si + bytes);
        }
        cpu.reg(Cpu.RDI, width, di + bytes);
        return (int) (bytes / size);
    }

    /// Bytes from `offset` to the end of an ordinary segment and of the address size.
    private static long room(Cpu cpu, int seg, long offset, int width) {
        if (cpu.is64Bit()) {
            return width == 8 ? Long.MAX_VALUE : (1L << 32) - offset;
        }
        long end = Math.min(cpu.segLimit[seg] & 0xffff_ffffL, width == 2 ? 0xffff : 0xffff_ffffL);
        boolean expandDown = (cpu.segAr[seg] & 0xc) == 4 && !cpu.realOrVirtual8086();
        return expandDown ? 0 : Math.max(0, end + 1 - offset);
    }

    private static void fill(Cpu cpu, long target, long bytes, int size) {
        MemorySegment page = cpu.memory.window(PlainAccess.SILICON).asSlice(target, bytes);
        long value = cpu.r[Cpu.RAX];
        long pattern = switch (size) {
            case 1 -> (value & 0xff) * 0x0101_0101_0101_0101L;
            case 2 -> (value & 0xffff) * 0x0001_0001_0001_0001L;
            case 4 -> (value & 0xffff_ffffL) * 0x0000_0001_0000_0001L;
            default -> value;
        };
        if (pattern == (pattern & 0xff) * 0x0101_0101_0101_0101L) {
            page.fill((byte) pattern);
            return;
        }
        long at = 0;
        for (; at + 8 <= bytes; at += 8) {
            page.set(Tlb.LONG, at, pattern);
        }
        for (; at < bytes; at++) {
            page.set(Tlb.BYTE, at, (byte) (pattern >>> (8 * (at & 7))));
        }
    }
}
