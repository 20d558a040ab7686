package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Debian's unmodified kernel, booted through the launcher.
class BootTest {
    private static final Pattern OF_OUR_MAKING = Pattern.compile("WARNING:|BUG:|Oops|Call Trace|Marking TSC unstable|"
            + "unchecked MSR access|rcu: INFO|soft lockup|stuck for|\\(bug\\)|firmware bug|MMCONFIG information"
            + "|32/64X FACS address mismatch", Pattern.CASE_INSENSITIVE);

    private static final Pattern EPT_VIOLATIONS = Pattern.compile("\"name\": \"EPT_VIOLATION\",\\s+\"count\": (\\d+)");

    @Test void linuxKnowsThatItIsATrustDomain(@TempDir Path folder) {
        String dump = folder.resolve("dump.json").toString();
        var result = Launcher.cloister("run", "--stats", "--dump-on-exit", dump, "--exec", "dmesg; cat /proc/cpuinfo");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("tdx: Guest detected").contains("Memory Encryption Features active: Intel TDX");
        assertThat(result.out().lines().filter(l -> l.startsWith("flags"))).singleElement().asString().contains(" tdx_guest")
                .contains(" user_shstk", " ibt");
        assertThat(result.out()).contains("CET detected: Indirect Branch Tracking enabled");
        assertThat(result.out().lines().filter(l -> OF_OUR_MAKING.matcher(l).find())).isEmpty();
        assertThat(result.err()).contains("pages accepted").contains("TDH.VP.ENTER")
                .contains("TDH.PHYMEM.PAGE.RECLAIM").contains("private pages left   0");
        var shown = Launcher.cloister("inspect", dump);
        assertThat(shown.exitCode()).as(shown.err()).isZero();
        assertThat(shown.out()).contains("TDX module: READY", "TD_KEYS_CONFIGURED, OP_STATE RUNNABLE", "TD0.VP0.TDVPS.",
                "TD0.SEPT: root PML4");
        var trees = Launcher.cloister("inspect", "--json", "--sept", dump);
        assertThat(trees.exitCode()).as(trees.err()).isZero();
    }

    @Test void linuxBootsAsAnOrdinaryVm() {
        var result = Launcher.cloister("run", "--vm-type", "default", "--exec", "dmesg; cat /proc/cpuinfo");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("Linux version 6.", "CET detected: Indirect Branch Tracking enabled", " user_shstk")
                .doesNotContain("tdx_guest");
        assertThat(result.out().lines().filter(l -> OF_OUR_MAKING.matcher(l).find())).isEmpty();
    }

    /// All memory is there before Linux starts: it faults for devices, and in a trust domain for what it converts, only.
    @Tag("slow")
    @ParameterizedTest
    @ValueSource(strings = {"tdx", "default"})
    void prefaultSavesLinuxItsExits(String type, @TempDir Path folder) throws IOException {
        long without = violations(folder.resolve("without.json"), "--vm-type", type);
        long with = violations(folder.resolve("with.json"), "--vm-type", type, "--prefault");
        assertThat(with).isLessThan(without / 2);
        assertThat(Files.readString(folder.resolve("without.json"))).contains("\"pagesPopulated\": 0,");
        assertThat(Files.readString(folder.resolve("with.json"))).doesNotContain("\"pagesPopulated\": 0,");
    }

    private static long violations(Path stats, String... options) throws IOException {
        var line = new ArrayList<>(List.of("run", "-m", "256", "--stats-format", "json", "--stats-out", stats.toString(), "--exec",
                "true"));
        line.addAll(List.of(options));
        var result = Launcher.cloister(line.toArray(String[]::new));
        assertThat(result.exitCode()).as(result.err()).isZero();
        var count = EPT_VIOLATIONS.matcher(Files.readString(stats));
        return count.find() ? Long.parseLong(count.group(1)) : 0;
    }

