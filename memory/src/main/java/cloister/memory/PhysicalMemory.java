package cloister.memory;

import cloister.memory.plain.PlainAccess;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/// The platform's physical memory: plain content in one reserved window, and for each cache line the KeyID that wrote
/// it last.
///
/// Addresses are of two kinds. A `pa` is a plain physical address, below [#size]. An `hpa` is what a page-table entry
/// or an instruction carries: a `pa` with a KeyID in bits 51:46. [TDX-BASE "Memory Encryption Keys"]
///
/// Reads with the owner's KeyID return content. Reads with another KeyID return what the memory controller would:
/// zeros when private (TD-owned) memory is read with a shared KeyID (TD-owner bit mismatch), ciphertext between two
/// shared KeyIDs; a private KeyID that reads a line it does not own is an integrity violation, reported as [Poison].
/// Writes take ownership of the lines that they cover; a partial write to a line with another owner reads it first.
///
/// Where there is no memory, reads give all ones and writes are dropped, as on a bus that nobody answers.
///
/// DEVIATION: ciphertext is a keystream of our own, not AES-XTS; nothing may depend on its value.
public final class PhysicalMemory implements AutoCloseable, Persistent {
    public static final int FRAME_SHIFT = 12;
    public static final long FRAME_SIZE = 1L << FRAME_SHIFT;
    public static final int LINE_SIZE = 64;
    /// The lowest KeyID bit of an hpa.
    public static final int KEY_ID_SHIFT = 46;
    public static final int KEY_ID_BITS = 6;
    /// Lines in a frame.
    public static final int LINES_PER_FRAME = (int) (FRAME_SIZE / LINE_SIZE);
    private static final char MIXED = 0xffff;
    private static final int GROUP_SHIFT = 10;
    /// Owner of lines whose key is gone: equal to no KeyID, and private.
    private static final char FORGOTTEN = 0xfffe;

    private static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

    private static final byte[] ZEROS = new byte[(int) FRAME_SIZE];

    private final long size;
    private final int firstPrivateKeyId;
    private final boolean encrypted;
    private final Arena arena = Arena.ofShared();
    private final MemorySegment window;
    private final char[] owner;
    /// The owners of each line of frames that several own, by groups of frames: few groups have any.
    private final char[][][] mixed;
    private final List<OwnerListener> listeners = new ArrayList<>();
    private final byte[] watched;
    /// Frames that may have been written since power-on. The others are zero and have no backing, and not even a look at them is
    /// free: it makes the host map a page.
    private final boolean[] touched;
    private final List<WriteListener> writeListeners = new ArrayList<>();
    private AccessObserver observer;
    private final AtomicWords atomics = new AtomicWords(this);

    /// @param size              bytes, a positive multiple of 4096 below 2^46
    /// @param firstPrivateKeyId the lowest KeyID that is private to the TDX module, 1..64 (64: none)
    public PhysicalMemory(long size, int firstPrivateKeyId) {
        this(size, firstPrivateKeyId, true);
    }

    private PhysicalMemory(long size, int firstPrivateKeyId, boolean encrypted) {
        if (size <= 0 || size % FRAME_SIZE != 0 || size >= 1L << KEY_ID_SHIFT) {
            throw new IllegalArgumentException("physical memory must be whole frames below 64 TiB: " + size);
        }
        this.size = size;
        this.firstPrivateKeyId = firstPrivateKeyId;
        this.encrypted = encrypted;
        this.window = ReservedWindow.reserve(size, arena);
        this.owner = new char[Math.toIntExact(size >> FRAME_SHIFT)];
        this.mixed = new char[(owner.length >> GROUP_SHIFT) + 1][][];
        this.watched = new byte[owner.length];
        this.touched = new boolean[owner.length];
    }

    /// The memory of a platform that does not encrypt: owners are known all the same, but every KeyID reads what is there.
    /// Parameters as for the constructor.
    public static PhysicalMemory unencrypted(long size, int firstPrivateKeyId) {
        return new PhysicalMemory(size, firstPrivateKeyId, false);
    }

