package cloister.tdx.core;

import cloister.spec.tdx.FieldTable.Field;

/// Who accesses metadata fields, and whether to write.
public enum FieldAccess {
    HOST_READ, HOST_WRITE, GUEST_READ, GUEST_WRITE;

    public boolean isWrite() {
        return this == HOST_WRITE || this == GUEST_WRITE;
    }

    boolean isHost() {
        return this == HOST_READ || this == HOST_WRITE;
    }

    long readMask(Field field, boolean debug) {
        return !isHost() ? field.guestRead() : debug ? field.debugRead() : field.hostRead();
    }

    long writeMask(Field field, boolean debug) {
        return switch (this) {
            case HOST_WRITE -> debug ? field.debugWrite() : field.hostWrite();
            case GUEST_WRITE -> field.guestWrite();
            default -> 0;
        };
    }
}
