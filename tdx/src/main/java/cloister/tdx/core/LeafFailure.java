package cloister.tdx.core;

import cloister.spec.tdx.TdxStatus;
import java.util.Locale;

/// An interface function ends with a status other than success. Stackless: a host or guest causes it at will.
public final class LeafFailure extends Exception {
    private static final long serialVersionUID = 1L;
    private final long status;

    public LeafFailure(long status) {
        super(null, null, false, false);
        this.status = status;
    }

    public LeafFailure(TdxStatus status) {
        this(status.code());
    }

    public LeafFailure(TdxStatus status, long detail) {
        this(status.with(detail));
    }

    /// RAX.
    public long status() {
        return status;
    }

    @Override public String getMessage() {
        return TdxStatus.of(status) + String.format(Locale.ROOT, " 0x%016x", status);
    }
}
