package cloister.vmm;

import cloister.devices.ByteSource;

/// Input of the outside world for a guest.
public interface GuestInput extends ByteSource {
    /// Input that was at its end before it began.
    GuestInput NOTHING = of(EMPTY, true);

    /// Whether no byte will ever come again.
    boolean ended();

    /// Bytes of `source`; whether they have ended does not change.
    static GuestInput of(ByteSource source, boolean ended) {
        return new GuestInput() {
            @Override public int next() {
                return source.next();
            }

            @Override public boolean ended() {
                return ended;
            }
        };
    }
}
