package cloister.kvm.tdx;

import static cloister.spec.tdx.SeamRegs.*;

import cloister.sim.Noinstr;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.tdx.SeamRegs;
import java.util.stream.IntStream;

/// The registers of TDH.VP.ENTER by what they mean, kept from an exit to the next entry. [LINUX struct vcpu_tdx vp_enter_args]
/// [TDX-ABI "TDH.VP.ENTER"]
final class VpEnterRegs implements Persistent {
    private final SeamRegs regs = new SeamRegs();

    @Noinstr SeamRegs raw() {
        return regs;
    }

    // --- an exit that is no TDVMCALL

    long exitQualification() {
        return regs.get(RCX);
    }

    long extendedQualification() {
        return regs.get(RDX);
    }

    long gpa() {
        return regs.get(R8);
    }

    @Noinstr int interruptionInfo() {
        return (int) regs.get(R9);
    }

    // --- a TDVMCALL [GHCI "TDG.VP.VMCALL"]

    /// R10: 0 for a call of the GHCI, else a hypercall of the host's own.
    long callType() {
        return regs.get(R10);
    }

    /// R11: the call.
    long leaf() {
        return regs.get(R11);
    }

    /// R12: the first argument.
    long first() {
        return regs.get(R12);
    }

    /// R13: the second one.
    long second() {
        return regs.get(R13);
    }

    /// R14: the third one.
    long third() {
        return regs.get(R14);
    }

    /// R15: the fourth one.
    long fourth() {
        return regs.get(R15);
    }

    /// R10 at the next entry: what became of the call.
    void status(long value) {
        regs.set(R10, value);
    }

    /// R11 at the next entry: the result, or with a failed MapGPA where it failed.
    void result(long value) {
        regs.set(R11, value);
    }

    /// R12 to R15 at the next entry.
    void results(long r12, long r13, long r14, long r15) {
        regs.set(R12, r12);
        regs.set(R13, r13);
        regs.set(R14, r14);
        regs.set(R15, r15);
    }

    /// The 16 registers that a fatal error may carry text in, by encoding. [GHCI "TDG.VP.VMCALL<ReportFatalError>"]
    long[] fatalErrorData(long status) {
        long[] data = new long[16];
        data[0] = status;
        for (int i : new int[] {RCX, RDX, RBX, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15}) {
            data[i] = regs.get(i);
        }
        return data;
    }

    @Override public String stateName() {
        return "args";
    }

    @Override public void describe(StateSink to) {
        to.words("regs", IntStream.range(0, 16).mapToLong(regs::get).toArray());
    }
}