    @Override public String stateName() {
        return "memory";
    }

    /// Owner and a 64-bit hash of the content of each frame that is not as at power-on.
    @Override public void describe(StateSink out) {
        for (int frame = 0; frame < owner.length; frame++) {
            long content = touched[frame] ? contentHash(frame) : 0;
            if (content != 0 || owner[frame] != 0) {
                out.words("frame " + Integer.toHexString(frame), content, owner[frame]);
            }
            if (owner[frame] == MIXED) {
                char[] lines = lines(frame);
                long[] owners = new long[lines.length];
                for (int i = 0; i < lines.length; i++) {
                    owners[i] = lines[i];
                }
                out.words("lines " + Integer.toHexString(frame), owners);
            }
        }
    }

    /// 0 for a frame of zeros.
    private long contentHash(int frame) {
        long start = (long) frame << FRAME_SHIFT;
        long hash = 0;
        for (long at = start; at < start + FRAME_SIZE; at += Long.BYTES) {
            hash = (Long.rotateLeft(hash, 5) ^ window.get(LONG, at)) * 0x9E3779B97F4A7C15L;
        }
        return hash;
    }

    /// Bytes of physical memory.
    public long size() {
        return size;
    }

    /// The plain content, for the fast paths of processors. Whoever uses it has checked ownership with
    /// [#ownedWhollyBy].
    ///
    /// @param access only silicon has it
    public MemorySegment window(PlainAccess access) {
        Objects.requireNonNull(access);
        return window;
    }

    /// Atomic operations on words, without switch points.
    public AtomicWords atomics() {
        return atomics;
    }

    /// The lowest private KeyID.
    public int firstPrivateKeyId() {
        return firstPrivateKeyId;
    }

    /// Whether the KeyID of `hpa` is private to the TDX module: only SEAM mode can use such an address.
    public boolean isPrivate(long hpa) {
        return keyId(hpa) >= firstPrivateKeyId;
    }

    /// The KeyID in bits 51:46 of `hpa`.
    public static int keyId(long hpa) {
        return (int) (hpa >>> KEY_ID_SHIFT) & ((1 << KEY_ID_BITS) - 1);
    }

    /// `hpa` without its KeyID.
    public static long pa(long hpa) {
        return hpa & ((1L << KEY_ID_SHIFT) - 1);
    }

    /// `pa` with a KeyID.
    public static long hpa(long pa, int keyId) {
        return pa | ((long) keyId << KEY_ID_SHIFT);
    }

    /// Whether there is memory at `[pa, pa + bytes)`.
    public boolean contains(long pa, long bytes) {
        return pa >= 0 && bytes >= 0 && pa <= size - bytes;
    }

    /// Whether every line of the frame at `pa` belongs to `keyId`.
    public boolean ownedWhollyBy(long pa, int keyId) {
        return owner[(int) (pa >> FRAME_SHIFT)] == keyId;
    }

    /// The KeyID that owns the line at `pa`.
    public int ownerOfLine(long pa) {
        char whole = owner[(int) (pa >> FRAME_SHIFT)];
        return whole != MIXED ? whole : lines((int) (pa >> FRAME_SHIFT))[lineIndex(pa)];
    }

    /// The owners of the lines of a frame that several own.
    private char[] lines(int frame) {
        return mixed[frame >> GROUP_SHIFT][frame & ((1 << GROUP_SHIFT) - 1)];
    }

    private void lines(int frame, char[] owners) {
        int group = frame >> GROUP_SHIFT;
        if (mixed[group] == null) {
            mixed[group] = new char[1 << GROUP_SHIFT][];
        }
        mixed[group][frame & ((1 << GROUP_SHIFT) - 1)] = owners;
    }

