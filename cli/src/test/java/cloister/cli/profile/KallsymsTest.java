package cloister.cli.profile;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.cli.profile.SymbolTable.Symbol;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.StringReader;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.zip.GZIPOutputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Symbols come back from images that this test packs as the kernel's build does.
class KallsymsTest {
    private static final long BASE = 0xffffffff81000000L;

    /// Where the addresses are, and how.
    private enum Layout {
        /// 6.12: behind the token index, those of percpu variables absolute.
        ABSOLUTE_PERCPU_BEHIND,
        /// Newer: behind the token index, all relative.
        RELATIVE_BEHIND,
        /// Older: before the number of symbols.
        ABSOLUTE_PERCPU_BEFORE
    }

    private static final class Packer {
        private final ByteBuffer out = ByteBuffer.allocate(1 << 20).order(ByteOrder.LITTLE_ENDIAN);

        void align() {
            while (out.position() % 8 != 0) {
                out.put((byte) 0);
            }
        }

        byte[] pack(List<Symbol> symbols, Layout layout, int junk) {
            new Random(junk).ints(junk).forEach(i -> out.put((byte) i));
            // Digits that are no token table.
            out.put("0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0".getBytes(StandardCharsets.ISO_8859_1));
            align();
            if (layout == Layout.ABSOLUTE_PERCPU_BEFORE) {
                addresses(symbols, layout);
            }
            out.putInt(symbols.size());
            align();
            var markers = new ArrayList<Integer>();
            int start = out.position();
            for (int i = 0; i < symbols.size(); i++) {
                if (i % 256 == 0) {
                    markers.add(out.position() - start);
                }
                name(symbols.get(i).type() + symbols.get(i).name());
            }
            align();
            markers.forEach(out::putInt);
            align();
            tokens();
            if (layout != Layout.ABSOLUTE_PERCPU_BEFORE) {
                addresses(symbols, layout);
            }
            out.put(new byte[64]);
            var image = new byte[out.position()];
            out.flip().get(image);
            return image;
        }

        /// "sys_" is token 1; every other character stands for itself.
        private void name(String text) {
            var tokens = new ByteArrayOutputStream();
            for (int i = 0; i < text.length();) {
                boolean common = text.startsWith("sys_", i);
                tokens.write(common ? 1 : text.charAt(i));
                i += common ? 4 : 1;
            }
            if (tokens.size() >= 0x80) {
                out.put((byte) (0x80 | (tokens.size() & 0x7f))).put((byte) (tokens.size() >> 7));
            } else {
                out.put((byte) tokens.size());
            }
            out.put(tokens.toByteArray());
        }

        private void tokens() {
            int start = out.position();
            var places = new ArrayList<Integer>();
            for (int i = 0; i < 256; i++) {
                places.add(out.position() - start);
                String token = i == 1 ? "sys_" : i < ' ' || i > '~' ? "tok" + i : "" + (char) i;
                out.put(token.getBytes(StandardCharsets.ISO_8859_1)).put((byte) 0);
            }
            align();
            places.forEach(p -> out.putShort((short) (int) p));
            align();
        }

        private void addresses(List<Symbol> symbols, Layout layout) {
            for (var symbol : symbols) {
                boolean absolute = layout != Layout.RELATIVE_BEHIND && symbol.address() >= 0;
                out.putInt((int) (absolute ? symbol.address()
                        : layout == Layout.RELATIVE_BEHIND ? symbol.address() - BASE : BASE - 1 - symbol.address()));
            }
            align();
            out.putLong(BASE);
        }
    }

    private static List<Symbol> symbols(int count, Layout layout) {
        var result = new ArrayList<Symbol>();
        if (layout != Layout.RELATIVE_BEHIND) {
            result.add(new Symbol(0x1000, 'A', "percpu_variable"));
        }
        for (int i = 0; i < count; i++) {
            result.add(new Symbol(BASE + 64L * i, i % 3 == 0 ? 'T' : 't', (i % 5 == 0 ? "sys_call" : "function") + i));
        }
        result.add(new Symbol(BASE + 64L * count, 'T', "long_".repeat(40)));
        return result;
    }

    @ParameterizedTest
    @EnumSource
    void symbolsComeBack(Layout layout) {
        for (int count : new int[] {300, 511, 512, 1000, 5000}) {
            var symbols = symbols(count, layout);
            assertThat(Kallsyms.find(new Packer().pack(symbols, layout, 1000))).as("%d", count).isEqualTo(symbols);
        }
    }

    @Test void anImageWithoutThemHasNone() {
        assertThat(Kallsyms.find(new byte[1000])).isEmpty();
        var digits = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0".getBytes(StandardCharsets.ISO_8859_1);
        assertThat(Kallsyms.find(digits)).isEmpty();
        var whole = new Packer().pack(symbols(600, Layout.RELATIVE_BEHIND), Layout.RELATIVE_BEHIND, 100);
        for (int i = 0; i < whole.length; i += 97) {
            assertThat(Kallsyms.find(java.util.Arrays.copyOf(whole, i)).size()).isIn(0, 601);
        }
    }

    private static byte[] bzImage(byte[] payload) {
        var image = ByteBuffer.allocate(0x2000 + payload.length).order(ByteOrder.LITTLE_ENDIAN);
        image.put(0x1f1, (byte) 3).putInt(0x248, 0x100).putInt(0x24c, payload.length).put((3 + 1) * 512 + 0x100, payload);
        return image.array();
    }

    @Test void theKernelInABzImageIsUncompressed() throws IOException {
        var symbols = symbols(700, Layout.ABSOLUTE_PERCPU_BEHIND);
        var gzip = new ByteArrayOutputStream();
        try (var out = new GZIPOutputStream(gzip)) {
            out.write(new Packer().pack(symbols, Layout.ABSOLUTE_PERCPU_BEHIND, 5000));
        }
        gzip.write(new byte[] {0, 0, 1, 0}); // the size that the kernel's build adds
        var table = KernelImage.symbols(MemorySegment.ofArray(bzImage(gzip.toByteArray())));
        assertThat(table.size()).isEqualTo(701);
        assertThat(table.at(BASE + 64 * 10 + 5)).isEqualTo("sys_call10");
    }

    @ParameterizedTest
    @ValueSource(ints = {0, 8, 100})
    void imagesThatCannotBeReadAreAMessage(int size) {
        assertThatThrownBy(() -> KernelImage.symbols(MemorySegment.ofArray(bzImage(new byte[size])))).isInstanceOf(IOException.class)
                .message().startsWith("the kernel ");
        assertThatThrownBy(() -> KernelImage.symbols(MemorySegment.ofArray(new byte[size]))).isInstanceOf(IOException.class);
    }

    @Test void textFilesOfSymbolsAreRead() throws IOException {
        var table = SymbolTable.read(new BufferedReader(new StringReader("""
                ffffffff81000000 T _text
                ffffffff81000100 t second
                ffffffff81000180 D data
                ffffffffc0000000 t in_module\t[virtio]
                """)));
        assertThat(table.at(0xffffffff810000ffL)).isEqualTo("_text");
        assertThat(table.at(0xffffffff81000190L)).isEqualTo("second");
        assertThat(table.at(0xffffffffc0000010L)).isEqualTo("in_module");
        assertThat(table.at(0xffffffffc0100000L)).isNull();
        assertThat(table.at(0x1000)).isNull();
        for (var bad : List.of("no symbols here at all", "0000000000000000 T a\n0000000000000000 t b", "x T y")) {
            assertThatThrownBy(() -> SymbolTable.read(new BufferedReader(new StringReader(bad)))).isInstanceOf(IOException.class);
        }
    }
}
