package cloister.devices;

import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// A 16550A serial port. [National PC16550D data sheet]
///
/// Model rather than hardware: transmission takes no time, so the transmitter is always empty, and the receiver's
/// time-out comes at once. The baud rate divisor is storage. The other end of the line is a terminal with RTS/CTS flow control: it
/// sends while RTS is on and only then, so that neither the driver's start-up nor a full buffer of the guest loses a byte.
public final class Uart16550 implements PortDevice, Persistent {
    /// Ports that it occupies.
    public static final int PORTS = 8;

    private static final int IER_RECEIVE = 1;
    private static final int IER_TRANSMIT = 2;
    private static final int IER_LINE = 4;
    private static final int IER_MODEM = 8;
    private static final int IIR_NONE = 1;
    private static final int IIR_MODEM = 0;
    private static final int IIR_TRANSMIT = 2;
    private static final int IIR_RECEIVE = 4;
    private static final int IIR_LINE = 6;
    private static final int IIR_TIMEOUT = 0xc;
    private static final int IIR_FIFOS_ENABLED = 0xc0;
    private static final int FCR_ENABLE = 1;
    private static final int FCR_CLEAR_RECEIVER = 2;
    private static final int LCR_DLAB = 0x80;
    private static final int MCR_RTS = 2;
    private static final int MCR_OUT2 = 8;
    private static final int MCR_LOOP = 0x10;
    private static final int LSR_DATA_READY = 1;
    private static final int LSR_OVERRUN = 2;
    private static final int LSR_TRANSMITTER_EMPTY = 0x60;
    private static final int MSR_CTS_DSR_DCD = 0xb0;
    private static final int FIFO_DEPTH = 16;
    private static final int[] TRIGGER_LEVELS = {1, 4, 8, 14};

    private final int base;
    private final InterruptLine irq;
    private final ByteSink output;
    private final ByteSource input;
    private final int[] fifo = new int[FIFO_DEPTH];
    private int fifoHead;
    private int fifoCount;
    private int ier;
    private int fcr;
    private int lcr;
    private int mcr;
    private int msrDelta;
    private int modemInputs = MSR_CTS_DSR_DCD;
    private int scratch;
    private int divisor = 1;
    private boolean overrun;
    private boolean transmitPending;

    /// @param base   the first of its eight ports
    /// @param irq    driven while an enabled interrupt is pending and OUT2 is set, as on a PC
    /// @param output receives what the guest sends
    /// @param input  asked for a byte whenever one can be received
    public Uart16550(int base, InterruptLine irq, ByteSink output, ByteSource input) {
        this.base = base;
        this.irq = irq;
        this.output = output;
        this.input = input;
    }

    /// Says that the input may have something now. What it has stays there while the FIFO is full or the guest holds the line off.
    public void inputReady() {
        refill();
        update();
    }

    @Override public int readPort(int port, int size) {
        return switch (port - base) {
            case 0 -> dlab() ? divisor & 0xff : readReceiver();
            case 1 -> dlab() ? divisor >>> 8 : ier;
            case 2 -> readInterruptId();
            case 3 -> lcr;
            case 4 -> mcr;
            case 5 -> readLineStatus();
            case 6 -> readModemStatus();
            default -> scratch;
        };
    }

    @Override public void writePort(int port, int size, int value) {
        switch (port - base) {
            case 0 -> {
                if (dlab()) {
                    divisor = (divisor & 0xff00) | value;
                } else {
                    transmit(value);
                }
            }
            case 1 -> {
                if (dlab()) {
                    divisor = (divisor & 0xff) | (value << 8);
                } else {
                    writeInterruptEnable(value & 0xf);
                }
            }
            case 2 -> writeFifoControl(value);
            case 3 -> lcr = value;
            case 4 -> writeModemControl(value & 0x1f);
            case 7 -> scratch = value;
            default -> { } // the status registers are read-only here
        }
    }

    private boolean dlab() {
        return (lcr & LCR_DLAB) != 0;
    }

    private boolean loop() {
        return (mcr & MCR_LOOP) != 0;
    }

