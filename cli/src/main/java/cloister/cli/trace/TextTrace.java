package cloister.cli.trace;

import cloister.vmm.observe.CallOperands;
import cloister.vmm.observe.TraceEvent;
import java.io.IOException;
import java.io.OutputStream;

/// A trace for people: one line per event, with the virtual time in seconds. What begins and ends is one line at its end, which says
/// how long it took when virtual time passed.
final class TextTrace implements TraceWriter, CallOperands.Sink {
    private static final int NAME_COLUMN = 24;
    private static final int NANO_DIGITS = 9;
    private static final int SECONDS_COLUMN = 4;
    private final OutputStream out;
    private final StringBuilder line = new StringBuilder(256);

    TextTrace(OutputStream out) {
        this.out = out;
    }

    @Override public void write(TraceEvent event) throws IOException {
        line.setLength(0);
        switch (event) {
            case TraceEvent.SeamcallEntry e -> { }
            case TraceEvent.TdcallEntry e -> { }
            case TraceEvent.GuestEntry e -> { }
            case TraceEvent.SeamcallReturn e -> {
                begin(e, "LP", e.lp());
                CallOperands.ofSeamcall(e.in(), this);
                line.append(" -> ").append(CallOperands.statusOfSeamcall(e.out()[0]));
                CallOperands.ofSeamcallReturn(e.in(), e.out(), this);
                took(e.nanos() - e.began());
            }
            case TraceEvent.TdcallReturn e -> {
                begin(e, "vCPU", e.vcpu());
                CallOperands.ofTdcall(e.in(), this);
                if (e.out() == null) {
                    line.append(e.again() ? " -> is executed again" : " -> never returned");
                } else {
                    line.append(" -> ").append(CallOperands.statusOfTdcall(e.in(), e.out()));
                    CallOperands.ofTdcallReturn(e.in(), e.out(), this);
                    took(e.nanos() - e.began());
                }
            }
            case TraceEvent.GuestExit e -> {
                begin(e, "vCPU", e.vcpu());
                number("rip", e.rip());
                number("qualification", e.qualification());
                if (e.hasGpa()) {
                    number("gpa", e.gpa());
                }
                line.append(e.toModule() ? " to the TDX module" : " to KVM");
                took(e.nanos() - e.began());
            }
            case TraceEvent.Baton e -> {
                begin(e, "thread", e.to());
                if (e.from() != TraceEvent.NONE) {
                    line.append(e.waits() ? " because " : " instead of ").append(e.fromName()).append(e.waits() ? " waits" : "");
                }
            }
            case TraceEvent.LockPoint e -> {
                begin(e, "thread", e.thread());
                line.append(' ').append(e.lock());
                if (e.where() != 0) {
                    number("at", e.where());
                }
            }
            case TraceEvent.ConsoleLine e -> {
                time(e);
                line.append(' ').append(e.text());
            }
            case TraceEvent.UserExit e -> {
                begin(e, "vCPU", e.vcpu());
                line.append(' ').append(e.detail());
            }
        }
        if (!line.isEmpty()) {
            out.write(TraceWriter.utf8(line.append(System.lineSeparator())));
        }
    }

    private void time(TraceEvent event) {
        seconds(event.nanos(), SECONDS_COLUMN);
        line.append(" s ").append(event.kind().label());
        pad(line.length(), SECONDS_COLUMN + NANO_DIGITS + 1 + " s seamcall".length());
    }

    private void begin(TraceEvent event, String actor, int number) {
        time(event);
        line.append(' ');
        if (number == TraceEvent.NONE) {
            line.append("build");
        } else {
            line.append(actor).append(number);
        }
        int start = line.length();
        line.append(' ').append(event.name());
        pad(line.length() - start, NAME_COLUMN);
    }

    private void pad(int length, int width) {
        for (int i = length; i < width; i++) {
            line.append(' ');
        }
    }

    private void seconds(long nanos, int width) {
        String whole = Long.toString(nanos / 1_000_000_000);
        pad(whole.length(), width);
        String rest = Long.toString(nanos % 1_000_000_000);
        line.append(whole).append('.').append("0".repeat(NANO_DIGITS - rest.length())).append(rest);
    }

    private void took(long nanos) {
        if (nanos > 0) {
            line.append(" after ").append(nanos).append(" ns");
        }
    }

    @Override public void number(String name, long value) {
        line.append(' ').append(name).append("=0x").append(Long.toHexString(value));
    }

    @Override public void word(String name, String value) {
        line.append(' ').append(name).append('=').append(value);
    }

    @Override public void close() throws IOException {
        out.close();
    }
}
