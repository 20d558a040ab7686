package cloister.kvm.host;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.fpu.FpuState;
import cloister.spec.kvm.HostRegister;
import cloister.spec.kvm.HostRegister.Kind;
import cloister.spec.kvm.HostRegister.Return;
import java.util.Arrays;

/// Compares what the host had in the registers of one processor before a vCPU came with what it finds when the vCPU has left, and when
/// a user program goes on, by the rows of [HostRegister].
///
/// A vCPU that was preempted leaves what user programs need for later: such a row keeps the value of before until one goes on.
final class HostStateCheck {
    private static final long BREAKPOINTS = 0xff;

    private final LogicalProcessor lp;
    private final HostRegister[] rows;
    private final long[] before = new long[HostRegister.values().length];
    private final FpuState fpuBefore = new FpuState();
    /// A vCPU was here since a user program went on last.
    private boolean owed;
    /// A guest did not come back as guests do; what is in the registers says nothing.
    private boolean broken;

    HostStateCheck(LogicalProcessor lp) {
        this.lp = lp;
        this.rows = Arrays.stream(HostRegister.values()).filter(row -> row.kind() != Kind.MSR || lp.hasMsr(row.msr()))
                .toArray(HostRegister[]::new);
    }

    /// A vCPU comes; nothing of it is here yet.
    void guestComes() {
        for (var row : rows) {
            if (!owed || !isForUserPrograms(row)) {
                before[row.ordinal()] = read(row);
            }
        }
        fpuBefore.copyFrom(lp.fpu());
        owed = true;
    }

    /// The guest's exit failed with an exception, which shall be the one that is seen.
    void giveUp() {
        broken = true;
    }

    /// It has left.
    ///
    /// @param td whether it is a TD's
    /// @throws IllegalStateException when a register has another value than before
    void guestHasLeft(boolean td) {
        var lost = new StringBuilder();
        for (var row : rows) {
            if (row.returned(td) != Return.NEVER && !isForUserPrograms(row)) {
                compare(row, lost);
            }
        }
        report(lost, td ? "a TD's vCPU" : "a vCPU");
    }

    /// A user program goes on.
    ///
    /// @throws IllegalStateException when a register has another value than before
    void userProgramGoesOn() {
        if (!owed) {
            return;
        }
        owed = false;
        var lost = new StringBuilder();
        for (var row : rows) {
            if (isForUserPrograms(row)) {
                compare(row, lost);
            }
        }
        report(lost, "the return to a user program");
    }

    private static boolean isForUserPrograms(HostRegister row) {
        return row.returned(false) == Return.AT_USER_RETURN || row.returned(true) == Return.AT_USER_RETURN;
    }

    private void compare(HostRegister row, StringBuilder lost) {
        if (row.kind() == Kind.FPU) {
            boolean same = row == HostRegister.X87 ? sameX87(lp.fpu(), fpuBefore) : sameSse(lp.fpu(), fpuBefore);
            lost.append(same ? "" : " " + row + ",");
            return;
        }
        if (row.kind() == Kind.BREAKPOINT && (before[HostRegister.DR7.ordinal()] & BREAKPOINTS) == 0) {
            return;
        }
        long now = read(row);
        if (now != before[row.ordinal()]) {
            lost.append(' ').append(row).append(" is 0x").append(Long.toHexString(now)).append(" and was 0x")
                    .append(Long.toHexString(before[row.ordinal()])).append(',');
        }
    }

    private static boolean sameX87(FpuState a, FpuState b) {
        return a.fcw == b.fcw && a.fsw == b.fsw && a.tags == b.tags && a.fop == b.fop && a.fip == b.fip && a.fdp == b.fdp
                && a.fcs == b.fcs && a.fds == b.fds && Arrays.equals(a.stExponent, b.stExponent)
                && Arrays.equals(a.st, 0, FpuState.MMX_OPERAND, b.st, 0, FpuState.MMX_OPERAND);
    }

    private static boolean sameSse(FpuState a, FpuState b) {
        return a.mxcsr == b.mxcsr && Arrays.equals(a.xmm, 0, FpuState.OPERAND, b.xmm, 0, FpuState.OPERAND);
    }

    private void report(StringBuilder lost, String behind) {
        if (!lost.isEmpty() && !broken) {
            throw new IllegalStateException("the host does not find its own state behind " + behind + " on LP " + lp.index() + ":"
                    + lost.substring(0, lost.length() - 1));
        }
    }

    private long read(HostRegister row) {
        return switch (row.kind()) {
            case MSR -> lp.rdmsr(row.msr());
            case FPU -> 0;
            case REGISTER, BREAKPOINT -> switch (row) {
                case CR0 -> lp.cr(0);
                case CR2 -> lp.cr2();
                case CR3 -> lp.cr(3);
                case CR4 -> lp.cr(4);
                case CR8 -> lp.cr8();
                case DR0 -> lp.dr(0);
                case DR1 -> lp.dr(1);
                case DR2 -> lp.dr(2);
                case DR3 -> lp.dr(3);
                case DR6 -> lp.dr(6);
                case DR7 -> lp.dr(7);
                case XCR0 -> lp.xcr0();
                case PKRU -> lp.pkru();
                case SSP -> lp.ssp();
                default -> throw new IllegalStateException(row + " has no reader");
            };
        };
    }
}
