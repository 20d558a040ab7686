package cloister.kvm;

import java.util.Map;

/// Counters of one VM or of all. A snapshot is consistent at switch points of the scheduler.
public interface KvmStats {
    /// VM exits by reason name; a TD's exits by the same names, its TDVMCALLs as `TDVMCALL.<leaf>`.
    Map<String, Long> exits();

    /// SEAMCALLs by leaf name.
    Map<String, Long> seamcalls();

    /// How many of [#seamcalls] returned OPERAND_BUSY.
    Map<String, Long> busySeamcalls();

    /// How often KVM tried again what the TDX module had been too busy for: taking private memory away, mapping it, entering a TD.
    long busyRetries();

    /// Private pages added to initial images (TDH.MEM.PAGE.ADD).
    long pagesAdded();

    /// Private pages given at run time (TDH.MEM.PAGE.AUG); the guest accepts each once.
    long pagesAugmented();

    /// Entries that KVM_PRE_FAULT_MEMORY made, of small and of large pages: the first use of each causes no exit.
    long pagesPopulated();

    /// Pages that MapGPA converted, both directions.
    long pagesConverted();

    /// Pages that the TDX module holds now on behalf of the VM: control pages, Secure-EPT tables, private memory.
    long tdxPages();

    /// Pages that could not be reclaimed.
    long leakedPages();
}
