package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What the user does wrong gets one line that says what to do, the documented exit code, and no stack trace.
class BadInputTest {
    @TempDir
    private Path folder;

    @ParameterizedTest(name = "{0}")
    @CsvSource(delimiter = '|', textBlock = """
            run --bogus                              | 64 | there is no option '--bogus'
            run --cpus 0                             | 64 | cannot make 0 CPUs
            run --cpus 10000                         | 64 | cannot make 10000 CPUs
            run --host-cpus 65                       | 64 | cannot make a platform of 65 processors
            run --packages 9                         | 64 | cannot make 9 packages
            run --host-cpus 5 --packages 4           | 64 | 5 processors cannot be spread evenly over 4 packages
            run --cpus many                          | 64 | --cpus: 'many' is not a whole number
            run --cpsu 3                             | 64 | did you mean '--cpus'?
            run -smp 0                               | 64 | cannot make 0 CPUs
            run --timeout 1.5                        | 64 | --timeout: '1.5' is not a whole number
            run --schedule unfair                    | 64 | choose round-robin, random, random:N
            run --seed 99999999999999999999          | 64 | is not a whole number that fits
            run -m 512.3                             | 64 | is not a whole number of MiB
            run -m 1T                                | 64 | memory of 1024 GiB is too much
            run --memory 12Q                         | 64 | is not a size
            run --memory 8M --kernel KERNEL          | 64 | memory
            run --vm-type sgx                        | 64 | --vm-type: 'sgx' is none of tdx, default
            run --kernel KERNEL --policy memory-type=mtrr | 64 | memory-type=mtrr is not for trust domains
            run --vm-type default --kernel KERNEL --policy memory-type=proposed-2023 | 64 | proposed-2023 is not for ordinary VMs
            run --vm-type default --kernel KERNEL --policy zap=retry-n | 64 | zap=retry-n is not for ordinary VMs
            run --vm-type default --kernel KERNEL --kvm-param ept=0 --prefault | 64 | cannot be populated without EPT
            run --timeout 0                          | 64 | choose 1 second or more
            run --exec ls --kernel KERNEL --initrd TEXT | 65 | neither a cpio archive
            run --trace-out x                        | 64 | say what to trace
            run --kernel /nonexistent                | 65 | there is no file /nonexistent
            run --kernel KERNEL --initrd /nonexistent| 65 | there is no file /nonexistent
            run --kernel TEXT                        | 65 | bzImage
            run --kernel EMPTY                       | 65 | bzImage
            run --kernel CUT                         | 65 | truncated
            run --kernel CUT --vm-type default       | 65 | truncated
            run --kernel KERNEL --initrd BIG         | 65 | initrd of 513 MiB does not fit
            run --kernel KERNEL --initrd TEXT        | 65 | neither a cpio archive
            run --kernel /dev/zero                   | 65 | is not a bzImage
            run --kernel /proc/version               | 65 | too short for a bzImage
            run --kernel KERNEL -m 64 --initrd /dev/zero | 65 | /dev/zero is longer than the 64 MiB
            run --kernel KERNEL --initrd /dev/urandom| 65 | neither a cpio archive
            inspect /dev/zero                        | 65 | cannot read /dev/zero
            profile --symbols /dev/zero              | 65 | cannot use /dev/zero
            fuzz guest --replay /dev/zero            | 64 | cannot use the file /dev/zero
            run --kernel KERNEL --memory 1           | 64 | memory of 1 MiB is too little for this kernel
            run --kernel KERNEL --memory 0           | 64 | choose 1M or more
            run --kernel ZIMAGE                      | 65 | has loadflags 0x0
            run --dump-on-exit /nonexistent/x        | 64 | choose a file in a folder that is there
            inspect --memory-types --pamt TEXT       | 64 | --memory-types goes with --json only
            run --no-self-snoop --kernel KERNEL      | 64 | self-snoop
            run --dump-at -1                         | 64 | is no time
            inspect /nonexistent                     | 65 | there is no file /nonexistent
            inspect TEXT                             | 65 | is no dump
            inspect --pamt --sept TEXT               | 64 | --pamt goes with neither
            vectors                                  | 64 | Missing required parameter: 'DIR'
            vectors . --threads 0                    | 64 | choose 1 or more
            vectors /nonexistent                     | 65 | there is no directory /nonexistent
            vectors FOLDER                           | 65 | there are no scenarios
            boot                                     | 64 | there is no command 'boot'
            rnu                                      | 64 | did you mean 'run'?
            vectors a b                              | 64 | 'b' is one argument too many
            fetch --force --offline                  | 64 | choose one
            fuzz module --calls -5                   | 64 | choose 1 or more
            fuzz module --replay EMPTY               | 65 | it has no call
            completion fish                          | 64 | 'fish' is none of bash, zsh
            dist now                                 | 64 | dist takes no argument
            """)
    void oneLineAndAnExitCode(String arguments, int exitCode, String says) throws IOException {
        var result = Launcher.cloister(Arrays.stream(arguments.strip().split(" ")).map(this::file).toArray(String[]::new));
        assertThat(result.complaints()).singleElement().asString().startsWith("cloister: ").contains(says);
        assertThat(result.exitCode()).isEqualTo(exitCode);
        assertThat(result.out()).isEmpty();
    }

