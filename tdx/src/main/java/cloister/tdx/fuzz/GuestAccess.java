package cloister.tdx.fuzz;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.tdx.core.SeptEntry;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import java.util.Arrays;

/// What guests do to memory, by way of a TLB that keeps each translation as long as the architecture allows.
final class GuestAccess {
    private final FuzzMachine machine;
    private final PhysicalMemory memory;

    GuestAccess(FuzzMachine machine) {
        this.machine = machine;
        this.memory = machine.memory;
    }

    /// The guest on `lp` reads and writes a word of a page.
    void touch(int lp, long gpa, int vm) {
        var state = machine.lp(lp);
        int key = state.tdr.keyId();
        long eptp = state.tdcs.septp(state.tdr, Math.min(vm, state.tdcs.numL2Vms()));
        var walk = machine.cpus[lp].translate(eptp, gpa & SeptEntry.HPA, walk(eptp, key, gpa));
        if (walk != null) {
            machine.contents.access(state.tdr.pa, gpa & SeptEntry.HPA, PhysicalMemory.hpa(walk[walk.length - 1], key));
        }
    }

    /// Whether the guest on `lp` reaches a page without a violation.
    boolean reaches(int lp, long gpa, int vm) {
        var state = machine.lp(lp);
        long eptp = state.tdcs.septp(state.tdr, vm);
        return machine.cpus[lp].translate(eptp, gpa, null) != null || walk(eptp, state.tdr.keyId(), gpa) != null;
    }

    /// Processors read ahead: before a call changes the mapping of a page, every LP that runs the TD caches its translation.
    void speculate(FuzzStep step) {
        switch (SeamcallLeaf.of((int) step.operands[0] & 0xffff)) {
            case MEM_RANGE_BLOCK, MEM_PAGE_REMOVE, MEM_PAGE_RELOCATE, MEM_PAGE_DEMOTE, MEM_PAGE_PROMOTE, MEM_SEPT_REMOVE,
                    MEM_RANGE_UNBLOCK -> {
                for (int lp = 0; lp < machine.cpus.length; lp++) {
                    if (machine.inGuest[lp] && machine.lp(lp).tdr.pa == (step.operands[2] & SeptEntry.HPA)) {
                        speculate(lp, step.operands[1] & SeptEntry.HPA);
                    }
                }
            }
            case null, default -> {
            }
        }
    }

    private void speculate(int lp, long gpa) {
        Tdr tdr = machine.lp(lp).tdr;
        Tdcs tdcs = machine.lp(lp).tdcs;
        for (int vm = 0; vm <= tdcs.numL2Vms(); vm++) {
            long eptp = tdcs.septp(tdr, vm);
            machine.cpus[lp].translate(eptp, gpa, walk(eptp, tdr.keyId(), gpa));
        }
    }

    /// The pages of the walk for a private GPA, or null when it ends at an entry that is not present.
    private long[] walk(long eptp, int key, long gpa) {
        int level = (int) (eptp >>> 3) & 7;
        var pages = new long[level + 1];
        long table = PhysicalMemory.pa(eptp & SeptEntry.HPA);
        for (int i = 0;; i++, level--) {
            long entry = memory.read(PhysicalMemory.hpa(table, key) + 8 * ((gpa >>> (12 + 9 * level)) & 0x1ff), 8);
            if (!SeptEntry.isPresent(entry)) {
                return null;
            }
            if (SeptEntry.isLeaf(entry) || level == 0) {
                pages[i] = SeptEntry.leafPa(entry, gpa, level) & SeptEntry.HPA;
                return Arrays.copyOf(pages, i + 1);
            }
            table = SeptEntry.pa(entry);
            pages[i] = table;
        }
    }
}
