package cloister.vmm.observe;

import cloister.cpu.CachedTranslation;
import cloister.cpu.MixedType;
import cloister.memory.PhysicalMemory;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;

/// With which memory types the processors use memory at one moment: what their TLBs hold, of ordinary VMs and of trust domains.
///
/// @param uses  the translations by processor and rising linear address; those in a row that are alike as one
/// @param mixed the frames that are used with and without caching at a time
public record MemoryTypes(List<Use> uses, List<Mixed> mixed) {
    /// Nothing is used.
    public static final MemoryTypes NONE = new MemoryTypes(List.of(), List.of());

    /// Linear addresses in a row that one processor translates to frames in a row, with one type.
    ///
    /// @param lp            the processor
    /// @param linear        first linear address
    /// @param end           linear address after the last
    /// @param pa            physical address of the first frame
    /// @param keyId         the KeyID with which the frames are used
    /// @param writable      whether writes may use the translation
    /// @param type          the effective type, of UC, WC, WT, WP, WB
    /// @param ept           the type in the EPT entry; `none` without EPT
    /// @param ignorePat     the EPT entry's IPAT
    /// @param pat           the PAT's type, UC_MINUS among them
    /// @param hostMtrr      the type by the host's MTRRs, which count where EPT does not
    /// @param cacheDisabled CR0.CD
    public record Use(int lp, long linear, long end, long pa, int keyId, boolean writable, String type, String ept, boolean ignorePat,
            String pat, String hostMtrr, boolean cacheDisabled) {
        private boolean isFollowedBy(Use next) {
            return end == next.linear && pa + (end - linear) == next.pa && equals(new Use(next.lp, linear, end, pa, next.keyId,
                    next.writable, next.type, next.ept, next.ignorePat, next.pat, next.hostMtrr, next.cacheDisabled));
        }
    }

    /// A frame with two types.
    ///
    /// @param pa              the frame
    /// @param cachedLinear    a linear address through which it may be cached
    /// @param cachedType      with that type
    /// @param notCachedLinear one through which it is not
    /// @param notCachedType   with that type
    public record Mixed(long pa, long cachedLinear, String cachedType, long notCachedLinear, String notCachedType) {
    }

    /// What the processors hold.
    ///
    /// @param translations by processor
    /// @param mixed        the frames with two types among them
    public static MemoryTypes of(List<List<CachedTranslation>> translations, List<MixedType> mixed) {
        var uses = new ArrayList<Use>();
        for (int lp = 0; lp < translations.size(); lp++) {
            int processor = lp;
            translations.get(lp).stream().sorted(Comparator.comparingLong(CachedTranslation::linear)
                    .thenComparingLong(CachedTranslation::hpa).thenComparing(CachedTranslation::writable))
                    .map(one -> use(processor, one)).forEach(one -> addTo(uses, one));
        }
        return new MemoryTypes(List.copyOf(uses), mixed.stream().map(MemoryTypes::mixed).toList());
    }

    private static void addTo(List<Use> uses, Use next) {
        var last = uses.isEmpty() ? null : uses.getLast();
        if (last == null || last.lp != next.lp || !last.isFollowedBy(next)) {
            if (!next.equals(last)) { // fetches and reads have translations of their own
                uses.add(next);
            }
            return;
        }
        uses.set(uses.size() - 1, new Use(last.lp, last.linear, next.end, last.pa, last.keyId, last.writable, last.type, last.ept,
                last.ignorePat, last.pat, last.hostMtrr, last.cacheDisabled));
    }

    private static Use use(int lp, CachedTranslation one) {
        var parts = one.parts();
        return new Use(lp, one.linear(), one.linear() + PhysicalMemory.FRAME_SIZE, PhysicalMemory.pa(one.hpa()),
                PhysicalMemory.keyId(one.hpa()), one.writable(), one.memoryType().name(), parts.ept() == null ? "none" : parts.ept().name(),
                parts.ignorePat(), parts.pat().name(), parts.mtrr().name(), parts.cacheDisabled());
    }

    private static Mixed mixed(MixedType found) {
        return new Mixed(found.framePa(), found.cached().linear(), found.cached().memoryType().name(), found.notCached().linear(),
                found.notCached().memoryType().name());
    }
}
