package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;

/// Which instructions the tester can run natively and compare.
final class Eligibility {
    private static final int SS = 2;

    private Eligibility() {
    }

    /// Which instructions may stand in sequences: no jumps, nothing that needs a prepared state, and nothing undefined but
    /// AF, so that no undefined bit reaches a later instruction's result.
    static boolean inSequence(CodeMode mode, Instruction i) {
        boolean plain = switch (i.op) {
            case MUL, IMUL, DIV, IDIV, SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD, BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, BEXTR,
                BZHI, ANDN, BLSI, BLSMSK, BLSR, AAA, AAS, DAA, DAS, AAM, AAD -> false;
            case LAHF, PUSHF, POPF, ENTER, LEAVE, PUSH, POP, PUSHA, POPA, PUSH_SREG, JMP, CALL, RET, JCC, LOOP, LOOPE, LOOPNE, JCXZ,
                MOVS, CMPS, STOS, LODS, SCAS, XLAT, MASKMOVQ, MASKMOVDQU, BOUND, LDMXCSR, FXRSTOR, FXSAVE, XSAVE, XSAVEC,
                XSAVES, XRSTOR, XRSTORS, FNSTENV, FNSAVE, FLDENV, FRSTOR,
                MOV_SREG, POP_SREG, LDS, LES, LFS, LGS, CALL_FAR, JMP_FAR, RET_FAR, IRET, LAR, LSL, VERR, VERW, WRFSBASE, WRGSBASE,
                FCOMI, FCOMIP, FUCOMI, FUCOMIP, CVTPI2PS, STD -> false;
            case SHA1MSG1, SHA1MSG2, SHA1NEXTE, SHA1RNDS4, SHA256MSG1, SHA256MSG2, SHA256RNDS2 -> i.kind1 != OperandKind.MEM;
            default -> !Undefined.approximate(i);
        };
        boolean usesStackPointer = (i.kind0 == OperandKind.GPR && i.reg0 == 4) || (i.kind1 == OperandKind.GPR && i.reg1 == 4);
        return plain && !usesStackPointer && i.segment != 4 && i.segment != 5 && testable(mode, i) && !privileged(i);
    }

    private static boolean privileged(Instruction i) {
        return switch (i.op) {
            case HLT, CLI, STI, IN, OUT, INS, OUTS, CLTS, INVD, WBINVD, WBNOINVD, RDMSR, WRMSR, INVLPG, LGDT, LIDT, LLDT, LTR, LMSW,
                MOV_CR, MOV_DR,
                STAC, CLAC, UD0, UD1, UD2 -> true;
            default -> false;
        };
    }

    static boolean testable(CodeMode mode, Instruction i) {
        boolean long64 = mode == CodeMode.BITS64;
        return switch (i.op) {
            case UNKNOWN, TRUNCATED, TOO_LONG -> false;
            // They enter the kernel, or trap where single-stepping traps too.
            case INT, INT1, INT3, INTO, SYSCALL, SYSENTER -> false;
            // A load of SS holds the single step back until the next instruction.
            case MOV_SREG, POP_SREG -> !(i.kind0 == OperandKind.SREG && i.reg0 == SS);
            case LSS -> false;
            // With REX.W Intel takes a 64-bit offset, AMD a 32-bit one.
            case CALL_FAR, JMP_FAR, LFS, LGS -> i.operandSize != 8;
            // Their results are the machine's own.
            case CPUID, RDTSC, RDTSCP, RDPMC, RDRAND, RDSEED, RDPID, XGETBV, SGDT, SIDT, SLDT, SMSW, STR -> false;
            // What the host has not, or Intel and AMD have differently.
            case XBEGIN, XABORT, XEND, XTEST -> false;
            case UMONITOR, UMWAIT, TPAUSE, SERIALIZE, MOVDIRI, MOVDIR64B, RDPKRU, WRPKRU, MONITOR, MWAIT, CLDEMOTE, GETSEC, PCONFIG, RSM,
                ENCLS, ENCLU, ENCLV, VMCALL, VMFUNC, VMCLEAR, VMLAUNCH, VMRESUME, VMPTRLD, VMPTRST, VMREAD, VMWRITE, VMXON, VMXOFF,
                INVEPT, INVVPID, INVPCID, SEAMCALL, SEAMRET, SEAMOPS, TDCALL, SYSEXIT, SYSRET, SWAPGS, RDSSP, INCSSP, SAVEPREVSSP, RSTORSSP,
                WRSS, WRUSS, SETSSBSY, CLRSSBSY -> false;
            // XSAVEOPT depends on what the processor knows to be unmodified, XSETBV on the components that there are.
            case XSAVEOPT, XSETBV -> false;
            // A 66 prefix on a near branch in 64-bit mode: AMD honours it, Intel ignores it.
            case JMP, CALL, RET, JCC, LOOP, LOOPE, LOOPNE, JCXZ ->
                !(long64 && i.has(Instruction.PREFIX_OPERAND_SIZE));
            // Intel reads 16 bits, AMD 32.
            case MOVSXD -> i.operandSize != 2 || i.kind1 != OperandKind.MEM;
            // AMD does not take a register here.
            case NOP -> !(i.kind0 == OperandKind.GPR && (i.bytes[i.length - 2] & 0xFF) == 0x0D);
            case BSWAP -> i.operandSize != 2;
            default -> true;
        };
    }
}
