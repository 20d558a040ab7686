package cloister.tdx.fuzz;

import cloister.sim.Entropy;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.core.Tdcs;
import cloister.tdx.fuzz.FuzzStep.Kind;

/// Invents what a guest does: accesses to memory, TDCALLs and other VM exits, of those that a processor can cause.
final class FuzzGuest {
    private static final int[] PLAIN_EXITS = {ExitReason.CPUID, ExitReason.HLT, ExitReason.VMCALL, ExitReason.IO_INSTRUCTION,
        ExitReason.WBINVD, ExitReason.INVD, ExitReason.VMXON, ExitReason.VMREAD, ExitReason.MWAIT, ExitReason.SEAMCALL,
        ExitReason.INIT, ExitReason.TASK_SWITCH, ExitReason.BUS_LOCK, ExitReason.OTHER_SMI};
    private static final int[] MSRS = {0x10, 0x1b, 0x6e0, 0x808, 0x802, 0xd90, 0xda0, 0x1d9, 0x10a, 0x122, 0x345, 0x480, 0x481, 0x1a0,
        0xc000_0080, 0xc000_0082, 0x4b56_4d00, 0x277, 0x38f, 0x9ff};
    private static final TdcallLeaf[] CALLS = {TdcallLeaf.VP_INFO, TdcallLeaf.MR_RTMR_EXTEND, TdcallLeaf.VP_VEINFO_GET,
        TdcallLeaf.MR_REPORT, TdcallLeaf.VP_CPUIDVE_SET, TdcallLeaf.VM_RD, TdcallLeaf.VM_WR, TdcallLeaf.VP_RD, TdcallLeaf.VP_WR,
        TdcallLeaf.SYS_RD, TdcallLeaf.MR_VERIFYREPORT, TdcallLeaf.MEM_PAGE_ATTR_RD, TdcallLeaf.MEM_PAGE_ATTR_WR};
    private static final long EXTERNAL_INTERRUPT_INFO = 0x8000_0000L | 0x40;
    private static final long NMI_INFO = 0x8000_0202L;
    private static final long WRITE = 0x182;

    private final FuzzMachine machine;
    private final FuzzGenerator general;
    private final Entropy random;

    FuzzGuest(FuzzMachine machine, FuzzGenerator general, Entropy random) {
        this.machine = machine;
        this.general = general;
        this.random = random;
    }

    private FuzzStep exit(int lp, long reason, long qualification, long gpa, long info, long... registers) {
        var o = new long[Kind.EXIT.operands];
        o[0] = reason;
        o[1] = qualification;
        o[2] = gpa;
        o[3] = info;
        o[4] = general.oneIn(4) ? 0 : general.below(64);
        System.arraycopy(registers, 0, o, 5, registers.length);
        o[11] = general.oneIn(20) ? 1 : 0;
        o[12] = general.oneIn(3) ? general.below(2) : 100;
        return new FuzzStep(lp, Kind.EXIT, o);
    }

    private FuzzStep interrupt(int lp) {
        return general.oneIn(8) ? exit(lp, ExitReason.EXCEPTION_OR_NMI, 0, 0, NMI_INFO)
                : exit(lp, ExitReason.EXTERNAL_INTERRUPT, 0, 0, EXTERNAL_INTERRUPT_INFO);
    }

    FuzzStep next(int lp) {
        var state = machine.lp(lp);
        if (state.stepping.active && general.oneIn(2)) {
            return exit(lp, ExitReason.MONITOR_TRAP_FLAG, 0, 0, 0);
        }
        if (general.isDoomed(state.tdr.pa)) {
            return interrupt(lp);
        }
        int kind = general.below(100);
        if (kind < 25) {
            return memoryAccess(lp, state);
        }
        if (kind < 45) {
            return accept(lp, state);
        }
        if (kind < 65) {
            return call(lp);
        }
        if (kind < 75) {
            return exit(lp, ExitReason.TDCALL, 0, 0, 0, 0, 0xfc00);
        }
        if (kind < 85) {
            return interrupt(lp);
        }
        if (kind < 93) {
            return msr(lp, state);
        }
        if (kind < 94) {
            return rare(lp);
        }
        return exit(lp, PLAIN_EXITS[general.below(PLAIN_EXITS.length)], 0, 0, 0, general.below(0x20), 0);
    }