    private void transmit(int value) {
        if (!loop()) {
            output.accept(value);
        } else if (fifoCount < depth()) {
            push(value);
        } else {
            overrun = true;
        }
        transmitPending = true;
        irq.drive(false); // the request drops while the holding register is full, then an edge comes
        update();
    }

    private int readReceiver() {
        if (fifoCount == 0) {
            return 0;
        }
        int value = fifo[fifoHead];
        fifoHead = (fifoHead + 1) % FIFO_DEPTH;
        fifoCount--;
        refill();
        update();
        return value;
    }

    private void push(int value) {
        fifo[(fifoHead + fifoCount) % FIFO_DEPTH] = value & 0xff;
        fifoCount++;
    }

    private int depth() {
        return (fcr & FCR_ENABLE) != 0 ? FIFO_DEPTH : 1;
    }

    private void refill() {
        while (!loop() && (mcr & MCR_RTS) != 0 && fifoCount < depth()) {
            int octet = input.next();
            if (octet == ByteSource.NONE) {
                return;
            }
            push(octet);
        }
    }

    private void writeInterruptEnable(int value) {
        if ((value & ~ier & IER_TRANSMIT) != 0) {
            transmitPending = true; // enabling it while the holding register is empty requests at once
        }
        ier = value;
        update();
    }

    private void writeFifoControl(int value) {
        if ((value & FCR_CLEAR_RECEIVER) != 0 || ((value ^ fcr) & FCR_ENABLE) != 0) {
            fifoCount = 0;
        }
        fcr = (value & FCR_ENABLE) != 0 ? value & 0xc9 : 0;
        refill();
        update();
    }

    private void writeModemControl(int value) {
        mcr = value;
        int inputs = MSR_CTS_DSR_DCD;
        if (loop()) {
            inputs = ((mcr & 1) << 5) | ((mcr & 2) << 3) | ((mcr & 4) << 4) | ((mcr & 8) << 4);
        }
        int changed = inputs ^ modemInputs;
        int trailingRing = modemInputs & ~inputs & 0x40;
        msrDelta |= ((changed & 0xb0) | trailingRing) >>> 4;
        modemInputs = inputs;
        refill();
        update();
    }

    private int readInterruptId() {
        int id = pending();
        if (id == IIR_TRANSMIT) {
            transmitPending = false;
            update();
        }
        return id | ((fcr & FCR_ENABLE) != 0 ? IIR_FIFOS_ENABLED : 0);
    }

    private int readLineStatus() {
        int status = LSR_TRANSMITTER_EMPTY | (fifoCount > 0 ? LSR_DATA_READY : 0) | (overrun ? LSR_OVERRUN : 0);
        overrun = false;
        update();
        return status;
    }

    private int readModemStatus() {
        int status = modemInputs | msrDelta;
        msrDelta = 0;
        update();
        return status;
    }

    private int pending() {
        if ((ier & IER_LINE) != 0 && overrun) {
            return IIR_LINE;
        }
        if ((ier & IER_RECEIVE) != 0 && fifoCount > 0) {
            boolean timeout = (fcr & FCR_ENABLE) != 0 && fifoCount < TRIGGER_LEVELS[fcr >>> 6];
            return timeout ? IIR_TIMEOUT : IIR_RECEIVE;
        }
        if ((ier & IER_TRANSMIT) != 0 && transmitPending) {
            return IIR_TRANSMIT;
        }
        return (ier & IER_MODEM) != 0 && msrDelta != 0 ? IIR_MODEM : IIR_NONE;
    }

    private void update() {
        irq.drive(pending() != IIR_NONE && (mcr & MCR_OUT2) != 0 && !loop());
    }

    @Override public String stateName() {
        return "uart " + Integer.toHexString(base);
    }

    @Override public void describe(StateSink out) {
        out.words("fifo", Arrays.stream(fifo).asLongStream().toArray());
        out.field("fifoHead", fifoHead);
        out.field("fifoCount", fifoCount);
        out.field("ier", ier);
        out.field("fcr", fcr);
        out.field("lcr", lcr);
        out.field("mcr", mcr);
        out.field("msrDelta", msrDelta);
        out.field("modemInputs", modemInputs);
        out.field("scratch", scratch);
        out.field("divisor", divisor);
        out.flag("overrun", overrun);
        out.flag("transmitPending", transmitPending);
    }
}
