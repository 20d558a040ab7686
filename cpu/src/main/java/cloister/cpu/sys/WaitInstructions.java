package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.spec.x86.Cr4;

/// HLT, PAUSE, MONITOR/MWAIT and the user wait instructions.
///
/// Stores are not watched: MWAIT and UMWAIT end at once, which the SDM allows ("implementation-dependent events"). TPAUSE likewise.
final class WaitInstructions {
    private WaitInstructions() {
    }

    static void execute(Cpu cpu, Instruction insn) {
        switch (insn.op) {
            case HLT -> {
                ControlRegisters.requireCpl0(cpu);
                intercept(cpu, insn);
                cpu.events.activity = PendingEvents.HLT;
                cpu.events.raise();
            }
            case PAUSE -> {
                intercept(cpu, insn);
                cpu.events.spin();
            }
            case MONITOR -> {
                requireSupervisor(cpu);
                intercept(cpu, insn);
                if ((int) cpu.r[Cpu.RCX] != 0) {
                    throw cpu.gp(0);
                }
                probeMonitored(cpu, insn);
            }
            case MWAIT -> {
                requireSupervisor(cpu);
                intercept(cpu, insn);
                if ((cpu.r[Cpu.RCX] & 0xffff_fffeL) != 0) {
                    throw cpu.gp(0);
                }
                cpu.events.spin();
            }
            case UMONITOR -> probeMonitored(cpu, insn);
            default -> userWait(cpu, insn);
        }
    }

    private static void intercept(Cpu cpu, Instruction insn) {
        if (cpu.vmx.active()) {
            cpu.vmx.intercept(cpu, insn);
        }
    }

    private static void requireSupervisor(Cpu cpu) {
        if (cpu.cpl != 0) {
            throw cpu.ud();
        }
    }

    private static void probeMonitored(Cpu cpu, Instruction insn) {
        int register = insn.op == Op.UMONITOR ? insn.reg0 : Cpu.RAX;
        long offset = Segments.size(cpu.r[register], insn.addressSize);
        cpu.probeRead(cpu.linear(insn.segment, offset, 1, false), 1);
    }

    private static void userWait(Cpu cpu, Instruction insn) {
        if (cpu.cpl > 0 && (cpu.cr4 & Cr4.TSD) != 0) {
            throw cpu.gp(0);
        }
        intercept(cpu, insn);
        if ((cpu.r[insn.reg0] & 0xffff_fffeL) != 0) {
            throw cpu.gp(0);
        }
        cpu.arithmeticFlags(0); // CF 0: not ended by the operating system's time limit
        cpu.events.spin();
    }
}
