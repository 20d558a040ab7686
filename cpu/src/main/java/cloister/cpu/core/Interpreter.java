package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.memory.plain.PlainAccess;
import cloister.spec.x86.ExceptionVector;
import java.lang.foreign.MemorySegment;

/// Executes guest code: one loop over the micro-ops of the [CodeCache], one case each (table), slow methods for the rest.
///
/// The loop counts its budget down in *run coordinates*: an instruction's number within its run. A branch from number x to
/// number e costs x + 1 - e, so that the budget less the current number is always the exact rest.
public final class Interpreter {
    private Interpreter() {
    }

    /// Runs from [Cpu#rip] for about `budget` instructions (block ends decide), or until [Cpu#attention] is non-zero; not one
    /// instruction when it already is. Afterwards `rip` is the next instruction.
    ///
    /// [GuestFault] and [VmExitSignal] pass through: `rip` is then the instruction that raised them (or the target of a transfer that
    /// cannot be fetched), `retired` does not count it. With single-stepping or hardware breakpoints in force, use
    /// [#step] instead.
    public static void run(Cpu cpu, long slice) {
        long end = cpu.retired + slice;
        if (cpu.attention == ControlFlow.ATTENTION && !arrive(cpu)) {
            return;
        }
        while (loop(cpu, end - cpu.retired)) {
        }
    }

    /// Goes on behind an indirect branch that is tracked: at decoded code that begins with ENDBRANCH, or by executing one instruction.
    ///
    /// @return whether there is more to do
    private static boolean arrive(Cpu cpu) {
        long target = resume(cpu);
        CodeCache cache = cpu.code;
        int place = cache.locate(cpu, target);
        if (place < 0 || cache.code[place & CodeCache.PLACE_MASK] != MicroOp.END_BRANCH) {
            step(cpu);
        } else {
            cpu.jumps.put(target, place);
            cpu.cet.arrived();
        }
        return cpu.attention == 0;
    }

