package cloister.cpu.vmx;

import cloister.memory.PhysicalMemory;
import cloister.memory.WriteListener;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Comparator;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/// All VMCS regions of the platform by physical address.
///
/// The fields of a VMCS live as long as its frame keeps them: software that writes to the region beyond its first eight bytes, while
/// no processor has the VMCS active, overwrites them, and what VMCLEAR finds there afterwards is a VMCS with every field zero. While it
/// is active the processor holds the fields itself. [SDM Vol. 3 "Software Use of Virtual-Machine Control Structures"]
///
/// DEVIATION: the format of the region is ours, so a written region reads as zeros, not as whatever the bytes happen to mean.
public final class VmcsRegions implements WriteListener, Persistent {
    /// The revision identifier and the VMX-abort indicator, which software owns.
    private static final int HEADER = 8;

    private final PhysicalMemory memory;
    private final Map<Long, Vmcs> byPa = new HashMap<>();

    /// No region was used yet.
    public VmcsRegions(PhysicalMemory memory) {
        this.memory = memory;
        memory.addWriteListener(this);
    }

    /// The VMCS whose region is at `hpa`; a new one when the region was never used as VMCS.
    public Vmcs at(long hpa) {
        long pa = PhysicalMemory.pa(hpa);
        var vmcs = byPa.get(pa);
        if (vmcs == null) {
            vmcs = new Vmcs(pa);
            byPa.put(pa, vmcs);
            memory.watch(pa >>> PhysicalMemory.FRAME_SHIFT, true);
        }
        return vmcs;
    }

    /// Makes the VMCS at `hpa` active on logical processor `lp`.
    ///
    /// @throws IllegalStateException when it is active on another one
    public Vmcs activate(long hpa, int lp) {
        var vmcs = at(hpa);
        if (vmcs.activeOn != -1 && vmcs.activeOn != lp) {
            throw new IllegalStateException(String.format(Locale.ROOT,
                    "VMCS at 0x%x is active on LP %d and loaded on LP %d without VMCLEAR", vmcs.pa(), vmcs.activeOn, lp));
        }
        vmcs.activeOn = lp;
        return vmcs;
    }

    @Override public String stateName() {
        return "regions";
    }

    @Override public void describe(StateSink out) {
        byPa.values().stream().sorted(Comparator.comparingLong(Vmcs::pa)).forEach(out::part);
    }

    @Override public void written(long pa, long length) {
        for (long frame = pa & -PhysicalMemory.FRAME_SIZE; frame < pa + length; frame += PhysicalMemory.FRAME_SIZE) {
            var vmcs = byPa.get(frame);
            if (vmcs != null && vmcs.activeOn == -1 && pa + length > frame + HEADER) {
                byPa.remove(frame);
                memory.watch(frame >>> PhysicalMemory.FRAME_SHIFT, false);
            }
        }
    }

    @Override public void watchStarted(long frame) {
    }
}
