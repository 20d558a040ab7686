package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.replay.RecordedProcessor;
import cloister.tdx.replay.VectorPlatform;
import java.util.HashMap;
import java.util.Map;

/// A recorded processor with what the fuzzer needs beyond it: a TLB that lives until INVEPT, keys that are lost when
/// programmed anew, and a hook where another processor may run.
final class FuzzProcessor extends RecordedProcessor {
    private static final int CAPACITY = 12;

    /// What the LP may still use: by EPT root, for each guest page the physical pages of the walk, root's child first, the
    /// mapped 4 KiB page last.
    final Map<Long, Map<Long, long[]>> tlb = new HashMap<>();
    private final PhysicalMemory memory;
    private Runnable atSwitchPoint = () -> { };

    FuzzProcessor(int lp, Clock clock, VectorPlatform platform, PhysicalMemory memory) {
        super(lp, clock, platform::cpuid, platform.report, platform.msrs);
        this.memory = memory;
    }

    void atSwitchPoint(Runnable hook) {
        atSwitchPoint = hook;
    }

    /// The translation of a guest page, as cached or as `walked` just now.
    long[] translate(long eptp, long gpa, long[] walked) {
        var known = tlb.computeIfAbsent(root(eptp), k -> new HashMap<>());
        var cached = known.get(gpa);
        if (cached != null || walked == null) {
            return cached;
        }
        if (known.size() >= CAPACITY) {
            known.clear();
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
        memory.forgetKey(keyId);
        return 0;
    }

    @Override public void invept(long eptp) {
        tlb.remove(root(eptp));
    }

    @Override public void inveptGlobal() {
        tlb.clear();
    }

    @Override public void switchPoint() {
        atSwitchPoint.run();
    }
}
