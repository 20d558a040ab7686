package cloister.cli.trace;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.vmm.observe.TraceEvent;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;
import org.junit.jupiter.api.Test;

/// Reads a trace as Perfetto's trace processor does, by a decoder of its own: field numbers and wire types by the published schema,
/// clocks, interned names, nesting of slices. [PERFETTO "trace_packet.proto", "track_event.proto", "interned_data.proto"]
class PerfettoTraceTest {
    /// A field of a message: a varint or bytes.
    private record Field(int number, long value, byte[] bytes) {
        Message message() {
            assertThat(bytes).as("field %d is a message", number).isNotNull();
            return new Message(bytes);
        }

        String text() {
            assertThat(bytes).as("field %d is a string", number).isNotNull();
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }

    private static final class Message {
        private final byte[] bytes;
        private int at;
        final List<Field> fields = new ArrayList<>();

        Message(byte[] bytes) {
            this.bytes = bytes;
            while (at < bytes.length) {
                long key = varint();
                int wire = (int) key & 7;
                assertThat(wire).as("wire type").isIn(0, 2);
                if (wire == 0) {
                    fields.add(new Field((int) (key >>> 3), varint(), null));
                } else {
                    int length = (int) varint();
                    assertThat(length).isBetween(0, bytes.length - at);
                    var content = new byte[length];
                    System.arraycopy(bytes, at, content, 0, length);
                    at += length;
                    fields.add(new Field((int) (key >>> 3), 0, content));
                }
            }
        }

        private long varint() {
            long value = 0;
            for (int shift = 0; ; shift += 7) {
                assertThat(shift).isLessThan(70);
                int octet = bytes[at++];
                value |= (octet & 0x7fL) << shift;
                if (octet >= 0) {
                    return value;
                }
            }
        }

        Field only(int number) {
            var found = fields.stream().filter(f -> f.number() == number).toList();
            assertThat(found).as("field %d", number).hasSizeLessThanOrEqualTo(1);
            return found.isEmpty() ? null : found.getFirst();
        }

        long number(int field, long absent) {
            var found = only(field);
            if (found == null) {
                return absent;
            }
            assertThat(found.bytes()).as("field %d is a number", field).isNull();
            return found.value();
        }

        List<Field> all(int number) {
            return fields.stream().filter(f -> f.number() == number).toList();
        }
    }

    private record Slice(String track, long begin, long end, String name, Map<String, Object> annotations) {
    }

    /// What the trace says.
    private static final class Reader {
        final Map<Long, String> tracks = new HashMap<>();
        final Map<Long, Long> parents = new HashMap<>();
        final Map<Long, Long> counterUnits = new HashMap<>();
        final Map<Long, String> names = new HashMap<>();
        final Map<Long, String> annotationNames = new HashMap<>();
        final Map<Long, String> annotationTexts = new HashMap<>();
        final Map<Long, Deque<Slice>> open = new HashMap<>();
        final List<Slice> slices = new ArrayList<>();
        final List<String> instants = new ArrayList<>();
        final Map<String, List<Long>> counters = new HashMap<>();
        long now;
        boolean hasClock;
        int packets;
        int compressed;

        void trace(byte[] bytes) throws DataFormatException {
            for (var field : new Message(bytes).fields) {
                assertThat(field.number()).as("Trace.packet").isEqualTo(1);
                packet(field.message());
            }
        }

        private void packet(Message packet) throws DataFormatException {
            var deflated = packet.only(50);
            if (deflated != null) {
                compressed++;
                assertThat(packet.fields).hasSize(1);
                trace(inflate(deflated.bytes()));
                return;
            }
            packets++;
            assertThat(packet.number(10, 0)).as("trusted_packet_sequence_id").isEqualTo(1);
            boolean cleared = (packet.number(13, 0) & 1) != 0;
            assertThat(cleared).as("the state is cleared by the first packet only").isEqualTo(packets == 1);
            if (packet.only(6) != null) {
                clock(packet);
            }
            for (var data : packet.all(12)) {
                intern(data.message());
            }
            var descriptor = packet.only(60);
            if (descriptor != null) {
                track(descriptor.message());
            }
            var event = packet.only(11);
            if (event != null) {
                assertThat(hasClock).isTrue();
                assertThat(packet.number(13, 0)).as("SEQ_NEEDS_INCREMENTAL_STATE").isEqualTo(2);
                assertThat(packet.only(8)).as("timestamp").isNotNull();
                now += packet.number(8, 0);
                event(event.message());
            }
        }

