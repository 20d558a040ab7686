package cloister.vmm;

import cloister.devices.ByteSource;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.nio.charset.StandardCharsets;

/// Standard input of the command on its way into the guest over ttyS1, which has no end of its own: pieces, each after its length
/// in decimal digits on a line, and at last a 0. [Initramfs] reads that. Nothing is sent before the guest is ready for it.
final class ExecInput implements ByteSource, Persistent {
    private static final int LONGEST = 4096;

    private final GuestInput input;
    private final byte[] piece = new byte[LONGEST];
    private byte[] length = {};
    private int lengthAt;
    private int pieceAt;
    private int pieceEnd;
    private boolean ready;
    private boolean ended;

    ExecInput(GuestInput input) {
        this.input = input;
    }

    /// The guest reads from now on.
    void ready() {
        ready = true;
    }

    @Override public int next() {
        if (!ready) {
            return NONE;
        }
        if (lengthAt == length.length && pieceAt == pieceEnd && !ended) {
            fill();
        }
        if (lengthAt < length.length) {
            return length[lengthAt++];
        }
        return pieceAt < pieceEnd ? piece[pieceAt++] & 0xff : NONE;
    }

    private void fill() {
        pieceAt = 0;
        pieceEnd = 0;
        for (int octet = input.next(); octet != NONE; octet = input.next()) {
            piece[pieceEnd++] = (byte) octet;
            if (pieceEnd == LONGEST) {
                break;
            }
        }
        ended = pieceEnd == 0 && input.ended();
        if (pieceEnd > 0 || ended) {
            length = (pieceEnd + "\n").getBytes(StandardCharsets.US_ASCII);
            lengthAt = 0;
        }
    }

    @Override public String stateName() {
        return "execInput";
    }

    @Override public void describe(StateSink out) {
        out.bytes("length", length);
        out.bytes("piece", piece);
        out.field("lengthAt", lengthAt);
        out.field("pieceAt", pieceAt);
        out.field("pieceEnd", pieceEnd);
        out.flag("ready", ready);
        out.flag("ended", ended);
    }
}
