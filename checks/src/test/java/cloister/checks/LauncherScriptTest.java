package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// The launcher script, in checkouts of its own, with a Maven and a JDK that only write down how they were called.
class LauncherScriptTest {
    private static final String MAVEN = """
            #!/bin/sh
            echo "$*" >>"$CALLS"
            all="$* "
            while [ "$1" != -f ]; do shift; done
            tree=$(dirname "$2")
            if [ -n "${MAVEN_SAYS:-}" ]; then echo "$MAVEN_SAYS"; exit 1; fi
            echo '[INFO] Building cpu 0.1 [2/4]'
            if [ -n "${MAVEN_TAKES:-}" ]; then echo $$ >"$CALLS.pid"; sleep "$MAVEN_TAKES" || exit 1; fi
            for part in cli bench; do
                case "$all" in *"-pl $part "*) mkdir -p "$tree/$part/target/lib"; echo jar >"$tree/$part/target/lib/$part.jar" ;; esac
            done
            """;
    private static final String JAVA = """
            #!/bin/sh
            for word in "$@"; do
                echo "<$word>"
                case $word in -XX:AOTConfiguration=*) echo record >"${word#*=}" ;; esac
            done
            for word in "$@"; do
                case "$*:$word" in *AOTMode=create*:-XX:AOTCache=*) echo cache >"${word#*=}" ;; esac
            done
            echo "HOME=$HOME"
            """;

    @TempDir
    private Path folder;
    private Path checkout;
    private Path calls;
    private final Map<String, String> environment = new TreeMap<>();

    @BeforeEach void makeCheckout() throws IOException {
        Files.setPosixFilePermissions(folder, PosixFilePermissions.fromString("rwxrwxrwx"));
        checkout = folder.resolve("a check out");
        calls = folder.resolve("calls");
        Files.createDirectories(checkout);
        Files.copy(Launcher.ROOT.resolve("cloister"), checkout.resolve("cloister"));
        write(checkout.resolve("pom.xml"), "<project/>");
        for (var module : List.of("cli", "cpu", "bench", "silicon", "checks")) {
            write(checkout.resolve(module).resolve("pom.xml"), "<project/>");
            write(checkout.resolve(module).resolve("src/main/java/One.java"), "class One { }");
        }
        script(folder.resolve("tools/mvn"), MAVEN);
        jdk("jdk", "25.0.3");
        environment.putAll(Map.of("PATH", folder.resolve("tools") + ":" + System.getenv("PATH"), "HOME", folder.toString(),
                "JAVA_HOME", folder.resolve("jdk").toString(), "CALLS", calls.toString()));
    }

    @Test void theArgumentsArriveAsTheyAre() {
        var result = run("run", "--exec", "a  b * $HOME", "");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("<cloister.cli/cloister.cli.Main>\n<run>\n<--exec>\n<a  b * $HOME>\n<>\n");
    }

    @Test void symbolicLinksAndCdpathLeadHome() throws IOException {
        var elsewhere = Files.createDirectories(folder.resolve("bin"));
        Files.createSymbolicLink(elsewhere.resolve("first"), Path.of("../a check out/cloister"));
        Files.createSymbolicLink(elsewhere.resolve("second"), elsewhere.resolve("first"));
        Files.createDirectories(folder.resolve("other/bin"));
        environment.put("CDPATH", folder.resolve("other").toString());
        var result = start(folder, List.of("bin/second", "run")).end();
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("<" + checkout.toAbsolutePath() + "/cli/target/lib>");
        assertThat(checkout.resolve("cli/target/cloister.built")).exists();
        assertThat(elsewhere.resolve("cli")).doesNotExist();
    }

