package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ShadowStack;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;

/// The shadow stacks of a task switch: what is taken from the old task, and what the new one gets. [SDM Vol. 3 "Task Switching";
/// Vol. 1 "Shadow Stack Usage on Task Switch"]
final class TaskShadowStack {
    private static final int FRAME = 24;

    private final Cpu cpu;
    private final int source;
    private boolean pushes;
    private boolean verifies;
    private boolean returnsSsp;
    private long ssp;
    private long linearIp;
    private long selector;

    private TaskShadowStack(Cpu cpu, int source) {
        this.cpu = cpu;
        this.source = source;
    }

    /// Before the commit point: faults belong to the old task.
    static TaskShadowStack leave(Cpu cpu, int source, int newCpl, long returnRip) {
        var s = new TaskShadowStack(cpu, source);
        if (!cpu.cet.shadowStackEnabled(cpu.cpl)) {
            return s;
        }
        boolean user = cpu.cpl == 3;
        if (source == TaskSwitch.IRET) {
            s.returnFrom(newCpl, user);
        } else if (source != TaskSwitch.JMP && user && newCpl < 3) {
            cpu.cet.plSsp[3] = cpu.cet.ssp;
        } else if (source != TaskSwitch.JMP) {
            s.pushes = true;
            s.ssp = cpu.cet.ssp;
            s.selector = cpu.segSelector[Cpu.CS];
            s.linearIp = FarShadowStack.linear(cpu, returnRip);
        }
        return s;
    }

    private void returnFrom(int newCpl, boolean user) {
        long at = cpu.cet.ssp;
        returnsSsp = true;
        if (newCpl == cpu.cpl || newCpl < 3) {
            ssp = ShadowStack.read(cpu, at, 8, user);
            linearIp = ShadowStack.read(cpu, at + 8, 8, user);
            selector = ShadowStack.read(cpu, at + 16, 8, user);
            verifies = true;
            at += FRAME;
        } else {
            ssp = cpu.cet.plSsp[3];
        }
        ShadowStack.compareAndSet(cpu, at, at | Cet.TOKEN_BUSY, at, user);
        cpu.cet.ssp = 0;
    }

    /// The new task is loaded: faults belong to it.
    ///
    /// @param taskSsp the SSP of its TSS
    void enter(long taskSsp) {
        boolean governed = (cpu.cr4 & Cr4.CET) != 0 && (cpu.cet.control(cpu.cpl) & (Cet.SH_STK_EN | Cet.ENDBR_EN)) != 0;
        if (governed && cpu.virtual8086()) {
            throw cpu.fault(ExceptionVector.TS, cpu.segSelector[Cpu.TR] & 0xfffc);
        }
        boolean enabled = cpu.cet.shadowStackEnabled(cpu.cpl);
        if (source != TaskSwitch.IRET) {
            if (enabled) {
                take(taskSsp);
            }
            cpu.cet.far();
            return;
        }
        if (verifies && (selector != cpu.segSelector[Cpu.CS] || linearIp != FarShadowStack.linear(cpu, cpu.nextRip))) {
            throw cpu.fault(ExceptionVector.CP, Cet.CP_FAR_RET_IRET);
        }
        if (enabled && returnsSsp) {
            if ((ssp & 3) != 0 || ssp >>> 32 != 0) {
                throw cpu.fault(ExceptionVector.CP, Cet.CP_FAR_RET_IRET);
            }
            cpu.cet.ssp = ssp;
        }
    }

    private void take(long taskSsp) {
        boolean user = cpu.cpl == 3;
        if ((taskSsp & 7) != 0) {
            throw cpu.fault(ExceptionVector.TS, cpu.segSelector[Cpu.TR] & 0xfffc);
        }
        if (pushes) {
            ShadowStack.probeWrite(cpu, taskSsp - FRAME, FRAME, user);
        }
        if (!ShadowStack.compareAndSet(cpu, taskSsp, taskSsp, taskSsp | Cet.TOKEN_BUSY, user)) {
            throw cpu.gp(0);
        }
        cpu.cet.ssp = taskSsp;
        if (pushes) {
            ShadowStack.write(cpu, taskSsp - 8, 8, selector, user);
            ShadowStack.write(cpu, taskSsp - 16, 8, linearIp, user);
            ShadowStack.write(cpu, taskSsp - FRAME, 8, ssp, user);
            cpu.cet.ssp = taskSsp - FRAME;
        }
    }
}
