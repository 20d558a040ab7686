package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Tdcs;
import cloister.tdx.core.Tdr;
import cloister.tdx.core.Tdvps;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Every host-side function on a TD, in every operation state, in every life cycle state, with and without its TDCS, dead or alive; and
/// every function on a VCPU in every state of it. The expectations are rules written here, not the tables of `spec`: what the function asks
/// for, and the status of the next check when it is given nothing but the TD. A call that fails leaves the TD as it was, unlocked.
/// [TDX-BASE "TD Operation State Machine"], [TDX-BASE "TD Life Cycle State Machine"], [TDX-MIG "OP_STATE"]
class OpStateLegalityTest {
    private static final long SUCCESS = 0;
    private static final long STATE_INCORRECT = 0xC000_0608_0000_0000L;
    private static final long FATAL = 0xE000_0604_0000_0000L;
    private static final long KEYS_NOT_CONFIGURED = 0x8000_0810_0000_0000L;
    private static final long NO_TDCS = 0xC000_0606_0000_0000L;
    private static final long LIFE_CYCLE_INCORRECT = 0xC000_0607_0000_0000L;
    private static final long FLUSHVP_NOT_DONE = 0x8000_0824_0000_0000L;
    private static final long KEY_CONFIGURED = 0x0000_0815_0000_0000L;
    private static final long PAGES_EXIST = 0xC000_0400_0000_0000L;
    private static final long VCPU_STATE_INCORRECT = 0xC000_0700_0000_0000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final int MIN_TDCS_PAGES = 6;
    /// What stands for "the model has no more of this function".
    private static final long HALT = -1;
    private static final String SETUP = """
            {"op":"include","file":"setup/vp-debug.jsonl"}
            """;

    /// By number: uninitialised, initialised, runnable; live, paused and post export; memory, state, post and live import; failed.
    private static final List<String> STATES = List.of("U", "I", "R", "LE", "PE", "XE", "MI", "SI", "XI", "LI", "FI");
    private static final int RUNNABLE = 2;
    private static final int MR_FINALIZE = 17;
    private static final int HKID_ASSIGNED = 0;
    private static final int KEYS_CONFIGURED = 1;
    private static final int BLOCKED = 2;
    private static final int TEARDOWN = 3;

    /// How the TD is named (its TDR or a TDVPR, in RCX or RDX), the function's number, the status when the state is right but all other
    /// operands are zero, and the states in which the function may run.
    private static final String RULES = """
            TDVPR-RCX 0  0000000000000000 R LE LI
            TDR-RDX   2  C0000B0000000001 I
            TDR-RDX   3  C000010000000001 I R LE MI SI XI LI
            TDVPR-RDX 4  C000070000000000 I SI
            TDR-RDX   5  C0000B0000000001 I R LE PE XE XI LI
            TDR-RDX   6  C0000B0000000001 I R LE LI
            TDR-RDX   7  C0000B0000000001 I R LE PE XE XI LI
            TDR-RDX   10 C000010100000001 I SI
            TDR-RCX   11 C0000C0000000000 I R LE PE XE MI SI XI LI FI
            TDR-RDX   12 C0000B0300000001 I R LE PE XE MI SI XI LI FI
            TDR-RCX   13 C0000C0000000000 I R LE MI SI XI LI FI
            TDR-RDX   14 C0000B0300000001 I R LE MI SI XI LI FI
            TDR-RDX   15 C000010000000001 I R LE PE XE XI LI
            TDR-RDX   16 C0000B0300000001 I
            TDR-RCX   17 0000000000000000 I
            TDR-RCX   21 C000010000000002 U
            TDVPR-RCX 22 C000070000000000 I
            TDR-RDX   23 C000010000000001 I R LE PE XE XI LI
            TDR-RDX   25 C0000B0000000001 I R LE PE XE MI SI XI LI FI
            TDVPR-RCX 26 0000000000000000 I R LE PE XE MI SI XI LI FI
            TDR-RDX   29 C0000B0000000001 I R LE PE XE XI LI FI
            TDR-RDX   30 C000010000000001 I R LE PE XE MI SI XI LI FI
            TDR-RCX   38 0000000000000000 I R LE PE XE MI SI XI LI
            TDR-RDX   39 C0000B0000000001 I R LE PE XE XI LI
            TDVPR-RCX 43 C0000C0100000000 I R LE MI SI XI LI FI
            TDR-RCX   48 C000010100000002 U I R LE XI LI
            TDR-RCX   49 0000000000000000 U I
            TDR-RCX   64 HALT             LE PE XE
            TDR-RDX   65 HALT             LE
            TDR-RDX   66 0000000000000000 R
            TDR-RDX   68 HALT             LE PE XE
            TDR-RCX   70 HALT             LE
            TDR-RCX   71 HALT             LE PE
            TDR-RCX   72 C0000E0900000000 R LI
            TDR-RCX   73 HALT             PE
            TDVPR-RCX 74 HALT             PE
            TDR-RDX   75 C0000B0000000001 R LE PE XE
            TDR-RCX   80 C000010000000008 MI SI XI FI
            TDR-RCX   81 HALT             XI LI
            TDR-RCX   82 HALT             XI
            TDR-RDX   83 HALT             MI SI XI LI
            TDR-RCX   84 HALT             MI SI
            TDR-RCX   85 C0000E1400000000 U
            TDR-RCX   86 HALT             MI
            TDVPR-RCX 87 HALT             SI
            TDR-RDX   96 C000010100000001 U I R
            """;

