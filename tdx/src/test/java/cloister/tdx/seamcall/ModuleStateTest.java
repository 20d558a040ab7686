package cloister.tdx.seamcall;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.SeamRegs;
import cloister.spec.tdx.SeamcallLeaf;
import cloister.spec.tdx.TdxStatus;
import cloister.tdx.core.ModuleState.SysState;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/// Every SEAMCALL leaf in every state of the module, with the exact status. The functions are known here by their numbers, and
/// what they do by the rules below. [TDX-BASE "Intel TDX Module Lifecycle"], [TDX-ABI "SEAMCALL Instruction (Common)"]
class ModuleStateTest {
    /// States as the caller, LP 0, sees them.
    enum State {
        INIT_PENDING(p -> { }),
        INIT_DONE(p -> p.status(1, SeamcallLeaf.SYS_INIT)),
        THIS_LP(p -> {
            INIT_DONE.reach.accept(p);
            p.status(0, SeamcallLeaf.SYS_LP_INIT);
        }),
        ALL_LPS(TwoPackages::initializeLps),
        CONFIG_DONE(TwoPackages::configure),
        THIS_PACKAGE(p -> {
            p.configure();
            p.succeed(1, SeamcallLeaf.SYS_KEY_CONFIG);
        }),
        READY(TwoPackages::makeReady),
        SHUTDOWN(p -> {
            p.makeReady();
            p.succeed(1, SeamcallLeaf.SYS_SHUTDOWN, 0);
        });

        final Consumer<TwoPackages> reach;

        State(Consumer<TwoPackages> reach) {
            this.reach = reach;
        }
    }

    /// Rule 1: these may be called before the module is ready. A row has the function's number and its status in each state from
    /// INIT_PENDING to READY, with all operands 0 but those below.
    private static final String BEFORE_READY = """
            33 SUCCESS                 SYS_INIT_NOT_PENDING SYS_INIT_NOT_PENDING SYS_INIT_NOT_PENDING SYS_INIT_NOT_PENDING \
               SYS_INIT_NOT_PENDING SYS_INIT_NOT_PENDING
            35 SYS_LP_INIT_NOT_PENDING SUCCESS SYS_LP_INIT_DONE SYS_LP_INIT_DONE SYS_LP_INIT_NOT_PENDING SYS_LP_INIT_NOT_PENDING \
               SYS_LP_INIT_NOT_PENDING
            45 SYS_CONFIG_NOT_PENDING  SYS_CONFIG_NOT_PENDING SYS_CONFIG_NOT_PENDING OPERAND_INVALID:RDX SYS_CONFIG_NOT_PENDING \
               SYS_CONFIG_NOT_PENDING SYS_CONFIG_NOT_PENDING
            31 SYS_KEY_CONFIG_NOT_PENDING SYS_KEY_CONFIG_NOT_PENDING SYS_KEY_CONFIG_NOT_PENDING SYS_KEY_CONFIG_NOT_PENDING SUCCESS \
               KEY_CONFIGURED SYS_KEY_CONFIG_NOT_PENDING
            32 SYS_LP_INIT_NOT_DONE    SYS_LP_INIT_NOT_DONE OPERAND_INVALID:RDX OPERAND_INVALID:RDX OPERAND_INVALID:RDX \
               OPERAND_INVALID:RDX OPERAND_INVALID:RDX
            34 SYS_LP_INIT_NOT_DONE    SYS_LP_INIT_NOT_DONE METADATA_FIRST_FIELD_ID_IN_CONTEXT METADATA_FIRST_FIELD_ID_IN_CONTEXT \
               METADATA_FIRST_FIELD_ID_IN_CONTEXT METADATA_FIRST_FIELD_ID_IN_CONTEXT METADATA_FIRST_FIELD_ID_IN_CONTEXT
            37 SYS_LP_INIT_NOT_DONE    SYS_LP_INIT_NOT_DONE OPERAND_INVALID:RDX OPERAND_INVALID:RDX OPERAND_INVALID:RDX \
               OPERAND_INVALID:RDX OPERAND_INVALID:RDX
            53 SYS_STATE_INCORRECT     SYS_STATE_INCORRECT SYS_STATE_INCORRECT SYS_INVALID_HANDOFF SYS_STATE_INCORRECT \
               SYS_STATE_INCORRECT SYS_STATE_INCORRECT
            44 SUCCESS                 SUCCESS SUCCESS SUCCESS SUCCESS SUCCESS SUCCESS
            """;

