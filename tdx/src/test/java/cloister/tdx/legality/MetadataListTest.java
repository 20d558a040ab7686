package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// The lists of TDH.SYS.RDALL and TDG.SYS.RDALL. [TDX-ABI "Metadata List"]
class MetadataListTest {
    private static final int SYS_RD = 34;
    private static final int SYS_RDALL = 37;
    private static final int GUEST_SYS_RD = 11;
    private static final int GUEST_SYS_RDALL = 12;
    private static final int R8 = 8;
    private static final long PAGE = 0x23_0000;
    private static final long GPA = 0x1000;
    private static final long NONE = -1L;
    private static final long INCORRECT = 0xC000_0C00_0000_0000L;
    private static final long FILL = 0x1111_1111_1111_1111L;
    /// CPUID_CONFIG_VALUES has two elements in a field; the last 14 of its 32 fields have no value.
    private static final long CONFIG_VALUES = 0x9900_0003_0000_0500L;
    private static final int CONFIG_ROWS = 18;
    /// What a header says beyond its first element: element and field counts, and whether the first field is architectural.
    private static final long SEQUENCE = (0xfL << 34) | (0x1ffL << 38) | (1L << 63);
    private static final String BOOT = "{\"op\":\"include\",\"file\":\"setup/td-basic.jsonl\"}";
    private static final String RUNNING = "{\"op\":\"include\",\"file\":\"setup/run-basic-2.jsonl\"}";

    /// A list, parsed.
    ///
    /// @param values by identifier of the element without bit 63, in which fields of a sequence may differ
    private record Parsed(TreeMap<Long, Long> values, List<Long> headers, int bytes) {
        static Parsed of(RecordedTd td, long hpa) {
            long header = td.machine.memory.read(hpa, 8);
            int bytes = (int) header & 0xffff;
            var values = new TreeMap<Long, Long>();
            var headers = new ArrayList<Long>();
            int at = 8;
            while (at < bytes) {
                long sequence = td.machine.memory.read(hpa + at, 8);
                headers.add(sequence);
                long count = (((sequence >>> 34) & 0xf) + 1) * (((sequence >>> 38) & 0x1ff) + 1);
                for (int i = 0; i < count; i++) {
                    values.put((sequence & ~SEQUENCE) + i, td.machine.memory.read(hpa + at + 8 + 8 * i, 8));
                }
                at += 8 + 8 * (int) count;
            }
            assertThat(at).as("sequences end with the list").isEqualTo(bytes);
            assertThat(headers).as("number of sequences").hasSize((int) ((header >>> 16) & 0xffff));
            assertThat(header >>> 32).isZero();
            return new Parsed(values, headers, bytes);
        }
    }

    @Test void theHostsListHasEveryFieldOfTheModuleWithItsValue() {
        try (var td = new RecordedTd(BOOT)) {
            for (int i = 0; i < 4096; i += 8) {
                td.machine.memory.write(PAGE + i, 8, FILL);
            }
            var regs = td.seamcall(SYS_RDALL, 0, PAGE, NONE, 0);
            assertThat(regs.get(0)).isZero();
            assertThat(regs.get(R8)).isEqualTo(NONE);
            var list = Parsed.of(td, PAGE);
            var elements = MetadataRules.elements(MetadataRules.SYS, 0).values();
            assertThat(list.values.keySet()).containsExactlyInAnyOrderElementsOf(elements.stream().map(e -> e.id() & ~SEQUENCE).toList());
            for (var element : elements) {
                int distance = (int) (element.id() - CONFIG_VALUES);
                boolean left = distance >= 2 * CONFIG_ROWS && distance < 64 && distance % 2 == 1; // keeps what was in the page
                assertThat(list.values.get(element.id() & ~SEQUENCE)).as("%x", element.id()).isEqualTo(left ? FILL
                        : td.seamcall(SYS_RD, 0, element.id(), 0, 0).get(R8));
            }
            assertThat(td.machine.memory.read(PAGE + list.bytes, 8)).as("behind the list").isEqualTo(FILL);
        }
    }

