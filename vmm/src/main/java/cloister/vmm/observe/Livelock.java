package cloister.vmm.observe;

/// Host threads run and nothing comes of it; the message says what each of them does. Thrown on one of them, whose run it ends.
public final class Livelock extends RuntimeException {
    Livelock(String message) {
        super(message);
    }
}
