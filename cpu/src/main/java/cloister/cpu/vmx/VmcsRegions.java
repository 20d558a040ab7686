package cloister.cpu.vmx;

import cloister.memory.PhysicalMemory;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/// All VMCS regions of the platform by physical address.
public final class VmcsRegions {
    private final Map<Long, Vmcs> byPa = new HashMap<>();

    /// The VMCS whose region is at `hpa`; a new one when the region was never used as VMCS.
    public Vmcs at(long hpa) {
        return byPa.computeIfAbsent(PhysicalMemory.pa(hpa), Vmcs::new);
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

    /// Forgets the VMCS at `pa`: the frame is used for something else.
    public void discard(long pa) {
        byPa.remove(pa);
    }
}