    @Test void eightCpusShareTwoProcessors() {
        var result = Launcher.cloister("run", "--cpus", "8", "--host-cpus", "2", "--exec", "nproc; dmesg");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).startsWith("8\n").contains("smp: Brought up 1 node, 8 CPUs");
        assertThat(result.out().lines().filter(l -> OF_OUR_MAKING.matcher(l).find())).isEmpty();
    }

    @Test void linuxBootsWithoutEpt() {
        var result = Launcher.cloister("run", "--vm-type", "default", "--kvm-param", "ept=0", "--exec", "cat /proc/cpuinfo; echo $((6*7))");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("42", " pcid ").doesNotContain(" user_shstk", " pku ");
    }

    /// A program of ours gets a shadow stack from Linux; when it changes a return address it dies of #CP.
    @ParameterizedTest
    @ValueSource(strings = {"tdx", "default"})
    void userProgramsHaveShadowStacks(String type) {
        var result = Launcher.cloister("run", "--vm-type", type, "--exec", ShadowStackProgram.writtenTo("/shadow")
                + "; /shadow; echo $?; dmesg | grep 'control protection'");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out()).contains("shadow stack\n", "139\n", "error:1(near ret)");
    }

    @ParameterizedTest
    @ValueSource(strings = {"tdx", "default"})
    void fourCpusComeUp(String type) {
        var result = Launcher.cloister("run", "--vm-type", type, "--cpus", "4", "--exec", "nproc; grep -c ^processor /proc/cpuinfo");
        assertThat(result.exitCode()).as(result.err()).isZero();
        assertThat(result.out().lines()).containsExactly("4", "4");
    }

    @Test void fourGibibytesAreThere() {
        var result = Launcher.cloister("run", "--memory", "4G", "--exec", "grep MemTotal /proc/meminfo");
        assertThat(result.exitCode()).as(result.err()).isZero();
        var words = result.out().strip().split("\\s+");
        assertThat(Long.parseLong(words[1])).isBetween(3_700_000L, 4_194_304L);
    }

    @Test void theCommandsStreamsAndExitCodeAreOurs(@TempDir Path folder) throws IOException, NoSuchAlgorithmException {
        byte[] input = new byte[10_000];
        new Random(5).nextBytes(input);
        var file = Files.write(folder.resolve("input"), input);
        var result = Launcher.cloister(file, "run", "-q", "--exec", "md5sum; echo error >&2; exit 7");
        assertThat(result.out()).isEqualTo(md5(input) + "  -\n");
        assertThat(result.err()).isEqualTo("error\n");
        assertThat(result.exitCode()).as(result.err()).isEqualTo(7);
    }

    private static String md5(byte[] bytes) throws NoSuchAlgorithmException {
        return HexFormat.of().formatHex(MessageDigest.getInstance("MD5").digest(bytes));
    }

    @Test void aCommandRunsInAnotherArchiveThatHasAShell(@TempDir Path folder) {
        String archive = folder.resolve("archive").toString();
        assertThat(Launcher.cloister("initrd", "--out", archive).exitCode()).isZero();
        var result = Launcher.cloister("run", "--vm-type", "default", "--initrd", archive, "--exec", "cat /proc/cmdline; exit 3");
        assertThat(result.out()).contains("rdinit=/cloister/init");
        assertThat(result.exitCode()).as(result.err()).isEqualTo(3);
    }

    @Test void aPanicHasItsOwnCode() {
        var result = Launcher.cloister("run", "--append", "rdinit=/nowhere root=/dev/nothing");
        assertThat(result.exitCode()).as(result.err()).isEqualTo(80);
        assertThat(result.err()).contains("the guest panicked: Kernel panic - not syncing");
    }

    @Test void timeRunsOut() {
        var result = Launcher.cloister("run", "--timeout", "2", "--exec", "sleep 100000");
        assertThat(result.exitCode()).as(result.err()).isEqualTo(124);
        assertThat(result.err()).contains("raise --timeout");
    }

    @ParameterizedTest
    @ValueSource(strings = {"1", "4"})
    void theSameSeedIsTheSameRun(String cpus) {
        var first = seeded(cpus, "7");
        var second = seeded(cpus, "7");
        assertThat(second.out()).isEqualTo(first.out());
        assertThat(counters(second)).hasSize(3).isEqualTo(counters(first));
        assertThat(first.out()).contains("Run /init as init process");
    }

    private static Launcher.Result seeded(String cpus, String seed) {
        var result = Launcher.cloister("run", "--stats", "--cpus", cpus, "--seed", seed, "--exec", "dmesg; cat /proc/interrupts");
        assertThat(result.exitCode()).as(result.err()).isZero();
        return result;
    }

    private static List<String> counters(Launcher.Result result) {
        return result.err().lines().filter(l -> l.startsWith("instructions") || l.startsWith("virtual") || l.startsWith("trace hash"))
                .toList();
    }
}