    private FuzzStep memoryAccess(int lp, LpState state) {
        long gpa = general.gpa();
        if (general.oneIn(16)) {
            return exit(lp, ExitReason.EPT_VIOLATION, WRITE, gpa | 1L << Gpa.sharedBit(state.tdcs.gpaw()), 0);
        }
        boolean reachable = machine.walk(state.tdcs, state.tdr.keyId(), gpa) != null
                || machine.cpus[lp].translate(state.tdcs.eptp(), gpa, null) != null;
        return reachable ? new FuzzStep(lp, Kind.ACCESS, gpa) : exit(lp, ExitReason.EPT_VIOLATION, WRITE, gpa, 0);
    }

    private FuzzStep accept(int lp, LpState state) {
        long gpa = general.gpa();
        var slot = new Sept(machine.memory, state.tdr.keyId()).walk(state.tdcs.eptp(), gpa, 0);
        int level = general.oneIn(10) ? general.below(3) : Math.min(slot.level(), 1);
        if (SeptState.of(slot.value()) == SeptState.MAPPED && general.oneIn(2)) {
            return new FuzzStep(lp, Kind.ACCESS, gpa);
        }
        return exit(lp, ExitReason.TDCALL, 0, 0, 0, TdcallLeaf.MEM_PAGE_ACCEPT.number(), gpa & -(1L << 12 + 9 * level) | level);
    }

    private FuzzStep call(int lp) {
        var leaf = CALLS[general.below(CALLS.length)];
        long rax = leaf.number() | (general.oneIn(20) ? 1L << general.below(64) : 0);
        if (TdcallLeaf.of((int) rax & 0xffff) != leaf) {
            rax = leaf.number();
        }
        long gpa = general.gpa();
        return switch (leaf) {
            case MR_RTMR_EXTEND -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, gpa + 64L * general.below(64), general.below(5));
            case MR_REPORT -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, gpa, gpa + 1024, general.below(10) == 0 ? 1 : 0);
            case VP_CPUIDVE_SET -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, general.below(5));
            case MR_VERIFYREPORT -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, gpa);
            case MEM_PAGE_ATTR_RD -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, gpa);
            case MEM_PAGE_ATTR_WR -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, gpa, general.below(8) << 16 | 0x8000_0000L,
                    (long) general.below(8) << 16);
            case SYS_RD, VM_RD, VM_WR, VP_RD, VP_WR -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax, 0,
                    general.field(leaf == TdcallLeaf.SYS_RD ? 0 : leaf == TdcallLeaf.VM_RD || leaf == TdcallLeaf.VM_WR ? 1 : 2),
                    random.nextLong() & 3, -1L);
            default -> exit(lp, ExitReason.TDCALL, 0, 0, 0, rax);
        };
    }

    /// Only MSRs that the bitmap does not let through cause exits.
    private FuzzStep msr(int lp, LpState state) {
        int msr = MSRS[general.below(MSRS.length)];
        boolean write = general.oneIn(2);
        boolean listed = (msr & ~0x1fff) == 0 || (msr & ~0x1fff) == 0xc000_0000;
        int at = Tdcs.MSR_BITMAPS + (write ? 2048 : 0) + (msr < 0 ? 1024 : 0) + (msr & 0x1fff) / 8;
        if (listed && (state.tdcs.u8(at) >> (msr & 7) & 1) == 0) {
            return interrupt(lp);
        }
        return exit(lp, write ? ExitReason.WRMSR : ExitReason.RDMSR, 0, 0, 0, random.nextLong() & 0xffff_ffffL,
                msr & 0xffff_ffffL, general.below(3));
    }

    private FuzzStep rare(int lp) {
        return switch (general.below(8)) {
            case 0 -> exit(lp, ExitReason.TRIPLE_FAULT, 0, 0, 0);
            case 1 -> exit(lp, ExitReason.EXCEPTION_OR_NMI, 0, 0, 0x8000_0312L);
            case 2 -> exit(lp, ExitReason.NOTIFY_WINDOW, general.below(2), 0, 0);
            case 3 -> exit(lp, ExitReason.XSETBV, 0, 0, 0, random.nextLong() & 7, 0, 0);
            case 4 -> exit(lp, ExitReason.BUS_LOCK_DETECTED | ExitReason.EXTERNAL_INTERRUPT, 0, 0, EXTERNAL_INTERRUPT_INFO);
            default -> interrupt(lp);
        };
    }
}
