package cloister.cli.trace;

import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.vmm.observe.TraceEvent;
import java.util.BitSet;
import java.util.List;

/// How many 4-KiB pages of a trust domain's private memory are pending, mapped and blocked, as the calls of a trace tell it. One
/// trust domain: a machine has no more.
final class PageStates {
    private static final int LEAF_MASK = 0xffff;
    private static final int LEVEL_MASK = 7;
    private static final int PAGE_SHIFT = 12;
    private static final int LEVEL_SHIFT = 9;

    private final Pages pending = new Pages();
    private final Pages mapped = new Pages();
    private final Pages blocked = new Pages();

    /// Pages in one state, counted as they come and go.
    private static final class Pages {
        final BitSet set = new BitSet();
        int count;

        void add(int page) {
            if (!set.get(page)) {
                set.set(page);
                count++;
            }
        }

        void remove(int page) {
            set.clear(page);
            count--;
        }

        void remove(int first, int end) {
            for (int page = set.nextSetBit(first); page >= 0 && page < end; page = set.nextSetBit(page + 1)) {
                remove(page);
            }
        }
    }

    int pending() {
        return pending.count;
    }

    int mapped() {
        return mapped.count;
    }

    int blocked() {
        return blocked.count;
    }

    /// Takes note of a SEAMCALL.
    ///
    /// @return whether a state changed
    boolean seamcall(TraceEvent.SeamcallReturn call) {
        var leaf = SeamcallLeaf.of((int) call.in()[SeamRegs.RAX] & LEAF_MASK);
        if (leaf == null || TdxStatus.isError(call.out()[SeamRegs.RAX])) {
            return false;
        }
        return switch (leaf) {
            case MEM_PAGE_ADD -> become(mapped, call.in());
            case MEM_PAGE_AUG -> become(pending, call.in());
            case MEM_RANGE_BLOCK -> block(call.in());
            case MEM_RANGE_UNBLOCK -> become(mapped, call.in());
            case MEM_PAGE_REMOVE -> become(null, call.in());
            default -> false;
        };
    }

    /// Takes note of a TDCALL.
    ///
    /// @return whether a state changed
    boolean tdcall(TraceEvent.TdcallReturn call) {
        return call.out() != null && ((int) call.in()[SeamRegs.RAX] & LEAF_MASK) == TdcallLeaf.MEM_PAGE_ACCEPT.number()
                && TdxStatus.SUCCESS.matches(call.out()[SeamRegs.RAX]) && become(mapped, call.in());
    }

    private boolean become(Pages state, long[] registers) {
        int first = first(registers);
        int end = end(registers);
        for (var other : List.of(pending, mapped, blocked)) {
            other.remove(first, end);
        }
        for (int page = first; state != null && page < end; page++) {
            state.add(page);
        }
        return true;
    }

    /// Of a range that a table translates only the pages that there are.
    private boolean block(long[] registers) {
        int end = end(registers);
        for (var from : List.of(pending, mapped)) {
            for (int page = from.set.nextSetBit(first(registers)); page >= 0 && page < end; page = from.set.nextSetBit(page + 1)) {
                from.remove(page);
                blocked.add(page);
            }
        }
        return true;
    }

    private static int first(long[] registers) {
        return (int) (registers[SeamRegs.RCX] >>> PAGE_SHIFT);
    }

    private static int end(long[] registers) {
        int level = (int) registers[SeamRegs.RCX] & LEVEL_MASK;
        return (int) Math.min(Integer.MAX_VALUE, first(registers) + (1L << (LEVEL_SHIFT * level)));
    }
}
