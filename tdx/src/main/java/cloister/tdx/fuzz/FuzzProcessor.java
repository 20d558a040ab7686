package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.spec.x86.Msr;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.port.ExtendedState;
import cloister.tdx.replay.RecordedProcessor;
import cloister.tdx.replay.VectorPlatform;
import java.util.LinkedHashMap;
import java.util.HashMap;
import java.util.Map;

/// A recorded processor with what the fuzzer needs beyond it: a place in a package, a TLB that lives until INVEPT, keys that are
/// lost when programmed anew, failures on demand, and a hook where another processor may run.
final class FuzzProcessor extends RecordedProcessor {
    private static final int CAPACITY = 32;

    /// What the LP may still use: by EPT root, for each guest page the physical pages of the walk, root's child first, the
    /// mapped 4 KiB page last.
    final Map<Long, Map<Long, long[]>> tlb = new HashMap<>();
    private final PhysicalMemory memory;
    private final int packageIndex;
    private final Runnable atSwitchPoint;
    private int nextPconfig;
    private boolean noEntropy;
    private boolean faultingXrstors;
    private boolean faultingWrmsr;

    FuzzProcessor(int lp, Clock clock, FuzzPlatform platform, VectorPlatform silicon, PhysicalMemory memory, Runnable atSwitchPoint) {
        super(lp, clock, (index, leaf, subleaf, out) -> silicon.cpuid(platform.apicId(index), leaf, subleaf, out), silicon.report,
                silicon.msrs);
        this.memory = memory;
        this.packageIndex = platform.packageOf(lp);
        this.atSwitchPoint = atSwitchPoint;
    }

    void failNextPconfig(int code) {
        nextPconfig = code;
    }

    void failNextRandom() {
        noEntropy = true;
    }

    /// Only an entry can fault.
    void endFaults() {
        faultingXrstors = false;
        faultingWrmsr = false;
    }

    void failNextLoad(boolean wrmsr) {
        faultingWrmsr = wrmsr;
        faultingXrstors = !wrmsr;
    }

    @Override public boolean loadExtendedState(ExtendedState state, long mask) {
        boolean faults = faultingXrstors;
        faultingXrstors = false;
        return !faults && super.loadExtendedState(state, mask);
    }

    @Override public boolean wrmsr(int msr, long value) {
        boolean faults = faultingWrmsr && msr == Msr.IA32_LSTAR;
        faultingWrmsr &= !faults;
        return !faults && super.wrmsr(msr, value);
    }

    /// The translation of a guest page, as cached or as `walked` just now.
    long[] translate(long eptp, long gpa, long[] walked) {
        var known = tlb.computeIfAbsent(root(eptp), k -> new LinkedHashMap<>());
        var cached = known.get(gpa);
        if (cached != null || walked == null) {
            return cached;
        }
        if (known.size() >= CAPACITY) {
            known.remove(known.keySet().iterator().next());
        }
        known.put(gpa, walked);
        return walked;
    }

    Map<Long, long[]> translations(long eptp) {
        return tlb.getOrDefault(root(eptp), Map.of());
    }

    private static long root(long eptp) {
        return PhysicalMemory.pa(eptp & SeptEntry.HPA);
    }

    @Override public int programKey(int keyId) {
        int code = nextPconfig;
        nextPconfig = 0;
        if (code == 0 && packageIndex == 0) {
            memory.forgetKey(keyId); // memory has one key per KeyID, not one per package
        }
        return code;
    }

    @Override public long rdrand() {
        long number = super.rdrand();
        if (noEntropy) {
            noEntropy = false;
            return 0;
        }
        return number;
    }

    @Override public void invept(long eptp) {
        tlb.remove(root(eptp));
    }

    @Override public void inveptGlobal() {
        tlb.clear();
    }

    @Override public void switchPoint(Object owner, long where) {
        atSwitchPoint.run();
    }
}
