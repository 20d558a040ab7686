package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.LockWord;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;
import java.util.function.ToLongFunction;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// The functions that make and unmake TDs and VCPUs: what each says of a wrong address in each operand, and of each lock that another
/// processor holds. [TDX-ABI "Concurrency Restrictions"]
class LifeCycleOperandTest {
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long ADDRESS_RANGE = 0xC000_0101_0000_0000L;
    private static final long METADATA_INCORRECT = 0xC000_0300_0000_0000L;
    private static final long BUSY = 0x8000_0200_0000_0000L;
    private static final int RCX = 1;
    private static final int RDX = 2;
    private static final int OWNER_TDR = 128;
    private static final int OP_STATE = 172;
    private static final int KOT = 186;
    private static final long TDR = RecordedTd.TDR;
    private static final long TDVPR = RecordedTd.TDVPR;
    private static final long PAGE = 0x1000;
    private static final long FREE = 0x1_0100_0000L;
    private static final long OUTSIDE = 0x30_0000;
    private static final int OTHER_KEY = 0x22;

    /// A lock and how a function wants it.
    private record Wanted(Lock lock, boolean exclusive, int operand) {
    }

    /// The locks of these functions, and two that are not theirs.
    private enum Lock {
        TDR_PAGE, TDVPR_PAGE, FREE_PAGE, TD_OP_STATE, KEY_TABLE, SEPT_TREE, TLB_EPOCH;

        private static final int READER = 4;

        LockWord word(MadeTd made) {
            return switch (this) {
                case TDR_PAGE -> made.td.machine.core.pageLock(TDR);
                case TDVPR_PAGE -> made.td.machine.core.pageLock(TDVPR);
                case FREE_PAGE -> made.td.machine.core.pageLock(FREE);
                case TD_OP_STATE -> made.td.tdcs.lock(Tdcs.OP_STATE_LOCK);
                case KEY_TABLE -> made.td.machine.core.module.keys.lock;
                case SEPT_TREE -> made.td.tdcs.lock(Tdcs.SECURE_EPT_LOCK);
                case TLB_EPOCH -> made.td.tdcs.lock(Tdcs.EPOCH_LOCK);
            };
        }

        /// Whether a host that fails asks for priority.
        boolean hasPriority() {
            return this != KEY_TABLE;
        }

        int held(boolean exclusive) {
            return exclusive ? 1 : hasPriority() ? READER : READER / 2;
        }
    }

    private static Wanted exclusive(Lock lock, int operand) {
        return new Wanted(lock, true, operand);
    }

    private static Wanted shared(Lock lock, int operand) {
        return new Wanted(lock, false, operand);
    }

