package cloister.kvm;

import cloister.spec.kvm.KvmCap;
import cloister.spec.kvm.VmType;
import java.util.List;

/// A VM file descriptor.
public interface KvmVm extends AutoCloseable {
    /// The type given at creation.
    VmType type();

    /// KVM_CHECK_EXTENSION on the VM.
    long checkExtension(KvmCap cap);

    /// KVM_ENABLE_CAP. SPLIT_IRQCHIP (number of IOAPIC routes), EXIT_HYPERCALL (mask of hypercall numbers), X2APIC_API
    /// (flags), MAX_VCPUS, X86_APIC_BUS_CYCLES_NS, MANUAL_DIRTY_LOG_PROTECT2 (flags), DIRTY_LOG_RING and
    /// DIRTY_LOG_RING_ACQ_REL (bytes of each ring), DISABLE_QUIRKS and DISABLE_QUIRKS2 (mask).
    ///
    /// @throws KvmException EINVAL, EEXIST, EBUSY
    void enableCap(KvmCap cap, long... args);

    /// Chooses another design than upstream's; no ioctl of Linux.
    ///
    /// @param choice one of [KvmPolicy#choices]
    /// @throws KvmException EINVAL when the policy knows no such choice or is the module's, EBUSY when vCPUs exist
    void choose(KvmPolicy policy, String choice);

    /// KVM_CREATE_VCPU.
    ///
    /// @param id the vCPU's id, which is its APIC id
    /// @throws KvmException EINVAL, EEXIST; for a TD also EIO before KVM_TDX_INIT_VM
    KvmVcpu createVcpu(int id);

    /// KVM_CREATE_GUEST_MEMFD.
    ///
    /// @param size  bytes, a positive multiple of 4096
    /// @param flags FLAG_ bits of [GuestMemfd] that KVM_CAP_GUEST_MEMFD_FLAGS has
    /// @throws KvmException EINVAL
    GuestMemfd createGuestMemfd(long size, long flags);

    /// KVM_SET_USER_MEMORY_REGION, the first form, which knows no guest_memfd. Size 0 deletes the slot.
    ///
    /// @param slot          slot number, 0..32763; address space in 31:16
    /// @param flags         MEM_LOG_DIRTY_PAGES and MEM_READONLY of [cloister.spec.kvm.KvmAbi]
    /// @param gpa           page-aligned
    /// @param size          bytes, page-aligned
    /// @param userspaceAddr page-aligned address in [UserMemory]
    /// @throws KvmException as [#setUserMemoryRegion2]; EINVAL also for other flags
    void setUserMemoryRegion(int slot, int flags, long gpa, long size, long userspaceAddr);

    /// KVM_SET_USER_MEMORY_REGION2. Size 0 deletes the slot.
    ///
    /// @throws KvmException EINVAL, EEXIST when slots overlap
    void setUserMemoryRegion2(UserMemoryRegion region);

    /// KVM_SET_MEMORY_ATTRIBUTES.
    ///
    /// @param attributes 0 or [cloister.spec.kvm.KvmAbi#MEMORY_ATTRIBUTE_PRIVATE]
    /// @throws KvmException EINVAL
    void setMemoryAttributes(long gpa, long size, long attributes);

    /// KVM_GET_DIRTY_LOG: which pages of a slot were written since the last call.
    ///
    /// @param slot slot number, address space in 31:16
    /// @return one bit for each page
    /// @throws KvmException ENXIO with dirty rings, EINVAL, ENOENT when the slot does not log writes
    long[] getDirtyLog(int slot);

    /// KVM_CLEAR_DIRTY_LOG, with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2: clears the bits that `bitmap` has of pages `[firstPage, firstPage +
    /// numPages)`, and sees to it that the next write to these pages is logged.
    ///
    /// @param bitmap bit 0 is page `firstPage`
    /// @throws KvmException ENXIO, EINVAL, ENOENT, EFAULT
    void clearDirtyLog(int slot, long firstPage, int numPages, long[] bitmap);

    /// KVM_SET_NR_MMU_PAGES: how many shadow pages there may be; the oldest go. EINVAL below 64.
    void setNrMmuPages(long pages);

    /// KVM_RESET_DIRTY_RINGS: takes back what the VMM has harvested from the rings of all vCPUs.
    ///
    /// @return how many entries; fewer than were harvested when a signal waits for the calling thread
    /// @throws KvmException EINVAL without rings
    int resetDirtyRings();

    /// KVM_MEMORY_ENCRYPT_OP with a TDX command of VM scope. Outputs are stored into `cmd`.
    ///
    /// @throws KvmException as documented at [KvmTdxCmd]; ENOTTY when the VM is no TD
    void memoryEncryptOp(KvmTdxCmd cmd);

    /// KVM_SIGNAL_MSI.
    ///
    /// @return how many vCPUs got it (0: nobody, or blocked)
    int signalMsi(long address, int data);

    /// KVM_SET_GSI_ROUTING: replaces all routes.
    void setGsiRouting(List<MsiRoute> routes);

    /// Asserts a GSI once, as an eventfd bound by KVM_IRQFD does: delivers the MSI that the GSI routes to.
    ///
    /// @return how many vCPUs got it
    int assertGsi(int gsi);

    /// KVM_CREATE_DEVICE.
    ///
    /// @param type [cloister.spec.kvm.KvmAbi#DEV_TYPE_VFIO]
    /// @throws KvmException ENODEV for another type, EBUSY when the VM has one
    KvmDevice createDevice(int type);

    /// Makes the VM do something wrong, see [Defect]; no ioctl of Linux.
    void plant(Defect defect);

    /// The VM's memory as only KVM sees it.
    KvmInspection inspect();

    /// Counters of this VM; remain readable after [#close].
    KvmStats stats();

    /// Closes the VM with its vCPUs and memory slots. A TD is torn down and its pages are reclaimed; pages that could not
    /// be reclaimed are counted by [KvmStats#leakedPages]. Repeated calls do nothing.
    @Override void close();
}
