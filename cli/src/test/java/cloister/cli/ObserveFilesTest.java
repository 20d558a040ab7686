package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cli.trace.TraceBound;
import cloister.cli.trace.TraceFilter;
import cloister.cli.trace.TraceWriter;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.MachineStats;
import cloister.vmm.TinyGuest;
import cloister.vmm.VmType;
import com.google.gson.JsonParser;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// What `--trace` and `--stats` write is as their schemas say, and begins and ends where it is told to.
class ObserveFilesTest {
    private MachineStats stats;

    private String trace(String file, String from, String until, String... filters) throws IOException {
        var out = new ByteArrayOutputStream();
        var tracer = new Tracer(Arrays.stream(filters).map(TraceFilter::of).toList(), from == null ? null : TraceBound.of(from),
                until == null ? null : TraceBound.of(until), TraceWriter.of(Path.of(file), out, false), file);
        run(tracer);
        return out.toString(StandardCharsets.UTF_8);
    }

    private void run(Tracer tracer) {
        var config = new MachineConfig().vmType(VmType.TDX).cpus(2).program(TinyGuest.trustDomain()).memoryBytes(32 << 20)
                .observer(tracer).timed(true);
        try (tracer; var machine = new Machine(config)) {
            machine.run();
            machine.tearDown();
            stats = machine.stats();
        }
    }

    @Test void jsonLinesAreAsTheSchemaSays() throws IOException {
        var schema = new JsonSchema("trace.schema.json");
        var lines = trace("t.jsonl", null, null, "seamcall", "tdcall", "exits", "lock", "sched", "console", "user").lines().toList();
        assertThat(lines).hasSizeGreaterThan(10_000);
        assertThat(lines.stream().flatMap(line -> schema.violations(JsonParser.parseString(line)).stream())).isEmpty();
        var kinds = lines.stream().map(line -> JsonParser.parseString(line).getAsJsonObject().get("kind").getAsString()).distinct();
        assertThat(kinds).containsExactlyInAnyOrder("seamcall", "tdcall", "vmcall", "exits", "lock", "sched", "console", "user");
    }

    @Test void statsInJsonAreAsTheSchemaSays() throws IOException {
        run(new Tracer(List.of(), null, null, null, ""));
        var json = JsonParser.parseString(StatsJson.write(stats));
        assertThat(new JsonSchema("stats.schema.json").violations(json)).isEmpty();
        assertThat(json.getAsJsonObject().get("instructions").getAsLong()).isEqualTo(stats.instructions());
        assertThat(json.getAsJsonObject().getAsJsonArray("seamcalls")).hasSameSizeAs(stats.seamcalls());
        assertThat(Long.parseUnsignedLong(json.getAsJsonObject().get("traceHash").getAsString().substring(2), 16))
                .isEqualTo(stats.traceHash());
    }

    @Test void statsAsTextHaveTotalsAndExplainFaults() throws IOException {
        run(new Tracer(List.of(), null, null, null, ""));
        var text = StatsReport.of(stats, true);
        assertThat(text).contains("private pages left   0", "trace hash           %016x".formatted(stats.traceHash()),
                "  EPT_VIOLATION is a fault of the Secure EPT", "TDVMCALL.MAP_GPA", "TDG.MEM.PAGE.ACCEPT", "vcpu1");
        long exits = stats.vmExits().stream().mapToLong(c -> c.count()).sum();
        assertThat(text.lines().filter(line -> line.matches("  total +[0-9,]+ .*")).findFirst().orElseThrow().replace(",", ""))
                .matches("  total +" + exits + " .*");
    }

    @Test void aTraceBeginsAndEndsWhereItIsTold() throws IOException {
        var all = trace("t.txt", null, null, "vmcall").lines().toList();
        assertThat(trace("t.txt", "event:5", "event:3", "vmcall").lines()).containsExactlyElementsOf(all.subList(4, 7));
        var console = trace("t.txt", "line:info ok", "line:shared ok", "console").lines().toList();
        assertThat(console).hasSize(2).first().asString().endsWith("td: info ok");
        var between = trace("t.txt", "line:info ok", "line:shared ok", "vmcall:MAP_GPA").lines().toList();
        assertThat(between).hasSize(1);
        long middle = nanos(all.get(all.size() / 2));
        assertThat(trace("t.txt", middle + "ns", null, "vmcall").lines()).containsExactlyElementsOf(all.stream().filter(l
                -> nanos(l) >= middle).toList());
        assertThat(trace("t.txt", null, middle + "ns", "vmcall").lines()).containsExactlyElementsOf(all.stream().filter(l
                -> nanos(l) < middle).toList());
    }

    private static long nanos(String line) {
        return Long.parseLong(line.strip().substring(0, line.strip().indexOf(' ')).replace(".", ""));
    }

    @Test void whatCannotBeWrittenIsSaidOnce() {
        var err = new ByteArrayOutputStream();
        var old = System.err;
        var full = new OutputStream() {
            @Override public void write(int octet) throws IOException {
                throw new IOException("No space left on device");
            }
        };
        try {
            System.setErr(new java.io.PrintStream(err, true, StandardCharsets.UTF_8));
            var writer = TraceWriter.of(Path.of("t.txt"), full, false);
            var tracer = new Tracer(List.of(TraceFilter.of("seamcall")), null, null, writer, "t.txt");
            run(tracer);
            assertThat(tracer.failed()).isTrue();
        } catch (IOException e) {
            throw new AssertionError(e);
        } finally {
            System.setErr(old);
        }
        assertThat(err.toString(StandardCharsets.UTF_8).lines()).filteredOn(l -> l.contains("cannot write the trace")).hasSize(1);
    }

    @ParameterizedTest
    @CsvSource(nullValues = "-", value = {"vmcall:GET_QUOTE, -, nothing that --trace names happened",
        "vmcall:GET_QUOTE, 0, nothing that --trace names happened after --trace-from",
        "vmcall:IO, 9999, the run never came to --trace-from", "vmcall:IO, -, -"})
    void anEmptyTraceIsSaid(String filter, String from, String says) throws IOException {
        var err = new ByteArrayOutputStream();
        var old = System.err;
        try {
            System.setErr(new java.io.PrintStream(err, true, StandardCharsets.UTF_8));
            var begin = from == null ? null : TraceBound.of(from);
            var writer = TraceWriter.of(Path.of("t.txt"), OutputStream.nullOutputStream(), false);
            var tracer = new Tracer(List.of(TraceFilter.of(filter)), begin, null, writer, "t.txt");
            run(tracer);
            tracer.sayWhenEmpty();
        } finally {
            System.setErr(old);
        }
        var said = err.toString(StandardCharsets.UTF_8).lines().filter(l -> l.contains("the trace is empty")).toList();
        if (says == null) {
            assertThat(said).isEmpty();
        } else {
            assertThat(said).singleElement().asString().endsWith(says);
        }
    }
}
