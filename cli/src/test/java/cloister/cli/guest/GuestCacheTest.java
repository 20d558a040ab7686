package cloister.cli.guest;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Where the cache is, what it notices, what apt's complaints mean.
class GuestCacheTest {
    @TempDir
    private Path folder;
    private Path place;
    private final List<String> steps = new ArrayList<>();

    @BeforeEach void fill() throws IOException {
        place = Files.createDirectories(folder.resolve(GuestCache.SUITE));
        Files.writeString(place.resolve("vmlinuz"), "a kernel");
        Files.writeString(place.resolve("busybox"), "a shell");
        new Checksums(place).write(List.of("vmlinuz", "busybox"));
    }

    @Test void aWholeGuestNeedsNoNetwork() throws FetchFailure {
        var guest = new GuestCache(folder).guest(true, silent());
        assertThat(guest.kernel()).isEqualTo(place.resolve("vmlinuz"));
        assertThat(steps).isEmpty();
    }

    @Test void theChecksumsAreThoseOfSha256sum() throws IOException {
        assertThat(Files.readString(place.resolve("SHA256SUMS"))).matches("[0-9a-f]{64}  vmlinuz\n[0-9a-f]{64}  busybox\n");
        Files.writeString(place.resolve("vmlinuz"), "abc");
        new Checksums(place).write(List.of("vmlinuz"));
        assertThat(Files.readString(place.resolve("SHA256SUMS")))
                .startsWith("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  "); // [FIPS 180-4, example "abc"]
    }

    @ParameterizedTest
    @CsvSource({"vmlinuz, a kErnel", "busybox, ''", "busybox, -"})
    void damageIsNoticed(String file, String content) throws IOException {
        if (content.equals("-")) {
            Files.delete(place.resolve(file));
        } else {
            Files.writeString(place.resolve(file), content);
        }
        assertThatThrownBy(() -> new GuestCache(folder).guest(true, silent())).isInstanceOf(FetchFailure.class)
                .hasMessageContaining("damaged").hasMessageContaining("--offline");
    }

    @Test void anEmptyCacheIsNotCalledDamaged() {
        assertThatThrownBy(() -> new GuestCache(folder.resolve("none")).guest(true, silent())).isInstanceOf(FetchFailure.class)
                .hasMessageContaining("no guest is in");
    }

    @Test void theEnvironmentSaysWhereTheCacheIs() {
        assertThat(GuestCache.folder(Map.of("CLOISTER_CACHE", "/c", "XDG_CACHE_HOME", "/x", "HOME", "/h"), "/u")).hasToString("/c");
        assertThat(GuestCache.folder(Map.of("XDG_CACHE_HOME", "/x", "HOME", "/h"), "/u")).hasToString("/x/cloister");
        assertThat(GuestCache.folder(Map.of("HOME", "/h"), "/u")).hasToString("/h/.cache/cloister");
        assertThat(GuestCache.folder(Map.of("XDG_CACHE_HOME", " "), "/u")).hasToString("/u/.cache/cloister");
    }

    /// Lines that apt 2.6 wrote in these situations, with the names of hosts changed.
    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            Err:1 http://h/debian trixie InRelease~  Could not resolve 'h'~W: Some index files failed to download. | name server
            Err:1 http://h/debian trixie InRelease~  Temporary failure resolving 'h'~E: Unable to locate package x | name server
            Err:1 http://h trixie InRelease~  Could not connect to h:9 (10.0.0.1). - connect (111: Connection refused) | Connection refused
            Err:1 http://h trixie InRelease~  Connection timed out [IP: 10.0.0.1 80]~W: Failed to fetch http://h | does not answer
            Err:2 http://h x Release~  404  Not Found [IP: 10.0.0.1]~E: 'h' does not have a Release file. | this mirror does not have it
            Err:1 http://h trixie InRelease~  Error writing to file - write (28: No space left on device)~E: h 404  Not Found | make room
            E: You don't have enough free space in /tmp/x/. | make room
            W: GPG error: http://h trixie InRelease: The following signatures couldn't be verified: NO_PUBKEY 6ED0 | cannot be trusted
            E: Something new | Something new
            Err:1 http://h trixie InRelease~  Something else~W: Some index files failed to download. | (Something else)
            """)
    void theReasonIsSaid(String output, String says) {
        var failure = AptFailure.of(output.replace("~", "\n"));
        assertThat("(" + failure.reason() + "); " + failure.advice()).contains(says);
    }

    private FetchProgress silent() {
        return new FetchProgress() {
            @Override public void step(String what) {
                steps.add(what);
            }

            @Override public void downloaded(String what, long bytes, long of) {
                steps.add(what);
            }

            @Override public void detail(String line) {
                steps.add(line);
            }
        };
    }
}
