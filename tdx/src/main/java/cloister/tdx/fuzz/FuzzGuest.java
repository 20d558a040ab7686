package cloister.tdx.fuzz;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeptState;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.spec.vmx.ExitReason;
import cloister.tdx.core.Gpa;
import cloister.tdx.core.LpState;
import cloister.tdx.core.Sept;
import cloister.tdx.fuzz.FuzzStep.Kind;

/// Invents what a guest does: accesses to memory, TDCALLs and other VM exits, of those that its controls let it cause.
final class FuzzGuest {
    private static final int[] MSRS = {0x10, 0x1b, 0x6e0, 0x808, 0x802, 0x80b, 0x830, 0xd90, 0xda0, 0x1d9, 0x10a, 0x122, 0x123, 0x345,
        0x480, 0x481, 0x492, 0x1a0, 0xc000_0080, 0xc000_0082, 0xc000_0103, 0x4b56_4d00, 0x277, 0x38f, 0x9ff, 0x48, 0x49, 0x600, 0x1c4,
        0x560, 0x14ce, 0x309, 0x38d, 0xc1, 0x186, 0x3f1, 0x6a0, 0xe1};
    private static final TdcallLeaf[] CALLS = TdcallLeaf.values();
    private static final int TRIES = 4;
    /// Ticks longer than a guest waits for a lock that the host wants.
    private static final long SECONDS = 1L << 33;
    private static final long VALID_INTERRUPT = 0x8000_0000L;
    private static final long WRITE = 0x182;
    private static final long QUALIFICATION_BITS = 0x31ff;
    private static final long VIOLATION_ON_SECOND_LEVEL = 0xfff8;

    private final FuzzMachine machine;
    private final FuzzGenerator general;
    private final FuzzOperands operands;
    /// By LP, a TDCALL that met a lock: guests try again.
    private final FuzzStep[] again = new FuzzStep[FuzzPlatform.LPS];
    /// By LP, whether the guest has just made a TDREPORT.
    private final boolean[] reported = new boolean[FuzzPlatform.LPS];
    /// Where a TDREPORT may be.
    private long reportGpa;

    FuzzGuest(FuzzMachine machine, FuzzGenerator general, FuzzOperands operands) {
        this.machine = machine;
        this.general = general;
        this.operands = operands;
    }

    private FuzzStep exit(int lp, long reason, long qualification) {
        var step = new FuzzStep(lp, Kind.EXIT, reason, qualification);
        long[] o = step.operands;
        o[FuzzStep.LENGTH] = operands.oneIn(16) ? operands.below(16) : 3;
        o[FuzzStep.RIP] = operands.oneIn(4) ? 0 : operands.below(64);
        o[FuzzStep.EXIT_INTERRUPT] = operands.oneIn(20) ? 1 : 0;
        o[FuzzStep.RETIRED] = operands.oneIn(3) ? operands.below(2) : 100;
        o[FuzzStep.MODE] = operands.oneIn(60) ? 1 : 0;
        if (operands.oneIn(60) && GuestExits.hasBusLockDetection(machine.core.vmcs(machine.cpus[lp]))) {
            o[0] |= ExitReason.BUS_LOCK_DETECTED;
        }
        return step;
    }

    private FuzzStep tdcall(int lp, long rax, long... registers) {
        var step = exit(lp, ExitReason.TDCALL, 0);
        int[] order = {SeamRegs.RCX, SeamRegs.RDX, SeamRegs.R8, SeamRegs.R9, SeamRegs.R10};
        step.operands[FuzzStep.REGISTERS] = rax;
        for (int i = 0; i < registers.length; i++) {
            step.operands[FuzzStep.REGISTERS + order[i]] = registers[i];
        }
        return step;
    }

    /// A VM exit was handled.
    void completed(FuzzStep step) {
        boolean busy = step.guestLeaf() != null && machine.inGuest[step.lp]
                && TdxStatus.OPERAND_BUSY.matches(machine.cpus[step.lp].registers()[SeamRegs.RAX]);
        again[step.lp] = busy ? step : null;
        reported[step.lp] = step.guestLeaf() == TdcallLeaf.MR_REPORT && machine.inGuest[step.lp]
                && machine.cpus[step.lp].registers()[SeamRegs.RAX] == 0;
    }

    private FuzzStep repeated(FuzzStep step) {
        var repeated = exit(step.lp, ExitReason.TDCALL, 0);
        System.arraycopy(step.operands, FuzzStep.REGISTERS, repeated.operands, FuzzStep.REGISTERS, SeamRegs.COUNT);
        repeated.operands[FuzzStep.MODE] = 0;
        return repeated;
    }

