package cloister.cli.trace;

import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/// Writes Protocol Buffers messages: fields by number, nested messages whose length is filled in afterwards. [PROTOBUF "Encoding"]
final class Protobuf {
    private static final int VARINT = 0;
    private static final int DELIMITED = 2;
    private static final int MORE = 0x80;
    private static final int GROUP = 7;
    /// Lengths are written with four bytes, so that a message need not be moved: up to 256 MiB.
    private static final int LENGTH_BYTES = 4;

    private byte[] bytes = new byte[1 << 16];
    private int size;

    int size() {
        return size;
    }

    void clear() {
        size = 0;
    }

    void writeTo(OutputStream out) throws IOException {
        out.write(bytes, 0, size);
    }

    byte[] array() {
        return bytes;
    }

    void number(int field, long value) {
        varint(((long) field << 3) | VARINT);
        varint(value);
    }

    void string(int field, String text) {
        bytes(field, text.getBytes(StandardCharsets.UTF_8));
    }

    void bytes(int field, byte[] content) {
        varint(((long) field << 3) | DELIMITED);
        varint(content.length);
        ensure(content.length);
        System.arraycopy(content, 0, bytes, size, content.length);
        size += content.length;
    }

    /// Begins a nested message.
    ///
    /// @return what [#end] wants
    int begin(int field) {
        varint(((long) field << 3) | DELIMITED);
        ensure(LENGTH_BYTES);
        size += LENGTH_BYTES;
        return size;
    }

    /// Ends the nested message that [#begin] began. Short ones, nearly all, are moved to a length of one byte.
    void end(int start) {
        int length = size - start;
        if (length < MORE) {
            System.arraycopy(bytes, start, bytes, start - LENGTH_BYTES + 1, length);
            bytes[start - LENGTH_BYTES] = (byte) length;
            size -= LENGTH_BYTES - 1;
            return;
        }
        for (int i = 0; i < LENGTH_BYTES; i++) {
            bytes[start - LENGTH_BYTES + i] = (byte) (((length >>> (GROUP * i)) & (MORE - 1)) | (i < LENGTH_BYTES - 1 ? MORE : 0));
        }
    }

    private void varint(long value) {
        ensure(10);
        long rest = value;
        while ((rest & -MORE) != 0) {
            bytes[size++] = (byte) (rest | MORE);
            rest >>>= GROUP;
        }
        bytes[size++] = (byte) rest;
    }

    private void ensure(int more) {
        if (size + more > bytes.length) {
            bytes = Arrays.copyOf(bytes, Math.max(2 * bytes.length, size + more));
        }
    }
}