    /// Where all state machines of a TD are.
    private record Where(boolean fatal, int life, int tdcsPages, int opState) {
        void put(RecordedTd td) {
            td.tdr.u8(Tdr.FATAL, fatal ? 1 : 0);
            td.tdr.u32(Tdr.LIFECYCLE_STATE, life);
            td.tdr.u32(Tdr.NUM_TDCX, tdcsPages);
            td.tdcs.u32(Tdcs.OP_STATE, opState);
        }

        static Where of(RecordedTd td) {
            return new Where(td.tdr.fatal(), td.tdr.lifecycleState(), td.tdr.numTdcx(), td.tdcs.u32(Tdcs.OP_STATE));
        }

        static List<Where> all() {
            var all = new ArrayList<Where>();
            for (int i = 0; i < 2 * 4 * 2 * STATES.size(); i++) {
                all.add(new Where(i % 2 == 1, i / 2 % 4, MIN_TDCS_PAGES - i / 8 % 2, i / 16));
            }
            return all;
        }
    }

    private interface Rule {
        long status(Where where);
    }

    private interface Move {
        Move NONE = where -> where;

        Where after(Where before);
    }

    private interface Call {
        long status(RecordedTd td);
    }

    private final List<String> differences = new ArrayList<>();

    private void tryEverywhere(RecordedTd td, String name, Call call, Rule rule) {
        tryEverywhere(td, name, call, rule, Move.NONE);
    }

    /// Tries a function everywhere. Where it succeeds it moves the state machines as `move` says.
    private void tryEverywhere(RecordedTd td, String name, Call call, Rule rule, Move move) {
        for (var where : Where.all()) {
            long expected = rule.status(where);
            where.put(td);
            byte[] before = control(td);
            long got;
            try {
                got = call.status(td);
            } catch (ModuleHalt notModelled) {
                got = HALT;
            }
            if (got != expected) {
                differences.add(String.format("%s in %s: expected 0x%x, got 0x%x", name, where, expected, got));
            } else if (got < 0 && got != HALT && !Arrays.equals(before, control(td))) {
                differences.add(String.format("%s in %s failed and left traces", name, where));
            } else if (got == SUCCESS && !Where.of(td).equals(move.after(where))) {
                differences.add(String.format("%s moved %s to %s", name, where, Where.of(td)));
            }
            if (got >= 0 || got == HALT || !Arrays.equals(before, control(td))) {
                td.powerOn();
            }
        }
    }

