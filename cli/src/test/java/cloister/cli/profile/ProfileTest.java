package cloister.cli.profile;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cli.profile.SymbolTable.Symbol;
import java.util.List;
import org.junit.jupiter.api.Test;

/// Samples get the names of functions wherever the kernel was put, and none is lost.
class ProfileTest {
    private static final long SLIDE = 0x1e00_0000L;
    private static final SymbolTable SYMBOLS = new SymbolTable(List.of(new Symbol(0xffffffff81000000L, 'T', "_text"),
            new Symbol(0xffffffff81000100L, 't', "hot"), new Symbol(0xffffffff81000200L, 'T', "entry_SYSCALL_64"),
            new Symbol(0xffffffff81000300L, 'D', "data")));

    private static Profile profile() {
        var profile = new Profile();
        profile.sampled(0, 0x100123, false, 0, 1000);
        profile.sampled(0, 0xffffffff81000120L + SLIDE, false, 0, 1000); // before the system call entry is known
        for (int i = 0; i < 6; i++) {
            profile.sampled(i % 2, 0xffffffff81000100L + SLIDE + i, false, 0xffffffff81000200L + SLIDE, 1000);
        }
        profile.sampled(1, 0x401234, true, 0xffffffff81000200L + SLIDE, 1000);
        profile.sampled(1, 0xffffffffc0001234L, false, 0xffffffff81000200L + SLIDE, 1000);
        return profile;
    }

    @Test void theHottestFunctionIsFirst() {
        var functions = profile().functions(SYMBOLS);
        assertThat(functions.getFirst()).isEqualTo(new Profile.Line("hot", 7000));
        assertThat(functions).hasSize(4).extracting(Profile.Line::name)
                .contains("[user page 0x401000]", "[module page 0xffffffffc0001000]");
        assertThat(functions.stream().mapToLong(Profile.Line::instructions).sum()).isEqualTo(profile().total()).isEqualTo(10_000);
    }

    @Test void stacksAreFolded() {
        assertThat(profile().folded(SYMBOLS)).isEqualTo("""
                vcpu0;kernel;[boot: firmware, decompressor, identity map] 1000
                vcpu0;kernel;hot 4000
                vcpu1;kernel;[module page 0xffffffffc0001000] 1000
                vcpu1;kernel;hot 3000
                vcpu1;user;[user page 0x401000] 1000
                """);
    }

    @Test void theReportHasShares() {
        assertThat(profile().report(SYMBOLS, 1)).contains("10,000 instructions in 10 samples", " 70.00 %           7,000  hot",
                " 30.00 %           3,000  in 3 others");
        assertThat(profile().functions(SymbolTable.EMPTY)).extracting(Profile.Line::name)
                .contains("[kernel page 0x" + Long.toHexString(0xffffffff81000000L + SLIDE) + "]");
        assertThat(new Profile().report(SYMBOLS, 5)).contains("0 samples");
    }
}
