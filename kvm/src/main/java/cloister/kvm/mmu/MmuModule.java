package cloister.kvm.mmu;

import cloister.kvm.host.FrameAllocator;
import cloister.kvm.host.Lockdep;
import cloister.kvm.host.ProcessMemory;
import cloister.memory.HostMemory;
import cloister.sim.Scheduler;

/// What the MMUs of all VMs share.
///
/// @param memory     all platform memory
/// @param frames     where page tables come from
/// @param userMemory the VMM's memory, which slots map
/// @param scheduler  of host threads
/// @param lockdep    the order of the host's locks
/// @param masks      the bits of entries
/// @param parameters of the module
public record MmuModule(HostMemory memory, FrameAllocator frames, ProcessMemory userMemory, Scheduler scheduler, Lockdep lockdep,
                        SpteMasks masks, MmuParameters parameters) {
}
