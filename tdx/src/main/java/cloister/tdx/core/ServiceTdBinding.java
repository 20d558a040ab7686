package cloister.tdx.core;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;

/// A TD's binding to a service TD: its entry of SERVTD_BINDINGS_TABLE, which has but one slot. [TDX-BASE "Service TD Binding"]
public final class ServiceTdBinding {
    /// The size of the table: a TD has one service TD at most.
    public static final int SLOTS = 1;
    /// The only type of service TD: the migration TD.
    public static final int MIGRATION_TD = 0;
    private static final int STATE = Tdcs.SERVTD_BINDING;
    private static final int TYPE = Tdcs.SERVTD_BINDING + 2;
    private static final int ATTRIBUTES = Tdcs.SERVTD_BINDING + 8;
    private static final int UUID = Tdcs.SERVTD_BINDING + 16;
    private static final int INFO_HASH = Tdcs.SERVTD_BINDING + 48;
    private static final int HASHED_BYTES = Measurement.HASH_BYTES + Short.BYTES + Long.BYTES;
    private static final int IGNORED_SHIFT = 32;
    private static final int IGNORED = 0xffff;

    /// By number.
    public enum State { NOT_BOUND, PRE_BOUND, BOUND }

    private final Tdcs tdcs;

    public ServiceTdBinding(Tdcs tdcs) {
        this.tdcs = tdcs;
    }

    public LockWord lock() {
        return tdcs.lock(Tdcs.SERVTD_BINDINGS_LOCK);
    }

    public State state() {
        return State.values()[tdcs.u8(STATE)];
    }

    public void state(State state) {
        tdcs.u8(STATE, state.ordinal());
    }

    public int type() {
        return tdcs.u16(TYPE);
    }

    /// SERVTD_ATTR.
    public long attributes() {
        return tdcs.u64(ATTRIBUTES);
    }

    /// The fields of the service TD's TDINFO_STRUCT that do not count. See [TdInfo#of].
    public static int ignored(long attributes) {
        return (int) (attributes >>> IGNORED_SHIFT) & IGNORED;
    }

    public Bits256 uuid() {
        return Bits256.of(tdcs, UUID);
    }

    public byte[] infoHash() {
        return tdcs.bytes(INFO_HASH, Measurement.HASH_BYTES);
    }

    /// What identifies the service TD; a TD that had none has one more.
    public void service(int type, long attributes, byte[] infoHash) {
        if (state() == State.NOT_BOUND) {
            tdcs.u16(Tdcs.SERVTD_NUM, tdcs.u16(Tdcs.SERVTD_NUM) + 1);
        }
        tdcs.u16(TYPE, type);
        tdcs.u64(ATTRIBUTES, attributes);
        tdcs.bytes(INFO_HASH, infoHash);
    }

    /// Binds the TD with that UUID.
    public void bind(Bits256 uuid) {
        uuid.store(tdcs, UUID);
        state(State.BOUND);
    }

    /// SERVTD_HASH: the hash over all service TDs, zero without one. [TDX-BASE "SERVTD_HASH"]
    public byte[] servtdHash() {
        if (state() == State.NOT_BOUND) {
            return new byte[Measurement.HASH_BYTES];
        }
        return Measurement.sha384(ByteBuffer.allocate(HASHED_BYTES).order(ByteOrder.LITTLE_ENDIAN).put(infoHash())
                .putShort((short) type()).putLong(attributes()).array());
    }
}
