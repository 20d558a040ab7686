package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Rflags;

/// CPUID, the time-stamp counter, the processor id, and random numbers.
final class ProcessorQueries {
    private ProcessorQueries() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case CPUID -> cpuid(cpu, insn);
            case RDTSC -> SystemInstructions.pair(cpu, timeStamp(cpu, insn));
            case RDTSCP -> {
                long tsc = timeStamp(cpu, insn);
                SystemInstructions.pair(cpu, tsc);
                cpu.r[Cpu.RCX] = cpu.tscAux & 0xffff_ffffL;
            }
            case RDPID -> {
                if (cpu.vmx.active()) {
                    cpu.vmx.intercept(cpu, insn);
                }
                cpu.reg(insn.reg0, cpu.is64Bit() ? 8 : 4, cpu.tscAux);
            }
            default -> random(cpu, insn);
        }
    }

    private static void cpuid(Cpu cpu, Instruction insn) {
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        int[] out = new int[4];
        query(cpu, (int) cpu.r[Cpu.RAX], (int) cpu.r[Cpu.RCX], out);
        cpu.reg(Cpu.RAX, 4, out[0]);
        cpu.reg(Cpu.RBX, 4, out[1]);
        cpu.reg(Cpu.RCX, 4, out[2]);
        cpu.reg(Cpu.RDX, 4, out[3]);
    }

    static void query(Cpu cpu, int leaf, int subleaf, int[] out) {
        cpu.cpuid.query(leaf, subleaf, new Cpuid.Asker(cpu.cpuid.apicId(cpu.index), (cpu.apicBase & (1 << 11)) != 0, cpu.is64Bit(), cpu.cr4,
                cpu.xcr0, cpu.xss), out);
        Cpuid.hideTsx(leaf, subleaf, cpu.tsxCtrl, out);
    }

    private static long timeStamp(Cpu cpu, Instruction insn) {
        if (cpu.cpl > 0 && (cpu.cr4 & Cr4.TSD) != 0) {
            throw cpu.gp(0);
        }
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        return cpu.vmx.tsc(cpu, Msrs.hostTsc(cpu));
    }

    /// RDRAND and RDSEED: there is always entropy.
    private static void random(Cpu cpu, Instruction insn) {
        assert insn.op == Op.RDRAND || insn.op == Op.RDSEED;
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        cpu.reg(insn.reg0, insn.operandSize, cpu.entropy.nextLong());
        cpu.arithmeticFlags((int) Rflags.CF);
    }
}
