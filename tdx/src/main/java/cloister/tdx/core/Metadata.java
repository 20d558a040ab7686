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

    final FieldAccess access;
    final boolean debug;
    private final int context;
    private final int l2Vms;

    /// The caller's registers, host or guest.
    public interface Registers {
        void set(int register, long value);
    }

    /// @param debug whether the host debugs the TD
    /// @param l2Vms number of the TD's L2 VMs: those that it lacks have no fields
    Metadata(int context, FieldAccess access, boolean debug, int l2Vms) {
        this.context = context;
        this.access = access;
        this.debug = debug;
        this.l2Vms = l2Vms;
    }

    /// The element's value; what the caller may not see is masked out later.
    abstract long get(Field field, long id) throws LeafFailure;

    /// Writes an element.
    ///
    /// @return the old value
    abstract long put(Field field, long id, long value, long requestMask) throws LeafFailure;

    /// Whether [#list] writes the element; it leaves the place of others as it was.
    boolean isListed(Field field, long id) {
        return true;
    }

    private FieldCursor cursor(long id) {
        return new FieldCursor(context, FieldId.withContext(id, context), l2Vms);
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

    /// Reads an element to R8.
    public final void read(long id, Registers out) throws LeafFailure {
        out.set(LpState.R8, element(require(id), 0));
    }

    /// Reads an element to R8 and names the next one that the caller can read in RDX; for "no field" names the first.
    public final void readAndStep(long id, Registers out) throws LeafFailure {
        if (FieldId.isNone(id)) {
            out.set(LpState.RDX, next(FieldId.NONE));
            throw new LeafFailure(TdxStatus.METADATA_FIRST_FIELD_ID_IN_CONTEXT);
        }
        long value = element(require(id), 0);
        out.set(LpState.RDX, next(id));
        out.set(LpState.R8, value);
    }

    /// Writes the bits of an element that `requestMask` selects.
    ///
    /// @return what the caller could read before
    public final long write(long id, long value, long requestMask) throws LeafFailure {
        var cursor = require(id);
        return put(cursor.field(), cursor.id(), value, requestMask);
    }

    /// What the caller sees of the element `distance` elements behind the position.
    private long element(FieldCursor cursor, int distance) throws LeafFailure {
        var field = cursor.field();
        long value = get(field, cursor.id() + (long) distance * field.stride());
        long mask = access.readMask(field, debug);
        if (mask == 0) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_NOT_READABLE);
        }
        return value & mask & field.elementMask();
    }

    private long next(long id) {
        var cursor = cursor(id);
        cursor.advance(true, access, debug);
        return cursor.id();
    }

    /// Fails unless a write leaves the bits alone that are asked for but not writable.
    static void requireUnchanged(long current, long value, long requestMask, long writeMask) throws LeafFailure {
        long forbidden = requestMask & ~writeMask;
        if ((current & forbidden) != (value & forbidden)) {
            throw new LeafFailure(TdxStatus.METADATA_FIELD_VALUE_NOT_VALID);
        }
    }

    /// Writes a list of sequences of readable fields, from `firstId` on, to the page at `hpa` and names the field that did not fit
    /// any more, or none, in R8. [TDX-ABI "Metadata List"]
    public final void list(PhysicalMemory memory, long hpa, long firstId, Registers out) throws LeafFailure {
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
            int bytes = sequence(memory, hpa, used, cursor);
            if (bytes > 0) {
                used += bytes;
                sequences++;
            }
        }
        memory.write(hpa, 2, used);
        memory.write(hpa + 2, 2, sequences);
        out.set(LpState.R8, cursor.id());
        if (!cursor.isEnd()) {
            throw new LeafFailure(TdxStatus.METADATA_LIST_OVERFLOW);
        }
    }

    private static boolean fits(FieldCursor cursor, int used) {
        return used + 8 * cursor.field().elements() <= LIST_BYTES;
    }

    /// Writes consecutive fields of one shape.
    ///
    /// @return bytes written, 0 when nothing was readable
    private int sequence(PhysicalMemory memory, long hpa, int at, FieldCursor cursor) throws LeafFailure {
        long header = 0;
        int used = at + SEQUENCE_HEADER;
        long fields = 0;
        while (fits(cursor, used)) {
            var field = cursor.field();
            int elements = field.elements();
            boolean readable = access.readMask(field, debug) != 0;
            if (readable) {
                for (int i = 0; i < elements; i++) {
                    long value = element(cursor, i);
                    if (isListed(field, cursor.id() + (long) i * field.stride())) {
                        memory.write(hpa + used + 8 * i, 8, value);
                    }
                }
                header = fields == 0 ? sequenceHeader(cursor.id(), elements) : header;
                fields++;
                used += 8 * elements;
            }
            long last = cursor.id();
            cursor.advance(false, access, debug);
            if (!readable || cursor.isEnd() || FieldId.classCode(last) != FieldId.classCode(cursor.id())
                    || FieldId.code(last) + elements * FieldId.stride(last) != FieldId.code(cursor.id())
                    || elements != cursor.field().elements() || FieldId.sizeCode(last) != FieldId.sizeCode(cursor.id())) {
                break;
            }
        }
        if (fields == 0) {
            return 0;
        }
        memory.write(hpa + at, 8, header | ((fields - 1) << 38));
        return used - at;
    }

    private static long sequenceHeader(long id, int elements) {
        return (id & ~((0xffL << 24) | (0x1fffL << 34) | (7L << 47) | (1L << 51) | (1L << 55) | (1L << 62)))
                | ((long) (elements - 1) << 34);
    }
}
