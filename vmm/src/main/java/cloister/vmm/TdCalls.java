package cloister.vmm;

import static cloister.isa.Operands.EAX;
import static cloister.isa.Operands.ECX;
import static cloister.isa.Operands.EDX;
import static cloister.isa.Operands.R10;
import static cloister.isa.Operands.R10D;
import static cloister.isa.Operands.R11D;
import static cloister.isa.Operands.R12D;
import static cloister.isa.Operands.R13D;
import static cloister.isa.Operands.R14D;

import cloister.isa.Assembler;

/// Emits the TDCALLs that our firmware and test guests use. All clobber RAX, RCX and R10 to R15 as said.
/// [TDX-ABI "Guest-Side (TDCALL) Interface Functions"; GHCI "TDG.VP.VMCALL Interface"]
final class TdCalls {
    static final int VP_INFO = 1;
    static final int MEM_PAGE_ACCEPT = 6;
    static final int HLT = 12;
    static final int IO = 30;
    static final int WRMSR = 32;
    static final int MAP_GPA = 0x10001;
    static final int REPORT_FATAL_ERROR = 0x10003;
    private static final int PASS_R10_TO_R15 = 0xfc00;

    private TdCalls() {
    }

    /// TDG.VP.VMCALL with the sub-function in R11 and its arguments, which the caller has set, in R12 to R15.
    static Assembler vmcall(Assembler code, int subFunction) {
        return code.xor(EAX, EAX).mov(ECX, PASS_R10_TO_R15).xor(R10D, R10D).mov(R11D, subFunction).tdcall();
    }

    /// WRMSR by the host: the value is in R13.
    static Assembler writeMsr(Assembler code, int msr) {
        return vmcall(code.mov(R12D, msr), WRMSR);
    }

    /// Writes the value in R15 to a port.
    static Assembler writePort(Assembler code, int port, int size) {
        return vmcall(code.mov(R12D, size).mov(R13D, 1).mov(R14D, port), IO);
    }

    /// TDG.MEM.PAGE.ACCEPT of what RCX says; status in RAX.
    static Assembler accept(Assembler code) {
        return code.mov(EAX, MEM_PAGE_ACCEPT).xor(EDX, EDX).tdcall();
    }
}