    /// Whether `[pa, pa + bytes)` is within a frame that `keyId` owns wholly, or within one line that it owns.
    private boolean owns(long pa, int bytes, int keyId) {
        char whole = owner[(int) (pa >> FRAME_SHIFT)];
        if (whole == MIXED) {
            return lines((int) (pa >> FRAME_SHIFT))[lineIndex(pa)] == keyId && (pa & (LINE_SIZE - 1)) + bytes <= LINE_SIZE;
        }
        return whole == keyId && (pa & (FRAME_SIZE - 1)) + bytes <= FRAME_SIZE;
    }

    /// `keyId` gets a new key: nobody can read any more what was written with the old one, until it is written again.
    public void forgetKey(int keyId) {
        for (int frame = 0; frame < owner.length; frame++) {
            if (owner[frame] == keyId) {
                owner[frame] = FORGOTTEN;
                tellListeners(frame);
            } else if (owner[frame] == MIXED) {
                char[] lines = lines(frame);
                for (int i = 0; i < lines.length; i++) {
                    lines[i] = lines[i] == keyId ? FORGOTTEN : lines[i];
                }
            }
        }
    }

    /// Registers a processor for owner changes.
    public void addOwnerListener(OwnerListener listener) {
        listeners.add(listener);
    }

    /// Registers for writes to watched frames.
    public void addWriteListener(WriteListener listener) {
        writeListeners.add(listener);
    }

    /// Lets `observer` act between two accesses of one processor; null for none.
    public void observe(AccessObserver observer) {
        this.observer = observer;
    }

    /// Starts or stops telling write listeners about frame `frame`: it holds decoded code. Each start has its stop. Writes
    /// through this class are told; who writes through [#window] says so with [#written].
    public void watch(long frame, boolean on) {
        watched[(int) frame] += (byte) (on ? 1 : -1);
        if (on) {
            for (int i = 0; i < writeListeners.size(); i++) {
                writeListeners.get(i).watchStarted(frame);
            }
        }
    }

    /// Whoever is going to write to `frame` through [#window] says so before.
    public void touch(long frame) {
        touched[(int) frame] = true;
    }

    /// Whether writes to `frame` are told.
    public boolean watched(long frame) {
        return watched[(int) frame] != 0;
    }

    /// `[pa, pa + length)` is about to change, or has just changed, behind this class's back.
    public void written(long pa, long length) {
        for (long frame = pa >> FRAME_SHIFT; frame <= (pa + length - 1) >> FRAME_SHIFT; frame++) {
            if (watched[(int) frame] != 0) {
                for (int i = 0; i < writeListeners.size(); i++) {
                    writeListeners.get(i).written(pa, length);
                }
                return;
            }
        }
    }

    /// Reads `bytes` (1, 2, 4 or 8; not across a line unless all lines have one owner) at `hpa`.
    ///
    /// @throws Poison when a private KeyID reads a line that it does not own
    public long read(long hpa, int bytes) {
        long pa = pa(hpa);
        int key = keyId(hpa);
        if (!contains(pa, bytes)) {
            return -1L >>> (Long.SIZE - 8 * bytes);
        }
        if (observer != null) {
            observer.beforeRead(pa, bytes);
        }
        if (owns(pa, bytes, key)) {
            return plain(pa, bytes);
        }
        long value = 0;
        for (int i = 0; i < bytes; i++) {
            value |= (readForeignByte(pa + i, key) & 0xffL) << (8 * i);
        }
        return value;
    }

    /// Writes the low `bytes` (1, 2, 4 or 8) of `value` at `hpa` and takes ownership of the lines covered.
    public void write(long hpa, int bytes, long value) {
        long pa = pa(hpa);
        if (!contains(pa, bytes)) {
            return;
        }
        int frame = (int) (pa >> FRAME_SHIFT);
        if (watched[frame] == 0 && owns(pa, bytes, keyId(hpa))) {
            touched[frame] = true;
        } else {
            takeOwnership(pa, bytes, keyId(hpa));
        }
        put(pa, bytes, value);
        tellWritten(pa, bytes);
    }

