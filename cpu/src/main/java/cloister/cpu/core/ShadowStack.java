package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.Cet;
import cloister.spec.x86.ExceptionVector;

/// Accesses to shadow stacks, and what near CALL and RET do there. [SDM Vol. 1 "Shadow Stacks"]
///
/// SSP is a linear address. Every access needs a shadow-stack page of the accessor's own privilege (user or supervisor).
public final class ShadowStack {
    private static final int PAGE = 4096;

    private ShadowStack() {
    }

    // Accesses

    /// Reads `size` bytes (4 or 8) at a linear address aligned to 4.
    public static long read(Cpu cpu, long linear, int size, boolean user) {
        checkCanonical(cpu, linear, size);
        cpu.watchpoints.access(linear, size, false);
        if (crosses(linear, size)) {
            return access(cpu, linear, 4, user) | (access(cpu, linear + 4, 4, user) << 32);
        }
        return access(cpu, linear, size, user);
    }

    private static long access(Cpu cpu, long linear, int size, boolean user) {
        return cpu.readPhysical(cpu.tlb.shadow.hpa(linear, false, user), size);
    }

    /// Writes `size` bytes (4 or 8) at a linear address aligned to 4; faults before it writes anything.
    public static void write(Cpu cpu, long linear, int size, long value, boolean user) {
        probeWrite(cpu, linear, size, user);
        cpu.watchpoints.access(linear, size, true);
        if (crosses(linear, size)) {
            cpu.writePhysical(cpu.tlb.shadow.hpa(linear, true, user), 4, value & 0xffff_ffffL);
            cpu.writePhysical(cpu.tlb.shadow.hpa(linear + 4, true, user), 4, value >>> 32);
        } else {
            cpu.writePhysical(cpu.tlb.shadow.hpa(linear, true, user), size, value);
        }
    }

    /// Makes sure that a write of `size` bytes (up to a page) will not fault.
    public static void probeWrite(Cpu cpu, long linear, int size, boolean user) {
        checkCanonical(cpu, linear, size);
        cpu.tlb.shadow.hpa(linear, true, user);
        if (crosses(linear, size)) {
            cpu.tlb.shadow.hpa(linear + size - 1, true, user);
        }
    }

    /// Writes `value` if there is `expected`: the locked compare and exchange of tokens.
    ///
    /// @return whether there was
    public static boolean compareAndSet(Cpu cpu, long linear, long expected, long value, boolean user) {
        probeWrite(cpu, linear, 8, user);
        if (read(cpu, linear, 8, user) != expected) {
            return false;
        }
        write(cpu, linear, 8, value, user);
        return true;
    }

    private static boolean crosses(long linear, int size) {
        return ((int) linear & (PAGE - 1)) + size > PAGE;
    }

    private static void checkCanonical(Cpu cpu, long linear, int size) {
        if (!cpu.canonical(linear) || !cpu.canonical(linear + size - 1)) {
            throw cpu.gp(0);
        }
    }

    // Near transfers

    /// Whether shadow stacks are enabled at the current privilege level.
    static boolean enabled(Cpu cpu) {
        return (cpu.cet.variant & ControlFlow.SHADOW_STACK) != 0;
    }

    private static int slot(Cpu cpu) {
        return cpu.is64Bit() ? 8 : 4;
    }

    /// A near CALL pushes its return address, except when it only wants to know where it is. Called before the stack is written.
    static void call(Cpu cpu, Instruction insn) {
        if (!enabled(cpu) || (insn.kind0 == OperandKind.REL && insn.imm == 0)) {
            return;
        }
        int operand = insn.operandSize;
        long sp = Cpu.truncate(cpu.r[Cpu.RSP] - operand, cpu.stackBits() / 8);
        cpu.probeWrite(cpu.linear(Cpu.SS, sp, operand, true), operand); // the stack faults first
        int size = slot(cpu);
        long at = cpu.ssp(cpu.cet.ssp - size);
        write(cpu, at, size, Cpu.truncate(cpu.nextRip, operand), cpu.cpl == 3);
        cpu.cet.ssp = at;
    }

    /// A near RET to `target`, which has been read from the stack, must find the same address here; otherwise #CP(NEAR-RET).
    ///
    /// @return SSP afterwards
    static long ret(Cpu cpu, long target) {
        if (!enabled(cpu)) {
            return cpu.cet.ssp;
        }
        int size = slot(cpu);
        if (read(cpu, cpu.cet.ssp, size, cpu.cpl == 3) != target) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_NEAR_RET);
        }
        return cpu.ssp(cpu.cet.ssp + size);
    }
}
