package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// `cloister fetch` with an apt that takes its packages from a folder and writes down how it was called.
class FetchTest {
    private static final String KERNEL = "linux-image-6.1-cloud-amd64";
    private static final String APT_GET = """
            #!/bin/sh
            for word in "$@"; do last=$word; done
            case "$* " in
                *" update "*)
                    echo update >>"$CALLS"
                    if [ -n "${APT_SAYS:-}" ]; then echo "$APT_SAYS"; exit 100; fi
                    if [ -n "${APT_TAKES:-}" ]; then echo $$ >"$CALLS.pid"; exec sleep "$APT_TAKES"; fi ;;
                *--print-uris*) echo "'http://mirror/$last.deb' ${last}_1_amd64.deb $(wc -c <"$DEBS/$last.deb") SHA256:0" ;;
                *" download "*) cp "$DEBS/$last.deb" "${last}_1_amd64.deb" ;;
            esac
            """;
    private static final String APT_CACHE = "#!/bin/sh\necho '  Depends: " + KERNEL + "'\n";

    @TempDir
    private Path folder;
    private Path cache;
    private final Map<String, String> environment = new TreeMap<>();

    @BeforeEach void makeMirror() throws Exception {
        cache = folder.resolve("cache");
        var tools = Files.createDirectories(folder.resolve("tools"));
        script(tools.resolve("apt-get"), APT_GET);
        script(tools.resolve("apt-cache"), APT_CACHE);
        deb(KERNEL, "boot/vmlinuz-6.1", "a kernel");
        deb("busybox-static", "usr/bin/busybox", "a shell");
        environment.putAll(Map.of("PATH", tools + ":" + System.getenv("PATH"), "CLOISTER_CACHE", cache.toString(),
                "CLOISTER_DEBIAN_MIRROR", "http://mirror/debian", "CALLS", folder.resolve("calls").toString(),
                "DEBS", folder.resolve("debs").toString()));
    }

    @Test void damageIsRepairedAndForceTakesTheNewest() throws Exception {
        var first = fetch();
        assertThat(first.out()).isEqualTo(cache + "/trixie/vmlinuz\n" + cache + "/trixie/busybox\n");
        assertThat(cache.resolve("trixie/vmlinuz")).hasContent("a kernel");
        assertThat(fetch().err()).isEmpty();
        assertThat(updates()).isEqualTo(1);

        Files.writeString(cache.resolve("trixie/busybox"), "a shelf");
        var offline = Launcher.cloister(environment, "fetch", "--offline");
        assertThat(offline.exitCode()).isEqualTo(69);
        assertThat(offline.err()).hasLineCount(1).contains("damaged");
        assertThat(fetch().err()).contains("damaged", "fetching it again");
        assertThat(cache.resolve("trixie/busybox")).hasContent("a shell");

        deb(KERNEL, "boot/vmlinuz-6.1", "a newer kernel");
        fetch();
        assertThat(cache.resolve("trixie/vmlinuz")).hasContent("a kernel");
        fetch("--force");
        assertThat(cache.resolve("trixie/vmlinuz")).hasContent("a newer kernel");
        assertThat(fetch("--force", "--quiet").err()).isEmpty();
        try (var left = Files.list(cache)) {
            assertThat(left.map(file -> file.getFileName().toString())).containsExactlyInAnyOrder("trixie", "fetch.lock");
        }
    }

    @Test void aFetchThatIsEndedLeavesNothing() throws Exception {
        environment.put("APT_TAKES", "60");
        long apt = endWhenAptRuns("-TERM", 143);
        // apt has had its signal; on a busy machine it may take a while to die.
        ProcessHandle.of(apt).ifPresent(process -> assertThat(process.onExit()).as("apt runs on").succeedsWithin(Duration.ofSeconds(20)));
        assertThat(workFolders()).isEmpty();
        // Nobody can clean up after SIGKILL, but the next one does.
        endWhenAptRuns("-KILL", 137);
        assertThat(workFolders()).hasSize(1);
        environment.remove("APT_TAKES");
        fetch();
        assertThat(workFolders()).isEmpty();
    }

