package cloister.kvm.host;

/// What one processor has another one execute. [LINUX smp_call_func_t]
@FunctionalInterface
public interface CpuFunction {
    /// Executed on `cpu`, in the context of an interrupt.
    ///
    /// @return what the caller gets
    long on(HostCpu cpu);
}
