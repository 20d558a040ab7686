package cloister.kvm;

/// A VFIO group or device file: a physical device that the VMM gives to a guest. Of the device only matters here whether its accesses to
/// memory are coherent with the processors' caches. [LINUX Documentation/driver-api/vfio.rst]
public final class VfioFile implements AutoCloseable {
    private final boolean enforcesCoherency;
    private boolean open = true;

    /// @param enforcesCoherency whether the IOMMU makes every access of the device snoop the caches
    public VfioFile(boolean enforcesCoherency) {
        this.enforcesCoherency = enforcesCoherency;
    }

    /// Whether every access of the device snoops the caches. [LINUX vfio_file_enforced_coherent]
    public boolean enforcesCoherency() {
        return enforcesCoherency;
    }

    /// Whether the VMM's file descriptor is open. A VM that was given the file keeps the device all the same.
    public boolean isOpen() {
        return open;
    }

    /// Closes the VMM's file descriptor.
    @Override public void close() {
        open = false;
    }
}