    /// Rule 2: the others say SYS_NOT_READY until the module is ready. A row has their status then, with all operands 0, and their
    /// numbers. Page 0 is in no TDMR; which operand is looked at first is the order of the manual's operand tables.
    private static final String WHEN_READY = """
            OPERAND_ADDR_RANGE_ERROR:RCX 0 8 11 13 17 18 19 20 21 22 24 26 28 38 41 43
            OPERAND_ADDR_RANGE_ERROR:RDX 1 2 3 4 5 6 7 10 12 14 15 16 23 25 29 30 39
            OPERAND_ADDR_RANGE_ERROR:RCX 49 64 70 71 72 73 74 80 81 82 84 85 86 87
            OPERAND_ADDR_RANGE_ERROR:RDX 65 66 68 75 83 96
            OPERAND_INVALID:RDX          9 48
            OPERAND_INVALID:RCX          36
            NO_HKID_READY_TO_WBCACHE     40
            SUCCESS                      27 52
            """;

    /// Rule 3: all other numbers are no functions.
    private static final List<Integer> VERSIONED = List.of(3, 11, 22, 23, 26, 30);
    private static final int LEAVES = 1 << 16;
    private static final int LP_SHUTDOWN = 44;
    /// TDH.SYS.RD of the null field, TDH.SYS.RDALL to an address that is not shared.
    private static final Map<Integer, long[]> OPERANDS = Map.of(34, new long[] {0, -1}, 37, new long[] {0, 1});

    private static long status(String text) {
        var parts = text.split(":");
        var status = TdxStatus.valueOf(parts[0]);
        return parts.length == 1 ? status.code() : status.with(parts[1].equals("RCX") ? OperandId.RCX : OperandId.RDX);
    }

    /// The functions that do something special in `state`, and what.
    private static Map<Integer, Long> expected(State state) {
        var result = new TreeMap<Integer, Long>();
        if (state == State.SHUTDOWN) {
            result.put(LP_SHUTDOWN, 0L);
            return result;
        }
        BEFORE_READY.lines().map(line -> line.trim().split(" +"))
                .forEach(row -> result.put(Integer.parseInt(row[0]), status(row[1 + state.ordinal()])));
        if (state == State.READY) {
            WHEN_READY.lines().map(line -> line.trim().split(" +")).forEach(row -> Arrays.stream(row).skip(1)
                    .forEach(leaf -> result.put(Integer.parseInt(leaf), status(row[0]))));
        }
        return result;
    }

    /// What all other numbers say.
    private static long otherwise(State state) {
        return switch (state) {
            case READY -> TdxStatus.OPERAND_INVALID.with(OperandId.RAX);
            case SHUTDOWN -> TdxStatus.SYS_SHUTDOWN.code();
            default -> TdxStatus.SYS_NOT_READY.code();
        };
    }

    private static TwoPackages in(State state) {
        var platform = new TwoPackages();
        state.reach.accept(platform);
        return platform;
    }

    @ParameterizedTest @EnumSource(State.class) void everyNumberHasItsStatus(State state) {
        var special = expected(state);
        var differences = new ArrayList<String>();
        var platform = in(state);
        for (int leaf = 0; leaf < LEAVES; leaf++) {
            boolean mayAct = special.containsKey(leaf);
            long wanted = mayAct ? special.get(leaf) : otherwise(state);
            long got = platform.call(0, leaf, OPERANDS.getOrDefault(leaf, new long[0])).get(SeamRegs.RAX);
            if (got != wanted) {
                differences.add(String.format("leaf %d: %016x, not %016x", leaf, got, wanted));
            }
            if (mayAct && wanted == 0) {
                platform.close();
                platform = in(state);
            }
        }
        platform.close();
        assertThat(differences).isEmpty();
    }

