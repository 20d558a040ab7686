package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assumptions.assumeThat;

import cloister.vmm.TinyGuest;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// The command's standard streams, with a kernel of our own that says back what it hears, powers off at Ctrl-D and halts at Ctrl-C.
class ConsoleTest {
    @TempDir
    private Path folder;
    private String kernel;

    private record Ended(int exitCode, String out) {
    }

    @BeforeEach void kernel() throws IOException {
        kernel = Files.write(folder.resolve("echo"), TinyGuest.echoKernel()).toString();
    }

    /// Runs a shell's command line; `RUN` in it is the guest.
    private Ended sh(String line) throws IOException, InterruptedException {
        String run = "'" + Launcher.ROOT.resolve("cloister") + "' run --vm-type default --memory 16M --kernel '" + kernel + "'";
        var out = folder.resolve("out");
        var process = new ProcessBuilder("bash", "-o", "pipefail", "-c", line.replace("RUN", run)).directory(folder.toFile())
                .redirectErrorStream(true).redirectOutput(out.toFile()).redirectInput(Path.of("/dev/null").toFile()).start();
        assertThat(process.waitFor(5, TimeUnit.MINUTES)).isTrue();
        return new Ended(process.exitValue(), Files.readString(out));
    }

    @Test void whatIsPipedInIsTypedAndItsEndIsCtrlD() throws IOException, InterruptedException {
        var ended = sh("(echo one; sleep 1; echo two) | RUN");
        assertThat(ended.out()).endsWith("echo\none\ntwo\n");
        assertThat(ended.exitCode()).isZero();
    }

    @Test void noInputAtAllIsCtrlDToo() throws IOException, InterruptedException {
        assertThat(sh("RUN").exitCode()).isZero();
        assertThat(sh("RUN <&-").exitCode()).isZero();
    }

    @Test void aGuestThatHaltsForEverEndsTheRunWhenNothingCanCome() throws IOException, InterruptedException {
        var ended = sh("printf '\\003' | RUN");
        assertThat(ended.out()).contains("every vCPU waits and nothing can wake one");
        assertThat(ended.exitCode()).isEqualTo(82);
    }

    @Test void outputThatCannotBeWrittenIsAnError() throws IOException, InterruptedException {
        var ended = sh("RUN >/dev/full");
        assertThat(ended.out()).contains("cannot write what the guest says");
        assertThat(ended.exitCode()).isEqualTo(74);
    }

    @Test void outputThatNobodyReadsEndsTheRunInSilence() throws IOException, InterruptedException {
        var ended = sh("(yes hello | head -c 300000; sleep 1) | RUN 2>err | head -c 20; echo ${PIPESTATUS[1]}; cat err");
        assertThat(ended.out()).contains("141\n").doesNotContain("cannot").doesNotContain("Broken pipe");
    }

    /// In a terminal of `script`: its input is the keyboard.
    @Test void aTerminalIsRawWhileTheGuestRunsAndSaysHowToLeave() throws IOException, InterruptedException {
        assumeThat(Files.isExecutable(Path.of("/usr/bin/script"))).isTrue();
        var ended = sh("(sleep 4; printf 'ab\\003\\001?'; sleep 1; printf '\\001x'; sleep 1) | "
                + "script -qec \"RUN; echo code=\\$?; stty -a\" log");
        assertThat(ended.out()).contains("Ctrl-A x leaves, Ctrl-A ? shows the keys", "echo", "Ctrl-A Ctrl-A   sends a Ctrl-A", "code=130",
                " icanon").doesNotContain(" -icanon");
        assertThat(ended.out().lines().filter(l -> l.startsWith("cloister: Ctrl-A"))).as("lines begin at the left").hasSize(5);
    }
}
