package cloister.cli.trace;

import cloister.vmm.observe.CallOperands;
import cloister.vmm.observe.TraceEvent;
import java.io.IOException;
import java.io.OutputStream;

/// A trace for programs: one JSON object per line, described by docs/trace.schema.json. Times are virtual nanoseconds, registers
/// hexadecimal strings. What begins and ends is one object at its end, with `began`.
final class JsonTrace implements TraceWriter {
    private final OutputStream out;
    private final StringBuilder line = new StringBuilder(512);

    JsonTrace(OutputStream out) {
        this.out = out;
    }

    /// Members of one nested object.
    private final class Members implements CallOperands.Sink {
        private boolean any;

        @Override public void number(String name, long value) {
            member(name);
            line.append("\"0x").append(Long.toHexString(value)).append('"');
        }

        @Override public void word(String name, String value) {
            member(name);
            string(value);
        }

        private void member(String name) {
            line.append(any ? ",\"" : "\"").append(name).append("\":");
            any = true;
        }
    }

    @Override public void write(TraceEvent event) throws IOException {
        line.setLength(0);
        switch (event) {
            case TraceEvent.SeamcallEntry e -> { }
            case TraceEvent.TdcallEntry e -> { }
            case TraceEvent.GuestEntry e -> { }
            case TraceEvent.SeamcallReturn e -> {
                begin(e);
                count("began", e.began());
                count("lp", e.lp());
                count("thread", e.thread());
                word("status", CallOperands.statusOfSeamcall(e.out()[0]));
                number("rax", e.out()[0]);
                in(sink -> CallOperands.ofSeamcall(e.in(), sink));
                out(sink -> CallOperands.ofSeamcallReturn(e.in(), e.out(), sink));
            }
            case TraceEvent.TdcallReturn e -> {
                begin(e);
                count("began", e.began());
                count("lp", e.lp());
                count("vcpu", e.vcpu());
                in(sink -> CallOperands.ofTdcall(e.in(), sink));
                line.append(",\"again\":").append(e.again());
                if (e.out() != null) {
                    word("status", CallOperands.statusOfTdcall(e.in(), e.out()));
                    number("rax", e.out()[0]);
                    out(sink -> CallOperands.ofTdcallReturn(e.in(), e.out(), sink));
                }
            }
            case TraceEvent.GuestExit e -> {
                begin(e);
                count("began", e.began());
                count("lp", e.lp());
                count("vcpu", e.vcpu());
                word("to", e.toModule() ? "module" : "kvm");
                number("reason", e.reason() & 0xffff_ffffL);
                number("qualification", e.qualification());
                number("rip", e.rip());
                if (e.hasGpa()) {
                    number("gpa", e.gpa());
                }
            }
            case TraceEvent.Baton e -> {
                begin(e);
                count("to", e.to());
                count("from", e.from());
                line.append(",\"waits\":").append(e.waits());
            }
            case TraceEvent.LockPoint e -> {
                begin(e);
                count("thread", e.thread());
                word("lock", e.lock());
                number("where", e.where());
            }
            case TraceEvent.ConsoleLine e -> {
                begin(e);
                word("text", e.text());
            }
            case TraceEvent.UserExit e -> {
                begin(e);
                count("vcpu", e.vcpu());
                word("detail", e.detail());
            }
        }
        if (!line.isEmpty()) {
            out.write(TraceWriter.utf8(line.append("}\n")));
        }
    }

    private void begin(TraceEvent event) {
        line.append("{\"nanos\":").append(event.nanos()).append(",\"kind\":\"").append(event.kind().label()).append('"');
        word("name", event.name());
    }

    private void count(String name, long value) {
        line.append(",\"").append(name).append("\":").append(value);
    }

    private void number(String name, long value) {
        line.append(",\"").append(name).append("\":\"0x").append(Long.toHexString(value)).append('"');
    }

    private void word(String name, String value) {
        line.append(",\"").append(name).append("\":");
        string(value);
    }

    private interface Operands {
        void show(CallOperands.Sink sink);
    }

    private void in(Operands operands) {
        object("in", operands);
    }

    private void out(Operands operands) {
        object("out", operands);
    }

    private void object(String name, Operands operands) {
        line.append(",\"").append(name).append("\":{");
        operands.show(new Members());
        line.append('}');
    }

    /// [RFC8259 "Strings"]
    private void string(String value) {
        line.append('"');
        for (int i = 0; i < value.length(); i++) {
            char c = value.charAt(i);
            if (c == '"' || c == '\\') {
                line.append('\\').append(c);
            } else if (c < ' ') {
                line.append("\\u00").append(Character.forDigit(c >> 4, 16)).append(Character.forDigit(c & 15, 16));
            } else {
                line.append(c);
            }
        }
        line.append('"');
    }

    @Override public void close() throws IOException {
        out.close();
    }
}
