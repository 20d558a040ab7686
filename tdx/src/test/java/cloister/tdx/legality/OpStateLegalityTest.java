package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.core.ModuleHalt;
import cloister.tdx.core.Tdcs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Every host-side function on a TD, in every operation state. The expectations are sets of states by name, not the tables of `spec`.
/// [TDX-BASE "TD Operation State Machine"], [TDX-MIG "OP_STATE"]
class OpStateLegalityTest {
    private static final long INCORRECT = 0xC000_0608_0000_0000L;
    private static final long FREE_PAGE = 0x1_0040_0000L;
    private static final String SETUP = """
            {"op":"include","file":"setup/vp-debug.jsonl"}
            """;

    /// By number: uninitialised, initialised, runnable; live, paused and post export; memory, state, post and live import; failed.
    private static final List<String> STATES = List.of("U", "I", "R", "LE", "PE", "XE", "MI", "SI", "XI", "LI", "FI");

    /// How the TD is named (its TDR or a TDVPR, in RCX or RDX), the functions' numbers, and the states in which they may run.
    private static final String RULES = """
            TDVPR-RCX 0            R LE LI
            TDR-RDX   1            U
            TDR-RDX   2,16         I
            TDR-RDX   3            I R LE MI SI XI LI
            TDVPR-RDX 4            I SI
            TDR-RDX   5,7,15,23,39 I R LE PE XE XI LI
            TDR-RDX   6            I R LE LI
            TDR-RDX   10           I SI
            TDR-RCX   11           I R LE PE XE MI SI XI LI FI
            TDR-RDX   12,25,30     I R LE PE XE MI SI XI LI FI
            TDR-RCX   13           I R LE MI SI XI LI FI
            TDR-RDX   14           I R LE MI SI XI LI FI
            TDR-RCX   17           I
            TDVPR-RCX 18           U I R LE PE XE MI SI XI LI FI
            TDR-RCX   21,85        U
            TDVPR-RCX 22           I
            TDVPR-RCX 26           I R LE PE XE MI SI XI LI FI
            TDR-RDX   29           I R LE PE XE XI LI FI
            TDR-RCX   38           I R LE PE XE MI SI XI LI
            TDVPR-RCX 43           I R LE MI SI XI LI FI
            TDR-RCX   48           U I R LE XI LI
            TDR-RCX   49           U I
            TDR-RCX   64           LE PE XE
            TDR-RDX   65           LE
            TDR-RDX   66           R
            TDR-RDX   68           LE PE XE
            TDR-RCX   70           LE
            TDR-RCX   71           LE PE
            TDR-RCX   72           R LI
            TDR-RCX   73           PE
            TDVPR-RCX 74           PE
            TDR-RDX   75           R LE PE XE
            TDR-RCX   80           MI SI XI FI
            TDR-RCX   81           XI LI
            TDR-RCX   82           XI
            TDR-RDX   83           MI SI XI LI
            TDR-RCX   84           MI SI
            TDR-RCX   86           MI
            TDVPR-RCX 87           SI
            TDR-RDX   96           U I R
            """;

    @Test void everyFunctionRunsInTheStatesThatAllowItAndIsRefusedInTheOthers() {
        var differences = new ArrayList<String>();
        try (var td = new RecordedTd(SETUP)) {
            RULES.lines().map(line -> line.split(" +", 3)).forEach(c -> {
                var legal = Arrays.asList(c[2].split(" "));
                for (var leaf : c[1].split(",")) {
                    for (int state = 0; state < STATES.size(); state++) {
                        boolean refused = isRefused(td, Integer.parseInt(leaf), c[0], state);
                        if (refused == legal.contains(STATES.get(state))) {
                            differences.add("leaf " + leaf + " in " + STATES.get(state) + (refused ? " is refused" : " runs"));
                        }
                    }
                }
            });
        }
        assertThat(differences).isEmpty();
    }

    /// Calls the function with nothing but the TD right, so that what follows the check of the state changes little.
    private static boolean isRefused(RecordedTd td, int leaf, String handle, int state) {
        int before = td.tdcs.u32(Tdcs.OP_STATE);
        td.tdcs.u32(Tdcs.OP_STATE, state);
        long name = handle.startsWith("TDR") ? RecordedTd.TDR : RecordedTd.TDVPR;
        boolean first = handle.endsWith("RCX");
        long other = leaf == 1 ? FREE_PAGE : 0; // TDH.MNG.ADDCX looks at the page first
        try {
            long rax = td.seamcall(leaf, first ? name : other, first ? other : name, 0, 0).get(0);
            if (rax == INCORRECT) {
                td.tdcs.u32(Tdcs.OP_STATE, before);
                return true;
            }
        } catch (ModuleHalt notModelled) {
            // The state was right: what is missing comes after the check.
        }
        td.powerOn();
        return false;
    }
}
