package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

final class ExecChannelTest {
    @ParameterizedTest
    @CsvSource(delimiter = '|', value = {
        "hello@cloister-exit 0@                 | hello                  | 0",
        "@cloister-exit 127@                    | ''                     | 127",
        "a@cloister-exit 1@b@cloister-exit 42@  | a@cloister-exit 1@b    | 42",
        "@@cloister-exit 3@                     | @                      | 3",
        "@cloister-exit 1234@                   | @cloister-exit 1234@   | -1",
        "@cloister-exit @                       | @cloister-exit @       | -1",
        "@cloister-exit 9@x                     | @cloister-exit 9@x     | -1",
        "cut@cloister-e                         | cut@cloister-e         | -1",
        "@cloister-ready@out@cloister-exit 4@   | out                    | 4",
        "@cloister-ready@@cloister-ready@       | @cloister-ready@       | -1",
        "@cloister-read                         | @cloister-read         | -1",
        "@cloister-rx                           | @cloister-rx           | -1",
    })
    void separatesOutputFromStatus(String sent, String expectedOutput, int expectedStatus) {
        var output = new StringBuilder();
        var channel = new ExecChannel(octet -> output.append((char) octet));
        int[] ready = {0};
        channel.onReady(() -> ready[0]++);
        for (byte b : sent.replace('@', '\u0001').getBytes(StandardCharsets.ISO_8859_1)) {
            channel.accept(b);
        }
        OptionalInt status = channel.exitStatus();
        assertThat(output.toString().replace('\u0001', '@')).isEqualTo(expectedOutput);
        assertThat(status.orElse(-1)).isEqualTo(expectedStatus);
        assertThat(ready[0]).isEqualTo(sent.startsWith("@cloister-ready@") ? 1 : 0);
    }
}