    private FuzzStep interrupt(int lp) {
        boolean nmi = operands.oneIn(8);
        var step = exit(lp, nmi ? ExitReason.EXCEPTION_OR_NMI : ExitReason.EXTERNAL_INTERRUPT, 0);
        step.operands[FuzzStep.INFO] = nmi ? VALID_INTERRUPT | 0x202 : VALID_INTERRUPT | (32 + operands.below(224));
        return step;
    }

    FuzzStep next(int lp) {
        var state = machine.lp(lp);
        if (state.stepping.active && operands.oneIn(2)) {
            return exit(lp, ExitReason.MONITOR_TRAP_FLAG, 0);
        }
        if (general.wantsOut(state.tdr.pa) && !operands.oneIn(4)) {
            return interrupt(lp);
        }
        if (again[lp] != null && !operands.oneIn(8)) {
            return operands.oneIn(4) ? new FuzzStep(lp, Kind.CLOCK, SECONDS) : repeated(again[lp]);
        }
        if (reported[lp] && operands.oneIn(2)) {
            return tdcall(lp, TdcallLeaf.MR_VERIFYREPORT.number(), reportGpa);
        }
        int kind = operands.below(100);
        if (kind < 20) {
            return memoryAccess(lp, state);
        }
        if (kind < 38) {
            return accept(lp, state);
        }
        if (kind < 62) {
            return call(lp, state);
        }
        if (kind < 71) {
            return tdcall(lp, 0, operands.oneIn(3) ? operands.any() & 0xffff_ffecL : 0xfc00, operands.any(), operands.any());
        }
        if (kind < 80) {
            return interrupt(lp);
        }
        if (kind < 88) {
            return msr(lp, state);
        }
        return other(lp, state);
    }

    private FuzzStep memoryAccess(int lp, LpState state) {
        long gpa = operands.gpa();
        if (operands.oneIn(12)) {
            return violation(lp, gpa | (1L << Gpa.sharedBit(state.tdcs.gpaw())));
        }
        int vm = state.tdcs.numL2Vms() > 0 && operands.oneIn(3) ? 1 + operands.below(state.tdcs.numL2Vms()) : 0;
        boolean reachable = new GuestAccess(machine).reaches(lp, gpa, vm);
        for (int i = 0; i < TRIES && !reachable; i++) {
            gpa = operands.gpa();
            reachable = new GuestAccess(machine).reaches(lp, gpa, vm);
        }
        return reachable || vm > 0 ? new FuzzStep(lp, Kind.ACCESS, gpa, vm) : violation(lp, gpa);
    }

    private FuzzStep violation(int lp, long gpa) {
        var step = exit(lp, ExitReason.EPT_VIOLATION, operands.oneIn(2) ? WRITE : operands.any() & QUALIFICATION_BITS);
        step.operands[FuzzStep.GPA] = gpa | operands.below(4096);
        step.operands[FuzzStep.GLA] = operands.any();
        step.operands[FuzzStep.VECTORING] = new GuestExits(machine.core.vmcs(machine.cpus[lp]), operands).vectoring();
        step.operands[FuzzStep.VECTORING_ERROR] = operands.below(1 << 16);
        return step;
    }

    private FuzzStep accept(int lp, LpState state) {
        long gpa = operands.gpa();
        var slot = new Sept(machine.memory, state.tdr.keyId()).walk(state.tdcs.eptp(), gpa, 0);
        int level = operands.oneIn(10) ? operands.below(3) : Math.min(slot.level(), 1);
        if (SeptState.of(slot.value()) == SeptState.MAPPED && operands.oneIn(2)) {
            return new FuzzStep(lp, Kind.ACCESS, gpa);
        }
        return tdcall(lp, TdcallLeaf.MEM_PAGE_ACCEPT.number(), FuzzOperands.at(gpa, level));
    }

