package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.port.Processor;

/// What the ABI lets a function put into the VMM's registers. [TDX-ABI "Host-Side (SEAMCALL) Interface Functions"]
final class OutputRules {
    private static final int RCX_RDX = (1 << SeamRegs.RCX) | (1 << SeamRegs.RDX);
    private static final int R8 = 1 << SeamRegs.R8;
    private static final int R9 = 1 << SeamRegs.R9;
    private static final int R9_R11 = 7 << SeamRegs.R9;
    /// Bits of a Secure EPT entry, L1 or L2, that interface functions report.
    private static final long ENTRY = SeptEntry.RWX | SeptEntry.XU | SeptEntry.MEMORY_TYPE | SeptEntry.IPAT | SeptEntry.LEAF
            | SeptEntry.HPA | SeptEntry.SUPPRESS_VE | (7L << 57) | (1L << 60);
    private static final long PLACE = 7 | 0xff00 | (3 << 16);
    private static final int XMM_REGISTERS = 16;

    private OutputRules() {
    }

    /// The registers besides RAX that a function may change.
    private static int outputs(FuzzStep step) {
        boolean versioned = ((step.operands[0] >>> 16) & 0xff) != 0;
        return switch (step.leaf()) {
            case MEM_PAGE_ADD, MEM_PAGE_AUG, MEM_PAGE_RELOCATE, MEM_PAGE_REMOVE, MEM_RANGE_BLOCK, MEM_RANGE_UNBLOCK, MR_EXTEND ->
                RCX_RDX;
            case MEM_SEPT_ADD -> RCX_RDX | (versioned ? R8 | R9_R11 : 0);
            case MEM_SEPT_REMOVE, MEM_PAGE_PROMOTE -> RCX_RDX | (versioned ? R9_R11 : 0);
            case MEM_PAGE_DEMOTE -> RCX_RDX | R9_R11;
            case MEM_SEPT_RD, MEM_RD, MEM_WR -> RCX_RDX | R8;
            case MNG_RD, VP_RD -> R8 | (versioned ? 1 << SeamRegs.RDX : 0);
            case MNG_WR, VP_WR -> R8;
            case MNG_INIT -> 1 << SeamRegs.RCX;
            case PHYMEM_PAGE_RDMD, PHYMEM_PAGE_RECLAIM -> RCX_RDX | R8 | R9_R11;
            case SYS_INIT -> RCX_RDX | R8 | R9 | (1 << SeamRegs.R10);
            case SYS_LP_INIT -> RCX_RDX | R8;
            case SYS_INFO -> (1 << SeamRegs.RDX) | R9;
            case SYS_RD -> (1 << SeamRegs.RDX) | R8;
            case SYS_RDALL -> R8;
            case SYS_TDMR_INIT -> 1 << SeamRegs.RDX;
            case SERVTD_BIND -> (1 << SeamRegs.RCX) | (0xf << SeamRegs.R10);
            case VP_ENTER -> 0;
            case null -> 0;
            default -> step.leaf().number() >= 64 ? 0x3f06 : 0; // migration: any of RCX, RDX, R8 to R13
        };
    }

    /// A SEAMCALL ended, not in a guest.
    static void afterCall(FuzzStep step, SeamRegs before, SeamRegs after) {
        long rax = after.get(SeamRegs.RAX);
        boolean entry = step.leaf() != null && step.leaf().number() == 0;
        if (entry && (rax >>> 32 == 0 || rax >>> 62 == 1)) { // not an error, but a TD exit at once
            zeroBut(after, before, (1 << SeamRegs.RCX) | (1 << SeamRegs.RDX) | R8 | R9 | (1 << SeamRegs.RBP), "an entry that failed");
            return;
        }
        int allowed = outputs(step);
        for (int i = 1; i < SeamRegs.COUNT; i++) {
            long value = after.get(i);
            if (value == before.get(i)) {
                continue;
            }
            check(((allowed >>> i) & 1) != 0, "%s changes register %d to 0x%x; status 0x%x", step.leaf(), i, value, rax);
            if (rax < 0) {
                check(isErrorOutput(step, i, value, rax), "%s fails with 0x%x and leaves 0x%x in register %d", step.leaf(), rax,
                        value, i);
            }
        }
    }

    private static boolean isErrorOutput(FuzzStep step, int register, long value, long rax) {
        if (value == 0 || value == -1L) {
            return true;
        }
        return switch (step.leaf()) {
            case PHYMEM_PAGE_RECLAIM -> true; // what the page is, whoever asks
            case SYS_INIT, SYS_LP_INIT, MNG_INIT -> TdxStatus.of(rax) != TdxStatus.SYS_BUSY; // the CPUID leaf at fault
            case MNG_RD, VP_RD, SYS_RD, SYS_RDALL -> register == SeamRegs.RDX || register == SeamRegs.R8;
            case MEM_SEPT_ADD, MEM_PAGE_DEMOTE -> register > SeamRegs.RDX || place(register, value);
            default -> step.leaf().number() >= 64 || place(register, value);
        };
    }

    /// RCX an entry as reported, RDX its level, state and VM.
    private static boolean place(int register, long value) {
        return (register == SeamRegs.RCX && (value & ~ENTRY) == 0) || (register == SeamRegs.RDX && (value & ~PLACE) == 0);
    }

    /// TDH.VP.ENTER ended with a TD exit.
    ///
    /// @param mask the guest's RCX, which selects registers for TDG.VP.VMCALL
    static void afterTdExit(FuzzStep step, SeamRegs before, SeamRegs after, long mask, boolean keepRbp, Processor cpu) {
        long rax = after.get(SeamRegs.RAX);
        int allowed = (1 << SeamRegs.RCX) | (1 << SeamRegs.RDX) | R8 | R9;
        boolean call = (rax & 0xffff) == ExitReason.TDCALL && rax >>> 32 == 0;
        if (call) {
            allowed = (1 << SeamRegs.RCX) | ((int) mask & 0xffff);
        }
        zeroBut(after, before, allowed | (keepRbp ? 1 << SeamRegs.RBP : 0), "TD exit 0x" + Long.toHexString(rax));
        for (int i = 0; i < XMM_REGISTERS; i++) {
            if (!call || ((mask >>> (16 + i)) & 1) == 0) {
                check(cpu.xmmLow(i) == 0 && cpu.xmmHigh(i) == 0, "XMM%d is the guest's after TD exit 0x%x", i, rax);
            }
        }
        check(cpu.cr2() == 0 && cpu.debugRegister(0) == 0 && cpu.debugRegister(3) == 0, "CR2 or DR0 to DR3 are the guest's");
    }

    private static void zeroBut(SeamRegs after, SeamRegs before, int allowed, String what) {
        for (int i = 1; i < SeamRegs.COUNT; i++) {
            if (i != SeamRegs.RSP && ((allowed >>> i) & 1) == 0) {
                check(after.get(i) == 0, "register %d holds 0x%x after %s (0x%x before)", i, after.get(i), what, before.get(i));
            }
        }
    }
}