    /// A terminal tells every process of Ctrl-C, and apt may be gone before we hear of it: that is not its failure.
    @Test void aSignalToAllIsNoFailureOfApt() throws Exception {
        environment.put("APT_TAKES", "60");
        var running = start();
        long apt = aptWhenItRuns();
        // SIGTERM stands for SIGINT, which tests that run in the background may have to ignore.
        new ProcessBuilder("sh", "-c", "kill -TERM " + apt + "; sleep 0.5; kill -TERM " + running.pid()).start().waitFor();
        assertThat(running.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(running.exitValue()).isEqualTo(143);
        assertThat(folder.resolve("err")).content().doesNotContain("cannot get").doesNotContain("signal");
        assertThat(workFolders()).isEmpty();
        // Alone, it is one.
        running = start();
        new ProcessBuilder("kill", "-TERM", Long.toString(aptWhenItRuns())).start().waitFor();
        assertThat(running.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(running.exitValue()).isEqualTo(69);
        assertThat(folder.resolve("err")).content().contains("signal 15 ended apt-get");
    }

    @Test void twoFetchOnce() throws Exception {
        environment.put("APT_TAKES", "2");
        var first = start();
        var second = start();
        assertThat(first.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(second.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(first.exitValue() + second.exitValue()).isZero();
        assertThat(updates()).isEqualTo(1);
    }

    @Test void theReasonOfAFailureIsSaid() {
        environment.put("APT_SAYS", "Err:1 http://mirror trixie InRelease\n  Error writing to file - write (28: No space left on device)\n"
                + "E: Failed to fetch http://mirror/debian");
        var result = Launcher.cloister(environment, "run", "--exec", "true");
        assertThat(result.complaints()).singleElement().asString()
                .contains("No space left on device", "make room").doesNotContain("network");
        assertThat(result.exitCode()).isEqualTo(69);
    }

    /// With the real apt: a server that takes the connection and never answers.
    @Test @Tag("slow") void aServerThatNeverAnswersIsGivenUp() throws IOException {
        try (var server = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            long start = System.nanoTime();
            var result = Launcher.cloister(Map.of("CLOISTER_CACHE", cache.toString(),
                    "CLOISTER_DEBIAN_MIRROR", "http://127.0.0.1:" + server.getLocalPort() + "/debian"), "fetch");
            assertThat(result.complaints()).singleElement().asString().contains("does not answer");
            assertThat(result.exitCode()).isEqualTo(69);
            assertThat(TimeUnit.NANOSECONDS.toSeconds(System.nanoTime() - start)).isLessThan(90);
            assertThat(workFolders()).isEmpty();
        }
    }

    private Launcher.Result fetch(String... options) {
        var arguments = new String[options.length + 1];
        arguments[0] = "fetch";
        System.arraycopy(options, 0, arguments, 1, options.length);
        var result = Launcher.cloister(environment, arguments);
        assertThat(result.exitCode()).as(result.err()).isZero();
        return result;
    }

    /// Returns apt's process.
    private long endWhenAptRuns(String signal, int code) throws Exception {
        var running = start();
        long apt = aptWhenItRuns();
        new ProcessBuilder("kill", signal, Long.toString(running.pid())).start().waitFor();
        assertThat(running.waitFor(1, TimeUnit.MINUTES)).isTrue();
        assertThat(running.exitValue()).isEqualTo(code);
        if (signal.equals("-KILL")) {
            ProcessHandle.of(apt).ifPresent(ProcessHandle::destroy);
        }
        return apt;
    }

    private long aptWhenItRuns() throws Exception {
        var pidFile = folder.resolve("calls.pid");
        for (int i = 0; i < 600 && !(Files.exists(pidFile) && Files.size(pidFile) > 0); i++) {
            Thread.sleep(50);
        }
        long apt = Long.parseLong(Files.readString(pidFile).strip());
        Files.delete(pidFile);
        return apt;
    }

    private Process start() throws IOException {
        var builder = new ProcessBuilder(Launcher.ROOT.resolve("cloister").toString(), "fetch")
                .redirectInput(new File("/dev/null")).redirectOutput(ProcessBuilder.Redirect.DISCARD)
                .redirectError(folder.resolve("err").toFile());
        builder.environment().putAll(environment);
        return builder.start();
    }

    private long updates() throws IOException {
        return Files.readAllLines(folder.resolve("calls")).size();
    }

    private List<String> workFolders() throws IOException {
        try (var files = Files.list(cache)) {
            return files.map(file -> file.getFileName().toString()).filter(name -> name.startsWith("fetch-")).toList();
        }
    }

    /// A Debian package with one file. [DEB-FORMAT deb(5)]
    private void deb(String name, String path, String content) throws Exception {
        var root = Files.createDirectories(folder.resolve("root-" + name));
        Files.createDirectories(root.resolve(path).getParent());
        Files.writeString(root.resolve(path), content);
        var tar = folder.resolve("data.tar");
        assertThat(new ProcessBuilder("tar", "-cf", tar.toString(), "-C", root.toString(), "./" + path).start().waitFor()).isZero();
        var bytes = new ByteArrayOutputStream();
        bytes.writeBytes("!<arch>\n".getBytes(StandardCharsets.US_ASCII));
        bytes.writeBytes(String.format(Locale.ROOT, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", "data.tar", 0, 0, 0, "100644", Files.size(tar))
                .getBytes(StandardCharsets.US_ASCII));
        bytes.writeBytes(Files.readAllBytes(tar));
        Files.write(Files.createDirectories(folder.resolve("debs")).resolve(name + ".deb"), bytes.toByteArray());
    }

    private static void script(Path file, String text) throws IOException {
        Files.writeString(file, text);
        assertThat(file.toFile().setExecutable(true)).isTrue();
    }
}
