package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.vmm.MachineConfig;
import cloister.vmm.UserError;
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
        var mapped = CompletableFuture.supplyAsync(() -> InputFile.map(pipe, "--kernel", 1 << 20, start -> { })
                .toArray(ValueLayout.JAVA_BYTE));
        try (var out = Files.newOutputStream(pipe)) { // waits for the reader
            out.write("content".getBytes(StandardCharsets.US_ASCII));
            out.flush();
            assertThat(copies()).isSubsetOf(before);
        }
        assertThat(mapped.get()).asString(StandardCharsets.US_ASCII).isEqualTo("content");
    }

    /// What never ends is read as far as somebody could use it, and what is of no use not even so far.
    @Test void whatNeverEndsIsGivenUp() throws Exception {
        var before = copies();
        assertThatThrownBy(() -> InputFile.map(Path.of("/dev/zero"), "--kernel", 3 << 20, start -> { })).isInstanceOf(UserError.class)
                .hasMessageContaining("/dev/zero is longer than the 3 MiB that this guest could take");
        assertThatThrownBy(() -> InputFile.map(Path.of("/dev/zero"), "--kernel", Long.MAX_VALUE,
                start -> MachineConfig.checkKernelStart(start, "k"))).isInstanceOf(UserError.class)
                .hasMessageContaining("is not a bzImage");
        assertThatThrownBy(() -> InputFile.mapInitrd(Path.of("/dev/urandom"), false, Long.MAX_VALUE)).isInstanceOf(UserError.class)
                .hasMessageContaining("neither a cpio archive");
        assertThatThrownBy(() -> InputFile.text(Path.of("/dev/zero"))).isInstanceOf(IOException.class).hasMessageContaining("longer than");
        assertThatThrownBy(() -> InputFile.lines(Path.of("/dev/zero"))).isInstanceOf(IOException.class).hasMessageStartingWith("/dev/zero");
        assertThat(copies()).isSubsetOf(before);
    }

    /// Files of the kernel's own say that they are empty.
    @Test void whatSaysThatItIsEmptyIsReadAllTheSame() {
        assertThat(InputFile.map(Path.of("/proc/version"), "--kernel", 1 << 20, start -> { }).toArray(ValueLayout.JAVA_BYTE))
                .asString(StandardCharsets.US_ASCII).startsWith("Linux version");
    }

    @Test void whatIsNoTextIsSaidSo(@TempDir Path folder) throws IOException {
        var file = Files.write(folder.resolve("binary"), new byte[] {'a', 0, '\n'});
        assertThatThrownBy(() -> InputFile.lines(file)).isInstanceOf(IOException.class).hasMessage(file + " (it is no text)");
    }

    private static Set<Path> copies() throws IOException {
        try (var files = Files.list(Path.of(System.getProperty("java.io.tmpdir")))) {
            return files.filter(file -> file.getFileName().toString().startsWith("cloister-input")).collect(Collectors.toSet());
        }
    }
}
