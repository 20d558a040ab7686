package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.vmx.Interruption;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.EnumSet;
import java.util.Set;

/// The slow form of system, segment, far-transfer, flag-image and port instructions.
public final class SystemInstructions {
    private static final Set<Op> OPS = EnumSet.of(
            Op.ARPL, Op.CALL_FAR, Op.CLAC, Op.CLDEMOTE, Op.CLFLUSH, Op.CLFLUSHOPT, Op.CLI, Op.CLRSSBSY, Op.CLTS, Op.CLWB, Op.CPUID,
            Op.ENCLS,
            Op.ENCLU, Op.ENCLV, Op.GETSEC, Op.HLT, Op.IN, Op.INCSSP, Op.INS, Op.INT, Op.INT1, Op.INT3, Op.INTO, Op.INVD, Op.INVEPT,
            Op.INVLPG, Op.INVPCID, Op.INVVPID, Op.IRET, Op.JMP_FAR, Op.LAR, Op.LDS, Op.LES, Op.LFS, Op.LGDT, Op.LGS,
            Op.LIDT, Op.LLDT, Op.LMSW, Op.LSL, Op.LSS, Op.LTR, Op.MONITOR, Op.MOVDIR64B, Op.MOVDIRI, Op.MOV_CR, Op.MOV_DR,
            Op.MOV_SREG, Op.MWAIT, Op.OUT, Op.OUTS, Op.PAUSE, Op.PCONFIG, Op.POPF, Op.POP_SREG, Op.PUSHF, Op.PUSH_SREG,
            Op.RDFSBASE, Op.RDGSBASE, Op.RDMSR, Op.RDPID, Op.RDPKRU, Op.RDPMC, Op.RDRAND, Op.RDSEED, Op.RDSSP, Op.RDTSC, Op.RDTSCP,
            Op.RET_FAR, Op.RSM, Op.RSTORSSP, Op.SAVEPREVSSP, Op.SETSSBSY, Op.SEAMCALL,
            Op.SEAMOPS, Op.SEAMRET, Op.SERIALIZE, Op.SGDT, Op.SIDT, Op.SLDT, Op.SMSW,
            Op.STAC, Op.STI, Op.STR, Op.SWAPGS, Op.SYSCALL, Op.SYSENTER, Op.SYSEXIT, Op.SYSRET, Op.TDCALL, Op.TPAUSE,
            Op.UMONITOR, Op.UMWAIT, Op.VERR, Op.VERW, Op.VMCALL, Op.VMCLEAR, Op.VMFUNC, Op.VMLAUNCH, Op.VMPTRLD,
            Op.VMPTRST, Op.VMREAD, Op.VMRESUME, Op.VMWRITE, Op.VMXOFF, Op.VMXON, Op.WBINVD, Op.WBNOINVD, Op.WRFSBASE,
            Op.WRGSBASE, Op.WRMSR, Op.WRPKRU, Op.WRSS, Op.WRUSS, Op.XSETBV);

    private static final int GETSEC_CAPABILITIES = 0;
    private static final int GETSEC_PARAMETERS = 6;

    private SystemInstructions() {
    }

    /// Whether this class executes `op`.
    public static boolean handles(Op op) {
        return OPS.contains(op);
    }

