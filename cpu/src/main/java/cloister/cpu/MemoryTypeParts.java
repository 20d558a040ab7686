package cloister.cpu;

import cloister.spec.x86.MemoryType;

/// What makes the memory type of a translation. [SDM Vol. 3 "Memory Type Used for Translated Guest-Physical Addresses"]
///
/// @param ept           the type in the EPT entry, null where no EPT gave the address
/// @param ignorePat     whether the EPT entry says that the PAT does not count
/// @param pat           the type that the PAT gives by the guest's own tables
/// @param mtrr          the type that the processor's MTRRs give to the frame; it counts where EPT does not
/// @param cacheDisabled whether CR0.CD was set, which makes all uncacheable
public record MemoryTypeParts(MemoryType ept, boolean ignorePat, MemoryType pat, MemoryType mtrr, boolean cacheDisabled) {
}
