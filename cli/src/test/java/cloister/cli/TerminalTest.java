package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class TerminalTest {
    /// `^` stands for Ctrl-A; the keys come one by one, as typed, and all at once, as pasted.
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "ls^xrest  | lsrest   | quit",
        "^X        | ''       | quit",
        "a^db^Dc   | abc      | dump dump",
        "a^^b      | a^b      | ''",
        "^q^?^h^H- | -        | ''",
        "a^        | a        | ''",
    })
    void escapesAreTakenOut(String typed, String forGuest, String wanted) {
        byte[] keys = typed.strip().replace('^', '\u0001').getBytes(StandardCharsets.ISO_8859_1);
        byte[][] one = new byte[keys.length][];
        for (int i = 0; i < keys.length; i++) {
            one[i] = new byte[] {keys[i]};
        }
        check(forGuest, wanted, keys);
        check(forGuest, wanted, one);
    }

    private static void check(String forGuest, String wanted, byte[]... reads) {
        var wishes = new StringBuilder();
        var heard = new StringBuilder();
        var terminal = new Terminal(null);
        for (byte[] read : reads) {
            heard.append(new String(terminal.keys(read, new Terminal.Wishes() {
                @Override public void quit() {
                    wishes.append("quit ");
                }

                @Override public void dump() {
                    wishes.append("dump ");
                }
            }), StandardCharsets.ISO_8859_1));
        }
        assertThat(heard.toString().replace('\u0001', '^')).isEqualTo(forGuest);
        assertThat(wishes.toString().strip()).isEqualTo(wanted);
    }
}
