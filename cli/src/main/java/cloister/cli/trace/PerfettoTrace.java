package cloister.cli.trace;

import cloister.spec.vmx.ExitReason;
import cloister.vmm.observe.CallOperands;
import cloister.vmm.observe.TraceEvent;
import cloister.vmm.observe.TraceEvent.LockStep;
import cloister.vmm.observe.TraceKind;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.zip.Deflater;

/// A trace for ui.perfetto.dev and its trace_processor: track events of one packet sequence, with interned names, times as differences
/// from the packet before, and packets deflated by the half megabyte. A track per logical processor (SEAMCALLs, the guest inside
/// TDH.VP.ENTER), per host thread (when it runs, which lock it waits for), per vCPU (the guest's runs, TDCALLs), for the console, and
/// counters. [PERFETTO "trace_packet.proto", "track_event.proto"]
final class PerfettoTrace implements TraceWriter {
    // TracePacket
    private static final int PACKET = 1;
    private static final int CLOCK_SNAPSHOT = 6;
    private static final int TIMESTAMP = 8;
    private static final int SEQUENCE_ID = 10;
    private static final int TRACK_EVENT = 11;
    private static final int INTERNED_DATA = 12;
    private static final int SEQUENCE_FLAGS = 13;
    private static final int COMPRESSED_PACKETS = 50;
    private static final int DEFAULTS = 59;
    private static final int TRACK_DESCRIPTOR = 60;
    private static final int STATE_CLEARED = 1;
    private static final int NEEDS_STATE = 2;
    // ClockSnapshot, TracePacketDefaults
    private static final int CLOCKS = 1;
    private static final int PRIMARY_CLOCK = 2;
    private static final int CLOCK_ID = 1;
    private static final int CLOCK_TIMESTAMP = 2;
    private static final int CLOCK_INCREMENTAL = 3;
    private static final int DEFAULT_CLOCK = 58;
    private static final int BOOTTIME = 6;
    private static final int OUR_CLOCK = 64; // 64 to 127 belong to a sequence
    // TrackDescriptor, CounterDescriptor
    private static final int TRACK_UUID = 1;
    private static final int TRACK_NAME = 2;
    private static final int TRACK_PARENT = 5;
    private static final int TRACK_COUNTER = 8;
    private static final int COUNTER_UNIT = 3;
    private static final int UNIT_COUNT = 2;
    // TrackEvent
    private static final int ANNOTATION = 4;
    private static final int TYPE = 9;
    private static final int NAME_IID = 10;
    private static final int EVENT_TRACK = 11;
    private static final int NAME = 23;
    private static final int COUNTER_VALUE = 30;
    private static final int SLICE_BEGIN = 1;
    private static final int SLICE_END = 2;
    private static final int INSTANT = 3;
    private static final int COUNTER = 4;
    // DebugAnnotation, InternedData
    private static final int ANNOTATION_NAME_IID = 1;
    private static final int ANNOTATION_POINTER = 7;
    private static final int ANNOTATION_STRING_IID = 17;
    private static final int EVENT_NAMES = 2;
    private static final int ANNOTATION_NAMES = 3;
    private static final int ANNOTATION_STRINGS = 29;
    private static final int IID = 1;
    private static final int INTERNED_TEXT = 2;

    private static final int SEQUENCE = 1;
    private static final int CHUNK = 1 << 19;

    private final OutputStream out;
    private final boolean hostClock;
    private final long started = System.nanoTime();
    private final Protobuf packets = new Protobuf();
    private final Deflater deflater = new Deflater();
    private final byte[] deflated = new byte[1 << 16];
    private final Strings names = new Strings(EVENT_NAMES);
    private final Strings annotationNames = new Strings(ANNOTATION_NAMES);
    private final Strings annotationStrings = new Strings(ANNOTATION_STRINGS);
    private final Map<String, Track> tracks = new LinkedHashMap<>();
    private final Map<String, Long> groups = new HashMap<>();
    private final Map<Integer, String> waits = new HashMap<>();
    private final PageStates pages = new PageStates();
    private final Annotations annotations = new Annotations();
    private long last;
    private long busy;
    private long uuids;

    /// A track and the number of its slices that are open.
    private static final class Track {
        final long uuid;
        int open;

        Track(long uuid) {
            this.uuid = uuid;
        }
    }

    /// Strings that are written once and meant by number from then on.
    private final class Strings {
        private final Map<String, Long> known = new HashMap<>();
        private final int field;

        Strings(int field) {
            this.field = field;
        }

        long iid(String text) {
            var iid = known.get(text);
            if (iid != null) {
                return iid;
            }
            long added = known.size() + 1;
            known.put(text, added);
            int packet = packets.begin(PACKET);
            packets.number(SEQUENCE_ID, SEQUENCE);
            packets.number(SEQUENCE_FLAGS, NEEDS_STATE);
            int data = packets.begin(INTERNED_DATA);
            int entry = packets.begin(field);
            packets.number(IID, added);
            packets.string(INTERNED_TEXT, text);
            packets.end(entry);
            packets.end(data);
            packets.end(packet);
            return added;
        }
    }

