package cloister.spec.tdx;

import java.util.Locale;

/// A raw completion status with its parts; keeps codes that it does not know.
///
/// @param raw RAX as the TDX module returned it
public record TdxReturn(long raw) {
    /// The named status, or null when the code is unknown.
    public TdxStatus status() {
        return TdxStatus.of(raw);
    }

    /// Bits 31:0: operand identifier, exit reason or other detail.
    public int detail() {
        return (int) raw;
    }

    /// Whether bit 63 is set.
    public boolean isError() {
        return raw < 0;
    }

    @Override public String toString() {
        var status = status();
        return (status == null ? "UNKNOWN" : status.name()) + String.format(Locale.ROOT, "(0x%016x)", raw);
    }
}
