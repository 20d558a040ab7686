package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.Efer;

/// MOV with control registers, CLTS, LMSW, SMSW, XSETBV and XGETBV, and the rules for what the registers may hold.
/// [SDM Vol. 3 "Control Registers"]
public final class ControlRegisters {
    private static final long CR4_SUPPORTED = Cr4.VME | Cr4.PVI | Cr4.TSD | Cr4.DE | Cr4.PSE | Cr4.PAE | Cr4.MCE | Cr4.PGE
            | Cr4.PCE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.UMIP | Cr4.LA57 | Cr4.VMXE | Cr4.FSGSBASE | Cr4.PCIDE
            | Cr4.OSXSAVE | Cr4.SMEP | Cr4.SMAP | Cr4.PKE | Cr4.CET | Cr4.PKS | Cr4.SMXE;
    /// Changes of these drop all translations, global ones too.
    private static final long CR4_TRANSLATION = Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.LA57 | Cr4.PCIDE | Cr4.SMEP | Cr4.SMAP
            | Cr4.PKE | Cr4.PKS;
    private static final long CR4_PDPTE = Cr4.PSE | Cr4.PAE | Cr4.PGE | Cr4.SMEP;
    private static final long CR3_ADDRESS = 0x000f_ffff_ffff_f000L;
    private static final long CR3_NO_FLUSH = 1L << 63;
    private static final long PDPTE_RESERVED = 0xfff0_0000_0000_01e6L;

    private ControlRegisters() {
    }

    static void requireCpl0(Cpu cpu) {
        if (cpu.cpl != 0) {
            throw cpu.gp(0);
        }
    }

    // Instructions