    private FuzzStep call(int lp, LpState state) {
        var leaf = CALLS[operands.below(CALLS.length)];
        if (leaf == TdcallLeaf.VP_ENTER && !operands.oneIn(30)) {
            leaf = TdcallLeaf.MEM_PAGE_ATTR_WR; // an entry that succeeds ends the sequence
        }
        if (leaf.name().startsWith("SERVTD") && general.binding(state.tdr.pa) == null && !operands.oneIn(20)) {
            leaf = operands.oneIn(2) ? TdcallLeaf.MR_REPORT : TdcallLeaf.MR_VERIFYREPORT;
        }
        if (state.tdcs.numL2Vms() > 0 && operands.oneIn(4)) {
            leaf = operands.oneIn(2) ? TdcallLeaf.VP_INVGLA : TdcallLeaf.MEM_PAGE_ATTR_WR;
        }
        if (general.binding(state.tdr.pa) != null && operands.oneIn(3)) {
            leaf = operands.oneIn(2) ? TdcallLeaf.SERVTD_RD : TdcallLeaf.SERVTD_WR;
        }
        if (leaf == TdcallLeaf.VP_INVGLA && state.tdcs.numL2Vms() == 0 && !operands.oneIn(10)) {
            leaf = TdcallLeaf.MR_RTMR_EXTEND;
        }
        if (leaf == TdcallLeaf.MEM_PAGE_ATTR_WR && state.tdcs.numL2Vms() == 0 && !operands.oneIn(10)) {
            leaf = TdcallLeaf.MEM_PAGE_ATTR_RD;
        }
        long rax = leaf.number() | (operands.oneIn(20) ? 1L << operands.below(64) : 0);
        if (TdcallLeaf.of((int) rax & 0xffff) != leaf) {
            rax = leaf.number();
        }
        long gpa = operands.gpa();
        long shared = operands.oneIn(5) ? 1L << Gpa.sharedBit(state.tdcs.gpaw()) : 0;
        return switch (leaf) {
            case MR_RTMR_EXTEND -> tdcall(lp, rax, gpa + 64L * operands.below(64), operands.below(5));
            case MR_REPORT -> {
                reportGpa = gpa;
                yield tdcall(lp, rax, gpa, gpa + 1024, operands.oneIn(10) ? 1 : 0);
            }
            case VP_CPUIDVE_SET -> tdcall(lp, rax, operands.below(5));
            case MR_VERIFYREPORT -> tdcall(lp, rax, operands.oneIn(4) ? gpa | shared : reportGpa);
            case MEM_PAGE_ATTR_RD -> tdcall(lp, rax, gpa);
            case MEM_PAGE_ATTR_WR -> attributes(lp, rax, gpa, state);
            case SYS_RD, VM_RD, VP_RD -> tdcall(lp, rax, 0, operands.readable(leaf == TdcallLeaf.SYS_RD ? 0
                    : leaf == TdcallLeaf.VM_RD ? 1 : 2));
            case SYS_RDALL -> tdcall(lp, rax, 0, gpa | shared, operands.oneIn(2) ? -1L : operands.field(0));
            case VM_WR, VP_WR -> {
                var row = operands.writable(leaf == TdcallLeaf.VM_WR ? 1 : 2, false, true);
                yield tdcall(lp, rax, operands.oneIn(12) ? operands.any() : 0, operands.element(row), operands.value(),
                        operands.oneIn(3) ? -1L : row.guestWrite());
            }
            case VP_INVEPT -> tdcall(lp, rax, operands.oneIn(4) ? operands.any() : operands.below(16) & -2);
            case VP_INVGLA -> invgla(lp, rax, gpa, state);
            case SERVTD_RD, SERVTD_WR -> serviceTd(lp, leaf, rax, state);
            case VP_ENTER -> tdcall(lp, rax, ((long) operands.below(4) << 52) | operands.below(2), gpa);
            default -> tdcall(lp, rax, operands.oneIn(8) ? operands.any() : 0, operands.value());
        };
    }

    private FuzzStep invgla(int lp, long rax, long gpa, LpState state) {
        int vm = 1 + operands.below(operands.oneIn(4) ? 3 : state.tdcs.numL2Vms() + 1);
        long list = gpa | operands.below(8) | ((long) operands.below(8) << 52);
        return tdcall(lp, rax, ((long) vm << 52) | operands.below(2), operands.oneIn(3) ? operands.any() : list);
    }

    /// A service TD and its target, if there are any; else some numbers.
    private FuzzStep serviceTd(int lp, TdcallLeaf leaf, long rax, LpState state) {
        boolean write = leaf == TdcallLeaf.SERVTD_WR;
        var row = operands.row(1);
        while (!row.name().startsWith("MIG_")) { // what a service TD is for
            row = operands.row(1);
        }
        long id = operands.oneIn(4) ? operands.field(1) : operands.element(row);
        var step = tdcall(lp, rax, 0, id, operands.value(), write && operands.oneIn(2) ? -1L : operands.value());
        long[] binding = general.binding(state.tdr.pa);
        if (binding == null || operands.oneIn(20)) {
            binding = new long[] {operands.tdr(), operands.any(), 0, 0, 0};
        }
        step.operands[FuzzStep.REGISTERS + SeamRegs.RCX] = binding[0];
        for (int i = 0; i < 4; i++) {
            step.operands[FuzzStep.REGISTERS + SeamRegs.R10 + i] = binding[1 + i];
        }
        return step;
    }

