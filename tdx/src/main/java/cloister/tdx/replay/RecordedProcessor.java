package cloister.tdx.replay;

import cloister.spec.vmx.VmcsField;
import cloister.spec.x86.Msr;
import cloister.tdx.port.ExtendedState;
import cloister.tdx.port.Processor;
import cloister.tdx.port.Vmcs;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/// A logical processor without a CPU: what the vectors' platform file says, and state that tests set.
public class RecordedProcessor implements Processor {
    private static final int FIELDS = VmcsField.values().length;

    /// What all processors share.
    public static final class Clock {
        public long tsc;
        public long step;
        long random = 1;
    }

    /// CPUID of the platform.
    public interface CpuidSource {
        void cpuid(int lp, int leaf, int subleaf, int[] out);
    }

    private static final class RecordedVmcs implements Vmcs {
        private final long[] fields = new long[FIELDS];

        @Override public long read(VmcsField field) {
            return fields[field.ordinal()];
        }

        @Override public void write(VmcsField field, long value) {
            fields[field.ordinal()] = value & field.mask();
        }
    }

    private final int lp;
    private final Clock clock;
    private final CpuidSource cpuid;
    private final RecordedReport report;
    private final Map<Integer, Long> msrs;
    private final Vmcs seamVmcs = new RecordedVmcs();
    private final long[] registers = new long[16];
    private final long[] debug = new long[8];
    private final long[] xmm = new long[32];
    private long cr2;
    private long xcr0 = 7;
    private int refused;

    public RecordedProcessor(int lp, Clock clock, CpuidSource cpuid, RecordedReport report, Map<Integer, Long> msrs) {
        this.lp = lp;
        this.clock = clock;
        this.cpuid = cpuid;
        this.report = report;
        this.msrs = new HashMap<>(msrs);
    }

    public void msr(int msr, long value) {
        msrs.put(msr, value);
    }

    /// From now on WRMSR of `msr` raises #GP; 0 for none.
    public void refuse(int msr) {
        refused = msr;
    }

    @Override public int lp() {
        return lp;
    }

    @Override public Vmcs newVmcs(long pa) {
        return new RecordedVmcs();
    }

    @Override public Vmcs seamVmcs() {
        return seamVmcs;
    }

    @Override public void enter(Vmcs vmcs) {
        throw new IllegalStateException("this processor runs no guest");
    }

    @Override public void clear(Vmcs vmcs) {
    }

    @Override public long[] registers() {
        return registers;
    }

    @Override public long cr2() {
        return cr2;
    }

    @Override public void cr2(long value) {
        cr2 = value;
    }

    @Override public long debugRegister(int index) {
        return debug[index];
    }

    @Override public void debugRegister(int index, long value) {
        debug[index] = value;
    }

    @Override public long xcr0() {
        return xcr0;
    }

    @Override public void xcr0(long value) {
        xcr0 = value;
    }

    /// The recording platform's XSAVES: all components are in use; of their content the XMM registers exist.
    @Override public void saveExtendedState(ExtendedState state, long mask) {
        for (int i = 0; i < xmm.length; i++) {
            state.word(ExtendedState.XMM + 8 * i, xmm[i]);
        }
        state.word(ExtendedState.XSTATE_BV, mask);
        state.word(ExtendedState.XCOMP_BV, (1L << 63) | mask);
    }

    @Override public boolean loadExtendedState(ExtendedState state, long mask) {
        for (int i = 0; i < xmm.length; i++) {
            xmm[i] = state.word(ExtendedState.XMM + 8 * i);
        }
        return true;
    }

    @Override public void resetExtendedState(long mask) {
        Arrays.fill(xmm, 0);
    }

    @Override public long xmmLow(int index) {
        return xmm[2 * index];
    }

    @Override public long xmmHigh(int index) {
        return xmm[2 * index + 1];
    }

    @Override public void xmm(int index, long low, long high) {
        xmm[2 * index] = low;
        xmm[2 * index + 1] = high;
    }

    @Override public long rdmsr(int msr) {
        return msrs.getOrDefault(msr, 0L);
    }

    @Override public boolean wrmsr(int msr, long value) {
        if (msr == refused) {
            return false;
        }
        if (msr != 0x98 && msr != 0x99) {
            msrs.put(msr, value);
        }
        return true;
    }

    @Override public void cpuid(int leaf, int subleaf, int[] out) {
        cpuid.cpuid(lp, leaf, subleaf, out);
    }

    @Override public int programKey(int keyId) {
        return 0;
    }

    @Override public long tsc() {
        clock.tsc += clock.step;
        return clock.tsc;
    }

    @Override public long rdrand() {
        clock.random = clock.random * 6364136223846793005L + 1442695040888963407L;
        return clock.random | 1;
    }

    @Override public long rdseed() {
        return rdrand();
    }

    @Override public void invept(long eptp) {
    }

    @Override public void inveptGlobal() {
    }

    @Override public boolean interruptPending() {
        return rdmsr(Msr.IA32_INTR_PENDING) != 0;
    }

    @Override public byte[] seamReport(byte[] type, byte[] reportData, byte[] teeInfoHash) {
        return report.create(type, reportData, teeInfoHash);
    }

    @Override public int seamVerifyReport(byte[] reportMacStruct) {
        return report.verify(reportMacStruct);
    }

    @Override public void switchPoint(Object owner, long where) {
    }

    @Override public void locked(Object owner, long where) {
    }
}