        private static byte[] inflate(byte[] bytes) throws DataFormatException {
            var inflater = new Inflater();
            inflater.setInput(bytes);
            var out = new ByteArrayOutputStream();
            var buffer = new byte[1 << 16];
            while (!inflater.finished()) {
                int count = inflater.inflate(buffer);
                assertThat(count + inflater.getRemaining()).isPositive();
                out.write(buffer, 0, count);
            }
            inflater.end();
            return out.toByteArray();
        }

        private void clock(Message packet) {
            var snapshot = packet.only(6).message();
            assertThat(snapshot.number(2, 0)).as("primary_trace_clock: BOOTTIME").isEqualTo(6);
            var clocks = snapshot.all(1).stream().map(Field::message).toList();
            assertThat(clocks).hasSize(2);
            assertThat(clocks.get(0).number(1, 0)).isEqualTo(6);
            long ours = clocks.get(1).number(1, 0);
            assertThat(ours).as("a sequence's own clock").isBetween(64L, 127L);
            assertThat(clocks.get(1).number(3, 0)).as("is_incremental").isEqualTo(1);
            assertThat(packet.only(59).message().number(58, 0)).as("timestamp_clock_id").isEqualTo(ours);
            now = clocks.get(1).number(2, -1);
            assertThat(clocks.get(0).number(2, -1)).isEqualTo(now);
            hasClock = true;
        }

        private void intern(Message data) {
            for (var field : data.fields) {
                var entry = field.message();
                var known = switch (field.number()) {
                    case 2 -> names;
                    case 3 -> annotationNames;
                    case 29 -> annotationTexts;
                    default -> throw new AssertionError("InternedData." + field.number());
                };
                assertThat(known.put(entry.number(1, 0), entry.only(2).text())).as("an iid is given once").isNull();
            }
        }

        private void track(Message descriptor) {
            long uuid = descriptor.number(1, 0);
            assertThat(uuid).isPositive();
            assertThat(tracks.put(uuid, descriptor.only(2).text())).isNull();
            long parent = descriptor.number(5, 0);
            if (parent != 0) {
                assertThat(tracks).containsKey(parent);
                parents.put(uuid, parent);
            }
            if (descriptor.only(8) != null) {
                counterUnits.put(uuid, descriptor.only(8).message().number(3, 0));
            }
        }

        private void event(Message event) {
            long track = event.number(11, 0);
            assertThat(tracks).as("the track is described").containsKey(track);
            var iid = event.only(10);
            String name = iid != null ? names.get(iid.value()) : event.only(23) != null ? event.only(23).text() : null;
            if (iid != null) {
                assertThat(name).as("the name is interned").isNotNull();
            }
            var annotations = annotations(event);
            var stack = open.computeIfAbsent(track, key -> new ArrayDeque<>());
            switch ((int) event.number(9, 0)) {
                case 1 -> stack.push(new Slice(tracks.get(track), now, -1, name, annotations));
                case 2 -> {
                    assertThat(stack).as("a slice of %s is open", tracks.get(track)).isNotEmpty();
                    var begun = stack.pop();
                    begun.annotations().putAll(annotations);
                    slices.add(new Slice(begun.track(), begun.begin(), now, begun.name(), begun.annotations()));
                }
                case 3 -> instants.add(tracks.get(track) + ": " + name);
                case 4 -> {
                    assertThat(counterUnits).containsKey(track);
                    counters.computeIfAbsent(tracks.get(track), key -> new ArrayList<>()).add(event.number(30, -1));
                }
                default -> throw new AssertionError("TrackEvent.type");
            }
        }

        private Map<String, Object> annotations(Message event) {
            var result = new HashMap<String, Object>();
            for (var field : event.all(4)) {
                var annotation = field.message();
                String name = annotationNames.get(annotation.number(1, 0));
                assertThat(name).as("the annotation's name is interned").isNotNull();
                var text = annotation.only(17);
                result.put(name, text != null ? annotationTexts.get(text.value()) : annotation.only(7).value());
            }
            return result;
        }
    }

