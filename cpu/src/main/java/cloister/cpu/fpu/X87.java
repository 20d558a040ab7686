package cloister.cpu.fpu;

/// Control and status of the x87 FPU.
final class X87 {
    private X87() {
    }

    /// FCW as the FPU keeps `value`: bits 15:13 and 7 read as zero, bit 6 as one.
    static int legalControl(int value) {
        return value & 0x1f3f | 0x40;
    }

    /// Recomputes ES and B from the exception flags and masks.
    static void updateSummary(FpuState s) {
        if ((s.fsw & ~s.fcw & 0x3f) != 0) {
            s.fsw |= 0x8080;
        } else {
            s.fsw &= ~0x8080;
        }
    }
}
