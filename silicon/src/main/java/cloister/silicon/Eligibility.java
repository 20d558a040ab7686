package cloister.silicon;

import cloister.isa.CodeMode;
import cloister.isa.Instruction;
import cloister.isa.OperandKind;

/// Which instructions the tester can run natively and compare.
final class Eligibility {
    private Eligibility() {
    }

    static boolean testable(CodeMode mode, Instruction i) {
        boolean long64 = mode == CodeMode.BITS64;
        return switch (i.op) {
            case UNKNOWN, TRUNCATED, TOO_LONG -> false;
            // They enter the kernel, or trap where single-stepping traps too.
            case INT, INT1, INT3, INTO, SYSCALL, SYSENTER -> false;
            // They leave the child's code segment, or change what the child needs afterwards.
            case CALL_FAR, JMP_FAR, RET_FAR, IRET, POP_SREG, LDS, LES, LFS, LGS, LSS, WRFSBASE, WRGSBASE -> false;
            case MOV_SREG -> i.kind0 != OperandKind.SREG;
            // Their results are the machine's own.
            case CPUID, RDTSC, RDTSCP, RDPMC, RDRAND, RDSEED, RDPID, XGETBV, LAR, LSL, VERR, VERW, SGDT, SIDT, SLDT, SMSW, STR -> false;
            // What the host has not, or Intel and AMD have differently.
            case UMONITOR, UMWAIT, TPAUSE, SERIALIZE, MOVDIRI, MOVDIR64B, RDPKRU, WRPKRU, MONITOR, MWAIT, CLDEMOTE, GETSEC, PCONFIG, RSM,
                ENCLS, ENCLU, ENCLV, VMCALL, VMFUNC, VMCLEAR, VMLAUNCH, VMRESUME, VMPTRLD, VMPTRST, VMREAD, VMWRITE, VMXON, VMXOFF,
                INVEPT, INVVPID, INVPCID, SEAMCALL, SEAMRET, SEAMOPS, TDCALL, SYSEXIT, SYSRET, SWAPGS -> false;
            // Component sets and layouts differ with XCR0.
            case XSAVE, XSAVEC, XSAVEOPT, XSAVES, XRSTOR, XRSTORS, XSETBV -> false;
            // A 66 prefix on a near branch in 64-bit mode: AMD honours it, Intel ignores it.
            case JMP, CALL, RET, JCC, LOOP, LOOPE, LOOPNE, JCXZ -> !(long64 && i.has(Instruction.PREFIX_OPERAND_SIZE)) && i.operandSize != 2;
            // Intel reads 16 bits, AMD 32.
            case MOVSXD -> i.operandSize != 2 || i.kind1 != OperandKind.MEM;
            // AMD does not take a register here.
            case NOP -> !(i.kind0 == OperandKind.GPR && (i.bytes[i.length - 2] & 0xFF) == 0x0D);
            case BSWAP -> i.operandSize != 2;
            default -> true;
        };
    }
}
