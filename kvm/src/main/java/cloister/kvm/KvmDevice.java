package cloister.kvm;

/// A device's file descriptor, from KVM_CREATE_DEVICE. [LINUX Documentation/virt/kvm/devices]
public interface KvmDevice extends AutoCloseable {
    /// KVM_SET_DEVICE_ATTR. The VFIO device knows group [cloister.spec.kvm.KvmAbi#DEV_VFIO_FILE] with attributes FILE_ADD and FILE_DEL.
    ///
    /// @throws KvmException ENXIO for another group or attribute, EBADF when `file` is closed, EEXIST when it was added already, ENOENT
    ///                      when it was not; EIO when the VM is dead
    void setAttr(int group, long attribute, VfioFile file);

    /// KVM_HAS_DEVICE_ATTR.
    ///
    /// @throws KvmException ENXIO when there is no such attribute; EIO when the VM is dead
    void hasAttr(int group, long attribute);

    /// Closes the file descriptor: the VM gives back what the device had.
    @Override void close();
}
