package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.ModelLimit;
import cloister.sim.StateSink;

/// The fixed-function performance counters: 0 counts retired instructions, 1 and 2 ticks. [SDM Vol. 3 "Performance Monitoring"]
///
/// General-purpose counters are registers only: enabling one stops the run. Filtering by ring is not modelled: a counter that
/// is enabled for one ring counts in all.
final class PerformanceCounters {
    static final int FIXED = 3;
    private static final int GENERAL_ENABLE = 1 << 22;

    private final Cpu cpu;
    private final long[] value = new long[FIXED];
    private long fixedControl;
    private long globalControl = 0xff;
    private long latchedRetired;
    private long latchedTicks;

    PerformanceCounters(Cpu cpu) {
        this.cpu = cpu;
    }

    void describe(StateSink out) {
        out.words("counters", value.clone());
        out.words("counterControls", fixedControl, globalControl, latchedRetired, latchedTicks);
    }

    private void latch() {
        long retired = cpu.retired - latchedRetired;
        long ticks = cpu.ticks() - latchedTicks;
        latchedRetired = cpu.retired;
        latchedTicks = cpu.ticks();
        for (int i = 0; i < FIXED; i++) {
            if (((fixedControl >>> (4 * i)) & 3) != 0 && ((globalControl >>> (32 + i)) & 1) != 0) {
                value[i] = (value[i] + (i == 0 ? retired : ticks)) & 0xffff_ffff_ffffL;
            }
        }
    }

    long read(int counter) {
        latch();
        return value[counter];
    }

    void write(int counter, long v) {
        latch();
        value[counter] = v;
    }

    long fixedControl() {
        return fixedControl;
    }

    void fixedControl(long v) {
        latch();
        fixedControl = v;
    }

    long globalControl() {
        return globalControl;
    }

    void globalControl(long v) {
        latch();
        globalControl = v;
    }

    static void checkEventSelect(long v) {
        if ((v & GENERAL_ENABLE) != 0) {
            throw new ModelLimit("general-purpose performance counter enabled (IA32_PERFEVTSEL 0x" + Long.toHexString(v) + ")");
        }
    }
}