    /// A function with all that it needs to succeed.
    private enum Function {
        MNG_CREATE(9, FREE, OTHER_KEY, made -> { }, exclusive(Lock.FREE_PAGE, RCX), exclusive(Lock.KEY_TABLE, KOT)),
        MNG_KEY_CONFIG(8, TDR, 0, LifeCycleOperandTest::forgetKey, exclusive(Lock.TDR_PAGE, RCX)),
        MNG_ADDCX(1, FREE, TDR, made -> { }, exclusive(Lock.TDR_PAGE, RDX), exclusive(Lock.FREE_PAGE, RCX)),
        MNG_INIT(21, TDR, MadeTd.PARAMS, made -> { }, exclusive(Lock.TDR_PAGE, RCX)),
        MNG_VPFLUSHDONE(19, TDR, 0, made -> { }, exclusive(Lock.TDR_PAGE, RCX), exclusive(Lock.KEY_TABLE, KOT)),
        MNG_KEY_FREEID(20, TDR, 0, LifeCycleOperandTest::block, exclusive(Lock.TDR_PAGE, RCX), exclusive(Lock.KEY_TABLE, KOT)),
        VP_CREATE(10, FREE, TDR, MadeTd::init, shared(Lock.TDR_PAGE, RDX), shared(Lock.TD_OP_STATE, OP_STATE),
                exclusive(Lock.FREE_PAGE, RCX)),
        VP_ADDCX(4, FREE, TDVPR, made -> vcpu(made, 1), exclusive(Lock.TDVPR_PAGE, RDX), shared(Lock.TDR_PAGE, OWNER_TDR),
                shared(Lock.TD_OP_STATE, OP_STATE), exclusive(Lock.FREE_PAGE, RCX)),
        VP_INIT(22, TDVPR, 0, made -> vcpu(made, 6), exclusive(Lock.TDVPR_PAGE, RCX), shared(Lock.TDR_PAGE, OWNER_TDR),
                shared(Lock.TD_OP_STATE, OP_STATE)),
        VP_INIT_1(22 | (1 << 16), TDVPR, 0, made -> vcpu(made, 6), exclusive(Lock.TDVPR_PAGE, RCX),
                exclusive(Lock.TDR_PAGE, OWNER_TDR), shared(Lock.TD_OP_STATE, OP_STATE)),
        VP_FLUSH(18, TDVPR, 0, LifeCycleOperandTest::ready, exclusive(Lock.TDVPR_PAGE, RCX), shared(Lock.TDR_PAGE, OWNER_TDR)),
        MR_EXTEND(16, PAGE, TDR, LifeCycleOperandTest::page, exclusive(Lock.TDR_PAGE, RDX)),
        MR_FINALIZE(17, TDR, 0, LifeCycleOperandTest::ready, exclusive(Lock.TDR_PAGE, RCX));

        private final int leaf;
        private final long rcx;
        private final long rdx;
        private final Consumer<MadeTd> before;
        private final List<Wanted> locks;

        Function(int leaf, long rcx, long rdx, Consumer<MadeTd> before, Wanted... locks) {
            this.leaf = leaf;
            this.rcx = rcx;
            this.rdx = rdx;
            this.before = before;
            this.locks = List.of(locks);
        }

        MadeTd made() {
            var made = new MadeTd();
            before.accept(made);
            return made;
        }

        long call(MadeTd made) {
            return call(made, rcx, rdx);
        }

        long call(MadeTd made, long first, long second) {
            return made.td.seamcall(leaf, first, second, 0, 0).get(0);
        }
    }

    private static void forgetKey(MadeTd made) {
        made.td.tdr.u32(Tdr.LIFECYCLE_STATE, Tdr.HKID_ASSIGNED);
        made.td.tdr.u64(Tdr.PKG_CONFIG_BITMAP, 0);
    }

    private static void vcpu(MadeTd made, int pages) {
        made.init();
        made.createVcpu(0, pages);
    }

    private static void ready(MadeTd made) {
        vcpu(made, 6);
        assertThat(made.initVcpu(TDVPR, 0).get(0)).isZero();
    }

    private static void block(MadeTd made) {
        assertThat(made.td.seamcall(19, TDR, 0, 0, 0).get(0)).isZero();
        assertThat(made.td.seamcall(40, 0, 0, 0, 0).get(0)).isZero();
    }

    private static void page(MadeTd made) {
        made.init();
        for (int level = 3; level > 0; level--) {
            assertThat(made.td.seamcall(3, level, TDR, FREE + level * PAGE, 0).get(0)).isZero();
        }
        assertThat(made.td.seamcall(2, PAGE, TDR, FREE + 4 * PAGE, 0x22_0000).get(0)).isZero();
    }

    // Locks

    @ParameterizedTest @EnumSource void everyLockThatIsHeldStopsTheFunctionsThatWantIt(Function function) {
        try (var made = function.made()) {
            for (var wanted : function.locks) {
                for (boolean exclusive : new boolean[] {true, false}) {
                    if (exclusive || wanted.exclusive) {
                        requireBusy(function, made, wanted, exclusive);
                    }
                }
            }
            for (var lock : Lock.values()) {
                assertThat(lock.word(made).get()).as("%s after", lock).isZero();
            }
            assertThat(function.call(made)).as("nothing held").isZero();
        }
    }

