package cloister.tdx.fuzz;

import static cloister.tdx.fuzz.FuzzFinding.check;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.SeamRegs;
import cloister.tdx.core.Pamt;
import cloister.tdx.core.SeptEntry;
import java.util.HashMap;
import java.util.Map;

/// What guests wrote to the first word of their pages: it stays, wherever the module moves a page and whatever the size of its
/// mapping; an accepted page is zero. Only what happens while no call is in progress counts.
final class GuestContents {
    private final FuzzMachine machine;
    private final PhysicalMemory memory;
    /// By TDR page, then by GPA.
    private final Map<Long, Map<Long, Long>> known = new HashMap<>();
    private long counter;

    GuestContents(FuzzMachine machine) {
        this.machine = machine;
        this.memory = machine.memory;
    }

    void clear() {
        known.clear();
    }

    private Map<Long, Long> of(long tdrPa) {
        return known.computeIfAbsent(tdrPa, k -> new HashMap<>());
    }

    /// A guest reads and writes the first word of the page at `gpa`, which is at `hpa`.
    void access(long tdrPa, long gpa, long hpa) {
        boolean quiet = machine.quiet();
        var wanted = of(tdrPa).get(gpa);
        if (quiet && wanted != null) {
            long found = memory.read(hpa, 8);
            check(found == wanted, "the guest of TD 0x%x finds 0x%x at GPA 0x%x, where it left 0x%x", tdrPa, found, gpa, wanted);
        }
        long value = ++counter;
        memory.write(hpa, 8, value);
        if (quiet) {
            of(tdrPa).put(gpa, value);
        } else {
            of(tdrPa).remove(gpa);
        }
    }

    private void forget(long tdrPa, long gpa, int level) {
        long mask = -Pamt.bytes(level);
        of(tdrPa).keySet().removeIf(page -> (page & mask) == (gpa & mask));
    }

    /// A SEAMCALL ended.
    void completed(FuzzStep step) {
        long[] o = step.operands;
        switch (step.leaf()) {
            case MNG_INIT -> known.remove(o[1]);
            case MEM_WR, MEM_PAGE_ADD -> forget(o[2], o[1] & SeptEntry.HPA, 0);
            case MEM_PAGE_REMOVE -> forget(o[2], o[1] & SeptEntry.HPA, Math.min(2, (int) o[1] & 7));
            case null, default -> {
            }
        }
    }

    /// A VM exit of a guest was handled.
    void completed(FuzzStep step, long tdrPa) {
        long rcx = step.operands[FuzzStep.REGISTERS + SeamRegs.RCX];
        switch (step.guestLeaf()) {
            case MEM_PAGE_ACCEPT -> {
                int level = Math.min(2, (int) rcx & 7);
                forget(tdrPa, rcx & SeptEntry.HPA, level);
                boolean done = machine.inGuest[step.lp] && machine.cpus[step.lp].registers()[SeamRegs.RAX] == 0;
                if (done && level == 0 && !machine.stoppedAtWrites[step.lp]) {
                    of(tdrPa).put(rcx & SeptEntry.HPA, 0L);
                }
            }
            case MR_REPORT -> forget(tdrPa, rcx & SeptEntry.HPA, 0);
            case SYS_RDALL -> forget(tdrPa, step.operands[FuzzStep.REGISTERS + SeamRegs.RDX] & SeptEntry.HPA, 0);
            case null, default -> {
            }
        }
    }
}