    /// Collects annotations before the packet that holds them begins, because new names are packets of their own.
    private final class Annotations implements CallOperands.Sink {
        private static final int MOST = 64;
        private final long[] name = new long[MOST];
        private final long[] value = new long[MOST];
        private final boolean[] isText = new boolean[MOST];
        private int count;

        @Override public void number(String key, long number) {
            add(key, number, false);
        }

        @Override public void word(String key, String text) {
            add(key, annotationStrings.iid(text), true);
        }

        private void add(String key, long number, boolean text) {
            name[count] = annotationNames.iid(key);
            value[count] = number;
            isText[count] = text;
            count++;
        }

        void write() {
            for (int i = 0; i < count; i++) {
                int annotation = packets.begin(ANNOTATION);
                packets.number(ANNOTATION_NAME_IID, name[i]);
                packets.number(isText[i] ? ANNOTATION_STRING_IID : ANNOTATION_POINTER, value[i]);
                packets.end(annotation);
            }
            count = 0;
        }
    }

    PerfettoTrace(OutputStream out, boolean hostClock) {
        this.out = out;
        this.hostClock = hostClock;
        int packet = packets.begin(PACKET);
        packets.number(SEQUENCE_ID, SEQUENCE);
        packets.number(SEQUENCE_FLAGS, STATE_CLEARED);
        int snapshot = packets.begin(CLOCK_SNAPSHOT);
        clock(BOOTTIME, false);
        clock(OUR_CLOCK, true);
        packets.number(PRIMARY_CLOCK, BOOTTIME);
        packets.end(snapshot);
        int defaults = packets.begin(DEFAULTS);
        packets.number(DEFAULT_CLOCK, OUR_CLOCK);
        packets.end(defaults);
        packets.end(packet);
    }

    private void clock(int id, boolean incremental) {
        int clock = packets.begin(CLOCKS);
        packets.number(CLOCK_ID, id);
        packets.number(CLOCK_TIMESTAMP, 0);
        if (incremental) {
            packets.number(CLOCK_INCREMENTAL, 1);
        }
        packets.end(clock);
    }

    /// Who waits for a lock shows only beside who runs.
    @Override public boolean alsoWants(TraceKind kind, TraceKind asked) {
        return kind == TraceKind.SCHED && asked == TraceKind.LOCK;
    }

    @Override public void write(TraceEvent event) throws IOException {
        long time = hostClock ? System.nanoTime() - started : event.nanos();
        switch (event) {
            case TraceEvent.SeamcallEntry e -> {
                CallOperands.ofSeamcall(e.in(), annotations);
                slice(lp(e.lp()), time, e.name());
            }
            case TraceEvent.SeamcallReturn e -> {
                annotations.word("status", CallOperands.statusOfSeamcall(e.out()[0]));
                CallOperands.ofSeamcallReturn(e.in(), e.out(), annotations);
                end(lp(e.lp()), time);
                if (e.busy()) {
                    counter("SEAMCALLs that found a lock taken", time, ++busy);
                }
                if (pages.seamcall(e)) {
                    countPages(time);
                }
            }
            case TraceEvent.TdcallEntry e -> {
                CallOperands.ofTdcall(e.in(), annotations);
                slice(vcpu(e.vcpu()), time, e.name());
            }
            case TraceEvent.TdcallReturn e -> {
                if (e.out() != null) {
                    annotations.word("status", CallOperands.statusOfTdcall(e.in(), e.out()));
                    CallOperands.ofTdcallReturn(e.in(), e.out(), annotations);
                }
                end(vcpu(e.vcpu()), time);
                if (pages.tdcall(e)) {
                    countPages(time);
                }
            }
            case TraceEvent.GuestEntry e -> {
                slice(lp(e.lp()), time, "guest of vCPU " + e.vcpu());
                slice(vcpu(e.vcpu()), time, "guest");
            }
            case TraceEvent.GuestExit e -> exit(e, time);
            case TraceEvent.Baton e -> baton(e, time);
            case TraceEvent.LockPoint e -> lock(e, time);
            case TraceEvent.ConsoleLine e -> instant(track("Console", ""), time, e.text(), false);
            case TraceEvent.UserExit e -> {
                annotations.word("detail", e.detail());
                instant(vcpu(e.vcpu()), time, "KVM_EXIT_" + e.reason(), true);
            }
        }
        if (packets.size() >= CHUNK) {
            flush();
        }
    }

    private void exit(TraceEvent.GuestExit e, long time) {
        annotations.word("exit", ExitReason.name(e.reason()));
        annotations.word("to", e.toModule() ? "TDX module" : "KVM");
        annotations.number("rip", e.rip());
        annotations.number("qualification", e.qualification());
        if (e.hasGpa()) {
            annotations.number("gpa", e.gpa());
        }
        var vcpu = vcpu(e.vcpu());
        if (vcpu.open == 0) { // its entry was not traced
            instant(vcpu, time, e.name(), true);
            return;
        }
        end(vcpu, time);
        end(lp(e.lp()), time);
    }

