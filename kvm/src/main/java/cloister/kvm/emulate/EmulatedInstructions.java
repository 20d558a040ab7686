package cloister.kvm.emulate;

import static cloister.isa.Op.*;

import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.isa.OperandKind;
import java.util.EnumSet;
import java.util.Set;

/// Which instructions Linux emulates: the others end in KVM_INTERNAL_ERROR_EMULATION there, and so they do here.
/// [LINUX arch/x86/kvm/emulate.c, opcode tables]
final class EmulatedInstructions {
    private static final Set<Op> GENERAL = EnumSet.of(AAD, AAM, ADC, ADD, AND, BSF, BSR, BSWAP, BT, BTC, BTR, BTS, CALL, CALL_FAR, CBW, CDQ,
            CDQE, CLC, CLD, CLI, CMC, CMOVCC, CMP, CMPS, CMPXCHG, CMPXCHG8B, CQO, CWD, CWDE, DAS, DEC, DIV, ENTER, IDIV, IMUL, IN, INC, INS,
            JCC, JCXZ, JMP, JMP_FAR, LAHF, LDS, LEA, LEAVE, LES, LFS, LGS, LODS, LOOP, LOOPE, LOOPNE, LSS, LZCNT, MOV, MOVBE, MOVNTI, MOVS,
            MOVSX, MOVSXD, MOVZX, MUL, NEG, NOP, NOT, OR, OUT, OUTS, PAUSE, POP, POPA, POPF, POP_SREG, PUSH, PUSHA, PUSHF, PUSH_SREG, RCL,
            RCR, RET, RET_FAR, ROL, ROR, SAHF, SALC, SAR, SBB, SCAS, SETCC, SHL, SHLD, SHR, SHRD, STC, STD, STI, STOS, SUB, TEST, TZCNT,
            XADD, XCHG, XLAT, XOR);
    private static final Set<Op> SYSTEM = EnumSet.of(CLFLUSH, CLFLUSHOPT, CLTS, CPUID, FXRSTOR, FXSAVE, HLT, INVD, INVLPG, LGDT, LIDT, LLDT,
            LMSW, LTR, MOV_CR, MOV_DR, MOV_SREG, PREFETCHNTA, PREFETCHT0, PREFETCHT1, PREFETCHT2, PREFETCHW, RDMSR, RDPMC, RDTSC, SGDT,
            SIDT, SLDT, SMSW, STR, SYSCALL, SYSENTER, SYSEXIT, WBINVD, WRMSR, XSETBV);
    private static final Set<Op> VECTOR = EnumSet.of(FNINIT, FNSTCW, MOVAPD, MOVAPS, MOVDQA, MOVDQU, MOVNTDQ, MOVNTDQA, MOVNTPD, MOVNTPS,
            MOVUPD, MOVUPS);
    private static final Set<Op> IN_REAL_MODE = EnumSet.of(INT, INT3, INTO, IRET);
    /// What takes more of a processor than its registers.
    private static final Set<Op> PROCESSORS_OWN = EnumSet.of(RDRAND, RDSEED, RDTSCP, RDPID, TPAUSE, UMWAIT, UMONITOR, SWAPGS, RDPKRU,
            WRPKRU, INVPCID, SYSRET, VMCALL);
    private static final Set<Op> OF_PAGE_TABLES = EnumSet.of(OR, AND, MOV, XCHG, BTS, BTC, CMPXCHG, CMPXCHG8B);
    private static final Set<Op> SHADOW_STACK = EnumSet.of(CALL, CALL_FAR, RET, RET_FAR, INT, INT3, INTO, IRET, SYSCALL, SYSENTER, SYSEXIT);

    private EmulatedInstructions() {
    }

    /// Whether Linux emulates `insn`.
    ///
    /// @param realMode whether the guest is in real-address mode
    static boolean emulates(Instruction insn, boolean realMode) {
        return switch (insn.op) {
            case MOVQ -> insn.kind0 == OperandKind.MMX || (insn.kind1 == OperandKind.MMX && insn.kind0 == OperandKind.MEM);
            case FNSTSW -> insn.kind0 == OperandKind.MEM;
            default -> GENERAL.contains(insn.op) || SYSTEM.contains(insn.op) || VECTOR.contains(insn.op)
                    || (realMode && IN_REAL_MODE.contains(insn.op));
        };
    }

    /// Whether `insn` can be carried out at all, for a guest that must be emulated as long as its state is one that the processor
    /// does not take.
    static boolean possible(Instruction insn) {
        return !PROCESSORS_OWN.contains(insn.op);
    }

    /// Whether `insn` is one that kernels write page tables with. [LINUX x86_page_table_writing_insn]
    static boolean writesPageTables(Instruction insn) {
        return OF_PAGE_TABLES.contains(insn.op) && insn.kind0 == OperandKind.MEM;
    }

    /// Whether `insn` uses the shadow stack where there is one.
    static boolean usesShadowStack(Instruction insn) {
        return SHADOW_STACK.contains(insn.op);
    }

    /// Whether `insn` is a branch whose target indirect branch tracking looks at. [LINUX is_ibt_instruction]
    static boolean branchIsTracked(Instruction insn) {
        return switch (insn.op) {
            case CALL_FAR, JMP_FAR, INT, INT3, INTO, SYSCALL, SYSENTER -> true;
            case CALL, JMP -> insn.kind0 != OperandKind.REL && insn.kind0 != OperandKind.IMM;
            default -> false;
        };
    }
}
