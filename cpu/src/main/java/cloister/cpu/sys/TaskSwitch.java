package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;

/// Task switches of legacy protected mode. [SDM Vol. 3 "Task Switching"]
///
/// In VMX non-root operation every task switch exits. Outside it they are not implemented: the run stops.
final class TaskSwitch {
    static final int CALL = 0;
    static final int IRET = 1;
    static final int JMP = 2;
    static final int GATE = 3;

    private TaskSwitch() {
    }

    /// An interrupt or exception through a task gate.
    static void throughGate(Cpu cpu, long gate, int ext, int errorCode, boolean hasErrorCode, long returnRip) {
        switchTo(cpu, (int) (gate >>> 16) & 0xffff, GATE);
    }

    static void switchTo(Cpu cpu, int selector, int source) {
        cpu.vmx.interceptTaskSwitch(cpu, selector, source);
        throw new ModelLimit("hardware task switch to TSS selector 0x" + Integer.toHexString(selector));
    }
}