    private static void requireBusy(Function function, MadeTd made, Wanted wanted, boolean exclusive) {
        var word = wanted.lock.word(made);
        int held = wanted.lock.held(exclusive);
        word.set(held);
        assertThat(function.call(made)).as("%s held %s", wanted.lock, exclusive).isEqualTo(BUSY | wanted.operand);
        int left = held | ((wanted.lock.hasPriority() ? 2 : 0) + (wanted.exclusive ? 0 : 4));
        assertThat(word.get()).as("%s after the failure", wanted.lock).isEqualTo(left);
        for (var other : Lock.values()) {
            assertThat(other == wanted.lock ? 0 : other.word(made).get()).as("%s after waiting for %s", other, wanted.lock).isZero();
        }
        word.set(0);
    }

    @ParameterizedTest @EnumSource void aLockThatIsHeldStopsNobodyElse(Function function) {
        var stopped = new ArrayList<String>();
        for (var lock : Lock.values()) {
            for (boolean exclusive : new boolean[] {true, false}) {
                if (function.locks.stream().noneMatch(w -> w.lock == lock && (exclusive || w.exclusive))) {
                    try (var made = function.made()) {
                        lock.word(made).set(lock.held(exclusive));
                        if (function.call(made) != 0 || lock.word(made).get() != lock.held(exclusive)) {
                            stopped.add(lock + (exclusive ? " exclusive" : " shared"));
                        }
                    }
                }
            }
        }
        assertThat(stopped).isEmpty();
    }

    // Addresses

    private record Wrong(String name, long status, ToLongFunction<Long> change) {
    }

    private static final List<Wrong> WRONGS = List.of(
            new Wrong("not of a page", OPERAND_INVALID, pa -> pa + 0x800),
            new Wrong("not of a page, by one", OPERAND_INVALID, pa -> pa + 1),
            new Wrong("with a shared KeyID", OPERAND_INVALID, pa -> pa | (1L << 46)),
            new Wrong("with the TD's KeyID", OPERAND_INVALID, pa -> pa | (0x21L << 46)),
            new Wrong("beyond 52 bits", OPERAND_INVALID, pa -> pa | (1L << 52)),
            new Wrong("with bit 63", OPERAND_INVALID, pa -> pa | (1L << 63)),
            new Wrong("all ones", OPERAND_INVALID, pa -> -1L),
            new Wrong("0", ADDRESS_RANGE, pa -> 0),
            new Wrong("outside of all TDMRs", ADDRESS_RANGE, pa -> OUTSIDE),
            new Wrong("the end of the TDMR", ADDRESS_RANGE, pa -> 0x1_8000_0000L),
            new Wrong("of a page of another type", METADATA_INCORRECT, pa -> TDR + PAGE),
            new Wrong("of a page that is free or in use", METADATA_INCORRECT, pa -> pa == FREE ? TDR + 2 * PAGE : FREE + 0x10 * PAGE));

    @ParameterizedTest @EnumSource void everyWrongAddressIsNamed(Function function) {
        try (var made = function.made()) {
            for (var wrong : WRONGS) {
                for (var address : List.of(TDR, TDVPR, FREE)) {
                    long changed = wrong.change.applyAsLong(address);
                    if (function.rcx == address) {
                        assertThat(function.call(made, changed, function.rdx)).as("RCX %s", wrong.name).isEqualTo(wrong.status | RCX);
                    }
                    if (function.rdx == address) {
                        assertThat(function.call(made, function.rcx, changed)).as("RDX %s", wrong.name).isEqualTo(wrong.status | RDX);
                    }
                }
            }
            assertThat(function.call(made)).as("nothing wrong").isZero();
        }
    }
}
