package cloister.kvm.mmu;

import cloister.kvm.KvmException;
import cloister.spec.kvm.Errno;

/// A VM's memory as KVM itself reads and writes it: through the memory slots and the VMM's addresses, never by host-physical
/// address, so that a TD's private memory is out of reach. [LINUX kvm_vcpu_read_guest, kvm_vcpu_write_guest]
public final class GuestMemory {
    private final Mmu mmu;

    /// The memory of `mmu`'s VM.
    public GuestMemory(Mmu mmu) {
        this.mmu = mmu;
    }

    /// Whether KVM can read at `gpa`: a slot is there, and the VMM has memory behind it. Everything else is MMIO for who emulates. [LINUX
    /// emulator_read_write_onepage]
    public boolean isMemory(long gpa) {
        var slot = slot(gpa);
        return slot != null && mmu.module().userMemory().allows(hva(gpa, slot), false);
    }

    /// Whether KVM can write at `gpa`: neither the slot nor the VMM's mapping is read-only.
    public boolean isWritable(long gpa) {
        var slot = slot(gpa);
        return slot != null && !slot.readOnly() && mmu.module().userMemory().allows(hva(gpa, slot), true);
    }

    private MemSlot slot(long gpa) {
        var slot = mmu.slots().find(gpa >>> 12);
        return slot == null || slot.isInvalid() ? null : slot;
    }

    /// Reads `bytes` (1 to 8) at `gpa`; they lie in one page.
    ///
    /// @throws KvmException EFAULT where no slot is
    public long read(long gpa, int bytes) {
        return mmu.module().userMemory().read(hva(gpa, slot(gpa)), bytes);
    }

    /// Writes `bytes` (1 to 8) at `gpa`; they lie in one page, which counts as written.
    ///
    /// @param vcpu for whom, null for nobody
    /// @throws KvmException EFAULT where no slot is, or a read-only one
    public void write(VcpuMmu vcpu, long gpa, int bytes, long value) {
        var slot = slot(gpa);
        var writable = slot == null || slot.readOnly() ? null : slot;
        mmu.module().userMemory().write(hva(gpa, writable), bytes, value);
        mmu.dirtyLog().mark(vcpu, writable, gpa >>> 12);
    }

    /// Replaces `expected` at `gpa` by `value`, in one step.
    ///
    /// @return whether `expected` was there
    boolean compareAndSet(VcpuMmu vcpu, long gpa, int bytes, long expected, long value) {
        if (read(gpa, bytes) != expected) {
            return false;
        }
        write(vcpu, gpa, bytes, value);
        return true;
    }

    private static long hva(long gpa, MemSlot slot) {
        if (slot == null) {
            throw new KvmException(Errno.EFAULT, "no memory at guest-physical 0x" + Long.toHexString(gpa));
        }
        return slot.hva(gpa >>> 12) + (gpa & 0xfff);
    }
}
