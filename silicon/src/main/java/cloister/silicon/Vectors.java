package cloister.silicon;

import static cloister.silicon.MachineState.*;

import cloister.isa.CodeMode;
import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.Closeable;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.List;
import org.tukaani.xz.LZMA2Options;
import org.tukaani.xz.XZInputStream;
import org.tukaani.xz.XZOutputStream;

/// Recorded cases with silicon's outcomes: a compact file. Seeds count up from 1; a final state is kept as its differences
/// from the initial one.
final class Vectors {
    private static final int MAGIC = 0x51C0_0003;
    private static final List<CodeMode> MODES = List.of(CodeMode.BITS64, CodeMode.BITS32, CodeMode.BITS16);
    private static final int END = 0xFF;

    private Vectors() {
    }

    /// A case and what silicon did with it.
    record Vector(Case testCase, Outcome outcome) {
    }

    /// Takes a vector at a time.
    interface Sink {
        void accept(Vector vector) throws IOException;
    }

    /// Writes a file.
    static final class Writer implements Closeable {
        private final DataOutputStream out;
        private long seed;

        Writer(OutputStream target) throws IOException {
            out = new DataOutputStream(new BufferedOutputStream(new XZOutputStream(target, new LZMA2Options(6)), 1 << 16));
            out.writeInt(MAGIC);
        }

        void add(Case c, Outcome outcome) throws IOException {
            out.writeByte(c.code().length | (MODES.indexOf(c.mode()) << 6));
            out.write(c.code());
            out.writeByte(c.slot());
            unsigned(out, c.seed() - seed);
            seed = c.seed();
            out.writeByte(c.changes().size());
            for (Case.Change change : c.changes()) {
                unsigned(out, change.place());
                signed(out, change.value());
            }
            writeOutcome(out, c.initial(), outcome);
        }

        @Override public void close() throws IOException {
            out.writeByte(END);
            out.close();
        }
    }

    private static void writeOutcome(DataOutputStream out, MachineState before, Outcome outcome) throws IOException {
        out.writeByte(outcome.vector());
        if (outcome.faulted()) {
            unsigned(out, outcome.errorCode());
            unsigned(out, outcome.cr2());
        }
        MachineState after = outcome.state();
        signed(out, after.rip - before.rip);
        unsigned(out, (after.rflags ^ before.rflags) & 0xCD5);
        for (int r = 0; r < 16; r++) {
            if (after.gpr[r] != before.gpr[r]) {
                out.writeByte(r);
                out.writeLong(after.gpr[r]);
            }
        }
        out.writeByte(END);
        for (int s = 0; s < 6; s++) {
            if (after.segments[s] != before.segments[s]) {
                out.writeByte(s);
                unsigned(out, after.segments[s]);
            }
        }
        out.writeByte(END);
        signed(out, after.fsBase - before.fsBase);
        signed(out, after.gsBase - before.gsBase);
        words(out, physical(before.fx, 1), physical(after.fx, 1), FX_USED);
        words(out, before.data, after.data, Layout.DATA_BYTES);
    }

    /// The image with its x87 registers in physical order, which pushes and pops leave alone, instead of from the top of
    /// the stack; -1 turns it back.
    private static ByteBuffer physical(ByteBuffer fx, int direction) {
        int top = (fx.getShort(FX_FSW) >> 11) & 7;
        ByteBuffer turned = ByteBuffer.allocate(512).order(ByteOrder.LITTLE_ENDIAN).put(0, fx.array());
        for (int i = 0; i < 8; i++) {
            turned.put(FX_ST + 16 * ((i + direction * top) & 7), fx, FX_ST + 16 * i, 16);
        }
        return turned;
    }

    private static void words(DataOutputStream out, ByteBuffer before, ByteBuffer after, int size) throws IOException {
        int last = -4;
        for (int at = 0; at < size; at += 4) {
            if (before.getInt(at) != after.getInt(at)) {
                unsigned(out, (at - last) / 4);
                out.writeInt(after.getInt(at));
                last = at;
            }
        }
        unsigned(out, 0);
    }

    static void read(InputStream source, Sink sink) throws IOException {
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(new XZInputStream(source), 1 << 16))) {
            if (in.readInt() != MAGIC) {
                throw new IOException("not a file of silicon vectors");
            }
            long seed = 0;
            for (int head = in.readUnsignedByte(); head != END; head = in.readUnsignedByte()) {
                byte[] code = in.readNBytes(head & 0x3F);
                int slot = in.readUnsignedByte();
                seed += unsigned(in);
                List<Case.Change> changes = new ArrayList<>();
                for (int n = in.readUnsignedByte(); n > 0; n--) {
                    int place = (int) unsigned(in);
                    changes.add(new Case.Change(place, signed(in)));
                }
                Case c = new Case(MODES.get(head >> 6), code, slot, seed, changes);
                sink.accept(new Vector(c, outcome(in, c.initial())));
            }
        }
    }

    private static Outcome outcome(DataInputStream in, MachineState state) throws IOException {
        int vector = in.readByte();
        int errorCode = vector >= 0 ? (int) unsigned(in) : 0;
        long cr2 = vector >= 0 ? unsigned(in) : 0;
        state.rip += signed(in);
        state.rflags ^= unsigned(in);
        for (int r = in.readUnsignedByte(); r != END; r = in.readUnsignedByte()) {
            state.gpr[r] = in.readLong();
        }
        for (int s = in.readUnsignedByte(); s != END; s = in.readUnsignedByte()) {
            state.segments[s] = (int) unsigned(in);
        }
        state.fsBase += signed(in);
        state.gsBase += signed(in);
        ByteBuffer fx = physical(state.fx, 1);
        words(in, fx);
        state.fx.put(0, physical(fx, -1).array());
        words(in, state.data);
        return new Outcome(state, vector, errorCode, cr2);
    }

    private static void words(DataInputStream in, ByteBuffer state) throws IOException {
        int at = -4;
        for (int gap = (int) unsigned(in); gap != 0; gap = (int) unsigned(in)) {
            at += 4 * gap;
            state.putInt(at, in.readInt());
        }
    }

    private static void unsigned(DataOutputStream out, long value) throws IOException {
        long rest = value;
        while ((rest & ~0x7FL) != 0) {
            out.writeByte(((int) rest & 0x7F) | 0x80);
            rest >>>= 7;
        }
        out.writeByte((int) rest);
    }

    private static void signed(DataOutputStream out, long value) throws IOException {
        unsigned(out, (value << 1) ^ (value >> 63));
    }

    private static long unsigned(DataInputStream in) throws IOException {
        long value = 0;
        for (int shift = 0;; shift += 7) {
            int b = in.readUnsignedByte();
            value |= (b & 0x7FL) << shift;
            if (b < 0x80) {
                return value;
            }
        }
    }

    private static long signed(DataInputStream in) throws IOException {
        long value = unsigned(in);
        return (value >>> 1) ^ -(value & 1);
    }
}
