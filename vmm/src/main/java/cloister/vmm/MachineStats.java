package cloister.vmm;

import cloister.vmm.observe.Cost;
import cloister.vmm.observe.VcpuCost;
import java.util.List;

/// What a run cost.
///
/// @param instructions   instructions retired by all vCPUs
/// @param virtualNanos   virtual time since power-on
/// @param wallNanos      wall time of [Machine#run]
/// @param timed          whether wall times of [Cost] and [VcpuCost] were measured
/// @param vmExits        VM exits that KVM handled, a TD's TDVMCALLs by sub-function; the dearest first
/// @param seamcalls      SEAMCALLs by leaf; the dearest first
/// @param moduleExits    what the TDX module did for its guests by itself: TDCALLs by leaf, VM exits that no host saw
/// @param threads        the host threads, one for each vCPU, and before them the build of the machine
/// @param pagesAccepted  4-KiB private pages that were added at run time, for the guest to accept
/// @param pagesPopulated pages that were mapped before the guest was started ([MachineConfig#prefault]): each that it uses saves an exit
/// @param pagesConverted 4-KiB pages that MapGPA converted
/// @param busyRetries    how often KVM tried again what the TDX module had been too busy for
/// @param pagesLeft      4-KiB pages that [Machine#tearDown] could not reclaim
/// @param traceHash      hash over all SEAMCALLs and exits, for comparing runs
public record MachineStats(long instructions, long virtualNanos, long wallNanos, boolean timed, List<Cost> vmExits,
        List<Cost> seamcalls, List<Cost> moduleExits, List<VcpuCost> threads, long pagesAccepted, long pagesPopulated,
        long pagesConverted, long busyRetries, long pagesLeft, long traceHash) {
    /// How many exits of a reason there were.
    public long exits(String reason) {
        return count(vmExits, reason);
    }

    /// How many SEAMCALLs of a leaf there were.
    public long seamcalls(String leaf) {
        return count(seamcalls, leaf);
    }

    private static long count(List<Cost> costs, String name) {
        return costs.stream().filter(cost -> cost.name().equals(name)).mapToLong(Cost::count).sum();
    }
}