    @Test void withoutHomeTheUsersOwnIsTaken() {
        environment.remove("HOME");
        var result = run("run");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).containsPattern("HOME=/.+");
    }

    @ParameterizedTest
    @ValueSource(strings = {"unset", "wrong", "old"})
    void anotherJdkIsFoundWhenJavaHomeIsOfNoUse(String home) throws IOException {
        jdk("old", "17.0.1");
        jdk("good", "26-ea");
        environment.remove("JAVA_HOME");
        if (!home.equals("unset")) {
            environment.put("JAVA_HOME", folder.resolve(home).toString());
        }
        environment.put("PATH", folder.resolve("good/bin") + ":" + environment.get("PATH"));
        var result = run("run", "-v");
        assertThat(result.err()).contains("JDK 26-ea in " + folder.resolve("good"));
        assertThat(result.exitCode()).isZero();
    }

    @Test void onlyWhatRunsIsBuiltAndOnlyWhenItChanged() throws IOException {
        run("run");
        assertThat(mavenCalls()).singleElement().asString().contains("-Dmaven.test.skip=true", "-pl cli", "-am");
        run("run");
        var source = checkout.resolve("cpu/src/main/java/One.java");
        Files.setLastModifiedTime(source, FileTime.fromMillis(System.currentTimeMillis() + 2000));
        write(checkout.resolve("bench/src/main/java/One.java"), "class Two { }");
        run("run");
        assertThat(mavenCalls()).as("same content, or no part of what runs").hasSize(1);
        write(source, "class Other { }");
        Files.setLastModifiedTime(source, FileTime.fromMillis(System.currentTimeMillis() + 2000));
        run("run");
        assertThat(mavenCalls()).as("changed").hasSize(2);
        Files.delete(checkout.resolve("cli/src/main/java/One.java"));
        run("run");
        assertThat(mavenCalls()).as("deleted").hasSize(3);
    }

    @Test void benchmarksAreBuiltOnceAndTestsAreMavens() throws IOException {
        assertThat(run("bench", "-h").out()).contains("<org.openjdk.jmh.Main>\n<-h>");
        assertThat(mavenCalls()).singleElement().asString().contains("-pl bench");
        run("bench", "-h");
        assertThat(mavenCalls()).hasSize(1);
        run("test", "-X");
        assertThat(mavenCalls()).hasSize(3).last().asString().contains("verify -X").doesNotContain("excluded");
        run("test", "--all");
        assertThat(mavenCalls()).hasSize(4).last().asString().contains("-Dexcluded.tests=none verify");
    }

    @Test void onATerminalABarShowsTheBuild() throws IOException {
        environment.put("MAVEN_TAKES", "1");
        var shown = start(folder, List.of("script", "-qec", "'" + checkout + "/cloister' run", "/dev/null")).end();
        assertThat(shown.out()).contains("cloister: building [######..................] 2 of 4: cpu");
        write(checkout.resolve("cpu/src/main/java/Two.java"), "class Two { }");
        assertThat(run("run").err()).isEqualTo("cloister: building (first use, or the sources changed) ...\n");
    }

    /// With flock(1), and where there is none.
    @ParameterizedTest
    @ValueSource(booleans = {true, false})
    void twoFirstRunsBuildOnce(boolean flock) throws IOException {
        if (!flock) {
            var few = Files.createDirectories(folder.resolve("few"));
            for (var tool : List.of("sh", "dirname", "readlink", "cksum", "tr", "find", "sort", "xargs", "head", "cat", "mkdir", "rm",
                    "touch", "sleep", "ln", "ps", "mv", "grep", "sed", "cut", "id", "getent", "cp")) {
                script(few.resolve(tool), "#!/bin/sh\nPATH=/usr/bin:/bin\nexec " + tool + " \"$@\"\n");
            }
            environment.put("PATH", folder.resolve("tools") + ":" + few);
        }
        environment.put("MAVEN_TAKES", "1");
        var first = start(folder, List.of(checkout + "/cloister", "run"));
        var second = start(folder, List.of(checkout + "/cloister", "run"));
        assertThat(first.end().exitCode()).isZero();
        assertThat(second.end().exitCode()).isZero();
        assertThat(mavenCalls()).hasSize(1);
        assertThat(first.end().err() + second.end().err()).contains("waiting for another cloister");
    }

    @ParameterizedTest
    @CsvSource({"HUP, 129", "INT, 130", "TERM, 143"})
    void aSignalEndsTheBuildToo(String signal, int code) throws Exception {
        environment.put("MAVEN_TAKES", "60");
        var running = start(folder, List.of(checkout + "/cloister", "run"));
        var pidFile = folder.resolve("calls.pid");
        for (int i = 0; i < 200 && !(Files.exists(pidFile) && Files.size(pidFile) > 0); i++) {
            Thread.sleep(50);
        }
        long maven = Long.parseLong(Files.readString(pidFile).strip());
        new ProcessBuilder("kill", "-" + signal, Long.toString(running.process.pid())).start().waitFor();
        assertThat(running.end().exitCode()).isEqualTo(code);
        for (int i = 0; i < 100 && alive(maven); i++) {
            Thread.sleep(50);
        }
        assertThat(alive(maven)).as("Maven runs on").isFalse();
        assertThat(checkout.resolve("cli/target/cloister.built")).doesNotExist();
    }

    private static boolean alive(long pid) {
        return ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
    }

    @Test void aCopyIsNotBuiltAgainAndDoesNotUseTheProfileOfTheOriginal() throws Exception {
        run("run");
        assertThat(run("run").out()).contains("-Dcloister.profiler=" + checkout + "/cloister").doesNotContain("AOTCache");
        assertThat(run("--make-profile").exitCode()).isZero();
        assertThat(run("run").out()).contains("<-XX:AOTCache=" + checkout + "/cli/target/cloister.aot>").doesNotContain("profiler");
        var copy = folder.resolve("copy");
        assertThat(new ProcessBuilder("cp", "-R", checkout.toString(), copy.toString()).start().waitFor()).isZero();
        var result = start(folder, List.of(copy + "/cloister", "run")).end();
        assertThat(result.out()).contains("<" + copy + "/cli/target/lib>").doesNotContain("AOTCache");
        assertThat(mavenCalls()).hasSize(1);
    }

    @Test void theProfileIsOfABootAndNoneIsMadeOnRequest() throws IOException {
        run("run");
        assertThat(run("--make-profile").out()).contains("<-XX:AOTMode=record>", "<run>\n<--offline>\n<--exec>\n<true>");
        assertThat(checkout.resolve("cli/target/cloister.aot.key")).exists();
        try (var left = Files.list(checkout.resolve("cli/target"))) {
            assertThat(left.map(f -> f.getFileName().toString()).filter(f -> f.contains(".new."))).isEmpty();
        }
        write(checkout.resolve("cli/target/lib/cli.jar"), "another jar");
        Files.setLastModifiedTime(checkout.resolve("cli/target/lib/cli.jar"),
                FileTime.fromMillis(System.currentTimeMillis() + 2000));
        assertThat(run("run").out()).as("a profile of other classes").doesNotContain("AOTCache").contains("profiler");
        environment.put("CLOISTER_NO_CACHE", "1");
        assertThat(run("run").out()).doesNotContain("AOTCache").doesNotContain("profiler");
    }

    /// Root may write everywhere, so the test becomes somebody else where it can.
    @Test void aCheckoutThatCannotBeWrittenToIsBuiltInTheCache() throws Exception {
        assertThat(new ProcessBuilder("chmod", "-R", "a-w,a+rX", checkout.toString()).start().waitFor()).isZero();
        var cache = Files.createDirectories(folder.resolve("cache"));
        Files.setPosixFilePermissions(cache, PosixFilePermissions.fromString("rwxrwxrwx"));
        write(calls, "");
        Files.setPosixFilePermissions(calls, PosixFilePermissions.fromString("rw-rw-rw-"));
        environment.put("CLOISTER_CACHE", cache.toString());
        var command = new ArrayList<String>();
        if (System.getProperty("user.name").equals("root")) {
            command.addAll(List.of("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"));
        }
        command.addAll(List.of(checkout + "/cloister", "run"));
        var result = start(folder, command).end();
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("<" + cache + "/checkouts/");
        start(folder, command).end();
        assertThat(mavenCalls()).hasSize(1);
        assertThat(checkout.resolve("cli/target")).doesNotExist();
        assertThat(new ProcessBuilder("chmod", "-R", "u+w", folder.toString()).start().waitFor()).isZero();
    }

    @ParameterizedTest
    @ValueSource(strings = {"abc", "100", "1m", "2gb", "-1m", "9999999g"})
    void aHeapThatIsNoneIsAWrongOption(String heap) {
        environment.put("CLOISTER_HEAP", heap);
        var result = run("run");
        assertThat(result.err()).hasLineCount(1).startsWith("cloister: CLOISTER_HEAP=" + heap);
        assertThat(result.exitCode()).isEqualTo(64);
    }

    @Test void aMisspeltCommandIsNotBuiltFor() throws IOException {
        var result = run("rnu");
        assertThat(result.err()).hasLineCount(1).contains("there is no command 'rnu'");
        assertThat(result.exitCode()).isEqualTo(64);
        assertThat(mavenCalls()).isEmpty();
    }

    @ParameterizedTest
    @CsvSource(delimiter = '|', textBlock = """
            [ERROR] cannot find symbol                                    | 70 | the build failed; the whole log is
            [ERROR] Could not transfer artifact a:b: Connection refused   | 69 | Maven could not get a library
            [ERROR] copy failed: No space left on device                  | 69 | the disk is full
            """)
    void aBuildThatFailsSaysWhy(String maven, int code, String says) {
        environment.put("MAVEN_SAYS", maven);
        var result = run("run");
        assertThat(result.err()).contains(maven, says);
        assertThat(result.exitCode()).isEqualTo(code);
        environment.remove("MAVEN_SAYS");
        assertThat(run("run").exitCode()).as("the next one starts anew").isZero();
    }

    @Test void quietIsQuiet() {
        assertThat(run("run", "--quiet").err()).isEmpty();
    }

    @Test void whatTheMachineTellsEveryJvmIsNotForOurs() {
        environment.put("JDK_JAVA_OPTIONS", "-Dx=y");
        script(folder.resolve("jdk/bin/java"), "#!/bin/sh\necho \"${JDK_JAVA_OPTIONS:-none}\"\n");
        assertThat(run("run").out()).isEqualTo("none\n");
    }

    private Launcher.Result run(String... arguments) {
        var command = new ArrayList<String>();
        command.add(checkout + "/cloister");
        command.addAll(List.of(arguments));
        return start(folder, command).end();
    }

    private List<String> mavenCalls() throws IOException {
        return Files.exists(calls) ? Files.readAllLines(calls) : List.of();
    }

    private void jdk(String name, String version) throws IOException {
        script(folder.resolve(name).resolve("bin/java"), JAVA);
        script(folder.resolve(name).resolve("bin/javac"), "#!/bin/sh\n");
        write(folder.resolve(name).resolve("release"), "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"" + version + "\"\n");
    }

    private static void script(Path file, String text) {
        try {
            write(file, text);
            Files.setPosixFilePermissions(file, PosixFilePermissions.fromString("rwxr-xr-x"));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static void write(Path file, String text) throws IOException {
        Files.createDirectories(file.getParent());
        Files.writeString(file, text);
    }

    private record Running(Process process, Path out, Path err) {
        Launcher.Result end() {
            try {
                if (!process.waitFor(1, TimeUnit.MINUTES)) {
                    process.destroyForcibly();
                    throw new AssertionError("still running: " + Files.readString(err));
                }
                return new Launcher.Result(process.exitValue(), Files.readString(out), Files.readString(err));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new AssertionError(e);
            }
        }
    }

    private Running start(Path where, List<String> command) {
        try {
            var out = Files.createTempFile(folder, "run", ".out");
            var err = Files.createTempFile(folder, "run", ".err");
            var builder = new ProcessBuilder(command).directory(where.toFile()).redirectInput(new File("/dev/null"))
                    .redirectOutput(out.toFile()).redirectError(err.toFile());
            builder.environment().clear();
            builder.environment().putAll(environment);
            return new Running(builder.start(), out, err);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
