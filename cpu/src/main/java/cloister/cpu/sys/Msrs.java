package cloister.cpu.sys;

import cloister.cpu.core.Cpu;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Comparator;

/// The model-specific registers of one logical processor; the rows are in [MsrTable].
public final class Msrs implements Persistent {
    private static final MsrTable.Row[] ROWS = MsrTable.rows().stream()
            .sorted(Comparator.comparingInt(row -> row.msr() ^ Integer.MIN_VALUE)).toArray(MsrTable.Row[]::new);
    private static final int LINEAR_ADDRESS_UNUSED = 64 - Cpuid.LINEAR_ADDRESS_BITS;

    private final Cpu cpu;
    private final long[] values = new long[ROWS.length];
    final PerformanceCounters counters;

    /// The MSRs of `cpu` as the firmware of a server leaves them.
    public Msrs(Cpu cpu) {
        this.cpu = cpu;
        this.counters = new PerformanceCounters(cpu);
        for (int i = 0; i < ROWS.length; i++) {
            values[i] = ROWS[i].initial();
        }
        MsrTable.reset(cpu);
    }

    @Override public String stateName() {
        return "msrs";
    }

    /// The MSRs that are kept here; the others are registers of [Cpu].
    @Override public void describe(StateSink out) {
        for (int i = 0; i < ROWS.length; i++) {
            if (ROWS[i].reader() == null) {
                out.field(Integer.toHexString(ROWS[i].msr()), values[i]);
            }
        }
        counters.describe(out);
    }

    /// RDMSR.
    ///
    /// @throws cloister.cpu.core.GuestFault #GP(0) when there is no such MSR
    public long read(int msr) {
        int i = find(msr);
        if (i < 0) {
            throw cpu.gp(0);
        }
        var row = ROWS[i];
        return row.reader() == null ? values[i] : row.reader().read(cpu);
    }

    /// WRMSR.
    ///
    /// @throws cloister.cpu.core.GuestFault #GP(0) when there is no such MSR, it is read-only, or `value` is not legal
    public void write(int msr, long value) {
        int i = find(msr);
        if (i < 0) {
            throw cpu.gp(0);
        }
        var row = ROWS[i];
        if ((value & ~row.writable()) != 0 || (row.canonical() && !canonical(value))) {
            throw cpu.gp(0);
        }
        if (row.writer() == null) {
            values[i] = value;
        } else {
            row.writer().write(cpu, value);
        }
    }

    /// Whether there is such an MSR.
    public boolean exists(int msr) {
        return find(msr) >= 0;
    }

    /// Sets a stored or constant MSR without any check: what reset and firmware do (SEAMRR, SMRR, MTRRs).
    public void preset(int msr, long value) {
        int i = find(msr);
        if (i < 0 || ROWS[i].reader() != null) {
            throw new IllegalArgumentException("not a stored MSR: 0x" + Integer.toHexString(msr));
        }
        values[i] = value;
    }

    /// IA32_PERF_GLOBAL_CTRL, which VM entries and exits load and save.
    public long perfGlobalControl() {
        return counters.globalControl();
    }

    /// Loads IA32_PERF_GLOBAL_CTRL; `value` is legal.
    public void perfGlobalControl(long value) {
        counters.globalControl(value);
    }

    void store(int msr, long value) {
        values[find(msr)] = value;
    }

    /// The time-stamp counter of the processor itself, before any offset of VMX.
    public static long hostTsc(Cpu cpu) {
        return cpu.ticks() + cpu.tscAdjust;
    }

    /// Whether an address is canonical for the widest paging mode, which is what WRMSR asks for.
    public static boolean canonical(long address) {
        return address << LINEAR_ADDRESS_UNUSED >> LINEAR_ADDRESS_UNUSED == address;
    }

    private static int find(int msr) {
        int low = 0;
        int high = ROWS.length - 1;
        while (low <= high) {
            int middle = (low + high) >>> 1;
            int order = Integer.compareUnsigned(ROWS[middle].msr(), msr);
            if (order == 0) {
                return middle;
            }
            if (order < 0) {
                low = middle + 1;
            } else {
                high = middle - 1;
            }
        }
        return -1;
    }
}