    @ParameterizedTest @EnumSource(State.class) void onlySixFunctionsHaveVersions(State state) {
        try (var platform = in(state)) {
            for (int leaf = 0; leaf < 128; leaf++) {
                for (int version = 1; version < 256; version++) {
                    long status = platform.call(0, leaf | (version << 16)).get(SeamRegs.RAX);
                    if (!VERSIONED.contains(leaf)) {
                        assertThat(status).as("leaf %d version %d", leaf, version).isEqualTo(TdxStatus.OPERAND_INVALID.code());
                    } else if (state != State.READY) {
                        assertThat(status).as("leaf %d version %d", leaf, version).isEqualTo(otherwise(state));
                    }
                }
            }
        }
    }

    @ParameterizedTest @EnumSource(State.class) void reservedBitsOfRaxComeFirst(State state) {
        try (var platform = in(state)) {
            for (int leaf = 0; leaf < 128; leaf++) {
                for (int bit = 24; bit < 64; bit++) {
                    assertThat(platform.call(0, leaf | (1L << bit)).get(SeamRegs.RAX)).as("leaf %d bit %d", leaf, bit)
                            .isEqualTo(TdxStatus.OPERAND_INVALID.code());
                }
            }
        }
    }

    @ParameterizedTest @EnumSource(State.class) void aRefusalByTheDispatcherLeavesTheOtherRegisters(State state) {
        try (var platform = in(state)) {
            for (int leaf : new int[] {50, 24, 52}) {
                if (state == State.READY && leaf != 50) {
                    continue;
                }
                var regs = platform.call(0, leaf, 1, 2, 3, 4);
                assertThat(Arrays.copyOf(regs.array(), 10)).containsExactly(otherwise(state), 1, 2, 0, 0, 0, 0, 0, 3, 4);
            }
        }
    }

    /// What leads from one state to another.
    @Test void theStatesFollowEachOther() {
        try (var platform = new TwoPackages()) {
            Map<SysState, Consumer<TwoPackages>> steps = new LinkedHashMap<>();
            steps.put(SysState.INIT_PENDING, p -> p.succeed(0, SeamcallLeaf.SYS_INIT));
            steps.put(SysState.INIT_DONE, p -> {
                for (int lp = 0; lp < TwoPackages.LPS; lp++) {
                    p.succeed(lp, SeamcallLeaf.SYS_LP_INIT);
                    assertThat(p.module().sysState).isEqualTo(SysState.INIT_DONE);
                }
                p.tdmrInfo(0, TwoPackages.TDMR, TwoPackages.GIB, 6 * TwoPackages.GIB);
                p.succeed(0, SeamcallLeaf.SYS_CONFIG, TwoPackages.HOST, 1, TwoPackages.GLOBAL_KEY);
            });
            steps.put(SysState.CONFIG_DONE, p -> {
                p.succeed(0, SeamcallLeaf.SYS_KEY_CONFIG);
                assertThat(p.module().sysState).isEqualTo(SysState.CONFIG_DONE);
                p.succeed(8, SeamcallLeaf.SYS_KEY_CONFIG);
            });
            steps.put(SysState.READY, p -> p.succeed(0, SeamcallLeaf.SYS_SHUTDOWN, 0));
            steps.forEach((state, step) -> {
                assertThat(platform.module().sysState).isEqualTo(state);
                step.accept(platform);
            });
            assertThat(platform.module().sysState).isEqualTo(SysState.SHUTDOWN);
        }
    }

    @Test void shutdownNamesTheOnlyHandoffVersion() {
        try (var platform = in(State.READY)) {
            for (long version : new long[] {1, 1 << 16, 1L << 32, -1}) {
                assertThat(platform.call(0, 52, version).get(SeamRegs.RAX)).isEqualTo(TdxStatus.OPERAND_INVALID.with(OperandId.RCX));
            }
            assertThat(platform.module().sysState).isEqualTo(SysState.READY);
        }
    }

    @Test void anLpThatIsInTheModuleDelaysTheShutdown() {
        try (var platform = in(State.READY)) {
            platform.module().busyLps = 1;
            assertThat(platform.call(0, 52).get(SeamRegs.RAX)).isEqualTo(TdxStatus.SYS_BUSY.code());
            assertThat(platform.module().globalLock.get()).isZero();
            assertThat(platform.module().sysState).isEqualTo(SysState.READY);
            platform.module().busyLps = 0;
            assertThat(platform.call(0, 52).get(SeamRegs.RAX)).isZero();
        }
    }
}