    /// Changes a word to `((word & and) | or) + add`, as [#read] and [#write] would; where nobody looks and the KeyID owns the word, its
    /// place is looked up once.
    ///
    /// @return the word before
    long modify(long hpa, int bytes, long and, long or, long add) {
        long pa = pa(hpa);
        if (observer == null && contains(pa, bytes) && watched[(int) (pa >> FRAME_SHIFT)] == 0 && owns(pa, bytes, keyId(hpa))) {
            touched[(int) (pa >> FRAME_SHIFT)] = true;
            long old = plain(pa, bytes);
            put(pa, bytes, ((old & and) | or) + add);
            return old;
        }
        long old = read(hpa, bytes);
        write(hpa, bytes, ((old & and) | or) + add);
        return old;
    }

    private void put(long pa, int bytes, long value) {
        switch (bytes) {
            case 1 -> window.set(ValueLayout.JAVA_BYTE, pa, (byte) value);
            case 2 -> window.set(SHORT, pa, (short) value);
            case 4 -> window.set(INT, pa, (int) value);
            case 8 -> window.set(LONG, pa, value);
            default -> throw new IllegalArgumentException("access size " + bytes);
        }
    }

    private void tellWritten(long pa, long length) {
        if (observer != null) {
            observer.afterWrite(pa, length);
        }
    }

    /// Copies content out, as [#read] would byte by byte.
    public void read(long hpa, byte[] target, int offset, int length) {
        long pa = pa(hpa);
        int key = keyId(hpa);
        if (!contains(pa, length)) {
            Arrays.fill(target, offset, offset + length, (byte) -1);
            return;
        }
        if (observer != null) {
            observer.beforeRead(pa, length);
        }
        for (int done = 0; done < length;) {
            long unit = owner[(int) ((pa + done) >> FRAME_SHIFT)] == MIXED ? LINE_SIZE : FRAME_SIZE;
            int chunk = (int) Math.min(length - done, unit - ((pa + done) & (unit - 1)));
            if (owns(pa + done, chunk, key)) {
                MemorySegment.copy(window, ValueLayout.JAVA_BYTE, pa + done, target, offset + done, chunk);
            } else {
                for (int i = 0; i < chunk; i++) {
                    target[offset + done + i] = readForeignByte(pa + done + i, key);
                }
            }
            done += chunk;
        }
    }

    /// Copies content in, as [#write] would.
    public void write(long hpa, byte[] source, int offset, int length) {
        long pa = pa(hpa);
        if (!contains(pa, length)) {
            return;
        }
        takeOwnership(pa, length, keyId(hpa));
        MemorySegment.copy(source, offset, window, ValueLayout.JAVA_BYTE, pa, length);
        tellWritten(pa, length);
    }

    /// Fills `[hpa, hpa + length)` with `value` and takes ownership.
    public void fill(long hpa, long length, byte value) {
        long pa = pa(hpa);
        if (!contains(pa, length)) {
            return;
        }
        if (value == 0 && (pa & (FRAME_SIZE - 1)) == 0 && length == FRAME_SIZE && !touched[(int) (pa >> FRAME_SHIFT)]) {
            written(pa, length);
            setOwner(pa, length, keyId(hpa));
        } else {
            takeOwnership(pa, length, keyId(hpa));
            window.asSlice(pa, length).fill(value);
        }
        tellWritten(pa, length);
    }

    /// Makes whole frames what they are at power-on: zero, with KeyID 0. Frames that are zero already are not written, so
    /// that they stay without backing.
    public void powerCycle(long firstFrame, long frames) {
        for (long frame = firstFrame; frame < firstFrame + frames; frame++) {
            becomeWhole(frame, 0);
            long pa = frame << FRAME_SHIFT;
            if (touched[(int) frame] && !isZero(pa, FRAME_SIZE)) {
                window.asSlice(pa, FRAME_SIZE).fill((byte) 0);
            }
        }
    }

    /// MOVDIR64B: writes one whole line without reading it first, so it also clears poison. [SDM Vol. 2 MOVDIR64B]
    ///
    /// @param hpa    aligned to 64
    /// @param source 64 bytes from `offset`
    public void movdir64b(long hpa, byte[] source, int offset) {
        movdir64b(hpa, source, offset, 1);
    }

