package cloister.cli.trace;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.spec.tdx.OperandId;
import cloister.spec.tdx.TdxStatus;
import cloister.vmm.TinyGuest;
import cloister.vmm.observe.CallOperands;
import cloister.vmm.observe.TraceEvent;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/// Text lines say time, unit, names of operands and statuses; words of the options choose what they say.
class TraceFormatsTest {
    static String written(String file, List<TraceEvent> events) throws IOException {
        var out = new ByteArrayOutputStream();
        try (var writer = TraceWriter.of(Path.of(file), out, false)) {
            for (var event : events) {
                writer.write(event);
            }
        }
        return out.toString(StandardCharsets.UTF_8);
    }

    private static List<String> text(String filter) throws IOException {
        var wanted = TraceFilter.of(filter);
        return written("trace.txt", TracedRun.EVENTS.stream().filter(wanted::matches).toList()).lines().toList();
    }

    @Test void aSeamcallHasNamedOperandsAndItsStatus() throws IOException {
        assertThat(text("seamcall:MEM.PAGE.AUG")).isNotEmpty().allMatch(line -> line.matches(
                " +\\d+\\.\\d{9} s seamcall LP\\d TDH\\.MEM\\.PAGE\\.AUG +gpa=0x[0-9a-f]*0 level=4K tdr=0x[0-9a-f]+ page=0x[0-9a-f]+ "
                        + "-> SUCCESS"));
        assertThat(text("seamcall:vp.enter")).anyMatch(line -> line.matches(
                ".* TDH\\.VP\\.ENTER +tdvpr=0x[0-9a-f]+ -> SUCCESS exit=TDCALL vmcall=MAP_GPA gpa=0x800000600000 bytes=0x200000 "
                        + "after \\d+ ns"));
    }

    @Test void statusesOfFailuresNameTheOperand() throws IOException {
        assertThat(text("seamcall:MNG.RD")).anyMatch(line -> line.endsWith("-> METADATA_FIELD_ID_INCORRECT"));
        assertThat(CallOperands.statusOfSeamcall(TdxStatus.OPERAND_BUSY.with(OperandId.SEPT_TREE))).isEqualTo("OPERAND_BUSY(SEPT_TREE)");
        assertThat(CallOperands.statusOfSeamcall(TdxStatus.OPERAND_INVALID.with(OperandId.RAX))).isEqualTo("OPERAND_INVALID(RAX)");
        assertThat(CallOperands.statusOfSeamcall(0x8765432100000000L)).isEqualTo("0x8765432100000000");
    }

    @Test void tdcallsTellStatusAndResults() throws IOException {
        assertThat(text("tdcall:VP.INFO")).isNotEmpty().anyMatch(line -> line.matches(
                ".* tdcall +vCPU0 TDG\\.VP\\.INFO +-> SUCCESS gpaw=0x30 .*vcpus=0x[0-9a-f]+ vcpu_index=0x0"));
        assertThat(text("vmcall:MAP_GPA")).hasSize(2).allMatch(line -> line.contains(" bytes=0x200000 -> SUCCESS"));
        assertThat(text("vmcall:IO")).anyMatch(line -> line.endsWith("size=0x1 write=0x1 port=0x3f8 value=0x74 -> SUCCESS"));
        assertThat(text("vmcall")).last().asString().endsWith("-> never returned");
    }

    @Test void otherKindsHaveTheirOwnWords() throws IOException {
        assertThat(text("exits:EPT_VIOLATION")).isNotEmpty().allMatch(line -> line.contains(" rip=0x") && line.contains(" gpa=0x")
                && line.contains(" to the TDX module"));
        assertThat(text("console")).map(line -> line.substring(line.indexOf("console") + "console".length()).strip() + "\n")
                .containsExactly(TinyGuest.TD_OUTPUT.split("(?<=\n)"));
        assertThat(text("sched")).first().asString().contains("thread0 vcpu0");
        assertThat(text("lock")).anyMatch(line -> line.contains(" try "));
        assertThat(text("sept")).isNotEmpty().allMatch(line -> line.contains(" TDH.MEM."));
        assertThat(text("seamcall:MEM.*")).isEqualTo(text("sept"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"nothing", "seamcalls", "seamcall:", ":X", "", "seamcall:MEM.PAGE.AUGH", "sept:MNG.INIT",
        "vmcall:MAPGPA", "exits:EPT", "tdcall:Q*", "lock:grab"})
    void wordsThatAreNoFilterAreRefused(String text) {
        assertThatThrownBy(() -> TraceFilter.of(text)).isInstanceOf(IllegalArgumentException.class);
    }

    /// Whatever can be traced can be named, and so can what has only a number.
    @Test void everyEventsNameIsAFilter() {
        for (var event : TracedRun.EVENTS) {
            var kind = event.kind();
            assertThat(TraceFilter.of(kind.label() + ":" + event.name()).matches(event)).as(kind + ":" + event.name()).isTrue();
        }
        assertThat(TraceFilter.of("vmcall:0x1234").name()).isEqualTo("0X1234");
        assertThat(TraceFilter.of("exits:35").name()).isEqualTo("35");
    }

    @ParameterizedTest
    @CsvSource({"1.5, 1500000000", "20ms, 20000000", "3us, 3000", "7ns, 7", "0, 0", "0.5ms, 500000", "2S, 2000000000"})
    void timesHaveUnits(String text, long nanos) {
        assertThat(TraceBound.of(text)).isEqualTo(new TraceBound.Time(nanos));
    }

    @ParameterizedTest
    @ValueSource(strings = {"-1", "x", "", "line:", "event:0", "event:x", "1.5.5", "0.1ns", "ms", "event:"})
    void placesThatAreNoneAreRefused(String text) {
        assertThatThrownBy(() -> TraceBound.of(text)).isInstanceOf(IllegalArgumentException.class)
                .hasMessageContaining("is no place in a run");
    }
}
