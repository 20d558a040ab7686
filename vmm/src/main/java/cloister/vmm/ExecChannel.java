package cloister.vmm;

import cloister.devices.ByteSink;
import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;

/// The host's end of ttyS1: says when the guest is ready for the command's standard input, passes the command's output on and catches its
/// exit status. [Initramfs] sends `SOH "cloister-ready" SOH` before anything else, if it does, and `SOH "cloister-exit " decimal SOH`
/// at last. Only the last thing that arrives counts as the status: the same bytes followed by more output are output.
public final class ExecChannel implements ByteSink {
    private static final byte SOH = 1;
    private static final byte[] READY = "\u0001cloister-ready\u0001".getBytes(StandardCharsets.US_ASCII);
    private static final byte[] START = "\u0001cloister-exit ".getBytes(StandardCharsets.US_ASCII);
    private static final int LONGEST = START.length + 4;

    private final ByteSink output;
    private final byte[] held = new byte[LONGEST];
    private Runnable onReady = () -> { };
    private int greeted;
    private boolean begun;
    private int heldCount;
    private boolean complete;

    /// @param output receives the command's output, byte by byte
    public ExecChannel(ByteSink output) {
        this.output = output;
    }

    /// Sets what to do when the guest can take standard input.
    void onReady(Runnable action) {
        onReady = action;
    }

    @Override public void accept(int octet) {
        if (begun) {
            take(octet);
        } else if (octet == READY[greeted]) {
            greeted++;
            if (greeted == READY.length) {
                begun = true;
                onReady.run();
            }
        } else {
            begin();
            take(octet);
        }
    }

    /// There was no greeting: what looked like one is output.
    private void begin() {
        begun = true;
        for (int i = 0; i < greeted; i++) {
            take(READY[i]);
        }
    }

    private void take(int octet) {
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
        if (!begun) {
            begin();
        }
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