    /// All of TDR, the first page of TDCS and TDVPR, and the locks on them.
    private static byte[] control(RecordedTd td) {
        var bytes = new byte[3 * 4096 + 6];
        System.arraycopy(td.tdr.bytes(0, 4096), 0, bytes, 0, 4096);
        System.arraycopy(td.tdcs.bytes(0, 4096), 0, bytes, 4096, 4096);
        System.arraycopy(tdvpr(td).bytes(0, 4096), 0, bytes, 2 * 4096, 4096);
        long[] pages = {RecordedTd.TDR, RecordedTd.TDVPR, FREE_PAGE};
        for (int i = 0; i < pages.length; i++) {
            int lock = td.machine.core.pageLock(pages[i]).get();
            bytes[3 * 4096 + 2 * i] = (byte) lock;
            bytes[3 * 4096 + 2 * i + 1] = (byte) (lock >>> 8);
        }
        return bytes;
    }

    private static Tdvps tdvpr(RecordedTd td) {
        return Tdvps.rootOnly(td.machine.memory, RecordedTd.TDVPR, td.tdr.keyId());
    }

    /// Calls the function with nothing but the TD right. (TDH.MNG.INIT would take 0 for parameters, and keep some of them.)
    private static Call named(String handle, int leaf) {
        long name = handle.startsWith("TDR") ? RecordedTd.TDR : RecordedTd.TDVPR;
        boolean first = handle.endsWith("RCX");
        long other = leaf == 21 ? 1 : 0;
        return td -> td.seamcall(leaf, first ? name : other, first ? other : name, 0, 0).get(0);
    }

    /// What nearly all functions ask for, in this order.
    private static long usual(Where where, List<String> legal, long then) {
        return where.fatal ? FATAL : where.life != KEYS_CONFIGURED ? KEYS_NOT_CONFIGURED
                : where.tdcsPages < MIN_TDCS_PAGES ? NO_TDCS : !legal.contains(STATES.get(where.opState)) ? STATE_INCORRECT : then;
    }

    @Test void everyFunctionRunsWhereItMayAndSaysWhyNotElsewhere() {
        try (var td = new RecordedTd(SETUP)) {
            RULES.lines().map(line -> line.split(" +", 4)).forEach(c -> {
                var legal = Arrays.asList(c[3].split(" "));
                int leaf = Integer.parseInt(c[1]);
                long then = c[2].equals("HALT") ? HALT : Long.parseUnsignedLong(c[2], 16);
                tryEverywhere(td, "leaf " + leaf, named(c[0], leaf), where -> usual(where, legal, then),
                        leaf == MR_FINALIZE ? w -> new Where(w.fatal, w.life, w.tdcsPages, RUNNABLE) : Move.NONE);
            });
        }
        assertThat(differences).isEmpty();
    }

    /// Functions that manage keys and pages go by the life cycle; OP_STATE concerns them only where there is a TDCS.
    @Test void functionsOfTheLifeCycleGoByIt() {
        try (var td = new RecordedTd(SETUP)) {
            tryEverywhere(td, "MNG.ADDCX", t -> t.seamcall(1, FREE_PAGE, RecordedTd.TDR, 0, 0).get(0), w -> w.fatal ? FATAL
                    : w.life != KEYS_CONFIGURED ? KEYS_NOT_CONFIGURED
                    : w.tdcsPages < MIN_TDCS_PAGES || w.opState == 0 ? SUCCESS : STATE_INCORRECT,
                    w -> new Where(w.fatal, w.life, w.tdcsPages + 1, w.opState));
            tryEverywhere(td, "MNG.KEY.CONFIG", named("TDR-RCX", 8), w -> w.fatal ? FATAL
                    : w.life != HKID_ASSIGNED ? LIFE_CYCLE_INCORRECT : KEY_CONFIGURED);
            tryEverywhere(td, "MNG.CREATE", t -> t.seamcall(9, RecordedTd.TDR, 0x22, 0, 0).get(0), w -> 0xC000_0300_0000_0001L);
            tryEverywhere(td, "VP.FLUSH", named("TDVPR-RCX", 18), w -> w.life != KEYS_CONFIGURED ? KEYS_NOT_CONFIGURED : SUCCESS);
            tryEverywhere(td, "MNG.VPFLUSHDONE", named("TDR-RCX", 19), w -> w.life > KEYS_CONFIGURED ? LIFE_CYCLE_INCORRECT
                    : w.tdcsPages >= MIN_TDCS_PAGES && w.opState != 0 ? FLUSHVP_NOT_DONE : SUCCESS,
                    w -> new Where(w.fatal, BLOCKED, w.tdcsPages, w.opState));
            tryEverywhere(td, "MNG.KEY.FREEID", named("TDR-RCX", 20), w -> w.life != BLOCKED ? LIFE_CYCLE_INCORRECT : SUCCESS,
                    w -> new Where(w.fatal, TEARDOWN, w.tdcsPages, w.opState));
            tryEverywhere(td, "PHYMEM.PAGE.RDMD", named("TDR-RCX", 24), w -> SUCCESS);
            tryEverywhere(td, "MNG.KEY.RECLAIMID", named("TDR-RCX", 27), w -> SUCCESS);
            tryEverywhere(td, "PHYMEM.PAGE.RECLAIM of the TDR", named("TDR-RCX", 28),
                    w -> w.life != TEARDOWN ? LIFE_CYCLE_INCORRECT : PAGES_EXIST);
            tryEverywhere(td, "PHYMEM.PAGE.RECLAIM of a TDVPR", named("TDVPR-RCX", 28),
                    w -> w.life != TEARDOWN ? LIFE_CYCLE_INCORRECT : SUCCESS);
        }
        assertThat(differences).isEmpty();
    }

