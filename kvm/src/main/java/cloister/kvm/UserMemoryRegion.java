package cloister.kvm;

/// `struct kvm_userspace_memory_region2`.
///
/// @param slot              slot number, 0..32763; address space in 31:16
/// @param flags             [cloister.spec.kvm.KvmAbi] MEM_ bits
/// @param guestPhysAddr     page-aligned
/// @param memorySize        bytes, page-aligned; 0 deletes the slot
/// @param userspaceAddr     page-aligned address in [UserMemory]
/// @param guestMemfd        null without MEM_GUEST_MEMFD
/// @param guestMemfdOffset  page-aligned offset into `guestMemfd`
public record UserMemoryRegion(int slot, int flags, long guestPhysAddr, long memorySize, long userspaceAddr,
                               GuestMemfd guestMemfd, long guestMemfdOffset) {
    /// A slot of shared memory only.
    public static UserMemoryRegion of(int slot, long gpa, long size, long userspaceAddr) {
        return new UserMemoryRegion(slot, 0, gpa, size, userspaceAddr, null, 0);
    }
}