    /// Executes `insn`; see [cloister.cpu.core.Handler].
    public static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case MOV_SREG, POP_SREG, PUSH_SREG, LDS, LES, LFS, LGS, LSS, ARPL, LAR, LSL, VERR, VERW, LLDT, LTR, SGDT, SIDT,
                    LGDT, LIDT, SLDT, STR -> segments(cpu, insn);
            case CALL_FAR, JMP_FAR, RET_FAR, IRET, INT, INT1, INT3, INTO, SYSCALL, SYSRET, SYSENTER, SYSEXIT ->
                    transfers(cpu, insn);
            case MOV_CR, MOV_DR, CLTS, LMSW, SMSW, XSETBV, RDMSR, WRMSR, RDPMC, SWAPGS, RDFSBASE, RDGSBASE, WRFSBASE,
                    WRGSBASE, RDPKRU, WRPKRU -> registers(cpu, insn);
            case IN, OUT, INS, OUTS, CLI, STI, PUSHF, POPF, CLAC, STAC -> portsAndFlags(cpu, insn);
            case CPUID, RDTSC, RDTSCP, RDPID, RDRAND, RDSEED -> ProcessorQueries.execute(cpu, insn);
            case HLT, MONITOR, MWAIT, PAUSE, TPAUSE, UMONITOR, UMWAIT -> WaitInstructions.execute(cpu, insn);
            case INVLPG, INVPCID, CLFLUSH, CLFLUSHOPT, CLWB, CLDEMOTE, WBINVD, WBNOINVD, INVD, MOVDIRI, MOVDIR64B, SERIALIZE ->
                    MemoryInstructions.execute(cpu, insn);
            case RDSSP, INCSSP, SAVEPREVSSP, RSTORSSP, WRSS, WRUSS, SETSSBSY, CLRSSBSY ->
                    ShadowStackInstructions.execute(cpu, insn);
            default -> virtualisation(cpu, insn);
        }
    }

    private static void segments(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case MOV_SREG -> Segments.movSreg(cpu, insn);
            case POP_SREG -> Segments.popSreg(cpu, insn);
            case PUSH_SREG -> Segments.pushSreg(cpu, insn);
            case LDS -> Segments.loadFarPointer(cpu, insn, Cpu.DS);
            case LES -> Segments.loadFarPointer(cpu, insn, Cpu.ES);
            case LFS -> Segments.loadFarPointer(cpu, insn, Cpu.FS);
            case LGS -> Segments.loadFarPointer(cpu, insn, Cpu.GS);
            case LSS -> Segments.loadFarPointer(cpu, insn, Cpu.SS);
            case ARPL -> Segments.arpl(cpu, insn);
            case LAR -> Segments.loadRights(cpu, insn, false);
            case LSL -> Segments.loadRights(cpu, insn, true);
            case VERR -> Segments.verify(cpu, insn, false);
            case VERW -> Segments.verify(cpu, insn, true);
            case LLDT -> Segments.lldt(cpu, insn);
            case LTR -> Segments.ltr(cpu, insn);
            case SGDT -> DescriptorTables.store(cpu, insn, false);
            case SIDT -> DescriptorTables.store(cpu, insn, true);
            case LGDT -> DescriptorTables.load(cpu, insn, false);
            case LIDT -> DescriptorTables.load(cpu, insn, true);
            case SLDT -> DescriptorTables.storeSelector(cpu, insn, Cpu.LDTR);
            default -> DescriptorTables.storeSelector(cpu, insn, Cpu.TR);
        }
    }

    private static void transfers(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case CALL_FAR -> FarTransfers.call(cpu, insn);
            case JMP_FAR -> FarTransfers.jump(cpu, insn);
            case RET_FAR -> FarTransfers.ret(cpu, insn);
            case IRET -> InterruptReturn.iret(cpu, insn);
            case INT -> EventDelivery.software(cpu, Interruption.SOFTWARE_INTERRUPT, (int) insn.imm & 0xff);
            case INT1 -> EventDelivery.software(cpu, Interruption.PRIVILEGED_SOFTWARE_EXCEPTION, ExceptionVector.DB);
            case INT3 -> EventDelivery.software(cpu, Interruption.SOFTWARE_EXCEPTION, ExceptionVector.BP);
            case INTO -> {
                if ((cpu.rflags() & Rflags.OF) != 0) {
                    EventDelivery.software(cpu, Interruption.SOFTWARE_EXCEPTION, ExceptionVector.OF);
                }
            }
            case SYSCALL -> FastCalls.syscall(cpu);
            case SYSRET -> FastCalls.sysret(cpu, insn.operandSize);
            case SYSENTER -> FastCalls.sysenter(cpu);
            default -> FastCalls.sysexit(cpu, insn.operandSize);
        }
    }

    private static void registers(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case MOV_CR -> ControlRegisters.mov(cpu, insn);
            case MOV_DR -> DebugRegisters.mov(cpu, insn);
            case CLTS -> ControlRegisters.clts(cpu);
            case LMSW -> ControlRegisters.lmsw(cpu, insn);
            case SMSW -> ControlRegisters.smsw(cpu, insn);
            case XSETBV -> ControlRegisters.xsetbv(cpu, insn);
            case RDMSR -> {
                ControlRegisters.requireCpl0(cpu);
                pair(cpu, cpu.vmx.readMsr(cpu, (int) cpu.r[Cpu.RCX]));
            }
            case WRMSR -> {
                ControlRegisters.requireCpl0(cpu);
                cpu.vmx.writeMsr(cpu, (int) cpu.r[Cpu.RCX], (cpu.r[Cpu.RAX] & 0xffff_ffffL) | (cpu.r[Cpu.RDX] << 32));
            }
            case RDPMC -> readCounter(cpu, insn);
            case SWAPGS -> {
                require64(cpu);
                ControlRegisters.requireCpl0(cpu);
                long base = cpu.segBase[Cpu.GS];
                MsrTable.writeBase(cpu, Cpu.GS, cpu.kernelGsBase);
                cpu.kernelGsBase = base;
            }
            case RDFSBASE -> readBase(cpu, insn, Cpu.FS);
            case RDGSBASE -> readBase(cpu, insn, Cpu.GS);
            case WRFSBASE -> writeBase(cpu, insn, Cpu.FS);
            case WRGSBASE -> writeBase(cpu, insn, Cpu.GS);
            case RDPKRU -> {
                requirePkru(cpu);
                pair(cpu, cpu.pkru & 0xffff_ffffL);
            }
            default -> {
                requirePkru(cpu);
                if ((int) cpu.r[Cpu.RDX] != 0) {
                    throw cpu.gp(0);
                }
                ProtectionKeys.load(cpu, (int) cpu.r[Cpu.RAX]);
            }
        }
    }

    private static void portsAndFlags(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case IN -> PortInstructions.in(cpu, insn);
            case OUT -> PortInstructions.out(cpu, insn);
            case INS -> PortInstructions.string(cpu, insn, true);
            case OUTS -> PortInstructions.string(cpu, insn, false);
            case CLI -> FlagInstructions.cli(cpu);
            case STI -> FlagInstructions.sti(cpu);
            case PUSHF -> FlagInstructions.pushf(cpu, insn);
            case POPF -> FlagInstructions.popf(cpu, insn);
            case CLAC -> FlagInstructions.alignmentCheckFlag(cpu, false);
            default -> FlagInstructions.alignmentCheckFlag(cpu, true);
        }
    }

    /// VMX, SEAM, SGX, SMX and SMM instructions: in non-root operation most exit; what this silicon lacks is #UD.
    private static void virtualisation(Cpu cpu, Instruction insn) {
        boolean switchedOff = insn.op == Op.GETSEC && (cpu.cr4 & Cr4.SMXE) == 0;
        if (cpu.vmx.active() && !switchedOff) {
            cpu.vmx.intercept(cpu, insn);
        }
        if (insn.op != Op.GETSEC || switchedOff) {
            throw cpu.ud();
        }
        getsec(cpu);
    }

    /// GETSEC on a platform without a chipset for measured launch: the leaves CAPABILITIES and PARAMETERS exist. PARAMETERS has no
    /// parameter to report. [SDM Vol. 2 "Safer Mode Extensions Reference"]
    private static void getsec(Cpu cpu) {
        switch ((int) cpu.r[Cpu.RAX]) {
            case GETSEC_CAPABILITIES -> cpu.reg(Cpu.RAX, 4, (int) cpu.r[Cpu.RBX] == 0 ? 1 << GETSEC_PARAMETERS : 0);
            case GETSEC_PARAMETERS -> {
                cpu.reg(Cpu.RAX, 4, 0);
                cpu.reg(Cpu.RBX, 4, 0);
                cpu.reg(Cpu.RCX, 4, 0);
            }
            default -> throw cpu.ud();
        }
    }

    private static void readCounter(Cpu cpu, Instruction insn) {
        if (cpu.cpl > 0 && cpu.protectedMode() && (cpu.cr4 & Cr4.PCE) == 0) {
            throw cpu.gp(0);
        }
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
        int counter = (int) cpu.r[Cpu.RCX];
        if ((counter & 0x4000_0000) != 0 && (counter & 0xffff) < PerformanceCounters.FIXED) {
            pair(cpu, cpu.msrs.counters.read(counter & 0xffff));
        } else if (counter >= 0 && counter < 8) {
            pair(cpu, cpu.msrs.read(0xc1 + counter) & 0xffff_ffff_ffffL);
        } else {
            throw cpu.gp(0);
        }
    }

    private static void readBase(Cpu cpu, Instruction insn, int seg) {
        requireFsGsBase(cpu);
        cpu.reg(insn.reg0, insn.operandSize == 8 ? 8 : 4, cpu.segBase[seg]);
    }

    private static void writeBase(Cpu cpu, Instruction insn, int seg) {
        requireFsGsBase(cpu);
        long value = cpu.reg(insn.reg0, insn.operandSize == 8 ? 8 : 4);
        if (!cpu.canonical(value)) {
            throw cpu.gp(0);
        }
        MsrTable.writeBase(cpu, seg, value);
    }

    private static void requireFsGsBase(Cpu cpu) {
        require64(cpu);
        if ((cpu.cr4 & Cr4.FSGSBASE) == 0) {
            throw cpu.ud();
        }
    }

    private static void require64(Cpu cpu) {
        if (!cpu.is64Bit()) {
            throw cpu.ud();
        }
    }

    private static void requirePkru(Cpu cpu) {
        if ((cpu.cr4 & Cr4.PKE) == 0) {
            throw cpu.ud();
        }
        if ((int) cpu.r[Cpu.RCX] != 0) {
            throw cpu.gp(0);
        }
    }

    /// EDX:EAX.
    static void pair(Cpu cpu, long value) {
        cpu.r[Cpu.RAX] = value & 0xffff_ffffL;
        cpu.r[Cpu.RDX] = value >>> 32;
    }
}