    @Test void noJdkIsSaidWithTheWayToGetOne() {
        var result = Launcher.cloister(Map.of("CLOISTER_JDK_PATH", folder.toString()), "run");
        assertThat(result.err()).hasLineCount(1).contains("no JDK 25").contains("apt install");
        assertThat(result.exitCode()).isEqualTo(69);
    }

    @Test void noNetworkOnTheFirstRunIsSaid() {
        var result = Launcher.cloister(Map.of("CLOISTER_CACHE", folder.resolve("cache").toString(),
                "CLOISTER_DEBIAN_MIRROR", "http://127.0.0.1:9/debian"), "run");
        assertThat(result.complaints()).singleElement().asString()
                .contains("Connection refused", "check the network", "--kernel");
        assertThat(result.exitCode()).isEqualTo(69);
        assertThat(folder.resolve("cache/trixie")).doesNotExist();
    }

    /// Options are checked first: what is wrong with them costs no download.
    @Test void optionsAreCheckedBeforeAnythingIsFetched() {
        var unreachable = Map.of("CLOISTER_CACHE", folder.resolve("cache").toString(),
                "CLOISTER_DEBIAN_MIRROR", "http://127.0.0.1:9/debian");
        for (var wrong : new String[][] {{"run", "--cpus", "0"}, {"run", "-m", "1T"}, {"run", "--exec", "ls", "--kernel", "/nonexistent"},
            {"run", "--timeout", "0"}}) {
            var result = Launcher.cloister(unreachable, wrong);
            assertThat(result.complaints()).hasSize(1);
            assertThat(result.err()).doesNotContain("package lists");
            assertThat(result.exitCode()).isBetween(64, 65);
        }
    }

    /// A setup header that is a bzImage's in everything the loader checks; the kernel behind it is missing in CUT.
    private String file(String word) {
        try {
            return switch (word) {
                case "TEXT" -> write("text", "this is not a kernel\n".repeat(400).getBytes());
                case "EMPTY" -> write("empty", new byte[0]);
                case "KERNEL" -> write("kernel", bzImage(1 << 20));
                case "CUT" -> write("cut", Arrays.copyOf(bzImage(1 << 20), 40_000));
                case "FOLDER" -> folder.toString();
                case "BIG" -> sparse("big", 513L << 20);
                case "ZIMAGE" -> write("zimage", zImage());
                default -> word;
            };
        } catch (IOException e) {
            throw new AssertionError(e);
        }
    }

    private static byte[] zImage() {
        byte[] image = bzImage(1 << 20);
        image[0x211] = 0;
        return image;
    }

    /// An archive's beginning, and then nothing up to `bytes`.
    private String sparse(String name, long bytes) throws IOException {
        var file = folder.resolve(name);
        try (var out = new RandomAccessFile(file.toFile(), "rw")) {
            out.writeBytes("070701");
            out.setLength(bytes);
        }
        return file.toString();
    }

    private String write(String name, byte[] content) throws IOException {
        return Files.write(folder.resolve(name), content).toString();
    }

    private static byte[] bzImage(int bytes) {
        var image = new byte[bytes];
        var header = ByteBuffer.wrap(image).order(ByteOrder.LITTLE_ENDIAN);
        header.put(0x1f1, (byte) 4);
        header.putInt(0x1f4, (bytes - 5 * 512) / 16);
        header.putShort(0x1fe, (short) 0xaa55);
        header.putShort(0x200, (short) 0x6aeb);
        header.putInt(0x202, 0x53726448);
        header.putShort(0x206, (short) 0x20f);
        header.put(0x211, (byte) 1);
        header.putInt(0x22c, 0x7fffffff);
        header.putInt(0x230, 0x200000);
        header.put(0x234, (byte) 1);
        header.putShort(0x236, (short) 0x7f);
        header.putInt(0x238, 2047);
        header.putLong(0x258, 0x1000000);
        header.putInt(0x260, 64 << 20);
        return image;
    }
}
