package cloister.cli;

import cloister.devices.ByteSink;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.OutputStream;

/// What the guest says, on its way to a stream of ours. A thread of its own writes it: by lines, or what there is after a moment
/// without a line's end, such as a prompt. When the stream takes nothing for a while the guest waits; when it fails, that is told
/// once and the rest is dropped.
final class ConsoleOutput implements ByteSink, AutoCloseable {
    private static final int ROOM = 1 << 16;
    private static final long LINGER_MILLIS = 10;

    private final OutputStream stream;
    private final Runnable onFailure;
    private final Thread writer;
    private byte[] filling = new byte[ROOM];
    private byte[] writing = new byte[ROOM];
    private int count;
    private boolean lineEnded;
    private boolean closed;
    private boolean abandoned;
    private IOException failure;

    /// @param onFailure runs on another thread when the stream has failed
    ConsoleOutput(OutputStream stream, String name, Runnable onFailure) {
        this.stream = stream;
        this.onFailure = onFailure;
        writer = Thread.ofPlatform().daemon().name(name).start(this::write);
    }

    static ConsoleOutput standardOutput(Runnable onFailure) {
        return new ConsoleOutput(new FileOutputStream(FileDescriptor.out), "standard-output", onFailure);
    }

    static ConsoleOutput standardError(Runnable onFailure) {
        return new ConsoleOutput(new FileOutputStream(FileDescriptor.err), "standard-error", onFailure);
    }

    @Override public synchronized void accept(int octet) {
        while (count == ROOM && !abandoned) {
            if (!await(0)) {
                return;
            }
        }
        if (abandoned) {
            return;
        }
        filling[count++] = (byte) octet;
        if (octet == '\n') {
            lineEnded = true;
        }
        if (count == 1 || octet == '\n') {
            notifyAll();
        }
    }

    private void write() {
        for (int length = take(); length > 0; length = take()) {
            try {
                stream.write(writing, 0, length);
            } catch (IOException e) {
                fail(e);
                return;
            }
        }
    }

    /// Swaps the buffers when there is something to write; 0 at the end.
    private synchronized int take() {
        while (count == 0 && !closed) {
            if (!await(0)) {
                return 0;
            }
        }
        if (!lineEnded && !closed && count < ROOM) {
            await(LINGER_MILLIS);
        }
        byte[] full = filling;
        filling = writing;
        writing = full;
        int length = count;
        count = 0;
        lineEnded = false;
        notifyAll();
        return length;
    }

    private boolean await(long millis) {
        try {
            wait(millis);
            return true;
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
            return false;
        }
    }

    private void fail(IOException e) {
        synchronized (this) {
            failure = e;
            abandoned = true;
            notifyAll();
        }
        onFailure.run();
    }

    /// Never makes anybody wait for the stream again: what it does not take is lost.
    synchronized void abandon() {
        abandoned = true;
        closed = true;
        notifyAll();
    }

    /// Why the stream could not be written; null when it could.
    synchronized IOException failure() {
        return failure;
    }

    /// Waits until everything is written.
    @Override public void close() {
        boolean wait;
        synchronized (this) {
            closed = true;
            wait = !abandoned;
            notifyAll();
        }
        if (wait) {
            try {
                writer.join();
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
            }
        }
    }
}
