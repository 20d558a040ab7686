package cloister.tdx.core;

import cloister.spec.tdx.FieldTable.Field;
import cloister.spec.tdx.ServiceTdFields;

/// Who accesses metadata fields, and whether to write.
public enum FieldAccess {
    HOST_READ, HOST_WRITE, GUEST_READ, GUEST_WRITE, SERVICE_TD_READ, SERVICE_TD_WRITE;

    public boolean isWrite() {
        return this == HOST_WRITE || this == GUEST_WRITE || this == SERVICE_TD_WRITE;
    }

    boolean isHost() {
        return this == HOST_READ || this == HOST_WRITE;
    }

    long readMask(Field field, boolean debug) {
        return switch (this) {
            case HOST_READ, HOST_WRITE -> debug ? field.debugRead() : field.hostRead();
            case GUEST_READ, GUEST_WRITE -> field.guestRead();
            case SERVICE_TD_READ, SERVICE_TD_WRITE -> ServiceTdFields.readMask(field);
        };
    }

    long writeMask(Field field, boolean debug) {
        return switch (this) {
            case HOST_WRITE -> debug ? field.debugWrite() : field.hostWrite();
            case GUEST_WRITE -> field.guestWrite();
            case SERVICE_TD_WRITE -> ServiceTdFields.writeMask(field);
            case HOST_READ, GUEST_READ, SERVICE_TD_READ -> 0;
        };
    }
}
