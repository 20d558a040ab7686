package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;

/// An interface function ends with a status other than success. Stackless: a host or guest causes it at will.
final class LeafFailure extends Exception {
    private static final long serialVersionUID = 1L;
    private final long status;

    LeafFailure(long status) {
        super(null, null, false, false);
        this.status = status;
    }

    LeafFailure(TdxStatus status) {
        this(status.code());
    }

    LeafFailure(TdxStatus status, long detail) {
        this(status.with(detail));
    }

    /// RAX.
    long status() {
        return status;
    }

    @Override public String getMessage() {
        return TdxStatus.of(status) + String.format(" 0x%016x", status);
    }
}