    @Test void aListBeginsWhereItIsAskedTo() {
        try (var td = new RecordedTd(BOOT)) {
            long first = 0x9900_0003_0000_0411L; // within CPUID_CONFIG_LEAVES
            assertThat(td.seamcall(SYS_RDALL, 0, PAGE, first | (7L << 52) | (1L << 47) | (1L << 62), 0).get(0)).isZero();
            var list = Parsed.of(td, PAGE);
            assertThat(list.headers.get(0)).isEqualTo(first | (0xeL << 38));
            assertThat(list.values.keySet()).hasSizeLessThan(400).contains(CONFIG_VALUES & ~SEQUENCE, 0x2200_0003_0000_0006L)
                    .doesNotContain(0x0000_0002_0000_0000L);
        }
    }

    @ParameterizedTest
    @CsvSource({"9900000300000501", "9900000100000500", "9900000300000540", "0000000200000009", "3f00000300000000"})
    void aListBeginsAtAField(String id) {
        try (var td = new RecordedTd(BOOT)) {
            td.machine.memory.write(PAGE, 8, FILL);
            var regs = td.seamcall(SYS_RDALL, 0, PAGE, Long.parseUnsignedLong(id, 16), 0);
            assertThat(regs.get(0)).isEqualTo(INCORRECT);
            assertThat(regs.get(R8)).isEqualTo(NONE);
            assertThat(td.machine.memory.read(PAGE, 8)).as("the page").isEqualTo(FILL);
        }
    }

    @Test void theGuestsListHasWhatTheGuestReads() {
        try (var td = new RecordedTd(RUNNING)) {
            assertThat(td.tdcall(GUEST_SYS_RDALL, 0, GPA, NONE)).isTrue();
            assertThat(td.guest(0)).isZero();
            assertThat(td.guest(R8)).isEqualTo(NONE);
            var list = Parsed.of(td, page(td));
            var visible = MetadataRules.elements(MetadataRules.SYS, 0).values().stream()
                    .filter(e -> e.read()[MetadataRules.GUEST] != 0).map(e -> e.id() & ~SEQUENCE).toList();
            assertThat(list.values.keySet()).containsExactlyInAnyOrderElementsOf(visible);
            for (long id : visible) {
                assertThat(td.tdcall(GUEST_SYS_RD, 0, id, 0)).isTrue();
                assertThat(list.values.get(id)).as("%x", id).isEqualTo(td.guest(R8));
            }
        }
    }

    @Test void aGuestsListFromAHiddenFieldBeginsAtTheNextThatItReads() {
        try (var td = new RecordedTd(RUNNING)) {
            assertThat(td.tdcall(GUEST_SYS_RDALL, 0, GPA, 0x8900_0001_0000_0000L)).isTrue();
            assertThat(td.guest(0)).isZero();
            assertThat(Parsed.of(td, page(td)).headers.get(0)).isEqualTo(0x0A00_0002_0000_0000L);
        }
    }

    @Test void aListThatFindsNoPageBeginsAtTheFirstFieldWhenItIsCalledAgain() {
        try (var td = new RecordedTd(RUNNING)) {
            long nowhere = 0x7f_f000;
            assertThat(td.tdcall(GUEST_SYS_RDALL, 0, nowhere, 0x0A00_0002_0000_0000L)).as("the guest goes on").isFalse();
            assertThat(td.machine.hostRegisters(0).get(0)).as("exit reason").isEqualTo(48);
            td.seamcall(0, RecordedTd.TDVPR, 0, 0, 0);
            assertThat(td.machine.inGuest(0)).isTrue();
            assertThat(td.guest(0)).as("RAX").isEqualTo(GUEST_SYS_RDALL);
            assertThat(td.guest(2)).as("RDX").isEqualTo(nowhere);
            assertThat(td.guest(R8)).as("R8").isEqualTo(NONE);
        }
    }

    private static long page(RecordedTd td) {
        var entry = td.entry(GPA, 0);
        return td.tdr.withKey(entry.read() & 0xf_ffff_ffff_f000L);
    }
}