    private void baton(TraceEvent.Baton e, long time) {
        if (e.from() != TraceEvent.NONE) {
            var from = thread(e.from());
            end(from, time);
            var lock = waits.get(e.from());
            if (lock != null && e.waits()) {
                slice(from, time, "waits for " + lock);
            } else {
                waits.remove(e.from());
            }
        }
        var to = thread(e.to());
        if (waits.remove(e.to()) != null) {
            end(to, time);
        }
        slice(to, time, "runs");
    }

    private void lock(TraceEvent.LockPoint e, long time) {
        if (e.step() == LockStep.WAIT) {
            waits.put(e.thread(), e.lock());
        }
        annotations.word("lock", e.lock());
        if (e.where() != 0) {
            annotations.number("at", e.where());
        }
        instant(e.thread() == TraceEvent.NONE ? track("Host threads", "build") : thread(e.thread()), time, e.name(), true);
    }

    private void countPages(long time) {
        counter("Pages pending", time, pages.pending());
        counter("Pages mapped", time, pages.mapped());
        counter("Pages blocked", time, pages.blocked());
    }

    // Tracks

    private Track lp(int number) {
        return track("Logical processors", "LP" + number);
    }

    private Track thread(int number) {
        return track("Host threads", "thread " + number);
    }

    private Track vcpu(int number) {
        return track("vCPUs", number == TraceEvent.NONE ? "build" : "vCPU " + number);
    }

    private Track track(String group, String name) {
        return tracks.computeIfAbsent(name.isEmpty() ? group : group + "/" + name, key -> {
            long parent = name.isEmpty() ? 0 : track(group);
            return describe(name.isEmpty() ? group : name, parent, false);
        });
    }

    private long track(String group) {
        var known = groups.get(group);
        if (known == null) {
            known = describe(group, 0, false).uuid;
            groups.put(group, known);
        }
        return known;
    }

    private Track describe(String name, long parent, boolean counter) {
        var track = new Track(++uuids);
        int packet = packets.begin(PACKET);
        packets.number(SEQUENCE_ID, SEQUENCE);
        int descriptor = packets.begin(TRACK_DESCRIPTOR);
        packets.number(TRACK_UUID, track.uuid);
        packets.string(TRACK_NAME, name);
        if (parent != 0) {
            packets.number(TRACK_PARENT, parent);
        }
        if (counter) {
            int unit = packets.begin(TRACK_COUNTER);
            packets.number(COUNTER_UNIT, UNIT_COUNT);
            packets.end(unit);
        }
        packets.end(descriptor);
        packets.end(packet);
        return track;
    }

    // Events

    private void slice(Track track, long time, String name) {
        track.open++;
        event(track, time, SLICE_BEGIN, names.iid(name), null);
    }

    private void end(Track track, long time) {
        if (track.open == 0) { // its begin was not traced
            annotations.count = 0;
            return;
        }
        track.open--;
        event(track, time, SLICE_END, 0, null);
    }

    private void instant(Track track, long time, String name, boolean interned) {
        event(track, time, INSTANT, interned ? names.iid(name) : 0, interned ? null : name);
    }

    private void event(Track track, long time, int type, long nameIid, String name) {
        int packet = begin(time);
        int event = packets.begin(TRACK_EVENT);
        packets.number(TYPE, type);
        packets.number(EVENT_TRACK, track.uuid);
        if (nameIid != 0) {
            packets.number(NAME_IID, nameIid);
        } else if (name != null) {
            packets.string(NAME, name);
        }
        annotations.write();
        packets.end(event);
        packets.end(packet);
    }

    private void counter(String name, long time, long value) {
        var track = tracks.get("Counters/" + name);
        if (track == null) {
            track = describe(name, track("Counters"), true);
            tracks.put("Counters/" + name, track);
        }
        int packet = begin(time);
        int event = packets.begin(TRACK_EVENT);
        packets.number(TYPE, COUNTER);
        packets.number(EVENT_TRACK, track.uuid);
        packets.number(COUNTER_VALUE, value);
        packets.end(event);
        packets.end(packet);
    }

    private int begin(long time) {
        int packet = packets.begin(PACKET);
        packets.number(TIMESTAMP, Math.max(0, time - last));
        last = Math.max(last, time);
        packets.number(SEQUENCE_ID, SEQUENCE);
        packets.number(SEQUENCE_FLAGS, NEEDS_STATE);
        return packet;
    }

    private void flush() throws IOException {
        deflater.reset();
        deflater.setInput(packets.array(), 0, packets.size());
        deflater.finish();
        var content = new ByteArrayOutputStream();
        while (!deflater.finished()) {
            content.write(deflated, 0, deflater.deflate(deflated));
        }
        var compressed = new Protobuf();
        int packet = compressed.begin(PACKET);
        compressed.bytes(COMPRESSED_PACKETS, content.toByteArray());
        compressed.end(packet);
        compressed.writeTo(out);
        packets.clear();
    }

    @Override public void close() throws IOException {
        for (var track : tracks.values()) {
            while (track.open > 0) {
                end(track, last);
            }
        }
        flush();
        deflater.end();
        out.close();
    }
}
