package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.kvm.host.AnonymousMemory;
import cloister.spec.kvm.Errno;

/// A VM's memory as KVM itself reads and writes it: through the memory slots and the VMM's addresses, never by host-physical
/// address, so that a TD's private memory is out of reach. [LINUX kvm_vcpu_read_guest, kvm_vcpu_write_guest]
public final class GuestMemory {
    private final MemSlots slots;
    private final AnonymousMemory userMemory;

    /// @param slots where guest-physical addresses are in `userMemory`
    public GuestMemory(MemSlots slots, AnonymousMemory userMemory) {
        this.slots = slots;
        this.userMemory = userMemory;
    }

    /// Whether a slot is at `gpa`.
    public boolean isMemory(long gpa) {
        return slots.find(gpa >>> 12) != null;
    }

    /// Whether KVM may write at `gpa`: a slot is there, and it is not read-only.
    public boolean isWritable(long gpa) {
        var slot = slots.find(gpa >>> 12);
        return slot != null && !slot.readOnly();
    }

    /// Reads `bytes` (1 to 8) at `gpa`; they lie in one page.
    ///
    /// @throws KvmException EFAULT where no slot is
    public long read(long gpa, int bytes) {
        return userMemory.read(hva(gpa, slots.find(gpa >>> 12)), bytes);
    }

    /// Writes `bytes` (1 to 8) at `gpa`; they lie in one page.
    ///
    /// @throws KvmException EFAULT where no slot is, or a read-only one
    public void write(long gpa, int bytes, long value) {
        var slot = slots.find(gpa >>> 12);
        userMemory.write(hva(gpa, slot == null || slot.readOnly() ? null : slot), bytes, value);
    }

    private static long hva(long gpa, MemSlot slot) {
        if (slot == null) {
            throw new KvmException(Errno.EFAULT, "no memory at guest-physical 0x" + Long.toHexString(gpa));
        }
        return slot.hva(gpa >>> 12) + (gpa & 0xfff);
    }
}
