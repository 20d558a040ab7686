package cloister.cpu;

import cloister.spec.x86.MemoryType;

/// A translation that a processor's TLB holds and can still use.
///
/// @param linear     the linear address of the 4 KiB page
/// @param hpa        the platform address of its frame, KeyID in bits 51:46
/// @param pageShift  log2 of the size of the page that the guest mapped
/// @param writable   whether writes may use it
/// @param memoryType how the processor caches accesses through it: from EPT, PAT and MTRRs as they were when it was made. [SDM Vol. 3
///                   "Memory Type Used for Translated Guest-Physical Addresses", "Selecting Memory Types"]
/// @param parts      what makes it
public record CachedTranslation(long linear, long hpa, int pageShift, boolean writable, MemoryType memoryType,
        MemoryTypeParts parts) {
    /// Whether lines of the frame may be in the caches.
    public boolean isCacheable() {
        return memoryType == MemoryType.WB || memoryType == MemoryType.WT || memoryType == MemoryType.WP;
    }
}
