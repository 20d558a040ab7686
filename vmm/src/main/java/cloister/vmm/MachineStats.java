package cloister.vmm;

import java.util.Map;

/// What a run cost. Counters named by the layer that keeps them.
///
/// @param instructions     instructions retired by all vCPUs
/// @param virtualNanos     virtual time since power-on
/// @param wallNanos        wall time of [Machine#run]
/// @param vmExits          VM exits by reason
/// @param seamcalls        SEAMCALLs by leaf; the key `X BUSY` counts those that returned a BUSY status
/// @param pagesAccepted    4-KiB pages that the guest accepted
/// @param pagesConverted   4-KiB pages that MapGPA converted
/// @param traceHash        hash over all SEAMCALLs and exits, for comparing runs
public record MachineStats(long instructions, long virtualNanos, long wallNanos, Map<String, Long> vmExits,
                           Map<String, Long> seamcalls, long pagesAccepted, long pagesConverted, long traceHash) {
}
