package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.isa.Instruction;
import cloister.isa.Op;
import java.util.EnumSet;
import java.util.Set;

/// The slow form of system, segment, far-transfer, flag-image and port instructions.
public final class SystemInstructions {
    private static final Set<Op> OPS = EnumSet.of(
            Op.ARPL, Op.CALL_FAR, Op.CLAC, Op.CLDEMOTE, Op.CLFLUSH, Op.CLFLUSHOPT, Op.CLI, Op.CLTS, Op.CLWB, Op.CPUID, Op.ENCLS,
            Op.ENCLU, Op.ENCLV, Op.GETSEC, Op.HLT, Op.IN, Op.INS, Op.INT, Op.INT1, Op.INT3, Op.INTO, Op.INVD, Op.INVEPT,
            Op.INVLPG, Op.INVPCID, Op.INVVPID, Op.IRET, Op.JMP_FAR, Op.LAR, Op.LDS, Op.LES, Op.LFS, Op.LGDT, Op.LGS,
            Op.LIDT, Op.LLDT, Op.LMSW, Op.LSL, Op.LSS, Op.LTR, Op.MONITOR, Op.MOVDIR64B, Op.MOVDIRI, Op.MOV_CR, Op.MOV_DR,
            Op.MOV_SREG, Op.MWAIT, Op.OUT, Op.OUTS, Op.PAUSE, Op.PCONFIG, Op.POPF, Op.POP_SREG, Op.PUSHF, Op.PUSH_SREG,
            Op.RDFSBASE, Op.RDGSBASE, Op.RDMSR, Op.RDPID, Op.RDPKRU, Op.RDPMC, Op.RDRAND, Op.RDSEED, Op.RDTSC, Op.RDTSCP,
            Op.RET_FAR, Op.RSM, Op.SEAMCALL, Op.SEAMOPS, Op.SEAMRET, Op.SERIALIZE, Op.SGDT, Op.SIDT, Op.SLDT, Op.SMSW,
            Op.STAC, Op.STI, Op.STR, Op.SWAPGS, Op.SYSCALL, Op.SYSENTER, Op.SYSEXIT, Op.SYSRET, Op.TDCALL, Op.TPAUSE,
            Op.UMONITOR, Op.UMWAIT, Op.VERR, Op.VERW, Op.VMCALL, Op.VMCLEAR, Op.VMFUNC, Op.VMLAUNCH, Op.VMPTRLD,
            Op.VMPTRST, Op.VMREAD, Op.VMRESUME, Op.VMWRITE, Op.VMXOFF, Op.VMXON, Op.WBINVD, Op.WBNOINVD, Op.WRFSBASE,
            Op.WRGSBASE, Op.WRMSR, Op.WRPKRU, Op.XGETBV, Op.XSETBV);

    private SystemInstructions() {
    }

    /// Whether this class executes `op`.
    public static boolean handles(Op op) {
        return OPS.contains(op);
    }

    /// Executes `insn`; see [cloister.cpu.core.Handler].
    public static void execute(Cpu cpu, Instruction insn) {
        throw new ModelLimit("not in place yet: " + insn.op);
    }
}
