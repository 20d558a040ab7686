package cloister.cpu.fpu;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.spec.x86.ExceptionVector;

/// The checks that precede x87 instructions.
final class X87Operands {
    private static final long CR0_MP = 1 << 1;
    private static final long CR0_EM = 1 << 2;
    private static final long CR0_TS = 1 << 3;
    private static final long CR0_NE = 1 << 5;
    private static final int ES = 0x80;

    private X87Operands() {
    }

    /// #NM of the x87 instructions. [SDM Vol. 3 "EM and MP Flags"]
    static void require(Cpu cpu) {
        if ((cpu.cr0 & (CR0_EM | CR0_TS)) != 0) {
            throw cpu.fault(ExceptionVector.NM, 0);
        }
    }

    /// #NM of FWAIT, which CR0.EM does not concern.
    static void requireWait(Cpu cpu) {
        if ((cpu.cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS)) {
            throw cpu.fault(ExceptionVector.NM, 0);
        }
    }

    /// A waiting instruction delivers the exception that an earlier one left pending.
    /// [SDM Vol. 1 "MS-DOS Compatibility Sub-mode", "Native Mode"]
    static void checkPending(Cpu cpu) {
        if ((cpu.fpu.fsw & ES) == 0) {
            return;
        }
        if ((cpu.cr0 & CR0_NE) == 0) {
            throw new ModelLimit("an unmasked x87 exception with CR0.NE = 0 (FERR# and IGNNE# are not wired)");
        }
        throw cpu.fault(ExceptionVector.MF, 0);
    }
}
