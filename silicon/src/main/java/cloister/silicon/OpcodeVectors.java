package cloister.silicon;

import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.Closeable;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.tukaani.xz.LZMA2Options;
import org.tukaani.xz.XZInputStream;
import org.tukaani.xz.XZOutputStream;

/// Silicon's outcomes of [OpcodeSweep], in its order. Each is the number of an outcome; a number that has not occurred yet is followed by
/// what it means.
final class OpcodeVectors {
    private static final int MAGIC = 0x51C0_1001;

    private OpcodeVectors() {
    }

    /// Writes a file.
    static final class Writer implements Closeable {
        private final DataOutputStream out;
        private final Map<OpcodeOutcome, Integer> numbers = new HashMap<>();

        Writer(OutputStream target) throws IOException {
            out = new DataOutputStream(new BufferedOutputStream(new XZOutputStream(target, new LZMA2Options(6)), 1 << 16));
            out.writeInt(MAGIC);
        }

        void add(OpcodeOutcome outcome) throws IOException {
            Integer known = numbers.putIfAbsent(outcome, numbers.size());
            if (known != null) {
                out.writeShort(known);
                return;
            }
            out.writeShort(numbers.size() - 1);
            out.writeByte(outcome.vector());
            out.writeInt(outcome.errorCode());
            out.writeLong(outcome.advance());
        }

        @Override public void close() throws IOException {
            out.close();
        }
    }

    /// Reads a file.
    static final class Reader implements Closeable {
        private final DataInputStream in;
        private final List<OpcodeOutcome> outcomes = new ArrayList<>();

        Reader(InputStream source) throws IOException {
            in = new DataInputStream(new BufferedInputStream(new XZInputStream(source), 1 << 16));
            if (in.readInt() != MAGIC) {
                throw new IOException("not a file of opcode vectors");
            }
        }

        OpcodeOutcome next() throws IOException {
            int number = in.readUnsignedShort();
            if (number == outcomes.size()) {
                outcomes.add(new OpcodeOutcome(in.readByte(), in.readInt(), in.readLong()));
            }
            return outcomes.get(number);
        }

        /// Whether nothing is left.
        boolean atEnd() throws IOException {
            return in.read() < 0;
        }

        @Override public void close() throws IOException {
            in.close();
        }
    }
}