    static void mov(Cpu cpu, Instruction insn) {
        boolean store = insn.kind1 == OperandKind.CREG;
        int cr = store ? insn.reg1 : insn.reg0;
        int gpr = store ? insn.reg0 : insn.reg1;
        if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && cr != 8) {
            throw cpu.ud();
        }
        requireCpl0(cpu);
        if (store) {
            long value = cr == 2 ? cpu.cr2 : cpu.vmx.readCr(cpu, cr, gpr);
            cpu.reg(gpr, cpu.is64Bit() ? 8 : 4, value);
            return;
        }
        long value = cpu.reg(gpr, cpu.is64Bit() ? 8 : 4);
        switch (cr) {
            case 0 -> writeCr0(cpu, cpu.vmx.writeCr(cpu, 0, gpr, value));
            case 2 -> cpu.cr2 = value;
            case 3 -> writeCr3(cpu, cpu.vmx.writeCr(cpu, 3, gpr, value));
            case 4 -> writeCr4(cpu, cpu.vmx.writeCr(cpu, 4, gpr, value));
            default -> {
                if ((value & ~0xfL) != 0) {
                    throw cpu.gp(0);
                }
                cpu.vmx.writeCr8(cpu, gpr, value);
            }
        }
    }

    static void clts(Cpu cpu) {
        requireCpl0(cpu);
        writeCr0(cpu, cpu.vmx.clts(cpu, cpu.cr0 & ~Cr0.TS));
    }

    static void lmsw(Cpu cpu, Instruction insn) {
        requireCpl0(cpu);
        boolean memory = insn.kind0 == OperandKind.MEM;
        long linear = memory ? cpu.linear(insn, 2, false) : 0;
        int source = Segments.selectorOperand(cpu, insn, 0);
        long cr0 = (cpu.cr0 & ~0xeL) | (source & 0xf); // PE can be set, not cleared
        writeCr0(cpu, cpu.vmx.lmsw(cpu, insn, linear, source, cr0));
    }

    static void smsw(Cpu cpu, Instruction insn) {
        DescriptorTables.checkUmip(cpu);
        long value = cpu.vmx.readCr(cpu, 0, -1);
        if (insn.kind0 == OperandKind.GPR) {
            cpu.reg(insn.reg0, insn.operandSize, value);
        } else {
            cpu.write(cpu.linear(insn, 2, true), 2, value);
        }
    }

    static void xsetbv(Cpu cpu, Instruction insn) {
        requireXsave(cpu);
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        requireCpl0(cpu);
        long value = (cpu.r[Cpu.RAX] & 0xffff_ffffL) | (cpu.r[Cpu.RDX] << 32);
        if ((int) cpu.r[Cpu.RCX] != 0 || !legalXcr0(value)) {
            throw cpu.gp(0);
        }
        cpu.xcr0 = value;
    }

    /// Whether XCR0 may hold `value`.
    public static boolean legalXcr0(long value) {
        return (value & 1) != 0 && (value & ~Cpuid.XCR0_SUPPORTED) == 0;
    }


    private static void requireXsave(Cpu cpu) {
        if ((cpu.cr4 & Cr4.OSXSAVE) == 0) {
            throw cpu.ud();
        }
    }

    // Registers

    /// Loads CR0 as MOV does, with all checks and consequences.
    public static void writeCr0(Cpu cpu, long value) {
        long old = cpu.cr0;
        if (value >>> 32 != 0) {
            throw cpu.gp(0);
        }
        long cr0 = (value & Cr0.DEFINED) | Cr0.ET;
        boolean paging = (cr0 & Cr0.PG) != 0;
        boolean wasPaging = (old & Cr0.PG) != 0;
        boolean codeIs64 = Segments.longMode(cpu) && (cpu.segAr[Segments.CS] & Segments.AR_L) != 0;
        boolean illegal = (paging && (cr0 & Cr0.PE) == 0)
                || ((cr0 & Cr0.NW) != 0 && (cr0 & Cr0.CD) == 0)
                || ((cr0 & Cr0.WP) == 0 && (cpu.cr4 & Cr4.CET) != 0)
                || (!paging && wasPaging && (codeIs64 || (cpu.cr4 & Cr4.PCIDE) != 0));
        long efer = cpu.efer;
        if (paging && !wasPaging && (efer & Efer.LME) != 0) {
            boolean tss16 = (cpu.segAr[Cpu.TR] & 8) == 0 && (cpu.segAr[Cpu.TR] & Cpu.AR_UNUSABLE) == 0;
            illegal |= (cpu.cr4 & Cr4.PAE) == 0 || (cpu.segAr[Segments.CS] & Segments.AR_L) != 0 || tss16;
            efer |= Efer.LMA;
        } else if (!paging) {
            efer &= ~Efer.LMA;
        }
        if (illegal) {
            throw cpu.gp(0);
        }
        boolean pdptes = paging && (cpu.cr4 & Cr4.PAE) != 0 && (efer & Efer.LMA) == 0
                && ((cr0 ^ old) & (Cr0.PG | Cr0.CD | Cr0.NW)) != 0;
        if (pdptes) {
            loadPdptes(cpu, cpu.cr3);
        }
        cpu.cr0 = cr0;
        cpu.efer = efer;
        cpu.updateMode();
        if (((cr0 ^ old) & (Cr0.PG | Cr0.WP | Cr0.PE)) != 0) {
            cpu.tlb.flushAll();
        }
    }

    /// Loads CR3 as MOV does.
    public static void writeCr3(Cpu cpu, long value) {
        boolean pcids = (cpu.cr4 & Cr4.PCIDE) != 0;
        boolean keep = pcids && (value & CR3_NO_FLUSH) != 0;
        long cr3 = pcids ? value & ~CR3_NO_FLUSH : value;
        if (Segments.longMode(cpu)) {
            if ((cr3 & ~(CR3_ADDRESS | 0xfff)) != 0 || PageWalker.privateKey(cpu, cr3)) {
                throw cpu.gp(0);
            }
        } else {
            cr3 &= 0xffff_ffffL;
            if (paePaging(cpu)) {
                loadPdptes(cpu, cr3);
            }
        }
        cpu.cr3 = cr3;
        cpu.updateMode();
        if (!keep) {
            cpu.tlb.flushNonGlobal();
        }
    }

    /// Loads CR4 as MOV does.
    public static void writeCr4(Cpu cpu, long value) {
        long old = cpu.cr4;
        long changed = value ^ old;
        boolean longMode = Segments.longMode(cpu);
        boolean illegal = (value & ~CR4_SUPPORTED) != 0
                || ((value & Cr4.CET) != 0 && (cpu.cr0 & Cr0.WP) == 0)
                || (longMode && ((value & Cr4.PAE) == 0 || (changed & Cr4.LA57) != 0))
                || ((value & changed & Cr4.PCIDE) != 0 && (!longMode || (cpu.cr3 & 0xfff) != 0));
        if (illegal) {
            throw cpu.gp(0);
        }
        if ((cpu.cr0 & Cr0.PG) != 0 && (value & Cr4.PAE) != 0 && !longMode && (changed & CR4_PDPTE) != 0) {
            loadPdptes(cpu, cpu.cr3);
        }
        cpu.cr4 = value;
        cpu.updateMode();
        if ((changed & CR4_TRANSLATION) != 0) {
            cpu.tlb.flushAll();
        }
    }

    /// Whether CR4 may hold `value` at all, the present mode apart.
    public static boolean supportedCr4(long value) {
        return (value & ~CR4_SUPPORTED) == 0;
    }

    private static boolean paePaging(Cpu cpu) {
        return (cpu.cr0 & Cr0.PG) != 0 && (cpu.cr4 & Cr4.PAE) != 0 && !Segments.longMode(cpu);
    }

    /// Loads the PDPTE registers; #GP(0) when one has a reserved bit, and none is then changed. [SDM Vol. 3 "PDPTE Registers"]
    static void loadPdptes(Cpu cpu, long cr3) {
        long[] loaded = new long[4];
        for (int i = 0; i < 4; i++) {
            loaded[i] = cpu.vmx.readEntry(cpu, (cr3 & 0xffff_ffe0L) + i * 8, -1, 8);
            if ((loaded[i] & 1) != 0 && ((loaded[i] & PDPTE_RESERVED) != 0 || PageWalker.privateKey(cpu, loaded[i]))) {
                throw cpu.gp(0);
            }
        }
        System.arraycopy(loaded, 0, cpu.pdpte, 0, 4);
    }
}
