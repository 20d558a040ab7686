package cloister.devices;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.ByteArrayOutputStream;
import java.util.ArrayDeque;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

final class Uart16550Test {
    private static final int BASE = 0x3f8;
    private static final int DATA = 0;
    private static final int IER = 1;
    private static final int IIR = 2;
    private static final int FCR = 2;
    private static final int LCR = 3;
    private static final int MCR = 4;
    private static final int LSR = 5;
    private static final int MSR = 6;
    private static final int SCR = 7;

    private final ByteArrayOutputStream sent = new ByteArrayOutputStream();
    private final ArrayDeque<Integer> line = new ArrayDeque<>();
    private boolean irq;
    private int edges;
    private Uart16550 uart;

    @BeforeEach void powerOn() {
        uart = new Uart16550(BASE, level -> {
            edges += level && !irq ? 1 : 0;
            irq = level;
        }, sent::write, () -> line.isEmpty() ? ByteSource.NONE : line.remove());
    }

    private void receive(String text) {
        text.chars().forEach(line::add);
        uart.inputReady();
    }

    private int in(int register) {
        return uart.readPort(BASE + register, 1);
    }

    private void out(int register, int value) {
        uart.writePort(BASE + register, 1, value);
    }

    /// What Linux's 8250 driver does to recognise a 16550A.
    @Test void linuxRecognisesA16550a() {
        out(IER, 0);
        assertThat(in(IER)).isZero();
        out(IER, 0xf);
        assertThat(in(IER)).isEqualTo(0xf);
        out(IER, 0x40);
        assertThat(in(IER)).as("no XScale UUE bit").isZero();
        out(MCR, 0x10 | 0x0a);
        assertThat(in(MSR) & 0xf0).as("loopback: OUT2 to DCD, RTS to CTS").isEqualTo(0x90);
        out(MCR, 0);
        out(FCR, 0);
        assertThat(in(IIR) >> 6).isZero();
        out(FCR, 1);
        assertThat(in(IIR) >> 6).as("working FIFOs").isEqualTo(3);
        out(SCR, 0x5a);
        assertThat(in(SCR)).isEqualTo(0x5a);
        out(LCR, 0x80);
        out(0, 0x34);
        out(1, 0x12);
        assertThat(in(0) | (in(1) << 8)).isEqualTo(0x1234);
        out(LCR, 3);
        assertThat(in(1)).as("the divisor is hidden again").isZero();
    }

    @Test void transmitsAtOnceAndAsksForMore() {
        out(MCR, 8);
        assertThat(in(LSR)).isEqualTo(0x60);
        out(IER, 2);
        assertThat(irq).as("enabling with an empty transmitter").isTrue();
        assertThat(in(IIR)).isEqualTo(2);
        assertThat(irq).as("reading IIR acknowledges").isFalse();
        assertThat(in(IIR)).isEqualTo(1);
        int before = edges;
        out(DATA, 'A');
        out(DATA, 'B');
        assertThat(sent.toString()).isEqualTo("AB");
        assertThat(irq).isTrue();
        assertThat(edges - before).as("an edge per byte").isEqualTo(2);
    }

    @Test void receivesThroughTheFifoWithoutLoss() {
        out(FCR, 0x41); // trigger at 4
        out(IER, 1);
        out(MCR, 8 | 2);
        String input = "0123456789abcdefghij";
        receive(input);
        assertThat(irq).isTrue();
        assertThat(in(IIR)).isEqualTo(0xc4);
        var got = new StringBuilder();
        while ((in(LSR) & 1) != 0) {
            got.append((char) in(DATA));
        }
        assertThat(got).hasToString(input);
        assertThat(irq).isFalse();
        receive("x");
        assertThat(in(IIR)).as("fewer than the trigger level").isEqualTo(0xcc);
    }

    @Test void interruptNeedsOut2AsOnAPc() {
        out(IER, 1);
        out(MCR, 2);
        receive("\u0001");
        assertThat(irq).isFalse();
        out(MCR, 8 | 2);
        assertThat(irq).isTrue();
    }

    /// What Linux's driver does between power-on and the first read: nothing of what waits on the line may go.
    @Test void inputWaitsUntilThePortIsOpenAndWhileTheGuestHoldsItOff() {
        receive("early input");
        out(IER, 0xf);
        out(IER, 0);
        out(MCR, 0x10 | 0x0a);
        out(IER, 1);
        out(MCR, 8);
        out(FCR, 7);
        assertThat(in(DATA)).as("the driver reads once to clear the port").isZero();
        assertThat(in(LSR) & 1).isZero();
        out(IER, 1);
        out(MCR, 8 | 2 | 1);
        assertThat(irq).isTrue();
        assertThat(in(DATA)).isEqualTo('e');
        out(MCR, 8 | 1);
        var kept = new StringBuilder();
        while ((in(LSR) & 1) != 0) {
            kept.append((char) in(DATA));
        }
        assertThat(kept).as("what was in the FIFO when RTS went off").hasToString("arly input");
        receive("more");
        assertThat(in(LSR) & 1).as("held off").isZero();
        out(MCR, 8 | 2 | 1);
        assertThat(in(DATA)).isEqualTo('m');
    }

    @Test void loopbackReturnsDataAndReportsOverrun() {
        out(MCR, 0x10);
        out(DATA, 7);
        assertThat(sent.size()).isZero();
        out(DATA, 8);
        assertThat(in(LSR)).isEqualTo(0x63);
        assertThat(in(LSR)).as("reading clears the overrun").isEqualTo(0x61);
        assertThat(in(DATA)).isEqualTo(7);
    }

    @Test void modemStatusDeltasClearOnRead() {
        in(MSR);
        out(MCR, 0x10); // all inputs drop
        assertThat(in(MSR)).isEqualTo(0x0b);
        assertThat(in(MSR)).isZero();
        out(MCR, 0);
        assertThat(in(MSR)).isEqualTo(0xbb);
    }
}
