package cloister.cli;

import cloister.vmm.GuestInput;
import java.io.BufferedInputStream;
import java.io.FileDescriptor;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;

/// Our standard input as input of the guest. A file is read when the guest asks, so that the same file makes the same run. A pipe
/// or a terminal is read by a thread of its own, at most so far ahead as [#PIECES_AHEAD] say.
final class StandardInput implements GuestInput {
    private static final int PIECE_BYTES = 8192;
    private static final int PIECES_AHEAD = 8;
    private static final Path HERE = Path.of("/dev/fd/0");

    private final InputStream in = new FileInputStream(FileDescriptor.in);
    private final InputStream file;
    private final BlockingQueue<byte[]> pieces = new ArrayBlockingQueue<>(PIECES_AHEAD);
    private byte[] piece = {};
    private int at;
    private volatile boolean ended;

    /// Who is told of what a pipe or terminal brings, on the reading thread.
    interface Listener {
        /// There is something to read.
        void arrived();

        /// The end came.
        void ended();

        /// What is left for the guest of what came.
        default byte[] filter(byte[] bytes) {
            return bytes;
        }
    }

    StandardInput() {
        file = isFile() ? new BufferedInputStream(in, PIECE_BYTES) : null;
    }

    private static boolean isFile() {
        try {
            return Files.isRegularFile(HERE) || !Files.exists(HERE) || Files.isSameFile(HERE, Path.of("/dev/null"));
        } catch (IOException e) {
            return false;
        }
    }

    /// Whether it brings something at a time of its own, so that there is something to wait for.
    boolean isLive() {
        return file == null;
    }

    /// Begins to read, where that takes waiting.
    void start(Listener listener) {
        if (isLive()) {
            Thread.ofPlatform().daemon().name("standard-input").start(() -> read(listener));
        }
    }

    private void read(Listener listener) {
        byte[] buffer = new byte[PIECE_BYTES];
        try {
            for (int length = in.read(buffer); length >= 0; length = in.read(buffer)) {
                byte[] bytes = listener.filter(Arrays.copyOf(buffer, length));
                if (bytes.length > 0) {
                    pieces.put(bytes);
                    listener.arrived();
                }
            }
        } catch (IOException e) {
            System.err.println("cloister: standard input ended: " + e.getMessage());
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        ended = true;
        listener.ended();
    }

    @Override public int next() {
        if (file != null) {
            return nextOfFile();
        }
        if (at == piece.length) {
            var next = pieces.poll();
            if (next == null) {
                return NONE;
            }
            piece = next;
            at = 0;
        }
        return piece[at++] & 0xff;
    }

    private int nextOfFile() {
        if (ended) {
            return NONE;
        }
        try {
            int octet = file.read();
            ended = octet < 0;
            return octet < 0 ? NONE : octet;
        } catch (IOException e) {
            ended = true; // not open for reading, for example
            return NONE;
        }
    }

    @Override public boolean ended() {
        return ended && pieces.isEmpty() && at == piece.length;
    }
}
