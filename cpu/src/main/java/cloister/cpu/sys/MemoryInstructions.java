package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.spec.x86.Cr4;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;

/// Instructions about translations, caches and direct stores. Caches are not modelled: flushing only checks the address.
final class MemoryInstructions {
    private static final int LINE = 64;
    private static final VarHandle WORD = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private MemoryInstructions() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case INVLPG -> invlpg(cpu, insn);
            case INVPCID -> invpcid(cpu, insn);
            case CLFLUSH, CLFLUSHOPT, CLWB -> cpu.probeRead(cpu.linear(insn, 1, false), 1);
            case WBINVD, WBNOINVD, INVD -> {
                ControlRegisters.requireCpl0(cpu);
                if (cpu.vmx.active()) {
                    cpu.vmx.intercept(cpu, insn);
                }
            }
            case MOVDIRI -> cpu.write(cpu.linear(insn, insn.size0, true), insn.size0, cpu.reg(insn.reg1, insn.size0));
            case MOVDIR64B -> movdir64b(cpu, insn);
            default -> { // SERIALIZE, CLDEMOTE: nothing here is out of order or cached
            }
        }
    }

    private static void invlpg(Cpu cpu, Instruction insn) {
        ControlRegisters.requireCpl0(cpu);
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        long base = cpu.is64Bit() && insn.segment < Cpu.FS ? 0 : cpu.segBase[insn.segment];
        long linear = base + cpu.ea(insn);
        cpu.tlb.flushPage(cpu.is64Bit() ? linear : linear & 0xffff_ffffL);
    }

    private static void invpcid(Cpu cpu, Instruction insn) {
        ControlRegisters.requireCpl0(cpu);
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        long at = cpu.ea(insn);
        long pcid = cpu.read(cpu.linear(insn.segment, at, 8, false), 8);
        long linear = cpu.read(cpu.linear(insn.segment, Segments.size(at + 8, insn.addressSize), 8, false), 8);
        long type = cpu.reg(insn.reg0, cpu.is64Bit() ? 8 : 4);
        boolean pcids = (cpu.cr4 & Cr4.PCIDE) != 0;
        boolean usesPcid = type == 0 || type == 1;
        if (type < 0 || type > 3 || (usesPcid && ((pcid & ~0xfffL) != 0 || (!pcids && pcid != 0)))
                || (type == 0 && !cpu.canonical(linear))) {
            throw cpu.gp(0);
        }
        switch ((int) type) {
            case 0 -> cpu.tlb.flushPage(linear);
            case 1 -> cpu.tlb.flushPcid((int) pcid);
            default -> cpu.tlb.flushAll();
        }
    }

    private static void movdir64b(Cpu cpu, Instruction insn) {
        long destination = cpu.linear(Cpu.ES, Segments.size(cpu.r[insn.reg0], insn.addressSize), LINE, true);
        if ((destination & (LINE - 1)) != 0) {
            throw cpu.gp(0);
        }
        long source = cpu.linear(insn, LINE, false);
        cpu.probeRead(source, LINE);
        cpu.probeWrite(destination, LINE);
        byte[] line = new byte[LINE];
        for (int i = 0; i < LINE; i += 8) {
            WORD.set(line, i, cpu.read(source + i, 8));
        }
        cpu.writeLine(destination, line);
    }
}
