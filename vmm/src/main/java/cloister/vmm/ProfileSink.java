package cloister.vmm;

/// Takes the samples of a profile, on the host thread of the vCPU.
@FunctionalInterface
public interface ProfileSink {
    /// A vCPU is about to execute an instruction.
    ///
    /// @param vcpu  its number
    /// @param rip   the address
    /// @param user  whether it runs with CPL 3, 2 or 1
    /// @param lstar the guest's IA32_LSTAR; 0 before its kernel has set it
    /// @param instructions that it has retired since the sample before
    void sampled(int vcpu, long rip, boolean user, long lstar, long instructions);
}