    private FuzzStep attributes(int lp, long rax, long gpa, LpState state) {
        var slot = new Sept(machine.memory, state.tdr.keyId()).walk(state.tdcs.eptp(), gpa, 0);
        int vms = state.tdcs.numL2Vms();
        int vm = operands.oneIn(12) || vms == 0 ? operands.below(4) : 1 + operands.below(vms);
        long wanted = operands.oneIn(6) ? operands.below(1 << 16) : 0x8000 | operands.below(16);
        long mask = operands.oneIn(6) ? operands.below(1 << 16) : 0x800f;
        return tdcall(lp, rax, FuzzOperands.at(gpa, operands.oneIn(12) ? operands.below(4) : slot.level()), wanted << (16 * vm),
                mask << (16 * vm));
    }

    /// Only MSRs that the bitmap does not let through cause exits.
    private FuzzStep msr(int lp, LpState state) {
        int msr = operands.oneIn(8) ? (int) operands.any() & (operands.oneIn(2) ? 0x1fff : 0xc000_1fff) : MSRS[operands.below(MSRS.length)];
        boolean write = operands.oneIn(2);
        if (!GuestExits.intercepted(state, msr, write)) {
            return interrupt(lp);
        }
        var step = exit(lp, write ? ExitReason.WRMSR : ExitReason.RDMSR, 0);
        step.operands[FuzzStep.REGISTERS] = operands.value() & 0xffff_ffffL;
        step.operands[FuzzStep.REGISTERS + SeamRegs.RCX] = (msr & 0xffff_ffffL) | (operands.oneIn(20) ? 1L << 40 : 0);
        step.operands[FuzzStep.REGISTERS + SeamRegs.RDX] = operands.below(3);
        return step;
    }

    private FuzzStep other(int lp, LpState state) {
        var exits = new GuestExits(machine.core.vmcs(machine.cpus[lp]), operands);
        return switch (operands.below(40)) {
            case 0 -> operands.oneIn(6) ? exit(lp, ExitReason.TRIPLE_FAULT, 0) : interrupt(lp);
            case 1 -> {
                var step = exit(lp, ExitReason.EXCEPTION_OR_NMI, 0);
                step.operands[FuzzStep.INFO] = operands.oneIn(30) ? VALID_INTERRUPT | 0x312 : exits.exception();
                yield step;
            }
            case 2, 3 -> xsetbv(lp);
            case 4, 5, 6, 7 -> {
                var step = exit(lp, ExitReason.CR_ACCESS, exits.controlRegister());
                step.operands[FuzzStep.REGISTERS + operands.below(4)] = operands.value();
                yield step;
            }
            case 8, 9 -> {
                var step = exit(lp, ExitReason.EPT_MISCONFIGURATION, 0);
                step.operands[FuzzStep.GPA] = operands.gpa() | (1L << Gpa.sharedBit(state.tdcs.gpaw()));
                yield step;
            }
            case 10, 11, 12 -> {
                var step = violation(lp, operands.any() & 0xf_ffff_ffff_ffffL);
                yield new GuestAccess(machine).reaches(lp, step.operands[FuzzStep.GPA] & VIOLATION_ON_SECOND_LEVEL, 0)
                        ? interrupt(lp) : step;
            }
            default -> {
                int reason = exits.plain();
                var step = exit(lp, reason, reason == ExitReason.OTHER_SMI ? operands.oneIn(200) ? 1 : 0
                        : reason == ExitReason.NOTIFY_WINDOW ? operands.oneIn(20) ? 1 : (1L << 12) & operands.any() : operands.any());
                step.operands[FuzzStep.REGISTERS] = operands.oneIn(4) ? operands.any() : operands.below(0x20);
                step.operands[FuzzStep.REGISTERS + SeamRegs.RCX] = operands.below(4);
                step.operands[FuzzStep.INSTRUCTION] = operands.any() & 0xffff_ffffL;
                yield step;
            }
        };
    }

    private FuzzStep xsetbv(int lp) {
        var step = exit(lp, ExitReason.XSETBV, 0);
        step.operands[FuzzStep.REGISTERS] = operands.oneIn(4) ? operands.any() : operands.below(256);
        step.operands[FuzzStep.REGISTERS + SeamRegs.RCX] = operands.oneIn(8) ? operands.below(3) : 0;
        return step;
    }
}
