package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.Cr4;

/// LGDT, LIDT, SGDT, SIDT, SLDT and STR.
final class DescriptorTables {
    private DescriptorTables() {
    }

    static void checkUmip(Cpu cpu) {
        if (cpu.cpl > 0 && (cpu.cr4 & Cr4.UMIP) != 0) {
            throw cpu.gp(0);
        }
    }

    static void load(Cpu cpu, Instruction insn, boolean interrupts) {
        if (insn.kind0 != OperandKind.MEM) {
            throw cpu.ud();
        }
        ControlRegisters.requireCpl0(cpu);
        cpu.vmx.intercept(cpu, insn);
        boolean wide = cpu.is64Bit();
        long at = cpu.ea(insn);
        int limit = (int) cpu.read(cpu.linear(insn.segment, at, 2, false), 2);
        int baseBytes = wide ? 8 : 4;
        long baseAt = Segments.size(at + 2, insn.addressSize);
        long base = cpu.read(cpu.linear(insn.segment, baseAt, baseBytes, false), baseBytes);
        if (!wide && insn.operandSize == 2) {
            base &= 0xff_ffff;
        }
        if (wide && !cpu.canonical(base)) {
            throw cpu.gp(0);
        }
        if (interrupts) {
            cpu.idtrBase = base;
            cpu.idtrLimit = limit;
        } else {
            cpu.gdtrBase = base;
            cpu.gdtrLimit = limit;
        }
    }

    static void store(Cpu cpu, Instruction insn, boolean interrupts) {
        if (insn.kind0 != OperandKind.MEM) {
            throw cpu.ud();
        }
        checkUmip(cpu);
        cpu.vmx.intercept(cpu, insn);
        int baseBytes = cpu.is64Bit() ? 8 : 4;
        long at = cpu.ea(insn);
        long limitAt = cpu.linear(insn.segment, at, 2, true);
        long baseAt = cpu.linear(insn.segment, Segments.size(at + 2, insn.addressSize), baseBytes, true);
        cpu.probeWrite(limitAt, 2);
        cpu.probeWrite(baseAt, baseBytes);
        cpu.write(limitAt, 2, interrupts ? cpu.idtrLimit : cpu.gdtrLimit);
        cpu.write(baseAt, baseBytes, interrupts ? cpu.idtrBase : cpu.gdtrBase);
    }

    /// SLDT and STR.
    static void storeSelector(Cpu cpu, Instruction insn, int seg) {
        if (cpu.realOrVirtual8086()) {
            throw cpu.ud();
        }
        checkUmip(cpu);
        cpu.vmx.intercept(cpu, insn);
        if (insn.kind0 == OperandKind.GPR) {
            cpu.reg(insn.reg0, insn.operandSize, cpu.segSelector[seg]);
        } else {
            cpu.write(cpu.linear(insn, 2, true), 2, cpu.segSelector[seg]);
        }
    }
}
