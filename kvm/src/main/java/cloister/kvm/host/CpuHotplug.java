package cloister.kvm.host;

/// Who must know that processors come and go. [LINUX cpuhp_setup_state]
public interface CpuHotplug {
    /// Throws what forbids that `cpu` goes offline.
    ///
    /// @throws cloister.kvm.KvmException EBUSY
    void requireRemovable(HostCpu cpu);

    /// `cpu` goes offline; called on it. Nothing may be left there.
    void offline(HostCpu cpu);

    /// `cpu` is online again; called on it.
    void online(HostCpu cpu);
}
