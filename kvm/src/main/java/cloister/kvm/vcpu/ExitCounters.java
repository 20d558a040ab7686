package cloister.kvm.vcpu;

import cloister.kvm.KvmStats;
import cloister.spec.tdx.Tdvmcall;
import cloister.spec.vmx.ExitReason;
import java.util.Map;
import java.util.TreeMap;

/// The counters of one VM.
public final class ExitCounters implements KvmStats {
    private static final String[] CALL_NAMES = {"GET_TD_VM_CALL_INFO", "MAP_GPA", "GET_QUOTE", "REPORT_FATAL_ERROR",
            "SETUP_EVENT_NOTIFY_INTERRUPT", "OTHER", "VMCALL"};
    private static final int OTHER = 5;
    private static final int VMCALL = 6;
    private final long[] exits = new long[128];
    private final long[] instructionCalls = new long[128];
    private final long[] otherCalls = new long[CALL_NAMES.length];
    private final SeamCounters seam = new SeamCounters();
    public long pagesAdded;
    public long pagesAugmented;
    public long pagesPopulated;
    public long pagesConverted;
    public long busyRetries;
    public long tdxPages;
    public long leakedPages;

    public void exit(int basicReason) {
        exits[basicReason & 127]++;
    }

    /// A TDVMCALL with R10 = 0 and `leaf` in R11.
    public void tdvmcall(long leaf) {
        if (leaf >= 0 && leaf < instructionCalls.length) {
            instructionCalls[(int) leaf]++;
        } else {
            long call = leaf - Tdvmcall.GET_TD_VM_CALL_INFO;
            otherCalls[call >= 0 && call < OTHER ? (int) call : OTHER]++;
        }
    }

    /// A TDVMCALL with R10 other than 0: a hypercall.
    public void hypercall() {
        otherCalls[VMCALL]++;
    }

    public SeamCounters seam() {
        return seam;
    }

    @Override public Map<String, Long> exits() {
        var result = new TreeMap<String, Long>();
        for (int i = 0; i < instructionCalls.length; i++) {
            if (instructionCalls[i] != 0) {
                result.put("TDVMCALL." + Tdvmcall.name(i), instructionCalls[i]);
            }
        }
        for (int i = 0; i < otherCalls.length; i++) {
            if (otherCalls[i] != 0) {
                result.put("TDVMCALL." + CALL_NAMES[i], otherCalls[i]);
            }
        }
        for (int i = 0; i < exits.length; i++) {
            if (exits[i] != 0) {
                result.put(ExitReason.name(i), exits[i]);
            }
        }
        return result;
    }

    @Override public Map<String, Long> seamcalls() {
        return seam.calls();
    }

    @Override public Map<String, Long> busySeamcalls() {
        return seam.busy();
    }

    @Override public long pagesAdded() {
        return pagesAdded;
    }

    @Override public long pagesPopulated() {
        return pagesPopulated;
    }

    @Override public long pagesAugmented() {
        return pagesAugmented;
    }

    @Override public long busyRetries() {
        return busyRetries;
    }

    @Override public long pagesConverted() {
        return pagesConverted;
    }

    @Override public long tdxPages() {
        return tdxPages;
    }

    @Override public long leakedPages() {
        return leakedPages;
    }
}
