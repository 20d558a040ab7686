package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Test;

final class InitramfsTest {
    private record Entry(int mode, byte[] content) {
    }

    @Test void everyEntryComesBackFromTheArchive() {
        byte[] busybox = {1, 2, 3, 4, 5};
        byte[] archive = new Initramfs(busybox).file("/a/b/data", 0640, new byte[] {9}).command("dmesg").pack();

        var entries = read(archive);

        assertThat(entries.get("bin/busybox").content()).isEqualTo(busybox);
        assertThat(entries.get("bin/busybox").mode()).isEqualTo(0100755);
        assertThat(entries.get("a").mode()).isEqualTo(0040755);
        assertThat(entries.get("a/b").mode()).isEqualTo(0040755);
        assertThat(entries.get("a/b/data").mode()).isEqualTo(0100640);
        assertThat(entries.get("dev/console").mode()).isEqualTo(0020600);
        assertThat(new String(entries.get("bin/sh").content(), StandardCharsets.UTF_8)).isEqualTo("busybox");
        assertThat(new String(entries.get("cloister/command").content(), StandardCharsets.UTF_8)).isEqualTo("dmesg\n");
        assertThat(new String(entries.get("init").content(), StandardCharsets.UTF_8)).startsWith("#!/bin/busybox sh\n");
        assertThat(entries.keySet()).last().isEqualTo("TRAILER!!!");
    }

    @Test void gzipHoldsTheSameArchive() throws Exception {
        byte[] packed = new Initramfs(new byte[100]).packGzip();
        byte[] plain = new Initramfs(new byte[100]).pack();
        assertThat(new GZIPInputStream(new ByteArrayInputStream(packed)).readAllBytes()).isEqualTo(plain);
    }

    private static Map<String, Entry> read(byte[] archive) {
        var result = new LinkedHashMap<String, Entry>();
        int at = 0;
        while (at < archive.length) {
            assertThat(new String(archive, at, 6, StandardCharsets.US_ASCII)).isEqualTo("070701");
            int mode = field(archive, at, 1);
            int size = field(archive, at, 6);
            int nameSize = field(archive, at, 11);
            String name = new String(archive, at + 110, nameSize - 1, StandardCharsets.US_ASCII);
            int body = (at + 110 + nameSize + 3) & ~3;
            result.put(name, new Entry(mode, Arrays.copyOfRange(archive, body, body + size)));
            at = (body + size + 3) & ~3;
        }
        return result;
    }

    private static int field(byte[] archive, int header, int index) {
        return Integer.parseUnsignedInt(new String(archive, header + 6 + 8 * index, 8, StandardCharsets.US_ASCII), 16);
    }
}
