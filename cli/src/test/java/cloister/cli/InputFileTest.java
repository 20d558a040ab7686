package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class InputFileTest {
    /// A pipe may be long, or never end: a signal in the middle must not leave what was read.
    @Test void aPipeIsReadThroughAFileWithoutAName(@TempDir Path folder) throws Exception {
        var pipe = folder.resolve("pipe");
        assertThat(new ProcessBuilder("mkfifo", pipe.toString()).start().waitFor()).isZero();
        var before = copies();
        var mapped = CompletableFuture.supplyAsync(() -> InputFile.map(pipe, "--kernel").toArray(ValueLayout.JAVA_BYTE));
        try (var out = Files.newOutputStream(pipe)) { // waits for the reader
            out.write("content".getBytes(StandardCharsets.US_ASCII));
            out.flush();
            assertThat(copies()).isSubsetOf(before);
        }
        assertThat(mapped.get()).asString(StandardCharsets.US_ASCII).isEqualTo("content");
    }

    private static Set<Path> copies() throws IOException {
        try (var files = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
            return files.filter(file -> file.getFileName().toString().startsWith("cloister-input")).collect(Collectors.toSet());
        }
    }
}
