package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// The archive of `./cloister dist` boots a trust domain where there is neither a JDK nor Maven nor an environment.
class DistTest {
    /// What the launcher needs of a system; no java, javac or mvn is among it.
    private static final List<String> TOOLS = List.of("sh", "dirname", "readlink", "cksum", "tr", "find", "head", "id", "getent", "cut",
            "nice", "mkdir", "rm", "mv", "flock", "stty");

    @TempDir
    private Path folder;

    @Test void bootsATrustDomainInAnEmptyEnvironment() throws Exception {
        var guest = Launcher.cloister("fetch");
        assertThat(guest.exitCode()).as(guest.err()).isZero();
        var made = Launcher.cloister("dist", "--quiet");
        assertThat(made.exitCode()).as(made.err()).isZero();
        assertThat(made.err()).isEmpty();
        var archive = Path.of(made.out().strip());
        run(List.of("tar", "-xzf", archive.toString(), "-C", folder.toString()), Map.of("PATH", System.getenv("PATH")));
        var home = folder.resolve(archive.getFileName().toString().replace(".tar.gz", ""));
        assertThat(home.resolve("share/man/man1/cloister-run.1")).content().contains(".SH OPTIONS");
        assertThat(home.resolve("share/bash-completion/completions/cloister")).content().contains("_complete_cloister");
        assertThat(home.resolve("share/zsh/site-functions/_cloister")).content().startsWith("#compdef cloister\n");

        // Only the guest is there, so that the test needs no network.
        var cache = Files.createDirectories(folder.resolve("home/.cache/cloister/trixie"));
        var here = Path.of(guest.out().lines().findFirst().orElseThrow()).getParent();
        for (var file : List.of("vmlinuz", "busybox", "SHA256SUMS")) {
            Files.copy(here.resolve(file), cache.resolve(file));
        }
        var result = run(List.of(home.resolve("cloister").toString(), "run", "--offline", "--exec", "cat /proc/cpuinfo"),
                Map.of("PATH", tools(), "HOME", folder.resolve("home").toString(), "CLOISTER_NO_CACHE", "1"));
        assertThat(result.out()).contains(" tdx_guest");
        assertThat(result.err().lines()).allMatch(line -> line.startsWith("cloister: "));
    }

    private String tools() throws IOException {
        var bin = Files.createDirectories(folder.resolve("bin"));
        for (String tool : TOOLS) {
            var file = Files.writeString(bin.resolve(tool), "#!/bin/sh\nPATH=/usr/bin:/bin\nexec " + tool + " \"$@\"\n");
            assertThat(file.toFile().setExecutable(true)).isTrue();
        }
        return bin.toString();
    }

    private Launcher.Result run(List<String> command, Map<String, String> environment) throws IOException, InterruptedException {
        var out = Files.createTempFile(folder, "run", ".out");
        var err = Files.createTempFile(folder, "run", ".err");
        var builder = new ProcessBuilder(new ArrayList<>(command)).redirectInput(new File("/dev/null")).redirectOutput(out.toFile())
                .redirectError(err.toFile()).directory(folder.toFile());
        builder.environment().clear();
        builder.environment().putAll(environment);
        var process = builder.start();
        assertThat(process.waitFor(5, TimeUnit.MINUTES)).as("ended: " + command).isTrue();
        var result = new Launcher.Result(process.exitValue(), Files.readString(out), Files.readString(err));
        assertThat(result.exitCode()).as(result.err()).isZero();
        return result;
    }
}
