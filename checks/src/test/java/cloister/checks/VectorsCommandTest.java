package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/// `cloister vectors` on a few of the recorded scenarios, and on one that was tampered with.
class VectorsCommandTest {
    private static final Path VECTORS = Launcher.ROOT.resolve("vectors/1.5.06");
    private static final String SCENARIO = "a/platform-cpuid-0-0-sysinit-0.jsonl";

    @TempDir
    private Path folder;

    @BeforeEach void copy() throws IOException {
        copy("platform-spr-1lp4.json");
        copy(SCENARIO);
    }

    private void copy(String name) throws IOException {
        Files.createDirectories(folder.resolve(name).getParent());
        Files.copy(VECTORS.resolve(name), folder.resolve(name));
    }

    @Test void noDifferenceIsSuccess() {
        var result = Launcher.cloister("vectors", folder.toString());
        assertThat(result.exitCode()).isZero();
        assertThat(result.out().lines().toList()).hasSize(3).last().asString().matches("all +1 +4 +1 +0");
    }

    @Test void aDifferenceIsExplained() throws IOException {
        var text = Files.readString(folder.resolve(SCENARIO));
        Files.writeString(folder.resolve(SCENARIO), text.replace("0xc000090000000000", "0xc000090100000000"));
        var result = Launcher.cloister("vectors", folder.toString());
        assertThat(result.exitCode()).isEqualTo(1);
        assertThat(result.out()).contains(SCENARIO + " differs after")
                .contains("TDH.SYS.INIT with single bits inverted of CPUID(0x0, 0x0).")
                .contains("expected 0xc000090100000000", "got      0xc000090000000000")
                .contains("expected LIMIT_CPUID_MAXVAL_SET, got INCORRECT_CPUID_VALUE");
        assertThat(result.out()).containsPattern("all +1 +4 +0 +1");
    }

    /// Turkish has another lower case of I, Arabic other digits.
    @Test void theLanguageOfTheMachineChangesNothing() {
        var plain = Launcher.cloister("vectors", folder.toString());
        for (String language : new String[] {"-Duser.language=tr -Duser.country=TR", "-Duser.language=ar -Duser.country=EG"}) {
            var result = Launcher.cloister(Map.of("CLOISTER_JAVA_OPTIONS", language), "vectors", folder.toString());
            assertThat(result.out()).isEqualTo(plain.out());
            assertThat(result.exitCode()).isZero();
        }
    }

    @Test void brokenJsonIsOneLine() throws IOException {
        Files.writeString(folder.resolve(SCENARIO), Files.readString(folder.resolve(SCENARIO)) + "{\"op\":");
        var result = Launcher.cloister("vectors", folder.toString());
        assertThat(result.exitCode()).isEqualTo(1);
        assertThat(result.out()).contains(SCENARIO + " cannot be replayed:").containsOnlyOnce("line 6: not JSON");
        assertThat(result.complaints()).isEmpty();
    }
}
