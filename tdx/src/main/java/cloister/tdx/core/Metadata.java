package cloister.tdx.core;

import cloister.memory.PhysicalMemory;
import cloister.spec.tdx.FieldId;
import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.TdxStatus;

/// Access to the metadata fields of one context: the module, a TD or a VCPU. [TDX-ABI "Metadata Access Interface Functions"]
public abstract class Metadata {
    private static final int LIST_HEADER = 8;
    private static final int SEQUENCE_HEADER = 8;
    private static final int LIST_BYTES = 4096;

    public final FieldAccess access;
    public final boolean debug;
    private final int context;
    private final int l2Vms;

    public Metadata(int context, FieldAccess access, boolean debug, int l2Vms) {
        this.context = context;
        this.access = access;
        this.debug = debug;
        this.l2Vms = l2Vms;
    }

    /// The element's value; what the caller may not see is masked out later.
    public abstract long get(Field field, long id) throws LeafFailure;

    /// Writes an element.
    ///
    /// @return the old value
    public abstract long put(Field field, long id, long value, long requestMask) throws LeafFailure;

    /// Whether [#dump] writes the element; it leaves the place of others as it was.
    public boolean isListed(Field field, long id) {
        return true;
    }

    public final long withContext(long id) {
        return FieldId.withContext(id, context);
    }

    public final FieldCursor cursor(long id) {
        return new FieldCursor(context, withContext(id), l2Vms);
    }

    private FieldCursor require(long id) throws LeafFailure {
        if (!FieldId.isSingleElement(id)) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
        }
        var cursor = cursor(id);
        if (cursor.field() == null) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
        }
        return cursor;
    }

    public final long read(long id) throws LeafFailure {
        return readAt(require(id));
    }

    private long readAt(FieldCursor cursor) throws LeafFailure {
        var field = cursor.field();
        long value = get(field, cursor.id());
        long mask = access.readMask(field, debug);
        if (mask == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_READABLE);
        }
        return value & mask & field.elementMask();
    }

    public final long write(long id, long value, long requestMask) throws LeafFailure {
        var cursor = require(id);
        return put(cursor.field(), cursor.id(), value, requestMask);
    }

    /// The next element that the caller can access, or none.
    public final long next(long id) {
        var cursor = cursor(id);
        cursor.advance(true, access, debug);
        return cursor.id();
    }

    /// Fails unless a write leaves the bits alone that are asked for but not writable.
    public static void requireUnchanged(long current, long value, long requestMask, long writeMask) throws LeafFailure {
        long forbidden = requestMask & ~writeMask;
        if ((current & forbidden) != (value & forbidden)) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
        }
    }

    /// Writes a list of sequences of readable fields to the page at `hpa`.
    ///
    /// @return the field that did not fit any more, or none
    public final long dump(PhysicalMemory memory, long hpa, long firstId) throws LeafFailure {
        var cursor = cursor(firstId);
        if (cursor.isEnd()) {
            cursor.advance(false, access, debug);
        } else if (cursor.field() == null || !cursor.isStartOfField()) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_ID_INCORRECT);
        } else {
            cursor.normalize();
        }
        int used = LIST_HEADER;
        int sequences = 0;
        memory.write(hpa, 8, 0);
        while (!cursor.isEnd() && fits(cursor, used + SEQUENCE_HEADER)) {
            int bytes = dumpSequence(memory, hpa, used, cursor);
            if (bytes > 0) {
                used += bytes;
                sequences++;
            }
        }
        memory.write(hpa, 2, used);
        memory.write(hpa + 2, 2, sequences);
        return cursor.id();
    }

    private static boolean fits(FieldCursor cursor, int used) {
        return used + 8 * cursor.field().elements() <= LIST_BYTES;
    }

    /// @return bytes written, 0 when nothing was readable
    private int dumpSequence(PhysicalMemory memory, long hpa, int at, FieldCursor cursor) throws LeafFailure {
        long header = 0;
        int used = at + SEQUENCE_HEADER;
        long fields = 0;
        while (fits(cursor, used)) {
            var field = cursor.field();
            int elements = field.elements();
            boolean unreadable = false;
            try {
                for (int i = 0; i < elements; i++) {
                    long value = elementOf(cursor, i);
                    if (isListed(field, cursor.id() + (long) i * field.stride())) {
                        memory.write(hpa + used + 8 * i, 8, value);
                    }
                }
                header = fields == 0 ? sequenceHeader(cursor.id(), elements) : header;
                fields++;
                used += 8 * elements;
            } catch (LeafFailure failure) {
                if (!TdxStatus.METADATA_FIELD_NOT_READABLE.matches(failure.status())) {
                    throw failure;
                }
                unreadable = true;
            }
            long last = cursor.id();
            cursor.advance(false, access, debug);
            if (unreadable || cursor.isEnd() || FieldId.classCode(last) != FieldId.classCode(cursor.id())
                    || FieldId.code(last) + elements * FieldId.stride(last) != FieldId.code(cursor.id())
                    || elements != cursor.field().elements() || FieldId.sizeCode(last) != FieldId.sizeCode(cursor.id())) {
                break;
            }
        }
        if (fields == 0) {
            return 0;
        }
        memory.write(hpa + at, 8, header | fields - 1 << 38);
        return used - at;
    }

    private long elementOf(FieldCursor cursor, int element) throws LeafFailure {
        var field = cursor.field();
        long mask = access.readMask(field, debug);
        if (mask == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_READABLE);
        }
        return get(field, cursor.id() + (long) element * field.stride()) & mask & field.elementMask();
    }

    private static long sequenceHeader(long id, int elements) {
        return id & ~(0xffL << 24 | 0x1fffL << 34 | 7L << 47 | 1L << 51 | 1L << 55 | 1L << 62) | (long) (elements - 1) << 34;
    }
}
