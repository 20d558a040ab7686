package cloister.vmm;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.devices.ByteSource;
import cloister.sim.VirtualClock;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Input of the guest's console, and its end.
final class ConsoleInputTest {
    private static final long SECOND = 1_000_000_000L;
    private final StringBuilder console = new StringBuilder();

    /// Text that ends.
    private static GuestInput typed(String text) {
        byte[] bytes = text.getBytes(StandardCharsets.ISO_8859_1);
        int[] at = {0};
        return new GuestInput() {
            @Override public int next() {
                return at[0] < bytes.length ? bytes[at[0]++] & 0xff : NONE;
            }

            @Override public boolean ended() {
                return at[0] == bytes.length;
            }
        };
    }

    private MachineConfig echo(GuestInput input) {
        return new MachineConfig().vmType(VmType.DEFAULT).kernel(TinyGuest.echoKernel(), "echo").memoryBytes(8 << 20).consoleInput(input)
                .console(octet -> console.append((char) octet));
    }

    private Outcome run(GuestInput input) {
        try (var machine = new Machine(echo(input))) {
            return machine.run();
        }
    }

    @ParameterizedTest
    @CsvSource({"'',''", "'a line\n','a line\n'", "'no end','no end\n'"})
    void allInputArrivesAndThenCtrlDOnALineOfItsOwn(String input, String heard) {
        assertThat(run(typed(input))).isEqualTo(new Outcome.PowerOff());
        assertThat(console).hasToString("echo\n" + heard);
    }

    @Test void longInputArrivesWhole() {
        String text = "0123456789abcde\n".repeat(4000);
        assertThat(run(typed(text))).isEqualTo(new Outcome.PowerOff());
        assertThat(console).hasToString("echo\n" + text);
    }

    @Test void aGuestThatHaltsForEverStallsOnceItsInputHasEnded() {
        assertThat(run(typed("bye\u0003never read"))).isEqualTo(new Outcome.Stalled());
        console.setLength(0);
        try (var machine = new Machine(echo(typed("\u0003")).interactive(true))) {
            machine.inputEnded();
            assertThat(machine.run()).isEqualTo(new Outcome.Stalled());
        }
    }

    @Test void theReasonToStopIsTheOutcome() {
        for (var reason : List.of(new Outcome.Quit(), new Outcome.OutputLost(), new Outcome.TimedOut())) {
            try (var machine = new Machine(echo(GuestInput.of(ByteSource.EMPTY, false)))) {
                machine.requestStop(reason);
                machine.requestStop(new Outcome.PowerOff());
                assertThat(machine.run()).isEqualTo(reason);
            }
        }
    }

    @Test void ctrlDIsTypedAgainUntilTheGuestHasLongBeenSilent() {
        var clock = new VirtualClock(1000);
        var ready = new ArrayList<Long>();
        var silent = new AtomicLong();
        var feed = new ConsoleFeed(typed(""), octet -> { }, clock, () -> ready.add(clock.nanos() / SECOND), silent::set);
        int ends = 0;
        while (silent.get() == 0) {
            assertThat(feed.next()).isEqualTo(4);
            assertThat(feed.next()).as("not before its time").isEqualTo(ByteSource.NONE);
            if (++ends == 14) {
                feed.said('.');
            }
            clock.skipToNextDeadline();
        }
        assertThat(ready).startsWith(1L, 3L, 7L, 15L);
        assertThat(ends).as("the 14th was answered").isEqualTo(15);
        assertThat(silent).hasValue(8192);
    }

    @Test void aCommandsInputGoesInPiecesAfterTheWord() {
        var input = new ExecInput(typed("x".repeat(4096) + "\u00ff\n"));
        assertThat(input.next()).isEqualTo(ByteSource.NONE);
        input.ready();
        var sent = new StringBuilder();
        for (int octet = input.next(); octet != ByteSource.NONE; octet = input.next()) {
            sent.append((char) octet);
        }
        assertThat(sent).hasToString("4096\n" + "x".repeat(4096) + "2\n\u00ff\n" + "0\n");
    }
}
