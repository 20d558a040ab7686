package cloister.tdx;

import cloister.tdx.fuzz.Fuzzer;
import java.util.List;
import java.util.function.LongConsumer;

/// The fuzzer of the TDX module: random calls of several logical processors, interleaved at lock acquisitions and writes, and
/// invariants checked whenever no call is in progress. One seed gives one run.
public final class ModuleFuzz {
    private final Fuzzer fuzzer;

    /// A broken invariant.
    ///
    /// @param call     the number of the call that showed it, from 1
    /// @param message  what is broken
    /// @param sequence the calls that break it, shrunk, as [#replay] takes them
    public record Finding(long call, String message, List<String> sequence) {
    }

    /// @param seed any number
    public ModuleFuzz(long seed) {
        this.fuzzer = new Fuzzer(seed);
    }

    /// Makes `calls` calls, accesses and exits.
    ///
    /// @param progress is told now and then how many are done
    /// @return the first finding, or null
    public Finding run(long calls, LongConsumer progress) {
        var finding = fuzzer.run(calls, progress);
        return finding == null ? null : new Finding(finding.call(), finding.message(), finding.sequence());
    }

    /// A table of the functions called so far and how often each ended with which status.
    public String coverage() {
        return fuzzer.coverage();
    }

    /// Replays a sequence.
    ///
    /// @return what it breaks, or null
    /// @throws IllegalArgumentException when a line is not a step
    public static String replay(List<String> sequence) {
        return Fuzzer.replay(sequence);
    }
}