    /// MOVDIR64B to `lines` lines one after the other, all in one frame.
    public void movdir64b(long hpa, byte[] source, int offset, int lines) {
        long pa = pa(hpa);
        int length = lines * LINE_SIZE;
        if (!contains(pa, length)) {
            return;
        }
        written(pa, length);
        setOwner(pa, length, keyId(hpa));
        int frame = (int) (pa >> FRAME_SHIFT);
        if (touched[frame] || !Arrays.equals(source, offset, offset + length, ZEROS, 0, length)) {
            touched[frame] = true;
            MemorySegment.copy(source, offset, window, ValueLayout.JAVA_BYTE, pa, length);
        }
        tellWritten(pa, length);
    }

    /// MOVDIR64B of zeros to `lines` lines one after the other, all in one frame. What is zero already stays without backing.
    ///
    /// @param hpa aligned to 64
    public void clearLines(long hpa, int lines) {
        long pa = pa(hpa);
        int length = lines * LINE_SIZE;
        if (!contains(pa, length)) {
            return;
        }
        written(pa, length);
        setOwner(pa, length, keyId(hpa));
        if (touched[(int) (pa >> FRAME_SHIFT)] && !isZero(pa, length)) {
            window.asSlice(pa, length).fill((byte) 0);
        }
        tellWritten(pa, length);
    }

    /// Whether whole lines hold zeros. Loads of words compile to little, where a comparison of segments becomes a big method that
    /// is compiled again for each kind of segment which it meets.
    private boolean isZero(long pa, long length) {
        for (long line = pa; line < pa + length; line += LINE_SIZE) {
            long any = 0;
            for (int i = 0; i < LINE_SIZE; i += Long.BYTES) {
                any |= window.get(LONG, line + i);
            }
            if (any != 0) {
                return false;
            }
        }
        return true;
    }

    /// Copies a whole frame, reading it with the KeyID of `from` and writing its lines as [#movdir64b] would.
    public void copyFrame(long from, long to) {
        long source = pa(from);
        long target = pa(to);
        if (!contains(source, FRAME_SIZE) || !contains(target, FRAME_SIZE) || !ownedWhollyBy(source, keyId(from))) {
            var content = new byte[(int) FRAME_SIZE];
            read(from, content, 0, content.length);
            movdir64b(to, content, 0, LINES_PER_FRAME);
            return;
        }
        written(target, FRAME_SIZE);
        setOwner(target, FRAME_SIZE, keyId(to));
        int frame = (int) (target >> FRAME_SHIFT);
        // As there: a frame that stays zero stays without backing.
        if (touched[frame] || (touched[(int) (source >> FRAME_SHIFT)] && !isZero(source, FRAME_SIZE))) {
            touched[frame] = true;
            MemorySegment.copy(window, source, window, target, FRAME_SIZE);
        }
    }

    /// Reads content whoever owns it. For the owner's own model (TDX module control structures, debuggers, tests).
    ///
    /// @param access only silicon has it
    public long readPlain(PlainAccess access, long pa, int bytes) {
        Objects.requireNonNull(access);
        return plain(pa, bytes);
    }

    private long plain(long pa, int bytes) {
        return switch (bytes) {
            case 1 -> window.get(ValueLayout.JAVA_BYTE, pa) & 0xffL;
            case 2 -> window.get(SHORT, pa) & 0xffffL;
            case 4 -> window.get(INT, pa) & 0xffff_ffffL;
            case 8 -> window.get(LONG, pa);
            default -> throw new IllegalArgumentException("access size " + bytes);
        };
    }

    /// Makes `keyId` the owner of the lines that `[pa, pa + length)` touches, content untouched where it is whole
    /// lines; a line covered in part by a new owner keeps what that owner would have read.
    public void takeOwnership(long pa, long length, int keyId) {
        written(pa, length);
        for (long frame = pa >> FRAME_SHIFT; frame <= (pa + length - 1) >> FRAME_SHIFT; frame++) {
            touch(frame);
        }
        long last = (pa + length - 1) >> FRAME_SHIFT;
        for (long frame = pa >> FRAME_SHIFT; frame <= last; frame++) {
            if (owner[(int) frame] != keyId) {
                rewriteEdges(pa, length, keyId);
                setOwner(pa, length, keyId);
                return;
            }
        }
    }

