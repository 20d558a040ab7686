package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

final class ConsoleOutputTest {
    private static void say(ConsoleOutput output, String text) {
        text.chars().forEach(output::accept);
    }

    @Test void everythingIsWrittenInOrder() {
        var stream = new ByteArrayOutputStream();
        var expected = new StringBuilder();
        try (var output = new ConsoleOutput(stream, "test", () -> { })) {
            for (int i = 0; i < 40_000; i++) {
                expected.append(i).append('\n');
                say(output, i + "\n");
            }
            say(output, "~ # ");
        }
        assertThat(stream).hasToString(expected + "~ # ");
    }

    @Test void aPromptWithoutALineEndIsShownWithoutMore() throws InterruptedException {
        var shown = new Semaphore(0);
        var stream = new OutputStream() {
            @Override public void write(int octet) {
                shown.release();
            }
        };
        try (var output = new ConsoleOutput(stream, "test", () -> { })) {
            say(output, "# ");
            assertThat(shown.tryAcquire(2, 10, TimeUnit.SECONDS)).isTrue();
        }
    }

    @Test void aFailureIsToldOnceAndTheRestIsDropped() throws InterruptedException {
        var failed = new CountDownLatch(1);
        var stream = new OutputStream() {
            @Override public void write(int octet) throws IOException {
                throw new IOException("full");
            }
        };
        try (var output = new ConsoleOutput(stream, "test", failed::countDown)) {
            say(output, "x\n");
            assertThat(failed.await(10, TimeUnit.SECONDS)).isTrue();
            say(output, "y".repeat(300_000));
            assertThat(output.failure()).hasMessage("full");
        }
    }

    @Test void whoDoesNotReadHoldsTheGuestUntilItIsAbandoned() throws InterruptedException {
        var stuck = new CountDownLatch(1);
        var stream = new OutputStream() {
            @Override public void write(int octet) {
                try {
                    stuck.await();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                }
            }
        };
        var output = new ConsoleOutput(stream, "test", () -> { });
        var guest = Thread.ofPlatform().daemon().start(() -> say(output, "z".repeat(300_000)));
        guest.join(200);
        assertThat(guest.isAlive()).isTrue();
        output.abandon();
        guest.join(10_000);
        assertThat(guest.isAlive()).isFalse();
        output.close();
        stuck.countDown();
    }
}