    private static Reader read(List<TraceEvent> events) throws IOException, DataFormatException {
        var out = new ByteArrayOutputStream();
        try (var writer = TraceWriter.of(Path.of("a.pftrace"), out, false)) {
            for (var event : events) {
                writer.write(event);
            }
        }
        var reader = new Reader();
        reader.trace(out.toByteArray());
        assertThat(reader.open.values()).as("every slice ends").allMatch(Deque::isEmpty);
        return reader;
    }

    @Test void tracksAreGroupedByWhatTheyAreOf() throws Exception {
        var reader = read(TracedRun.EVENTS);
        var groups = new HashMap<String, String>();
        reader.parents.forEach((track, parent) -> groups.put(reader.tracks.get(track), reader.tracks.get(parent)));
        assertThat(groups).containsEntry("LP0", "Logical processors").containsEntry("LP1", "Logical processors")
                .containsEntry("thread 0", "Host threads").containsEntry("thread 1", "Host threads")
                .containsEntry("vCPU 0", "vCPUs").containsEntry("vCPU 1", "vCPUs").containsEntry("Pages mapped", "Counters");
        assertThat(reader.compressed).isPositive();
    }

    @Test void slicesAreTheCallsWithTheirTimesAndOperands() throws Exception {
        var reader = read(TracedRun.EVENTS);
        var calls = TracedRun.EVENTS.stream().filter(e -> e instanceof TraceEvent.SeamcallReturn)
                .map(e -> (TraceEvent.SeamcallReturn) e).toList();
        var slices = reader.slices.stream().filter(s -> s.track().startsWith("LP") && s.name().startsWith("TDH.")).toList();
        assertThat(slices).hasSameSizeAs(calls);
        for (int i = 0; i < calls.size(); i++) {
            var call = calls.get(i);
            var slice = slices.get(i);
            assertThat(slice).extracting(Slice::track, Slice::name, Slice::begin, Slice::end)
                    .containsExactly("LP" + call.lp(), call.name(), call.began(), call.nanos());
            assertThat(slice.annotations()).containsKey("status");
            if (call.name().equals("TDH.MEM.PAGE.AUG")) {
                assertThat(slice.annotations()).containsEntry("gpa", call.in()[1] & ~0xfffL).containsEntry("level", "4K")
                        .containsEntry("status", "SUCCESS").containsEntry("page", call.in()[8]);
            }
        }
        assertThat(reader.slices).anyMatch(s -> s.name().equals("guest of vCPU 0") && s.end() > s.begin());
        assertThat(reader.slices).anyMatch(s -> s.track().equals("vCPU 0") && s.name().equals("MAP_GPA"));
        assertThat(reader.slices).anyMatch(s -> s.track().equals("thread 0") && s.name().equals("runs"));
        assertThat(reader.instants).contains("Console: td: hello").anyMatch(i -> i.startsWith("vCPU 0: KVM_EXIT_"));
    }

    @Test void pagesAreCountedByState() throws Exception {
        var counters = read(TracedRun.EVENTS).counters;
        assertThat(counters.get("Pages pending")).allMatch(v -> v >= 0).contains(1L).last().isEqualTo(0L);
        assertThat(counters.get("Pages mapped")).allMatch(v -> v >= 0).last().as("all are gone after the teardown").isEqualTo(0L);
        assertThat(counters.get("Pages mapped")).anyMatch(v -> v > 4096);
        assertThat(counters.get("Pages blocked")).contains(1L).last().isEqualTo(0L);
    }

    @Test void aPartOfATraceIsWellFormedToo() throws Exception {
        var all = TracedRun.EVENTS;
        read(List.of());
        for (int i = 1; i < 20; i++) {
            int from = all.size() * i / 40;
            read(all.subList(from, all.size() - from / 2));
        }
    }

    @Test void aCallCostsAFewBytes() throws Exception {
        var out = new ByteArrayOutputStream();
        var calls = TracedRun.EVENTS.stream().filter(e -> e instanceof TraceEvent.SeamcallEntry
                || e instanceof TraceEvent.SeamcallReturn).toList();
        try (var writer = TraceWriter.of(Path.of("a.pftrace"), out, false)) {
            for (var event : calls) {
                writer.write(event);
            }
        }
        // A boot has about a million SEAMCALLs, and its trace shall stay below 20 MB.
        assertThat(out.size() / (calls.size() / 2)).isLessThan(20);
    }
}
