package cloister.vmm;

import cloister.devices.ByteSink;
import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;

/// The host's end of ttyS1: passes a command's output on and catches its exit status, which [Initramfs] sends as
/// `SOH "cloister-exit " decimal SOH`. Only the last thing that arrives counts as the status: the same bytes
/// followed by more output are output.
public final class ExecChannel implements ByteSink {
    private static final byte SOH = 1;
    private static final byte[] START = "\u0001cloister-exit ".getBytes(StandardCharsets.US_ASCII);
    private static final int LONGEST = START.length + 4;

    private final ByteSink output;
    private final byte[] held = new byte[LONGEST];
    private int heldCount;
    private boolean complete;

    /// @param output receives the command's output, byte by byte
    public ExecChannel(ByteSink output) {
        this.output = output;
    }

    @Override public void accept(int octet) {
        if (complete || !fits((byte) octet)) {
            release();
        }
        if (fits((byte) octet)) {
            complete = heldCount > START.length && octet == SOH;
            held[heldCount++] = (byte) octet;
        } else {
            output.accept(octet & 0xff);
        }
    }

    /// The command's exit status; empty when the guest ended without sending one. Called after the run: what looked
    /// like the start of a status goes to the output.
    public OptionalInt exitStatus() {
        if (!complete) {
            release();
            return OptionalInt.empty();
        }
        return OptionalInt.of(Integer.parseInt(
                new String(held, START.length, heldCount - START.length - 1, StandardCharsets.US_ASCII)));
    }

    private boolean fits(byte octet) {
        if (heldCount < START.length) {
            return octet == START[heldCount];
        }
        boolean digit = octet >= '0' && octet <= '9';
        return heldCount < LONGEST && ((digit && heldCount < LONGEST - 1) || (octet == SOH && heldCount > START.length));
    }

    private void release() {
        for (int i = 0; i < heldCount; i++) {
            output.accept(held[i] & 0xff);
        }
        heldCount = 0;
        complete = false;
    }
}
