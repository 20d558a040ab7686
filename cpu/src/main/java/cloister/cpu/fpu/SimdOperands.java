package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.ExceptionVector;

/// Operands of the MMX and SSE instructions, and the checks that precede them.
///
/// A vector operand is an index into [FpuState#xmm] or [FpuState#st]: memory operands are read into the slot at its end
/// before anything is written, so that faults are precise.
final class SimdOperands {
    private static final long CR0_EM = 1 << 2;
    private static final long CR0_TS = 1 << 3;
    private static final long CR4_OSFXSR = 1 << 9;
    private static final long CR4_OSXMMEXCPT = 1 << 10;

    private SimdOperands() {
    }

    /// #UD and #NM of the SSE instructions. [SDM Vol. 3 "Exceptions Type 4"]
    static void requireSse(Cpu cpu) {
        if ((cpu.cr0 & (CR0_EM | CR0_TS)) != 0 || (cpu.cr4 & CR4_OSFXSR) == 0) {
            if ((cpu.cr0 & CR0_EM) != 0 || (cpu.cr4 & CR4_OSFXSR) == 0) {
                throw cpu.ud();
            }
            throw cpu.fault(ExceptionVector.NM, 0);
        }
    }

    /// #UD, #NM and pending x87 exceptions of the MMX instructions.
    static void requireMmx(Cpu cpu) {
        if ((cpu.cr0 & (CR0_EM | CR0_TS)) != 0) {
            if ((cpu.cr0 & CR0_EM) != 0) {
                throw cpu.ud();
            }
            throw cpu.fault(ExceptionVector.NM, 0);
        }
        X87Operands.checkPending(cpu);
    }

    /// The index in `xmm` of operand 1, a whole register or 16 aligned bytes, or fewer bytes zero-extended.
    static int source(Cpu cpu, Instruction insn) {
        if (insn.kind1 == OperandKind.XMM) {
            return 2 * insn.reg1;
        }
        return load(cpu, insn, insn.size1, true);
    }

    /// As [#source], without the alignment check.
    static int sourceUnaligned(Cpu cpu, Instruction insn) {
        if (insn.kind1 == OperandKind.XMM) {
            return 2 * insn.reg1;
        }
        return load(cpu, insn, insn.size1, false);
    }

    /// Reads the memory operand of `size` bytes into the operand slot, zero-extended to 16 bytes.
    static int load(Cpu cpu, Instruction insn, int size, boolean aligned) {
        long[] x = cpu.fpu.xmm;
        long at = cpu.linear(insn.segment, cpu.ea(insn), size, false);
        long high = 0;
        long low;
        switch (size) {
            case 16 -> {
                if (aligned && (at & 15) != 0) {
                    throw cpu.gp(0);
                }
                low = cpu.read64(at);
                high = cpu.read64(at + 8);
            }
            case 8 -> low = cpu.read64(at);
            case 4 -> low = cpu.read32(at) & 0xffff_ffffL;
            case 2 -> low = cpu.read16(at) & 0xffffL;
            default -> low = cpu.read8(at) & 0xffL;
        }
        x[FpuState.OPERAND] = low;
        x[FpuState.OPERAND + 1] = high;
        return FpuState.OPERAND;
    }

    /// Writes 16 bytes to the memory operand.
    static void store(Cpu cpu, Instruction insn, long low, long high, boolean aligned) {
        long at = cpu.linear(insn.segment, cpu.ea(insn), 16, true);
        if (aligned && (at & 15) != 0) {
            throw cpu.gp(0);
        }
        if ((at & 0xfff) > 0xff0) {
            cpu.probeWrite(at, 16);
        }
        cpu.write64(at, low);
        cpu.write64(at + 8, high);
    }

    /// Writes 8 bytes to the memory operand.
    static void store64(Cpu cpu, Instruction insn, long value) {
        cpu.write64(cpu.linear(insn.segment, cpu.ea(insn), 8, true), value);
    }

    /// Writes 4 bytes to the memory operand.
    static void store32(Cpu cpu, Instruction insn, long value) {
        cpu.write32(cpu.linear(insn.segment, cpu.ea(insn), 4, true), value);
    }

    /// The index in `st` of operand 1: an MMX register, or 8 or 4 bytes of memory.
    static int mmxSource(Cpu cpu, Instruction insn) {
        if (insn.kind1 == OperandKind.MMX) {
            return insn.reg1;
        }
        long at = cpu.linear(insn.segment, cpu.ea(insn), insn.size1, false);
        cpu.fpu.st[FpuState.MMX_OPERAND] = insn.size1 == 4 ? cpu.read32(at) & 0xffff_ffffL : cpu.read64(at);
        return FpuState.MMX_OPERAND;
    }

    /// The x87 state as every MMX instruction but EMMS (which leaves all registers empty) leaves it: TOP 0, all registers valid.
    static void enterMmx(FpuState s) {
        s.fsw &= ~0x3800;
        s.tags = 0xff;
    }

    static void writeMmx(FpuState s, int reg, long value) {
        s.fsw &= ~0x3800;
        s.tags = 0xff;
        s.st[reg] = value;
        s.stExponent[reg] = 0xffff;
    }

    /// Ends a floating-point SSE instruction that raised `flags`: sets them in MXCSR and throws #XM or #UD when one of them is
    /// unmasked. The caller writes the result after this. [SDM Vol. 1 "SIMD Floating-Point Exceptions"]
    static void raise(Cpu cpu, int flags) {
        if (flags == 0) {
            return;
        }
        FpuState s = cpu.fpu;
        int unmasked = flags & ~(s.mxcsr >> 7);
        // An unmasked pre-computation exception keeps the computation from happening.
        if ((unmasked & (SoftFloat.IE | SoftFloat.DE | SoftFloat.ZE)) != 0) {
            flags &= SoftFloat.IE | SoftFloat.DE | SoftFloat.ZE;
        }
        s.mxcsr |= flags;
        if (unmasked != 0) {
            if ((cpu.cr4 & CR4_OSXMMEXCPT) == 0) {
                throw cpu.ud();
            }
            throw cpu.fault(ExceptionVector.XM, 0);
        }
    }
}
