package cloister.kvm;

import cloister.cpu.LogicalProcessor;
import cloister.cpu.SeamFirmware;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/// Stands for the TDX module: says yes to everything and writes down what it was asked, unless told otherwise.
final class ScriptedModule implements SeamFirmware {
    static final long SEPT_VE_DISABLE = 1L << 28;
    final List<String> calls = new ArrayList<>();
    final Map<Long, Long> fields = new HashMap<>();
    /// The same with the processor that asked, for the functions of a vCPU at run time.
    final List<String> runs = new ArrayList<>();
    /// Statuses to return instead of success, by leaf, each once.
    final Map<SeamcallLeaf, ArrayDeque<Long>> failures = new HashMap<>();
    /// What the TD does at each TDH.VP.ENTER: sets the exit's registers, RAX included.
    final ArrayDeque<Consumer<SeamRegs>> exits = new ArrayDeque<>();
    long tdmrEnd;
    /// The processor of the last SEAMCALL.
    LogicalProcessor here;
    boolean quietMetadata = true;

    ScriptedModule() {
        fields.put(0x0A00000300000008L, 0x2E1F0FBFL);
        fields.put(0x9100000100000008L, 64L);
        fields.put(0x9100000100000009L, 16L);
        fields.put(0x9100000100000010L, 16L);
        fields.put(0x9100000100000011L, 16L);
        fields.put(0x9100000100000012L, 16L);
        fields.put(0x9800000100000100L, 3 * 4096L);
        fields.put(0x9800000100000200L, 4 * 4096L);
        fields.put(0x1900000300000000L, SEPT_VE_DISABLE | 1);
        fields.put(0x1900000300000001L, 0L);
        fields.put(0x1900000300000002L, 0x3L);
        fields.put(0x1900000300000003L, 0x3L);
        fields.put(0x9900000100000004L, 2L);
        fields.put(0x9900000100000008L, 576L);
        fields.put(0x9900000300000400L, 0x8000_0008L | (0xffff_ffffL << 32));
        fields.put(0x9900000300000500L, 0L);
        fields.put(0x9900000300000501L, 0L);
        fields.put(0x9900000300000401L, 7L);
        fields.put(0x9900000300000502L, 1L << (32 + 4));
        fields.put(0x9900000300000503L, 1L << 5);
    }

    /// The next call of `leaf` returns `status`.
    void failOnce(SeamcallLeaf leaf, long status) {
        failures.computeIfAbsent(leaf, l -> new ArrayDeque<>()).add(status);
    }

    @Override public void seamcall(LogicalProcessor lp, SeamRegs regs) {
        here = lp;
        var leaf = SeamcallLeaf.of((int) regs.get(SeamRegs.RAX) & 0xffff);
        boolean metadata = leaf == SeamcallLeaf.SYS_RD || leaf == SeamcallLeaf.MNG_RD || leaf == SeamcallLeaf.VP_RD;
        if (!metadata || !quietMetadata) {
            calls.add(leaf.name());
        }
        if (leaf == SeamcallLeaf.VP_ENTER || leaf == SeamcallLeaf.VP_FLUSH) {
            runs.add(leaf.name() + " on " + lp.index());
        }
        var planned = failures.get(leaf);
        if (planned != null && !planned.isEmpty()) {
            regs.set(SeamRegs.RAX, planned.poll());
            return;
        }
        regs.set(SeamRegs.RAX, 0);
        switch (leaf) {
            case SYS_RD, MNG_RD, VP_RD -> {
                var value = fields.get(regs.get(SeamRegs.RDX));
                regs.set(SeamRegs.R8, value == null ? 0 : value);
                if (value == null) {
                    regs.set(SeamRegs.RAX, 0xC0000C0000000000L);
                }
            }
            case SYS_TDMR_INIT -> regs.set(SeamRegs.RDX, regs.get(SeamRegs.RCX) + (1L << 30));
            case VP_ENTER -> exits.remove().accept(regs);
            default -> {
            }
        }
    }

    /// An exit by TDVMCALL `leaf` with arguments R12 to R15.
    static Consumer<SeamRegs> tdvmcall(long leaf, long... arguments) {
        return regs -> {
            regs.set(SeamRegs.RAX, 77);
            regs.set(SeamRegs.R10, 0);
            regs.set(SeamRegs.R11, leaf);
            for (int i = 0; i < arguments.length; i++) {
                regs.set(SeamRegs.R12 + i, arguments[i]);
            }
        };
    }

    /// An exit by an EPT violation at `gpa`.
    static Consumer<SeamRegs> eptViolation(long gpa) {
        return regs -> {
            regs.set(SeamRegs.RAX, 48);
            regs.set(SeamRegs.RCX, 0);
            regs.set(SeamRegs.RDX, 0);
            regs.set(SeamRegs.R8, gpa);
        };
    }

    /// The last entry's R10 and R11 go to `target`, then the TD triple-faults.
    static Consumer<SeamRegs> end(long[] target) {
        return regs -> {
            target[0] = regs.get(SeamRegs.R10);
            target[1] = regs.get(SeamRegs.R11);
            regs.set(SeamRegs.RAX, 0x4000_0001_0000_0002L);
        };
    }
}