    /// TDH.SERVTD.BIND looks at two TDs; the one that will serve has been measured and does not wait to be imported.
    @Test void aServiceTdIsBoundInStatesOfItsOwn() {
        try (var tds = new TdPair("vp-debug").create()) {
            var measured = List.of("R", "LE", "PE", "XE", "XI", "LI");
            for (var where : Where.all()) {
                where.put(tds.td);
                assertThat(tds.status(48, TdPair.BUILT, TdPair.RUNNING, 1)).as("%s", where)
                        .isEqualTo(usual(where, measured, 0xC000_0100_0000_0008L));
                assertThat(tds.builtTdcs().u16(0xc)).as("the other TD's OP_STATE lock").isZero();
            }
        }
    }

    @Test void functionsOnAVcpuGoByItsState() {
        int uninitialized = 0;
        int ready = 2;
        int disabled = 8;
        try (var td = new RecordedTd(SETUP)) {
            for (int state : new int[] {0, 1, 2, 4, 8, 16}) {
                tryInVcpuState(td, state, "VP.ENTER", 2, named("TDVPR-RCX", 0), state == ready ? SUCCESS : VCPU_STATE_INCORRECT);
                tryInVcpuState(td, state, "VP.ADDCX", 1, t -> t.seamcall(4, FREE_PAGE, RecordedTd.TDVPR, 0, 0).get(0),
                        state == uninitialized ? SUCCESS : VCPU_STATE_INCORRECT);
                tryInVcpuState(td, state, "VP.INIT", 1, named("TDVPR-RCX", 22),
                        state == uninitialized ? SUCCESS : VCPU_STATE_INCORRECT);
                tryInVcpuState(td, state, "VP.RD", 1, named("TDVPR-RCX", 26),
                        state == ready || state == disabled ? SUCCESS : VCPU_STATE_INCORRECT);
                tryInVcpuState(td, state, "VP.WR", 1, named("TDVPR-RCX", 43),
                        state == ready ? 0xC000_0C01_0000_0000L : VCPU_STATE_INCORRECT);
                tryInVcpuState(td, state, "VP.FLUSH", 1, named("TDVPR-RCX", 18), SUCCESS);
            }
        }
        assertThat(differences).isEmpty();
    }

    private void tryInVcpuState(RecordedTd td, int state, String name, int opState, Call call, long expected) {
        td.powerOn();
        td.tdcs.u32(Tdcs.OP_STATE, opState);
        tdvpr(td).u8(Tdvps.STATE, state);
        byte[] before = control(td);
        long got = call.status(td);
        if (got != expected) {
            differences.add(String.format("%s with VCPU_STATE %d: expected 0x%x, got 0x%x", name, state, expected, got));
        } else if (got < 0 && !Arrays.equals(before, control(td))) {
            differences.add(String.format("%s with VCPU_STATE %d failed and left traces", name, state));
        }
    }
}
