package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

final class InitrdFormatTest {
    private static MemorySegment image(int zeros, String start) {
        byte[] bytes = new byte[2048];
        byte[] magic = start.getBytes(StandardCharsets.ISO_8859_1);
        System.arraycopy(magic, 0, bytes, zeros, magic.length);
        return MemorySegment.ofArray(bytes);
    }

    @Test void archivesAndFileSystemsAreKnown() {
        assertThat(InitrdFormat.of(MemorySegment.ofArray(new Initramfs(new byte[9]).pack()))).contains(InitrdFormat.CPIO);
        assertThat(InitrdFormat.of(MemorySegment.ofArray(new Initramfs(new byte[9]).packGzip()))).contains(InitrdFormat.GZIP);
        assertThat(InitrdFormat.of(image(512, "070701"))).as("zeros come first").contains(InitrdFormat.CPIO);
        assertThat(InitrdFormat.of(image(0x438, "\u0053\u00ef"))).contains(InitrdFormat.EXT);
        assertThat(InitrdFormat.EXT.isArchive()).isFalse();
        assertThat(InitrdFormat.ZSTD.isArchive()).isTrue();
    }

    @Test void otherThingsAreNot() {
        assertThat(InitrdFormat.of(image(0, "070700"))).isEmpty();
        assertThat(InitrdFormat.of(image(0, ""))).isEmpty();
        assertThat(InitrdFormat.of(image(4, "hsqs"))).as("a file system starts where it must").isEmpty();
        assertThat(InitrdFormat.of(MemorySegment.ofArray(new byte[0]))).isEmpty();
        assertThat(InitrdFormat.of(MemorySegment.ofArray(new byte[] {'0', '7', '0'}))).isEmpty();
    }
}