    private void rewriteEdges(long pa, long length, int keyId) {
        long end = pa + length;
        if ((pa & (LINE_SIZE - 1)) != 0 || length < LINE_SIZE) {
            rewriteLine(pa & -LINE_SIZE, keyId);
        }
        if ((end & (LINE_SIZE - 1)) != 0 && ((end - 1) & -LINE_SIZE) != (pa & -LINE_SIZE)) {
            rewriteLine(end & -LINE_SIZE, keyId);
        }
    }

    private void rewriteLine(long linePa, int keyId) {
        if (ownerOfLine(linePa) == keyId) {
            return;
        }
        for (int i = 0; i < LINE_SIZE; i++) {
            window.set(ValueLayout.JAVA_BYTE, linePa + i, readForeignByte(linePa + i, keyId));
        }
    }

    private void setOwner(long pa, long length, int keyId) {
        long end = pa + length;
        for (long at = pa & -LINE_SIZE; at < end;) {
            long frame = at >> FRAME_SHIFT;
            long frameEnd = (frame + 1) << FRAME_SHIFT;
            if (owner[(int) frame] == keyId) {
                at = frameEnd;
            } else if ((at & (FRAME_SIZE - 1)) == 0 && end >= frameEnd) {
                becomeWhole(frame, keyId);
                at = frameEnd;
            } else {
                ownLine(frame, lineIndex(at), keyId);
                at += LINE_SIZE;
            }
        }
    }

    private void ownLine(long frame, int line, int keyId) {
        char whole = owner[(int) frame];
        char[] lines;
        if (whole == MIXED) {
            lines = lines((int) frame);
        } else {
            lines = new char[LINES_PER_FRAME];
            Arrays.fill(lines, whole);
            lines((int) frame, lines);
            owner[(int) frame] = MIXED;
            tellListeners(frame);
        }
        lines[line] = (char) keyId;
        if (lines[LINES_PER_FRAME - 1] != keyId) {
            return; // the usual case while a page is written line by line
        }
        for (char other : lines) {
            if (other != keyId) {
                return;
            }
        }
        becomeWhole(frame, keyId);
    }

    private void becomeWhole(long frame, int keyId) {
        if (owner[(int) frame] == MIXED) {
            lines((int) frame, null);
        }
        owner[(int) frame] = (char) keyId;
        tellListeners(frame);
    }

    private void tellListeners(long frame) {
        for (int i = 0; i < listeners.size(); i++) {
            listeners.get(i).ownerChanged(frame);
        }
    }

    private byte readForeignByte(long pa, int key) {
        int lineOwner = ownerOfLine(pa);
        byte plain = window.get(ValueLayout.JAVA_BYTE, pa);
        if (lineOwner == key || !encrypted) {
            return plain;
        }
        if (key >= firstPrivateKeyId) {
            throw new Poison(PhysicalMemory.hpa(pa, key));
        }
        return lineOwner >= firstPrivateKeyId ? 0 : (byte) (plain ^ keystream(pa, lineOwner) ^ keystream(pa, key));
    }

    private static byte keystream(long pa, int key) {
        if (key == 0) {
            return 0; // KeyID 0 is TME-MK's "no MKTME key": one fixed key, here the identity
        }
        long z = ((pa >>> 3) * 0x9E3779B97F4A7C15L) ^ (key * 0xD1B54A32D192ED03L);
        z = (z ^ (z >>> 31)) * 0x94D049BB133111EBL;
        return (byte) (z >>> (8 * (pa & 7)));
    }

    private static int lineIndex(long pa) {
        return (int) (pa & (FRAME_SIZE - 1)) / LINE_SIZE;
    }

    /// Releases the window.
    @Override public void close() {
        arena.close();
    }
}