    /// As [#run]; true when the code cache has got new arrays and the loop must start again with them.
    ///
    /// What keeps this fast is C2's habit of computing in front of the switch whatever two cases have in common: each case loads
    /// its own word, behind its own range check, and fixed slots (RSP, the page, the result) come as operands. Addresses are written out
    /// in every case, because C2 does not inline a call that it has not seen run.
    private static boolean loop(Cpu cpu, long slice) {
        CodeCache cache = cpu.code;
        byte[] ops = cache.ops;
        long[] code = cache.code;
        int[] info = cache.info;
        long[] r = cpu.r;
        long[] tlb = cpu.tlb.fast;
        long[] jumps = cpu.jumps.words;
        MemorySegment window = cpu.memory.window(PlainAccess.SILICON);
        ExecutionTrace trace = cpu.trace;
        long budget = slice;
        long base = cpu.retired + slice;
        long target = resume(cpu);
        long ctx = cpu.tlb.context;
        long key = cpu.jumps.key;
        transfer:
        while (true) {
            if (budget <= 0 || cpu.attention != 0) {
                leave(cpu, target, base - budget);
                return false;
            }
            int jump = JumpCache.index(target);
            long place = jumps[jump + 1];
            if (jumps[jump] != target || place >>> 32 != key) {
                leave(cpu, target, base - budget);
                place = cache.locate(cpu, target);
                if (cache.code != code) {
                    return true;
                }
                if (place < 0) {
                    step(cpu);
                    target = resume(cpu);
                    ctx = cpu.tlb.context;
                    key = cpu.jumps.key;
                    budget = base - cpu.retired;
                    continue;
                }
                cpu.jumps.put(target, (int) place);
                key = cpu.jumps.key;
            }
            if (trace != null) {
                trace.record(target, base - budget);
            }
            r[Slot.PAGE] = target & -4096L;
            int pc = (int) place & CodeCache.PLACE_MASK;
            budget += (int) place >>> CodeCache.PLACE_BITS;
            while (true) {
                switch (ops[pc]) {
                    case MicroOp.MOV64 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        pc++;
                        continue;
                    }
                    case MicroOp.MOV32 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (r[((int) u >>> 16) & 0xff] + (u >> 32)) & 0xffff_ffffL;
                        pc++;
                        continue;
                    }
                    case MicroOp.MOVI -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = code[pc + 1];
                        pc += 2;
                        continue;
                    }
                    case MicroOp.INSERT16 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        r[a] = (r[a] & ~0xffffL) | ((r[((int) u >>> 16) & 0xff] + (u >> 32)) & 0xffff);
                        pc++;
                        continue;
                    }
                    case MicroOp.INSERT8 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        r[a] = (r[a] & ~0xffL) | ((r[((int) u >>> 16) & 0xff] + (u >> 32)) & 0xff);
                        pc++;
                        continue;
                    }
                    case MicroOp.ZERO16 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = r[((int) u >>> 16) & 0xff] & 0xffff;
                        pc++;
                        continue;
                    }
                    case MicroOp.ZERO8 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = r[((int) u >>> 16) & 0xff] & 0xff;
                        pc++;
                        continue;
                    }
                    case MicroOp.SIGN8_64 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (byte) r[((int) u >>> 16) & 0xff];
                        pc++;
                        continue;
                    }
                    case MicroOp.SIGN16_64 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (short) r[((int) u >>> 16) & 0xff];
                        pc++;
                        continue;
                    }
                    case MicroOp.SIGN32_64 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (int) r[((int) u >>> 16) & 0xff];
                        pc++;
                        continue;
                    }
                    case MicroOp.SIGN8_32 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (byte) r[((int) u >>> 16) & 0xff] & 0xffff_ffffL;
                        pc++;
                        continue;
                    }
                    case MicroOp.SIGN16_32 -> {
                        long u = code[pc];
                        r[((int) u >>> 8) & 0xff] = (short) r[((int) u >>> 16) & 0xff] & 0xffff_ffffL;
                        pc++;
                        continue;
                    }
                    case MicroOp.LEA64 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        r[((int) u >>> 8) & 0xff]
                                = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LEA32 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        r[((int) u >>> 8) & 0xff]
                                = (r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32)) & 0xffff_ffffL;
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LOAD8 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        r[((int) u >>> 8) & 0xff] = ((va & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.BYTE, va + tlb[t + 2]) & 0xffL : (byte) slowLoad(cpu, va, 1, pc, base, budget) & 0xffL;
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LOAD16 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        r[((int) u >>> 8) & 0xff] = (((va + 1) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.SHORT, va + tlb[t + 2]) & 0xffffL
                                        : (short) slowLoad(cpu, va, 2, pc, base, budget) & 0xffffL;
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LOAD32 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        r[((int) u >>> 8) & 0xff] = (((va + 3) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.INT, va + tlb[t + 2]) & 0xffff_ffffL
                                        : (int) slowLoad(cpu, va, 4, pc, base, budget) & 0xffff_ffffL;
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LOAD64 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        r[((int) u >>> 8) & 0xff] = (((va + 7) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.LONG, va + tlb[t + 2]) : slowLoad(cpu, va, 8, pc, base, budget);
                        pc += 2;
                        continue;
                    }
                    case MicroOp.LOAD_S32_64 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        r[((int) u >>> 8) & 0xff] = (((va + 3) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.INT, va + tlb[t + 2]) : (int) slowLoad(cpu, va, 4, pc, base, budget);
                        pc += 2;
                        continue;
                    }
                    case MicroOp.STORE8 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        long value = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if (((va & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.BYTE, va + tlb[t + 2], (byte) value);
                        } else {
                            slowStore(cpu, va, 1, value, pc, base, budget);
                        }
                        pc += 2;
                        continue;
                    }
                    case MicroOp.STORE16 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        long value = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if ((((va + 1) & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.SHORT, va + tlb[t + 2], (short) value);
                        } else {
                            slowStore(cpu, va, 2, value, pc, base, budget);
                        }
                        pc += 2;
                        continue;
                    }
                    case MicroOp.STORE32 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        long value = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if ((((va + 3) & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.INT, va + tlb[t + 2], (int) value);
                        } else {
                            slowStore(cpu, va, 4, value, pc, base, budget);
                        }
                        pc += 2;
                        continue;
                    }
                    case MicroOp.STORE64 -> {
                        long u = code[pc];
                        long form = code[pc + 1];
                        long va = r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24]
                                + (form >> 32);
                        long value = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if ((((va + 7) & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.LONG, va + tlb[t + 2], value);
                        } else {
                            slowStore(cpu, va, 8, value, pc, base, budget);
                        }
                        pc += 2;
                        continue;
                    }
                    case MicroOp.ADD64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long x = r[a];
                        long y = x + (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.ADD;
                        pc++;
                        continue;
                    }
                    case MicroOp.ADD32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long x = r[a];
                        long y = x + (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = x << 32;
                        r[Slot.KIND] = Flags.ADD | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.SUB64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long x = r[a];
                        long y = x - (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB;
                        pc++;
                        continue;
                    }
                    case MicroOp.SUB32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long x = r[a];
                        long y = x - (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = x << 32;
                        r[Slot.KIND] = Flags.SUB | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.AND64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] & (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.AND32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] & (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.OR64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] | (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.OR32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] | (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.XOR64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] ^ (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.XOR32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        long y = r[a] ^ (r[((int) u >>> 16) & 0xff] + (u >> 32));
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.CMP -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        r[Slot.RESULT] = x - ((r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift);
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.TEST -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        r[Slot.RESULT] = (r[((int) u >>> 8) & 0xff] & (r[((int) u >>> 16) & 0xff] + (u >> 32))) << shift;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | ((long) shift << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.SHL64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = r[a];
                        long y = x << n;
                        long carry = (x >>> -n) & 1;
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = carry | (((y >>> 63) ^ carry) << 11);
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.SHL32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = r[a];
                        long y = (x << n) & 0xffff_ffffL;
                        long carry = (x >>> (32 - n)) & 1;
                        r[a] = y;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = carry | (((y >>> 31) ^ carry) << 11);
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.SHR64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = r[a];
                        long y = x >>> n;
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = ((x >>> (n - 1)) & 1) | ((x >>> 63) << 11);
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.SHR32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = r[a] & 0xffff_ffffL;
                        long y = x >>> n;
                        r[a] = y;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = ((x >>> (n - 1)) & 1) | ((x >>> 31) << 11);
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.SAR64 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = r[a];
                        long y = x >> n;
                        r[a] = y;
                        r[Slot.RESULT] = y;
                        r[Slot.OPERAND] = (x >> (n - 1)) & 1;
                        r[Slot.KIND] = Flags.RES;
                        pc++;
                        continue;
                    }
                    case MicroOp.SAR32 -> {
                        long u = code[pc];
                        int a = ((int) u >>> 8) & 0xff;
                        int n = (int) u >>> 24;
                        long x = (int) r[a];
                        long y = x >> n;
                        r[a] = y & 0xffff_ffffL;
                        r[Slot.RESULT] = y << 32;
                        r[Slot.OPERAND] = (x >> (n - 1)) & 1;
                        r[Slot.KIND] = Flags.RES | (32 << 8);
                        pc++;
                        continue;
                    }
                    case MicroOp.REGISTER -> {
                        long u = code[pc];
                        RegisterOps.execute(r, u);
                        pc++;
                        continue;
                    }
                    case MicroOp.RMW -> {
                        long u = code[pc];
                        readModifyWrite(cpu, u, pc, base, budget);
                        pc += 2;
                        continue;
                    }
                    case MicroOp.PUSH -> {
                        long u = code[pc];
                        int sp = ((int) u >>> 8) & 0xff;
                        long value = r[((int) u >>> 16) & 0xff] + (u >> 32);
                        long va = r[sp] - 8;
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if ((((va + 7) & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.LONG, va + tlb[t + 2], value);
                        } else {
                            slowPush(cpu, va, value, pc, base, budget);
                        }
                        r[sp] = va;
                        pc++;
                        continue;
                    }
                    case MicroOp.POP -> {
                        long u = code[pc];
                        int sp = ((int) u >>> 16) & 0xff;
                        long va = r[sp];
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        long value = (((va + 7) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.LONG, va + tlb[t + 2]) : slowPop(cpu, va, pc, base, budget);
                        r[sp] = va + 8;
                        r[((int) u >>> 8) & 0xff] = value;
                        pc++;
                        continue;
                    }
                    case MicroOp.LEAVE -> {
                        leaveFrame(cpu, pc, base, budget);
                        pc++;
                        continue;
                    }
                    case MicroOp.JMP -> {
                        long u = code[pc];
                        budget -= (int) u << 8 >> 16;
                        pc = (int) (u >>> 32);
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.JZ -> {
                        long u = code[pc];
                        if (!(r[(int) u >>> 24] == 0)) {
                            pc++;
                            continue;
                        }
                        budget -= (int) u << 8 >> 16;
                        pc = (int) (u >>> 32);
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.JNZ -> {
                        long u = code[pc];
                        if (!(r[(int) u >>> 24] != 0)) {
                            pc++;
                            continue;
                        }
                        budget -= (int) u << 8 >> 16;
                        pc = (int) (u >>> 32);
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.JCC -> {
                        long u = code[pc];
                        if (!(Flags.condition(r, (int) u >>> 24))) {
                            pc++;
                            continue;
                        }
                        budget -= (int) u << 8 >> 16;
                        pc = (int) (u >>> 32);
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.CMPJ_Z -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        long y = (r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift;
                        r[Slot.RESULT] = x - y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x == y) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.CMPJ_B -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        long y = (r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift;
                        r[Slot.RESULT] = x - y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x + Long.MIN_VALUE < y + Long.MIN_VALUE) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.CMPJ_BE -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        long y = (r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift;
                        r[Slot.RESULT] = x - y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x + Long.MIN_VALUE <= y + Long.MIN_VALUE) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.CMPJ_L -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        long y = (r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift;
                        r[Slot.RESULT] = x - y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x < y) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.CMPJ_LE -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = r[((int) u >>> 8) & 0xff] << shift;
                        long y = (r[((int) u >>> 16) & 0xff] + (u >> 32)) << shift;
                        r[Slot.RESULT] = x - y;
                        r[Slot.OPERAND] = x;
                        r[Slot.KIND] = Flags.SUB | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x <= y) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.TESTJ_Z -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = (r[((int) u >>> 8) & 0xff] & (r[((int) u >>> 16) & 0xff] + (u >> 32))) << shift;
                        r[Slot.RESULT] = x;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x == 0) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.TESTJ_S -> {
                        long u = code[pc];
                        int shift = (int) u >>> 24;
                        long x = (r[((int) u >>> 8) & 0xff] & (r[((int) u >>> 16) & 0xff] + (u >> 32))) << shift;
                        r[Slot.RESULT] = x;
                        r[Slot.OPERAND] = 0;
                        r[Slot.KIND] = Flags.RES | ((long) shift << 8);
                        long link = code[pc + 1];
                        if ((x < 0) == (link << 15 < 0)) {
                            pc += 2;
                            continue;
                        }
                        budget -= (short) (link >>> 32);
                        pc = (int) link;
                        if (budget > 0) {
                            continue;
                        }
                    }
                    case MicroOp.LINK -> {
                        int to = cache.link(pc);
                        if (to == 0 || cache.code != code) {
                            budget -= info[pc] >>> CodeCache.INDEX_SHIFT;
                            leave(cpu, r[Slot.PAGE] + (code[pc] >> 32), base - budget);
                            return true;
                        }
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) - (to >>> CodeCache.PLACE_BITS);
                        pc = to & CodeCache.PLACE_MASK;
                        continue;
                    }
                    case MicroOp.JMP_PAGE -> {
                        long u = code[pc];
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) + ((int) u >>> 24);
                        target = r[((int) u >>> 8) & 0xff] + (u >> 32);
                        continue transfer;
                    }
                    case MicroOp.CALL -> {
                        long u = code[pc];
                        int sp = ((int) u >>> 8) & 0xff;
                        long page = r[((int) u >>> 16) & 0xff];
                        long value = page + code[pc + 1];
                        long va = r[sp] - 8;
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        if ((((va + 7) & -4096L) | ctx) == tlb[t + 1]) {
                            window.set(Tlb.LONG, va + tlb[t + 2], value);
                        } else {
                            slowPush(cpu, va, value, pc, base, budget);
                        }
                        r[sp] = va;
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) + 1;
                        target = page + (u >> 32);
                        continue transfer;
                    }
                    case MicroOp.CALL_REG -> {
                        target = callRegister(cpu, pc, base, budget);
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) + 1;
                        continue transfer;
                    }
                    case MicroOp.JMP_REG -> {
                        long u = code[pc];
                        target = checkedTarget(cpu, r[((int) u >>> 8) & 0xff], pc, base, budget);
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) + 1;
                        continue transfer;
                    }
                    case MicroOp.RET -> {
                        long u = code[pc];
                        int sp = ((int) u >>> 8) & 0xff;
                        long va = r[sp];
                        int t = (int) ((va >>> 10) ^ (ctx << 10)) & Tlb.INDEX_MASK;
                        long value = (((va + 7) & -4096L) | ctx) == tlb[t]
                                ? window.get(Tlb.LONG, va + tlb[t + 2]) : slowPop(cpu, va, pc, base, budget);
                        target = checkedTarget(cpu, value, pc, base, budget);
                        r[sp] = va + 8 + (u >> 32);
                        budget -= (info[pc] >>> CodeCache.INDEX_SHIFT) + 1;
                        continue transfer;
                    }
                    case MicroOp.GENERIC -> {
                        long u = code[pc];
                        if (generic(cpu, (int) (u >>> 32), pc, base, budget)) {
                            pc++;
                            continue;
                        }
                        target = resume(cpu);
                        ctx = cpu.tlb.context;
                        key = cpu.jumps.key;
                        budget = base - cpu.retired;
                        continue transfer;
                    }
                    case MicroOp.GENERIC_END -> {
                        long u = code[pc];
                        generic(cpu, (int) (u >>> 32), pc, base, budget);
                        target = resume(cpu);
                        ctx = cpu.tlb.context;
                        key = cpu.jumps.key;
                        base -= spent(cpu);
                        budget = base - cpu.retired;
                        continue transfer;
                    }
                    case MicroOp.CROSS -> {
                        sync(cpu, pc, base, budget);
                        step(cpu);
                        target = resume(cpu);
                        ctx = cpu.tlb.context;
                        key = cpu.jumps.key;
                        budget = base - cpu.retired;
                        continue transfer;
                    }
                    default -> {
                    }
                }
                // The code here is gone, or the slice has ended at a branch.
                target = r[Slot.PAGE] + goesOnAt(ops[pc], code[pc], info[pc]);
                budget -= info[pc] >>> CodeCache.INDEX_SHIFT;
                key = cpu.jumps.key;
                continue transfer;
            }
        }
    }

    private static long address(long[] r, long form) {
        return r[(int) form & 0xff] + (r[((int) form >>> 8) & 0xff] << (form >>> 16)) + r[(int) form >>> 24] + (form >> 32);
    }

    /// The offset in the page at which execution goes on from a micro-op that was not executed. What a branch out of the page leads
    /// to knows its target itself.
    private static long goesOnAt(int op, long u, int info) {
        boolean branchedOut = op == MicroOp.JMP_PAGE && (int) u >>> 24 == 0;
        return branchedOut ? u >> 32 : info & CodeCache.OFFSET_MASK;
    }

    // Between the loop and the architectural state

    /// The linear address of [Cpu#rip]; takes over what slow methods may have changed.
    private static long resume(Cpu cpu) {
        cpu.r[Slot.FS] = cpu.segBase[Cpu.FS];
        cpu.r[Slot.GS] = cpu.segBase[Cpu.GS];
        return cpu.is64Bit() ? cpu.rip : (cpu.rip + cpu.segBase[Cpu.CS]) & 0xffff_ffffL;
    }

    private static void leave(Cpu cpu, long target, long retired) {
        cpu.rip = cpu.is64Bit() ? target : (target - cpu.segBase[Cpu.CS]) & 0xffff_ffffL;
        cpu.retired = retired;
    }

    /// Makes [Cpu#rip] and [Cpu#retired] those of the micro-op at `pc`.
    private static void sync(Cpu cpu, int pc, long base, long budget) {
        int info = cpu.code.info[pc];
        leave(cpu, cpu.r[Slot.PAGE] + (info & CodeCache.OFFSET_MASK), base - budget + (info >>> CodeCache.INDEX_SHIFT));
    }

    /// What the last instruction takes from the slice beyond its tick.
    private static long spent(Cpu cpu) {
        long spent = cpu.spent;
        cpu.spent = 0;
        return spent;
    }

    /// Executes a kept instruction. True when the next micro-op follows; otherwise `rip` says where to go on.
    private static boolean generic(Cpu cpu, int index, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        CodeCache cache = cpu.code;
        return execute(cpu, cache.instructions[index], cache.handlers[index]);
    }

    private static boolean execute(Cpu cpu, Instruction insn, Handler handler) {
        long next = cpu.rip + insn.length;
        cpu.nextRip = cpu.is64Bit() ? next : next & 0xffff_ffffL;
        next = cpu.nextRip;
        handler.execute(cpu, insn);
        cpu.rip = cpu.nextRip;
        if (cpu.repeat) {
            cpu.repeat = false;
        } else {
            cpu.retired++;
        }
        return cpu.rip == next && cpu.attention == 0;
    }

    /// Executes exactly one instruction, whatever [Cpu#attention] says. `rip` and `retired` are afterwards as [#run] leaves them.
    ///
    /// @return the instruction, which has been executed
    public static Instruction step(Cpu cpu) {
        long linear = resume(cpu);
        Instruction insn = cpu.fetch.at(linear);
        cpu.cet.check(insn);
        cpu.alone = true;
        try {
            execute(cpu, insn, Semantics.handler(insn.op));
        } finally {
            cpu.alone = false;
        }
        return insn;
    }

    /// Executes `insn`, which software has fetched and decoded: what [#step] does without a fetch.
    public static void execute(Cpu cpu, Instruction insn) {
        execute(cpu, insn, Semantics.handler(insn.op));
    }

    // Rare cases of micro-ops

    private static long slowLoad(Cpu cpu, long linear, int size, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        checkCanonical(cpu, linear, size, (int) cpu.code.code[pc + 1]);
        return cpu.tlb.read(linear, size);
    }

    private static void slowStore(Cpu cpu, long linear, int size, long value, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        checkCanonical(cpu, linear, size, (int) cpu.code.code[pc + 1]);
        cpu.tlb.write(linear, size, value);
    }

    /// #SS(0) instead of #GP(0) when the address form is based on RSP or RBP without an FS or GS override.
    private static void checkCanonical(Cpu cpu, long linear, int size, int form) {
        if (!cpu.canonical(linear) || !cpu.canonical(linear + size - 1)) {
            int base = form & 0xff;
            boolean stack = (base == Cpu.RSP || base == Cpu.RBP) && form >>> 24 == Slot.ZERO;
            throw cpu.fault(stack ? ExceptionVector.SS : ExceptionVector.GP, 0);
        }
    }

    private static void slowPush(Cpu cpu, long linear, long value, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        checkCanonical(cpu, linear, 8, (Slot.ZERO << 24) | Cpu.RSP);
        cpu.tlb.write(linear, 8, value);
    }

    private static long slowPop(Cpu cpu, long linear, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        checkCanonical(cpu, linear, 8, (Slot.ZERO << 24) | Cpu.RSP);
        return cpu.tlb.read(linear, 8);
    }

    private static void readModifyWrite(Cpu cpu, long u, int pc, long base, long budget) {
        sync(cpu, pc, base, budget);
        long linear = address(cpu.r, cpu.code.code[pc + 1]);
        int operation = (int) u >>> 24;
        checkCanonical(cpu, linear, ReadModifyWrite.size(operation), (int) cpu.code.code[pc + 1]);
        ReadModifyWrite.execute(cpu, linear, operation, ((int) u >>> 16) & 0xff, u >> 32);
    }

    private static void leaveFrame(Cpu cpu, int pc, long base, long budget) {
        long linear = cpu.r[Cpu.RBP];
        cpu.r[Cpu.RBP] = slowPop(cpu, linear, pc, base, budget);
        cpu.r[Cpu.RSP] = linear + 8;
    }

    /// CALL through a register: pushes and returns the target.
    private static long callRegister(Cpu cpu, int pc, long base, long budget) {
        long[] r = cpu.r;
        long[] code = cpu.code.code;
        long target = checkedTarget(cpu, r[((int) code[pc] >>> 8) & 0xff], pc, base, budget);
        long linear = r[Cpu.RSP] - 8;
        slowPush(cpu, linear, r[Slot.PAGE] + code[pc + 1], pc, base, budget);
        r[Cpu.RSP] = linear;
        if ((int) code[pc] >>> 24 != 0) {
            track(cpu, target, budget - (cpu.code.info[pc] >>> CodeCache.INDEX_SHIFT) - 1);
        }
        return target;
    }

    /// The tracker waits for ENDBRANCH at `target`, unless it is known to be there and nothing can come between.
    private static void track(Cpu cpu, long target, long budget) {
        long[] jumps = cpu.jumps.words;
        int jump = JumpCache.index(target);
        boolean known = jumps[jump] == target && jumps[jump + 1] >>> 32 == cpu.jumps.key
                && cpu.code.code[(int) jumps[jump + 1] & CodeCache.PLACE_MASK] == MicroOp.END_BRANCH;
        if (!known || budget <= 0 || cpu.attention != 0) {
            cpu.cet.near();
        }
    }

    private static long checkedTarget(Cpu cpu, long target, int pc, long base, long budget) {
        if (target << 16 >> 16 != target && !cpu.canonical(target)) {
            sync(cpu, pc, base, budget);
            throw cpu.gp(0);
        }
        return target;
    }
}
