package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.tdx.legality.MetadataRules.Element;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.SortedMap;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/// Every metadata field through the module's own functions, by every caller, bit by bit, against [MetadataRules].
/// [TDX-ABI "Metadata Access Interface Functions"]
class MetadataLegalityTest {
    private static final long INCORRECT = 0xC000_0C00_0000_0000L;
    private static final long NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long NOT_READABLE = 0xC000_0C02_0000_0000L;
    private static final long VALUE_NOT_VALID = 0xC000_0C03_0000_0000L;
    private static final long WRITE_MASK_NOT_VALID = 0xC000_0C0A_0000_0000L;
    private static final long FIRST_FIELD = 0x0000_0C0B_0000_0000L;
    private static final long NOT_INITIALIZED = 0xC000_0730_0000_0000L;
    private static final long OPERAND_INVALID = 0xC000_0100_0000_0000L;
    private static final long NONE = -1L;
    private static final int FULL_SCAN = 0x2200;
    private static final int SHORT_SCAN = 0x200;
    private static final int VMCS_CODES = 0x8000;
    private static final int CPUID_CODES = 0x2_0000;
    private static final int CODE_BITS = 24;
    private static final long SEED = 0x6d657461;

    private final List<String> found = new ArrayList<>();

    private void expect(FieldCaller caller, String what, long id, long got, long wanted) {
        if (got != wanted && found.size() < 30) {
            found.add(String.format("%s %s of %x: %x, not %x", caller.name(), what, id, got, wanted));
        }
    }

    @ParameterizedTest
    @CsvSource({"0,0,0", "0,2,0", "1,0,0", "1,0,3", "1,1,3", "1,2,3", "2,0,0", "2,0,3", "2,1,3", "2,2,3"})
    void everyBitIsReadableAndWritableByWhomTheRulesName(int context, int who, int l2Vms) {
        try (var caller = FieldCaller.of(context, who, l2Vms)) {
            for (var element : MetadataRules.elements(context, l2Vms).values()) {
                read(caller, element);
                if (caller.writes()) {
                    write(caller, element);
                }
            }
        }
        assertThat(found).isEmpty();
    }

    private void read(FieldCaller caller, Element element) {
        long visible = element.read()[caller.who()];
        var answer = caller.readOnly(element.id());
        boolean absent = isCpuid(caller, element) && answer.status() == NOT_READABLE; // this TD's CPUID does not have the leaf
        expect(caller, "status of a read", element.id(), answer.status(), visible == 0 || absent ? NOT_READABLE : 0);
        expect(caller, "hidden bits", element.id(), answer.value() & ~visible, 0);
    }

    private static boolean isCpuid(FieldCaller caller, Element element) {
        return caller.context() == MetadataRules.TD && element.classCode() == MetadataRules.CPUID_CLASS;
    }

    private void write(FieldCaller caller, Element element) {
        long id = element.id();
        long writable = element.write()[caller.who()];
        if (isCpuid(caller, element)) {
            var failures = caller.who() == MetadataRules.GUEST ? List.of(NOT_READABLE, NOT_WRITABLE)
                    : List.of(caller.readOnly(id).status() == NOT_READABLE ? NOT_READABLE : NOT_WRITABLE);
            assertThat(failures).as("write of %x", id).contains(caller.write(id, 0, -1).status());
            return;
        }
        expect(caller, "write of nothing", id, caller.write(id, 0, 0).status(), NOT_WRITABLE);
        for (int bit = 0; bit < 8 * element.bytes(); bit++) {
            long mask = 1L << bit;
            if ((writable & mask) != 0) {
                toggle(caller, element, mask);
            } else {
                expect(caller, "write of bit " + bit, id, caller.write(id, -1, mask).status(), NOT_WRITABLE);
            }
        }
        if (writable != 0) {
            forbidden(caller, element, writable);
        }
    }

    private void toggle(FieldCaller caller, Element element, long mask) {
        long id = element.id();
        long visible = element.read()[caller.who()];
        long before = caller.readOnly(id).value();
        var answer = caller.write(id, before ^ mask, mask);
        long after = caller.readOnly(id).value();
        if (answer.status() == 0) {
            expect(caller, "old value", id, answer.value(), before);
            if (!element.checked()[caller.who()]) { // those have tests of their own
                expect(caller, "value after a write", id, after, (before ^ mask) & visible);
                expect(caller, "status of the second write", id, caller.write(id, before, mask).status(), 0);
                expect(caller, "value after the second write", id, caller.readOnly(id).value(), before);
            }
            return;
        }
        expect(caller, "old value after a failure", id, answer.value(), 0);
        boolean refused = element.checked()[caller.who()] && (answer.status() == VALUE_NOT_VALID || answer.status() == OPERAND_INVALID
                || answer.status() == WRITE_MASK_NOT_VALID || answer.status() >>> 32 << 32 == NOT_INITIALIZED);
        expect(caller, "status of a write to " + Long.toHexString(mask), id, answer.status(), refused ? answer.status() : 0);
        if (!isPauseLoopTime(caller, element)) {
            expect(caller, "value after a failure", id, after, before);
        }
    }

    /// The module remembers an L1 VMM's time before it finds that it does not fit.
    private static boolean isPauseLoopTime(FieldCaller caller, Element element) {
        return caller.who() == MetadataRules.GUEST && ((int) element.id() & 0xff_fffd) == 0x4020;
    }

    /// A write that would change a bit that is not writable fails; with the bit as it is it goes.
    private void forbidden(FieldCaller caller, Element element, long writable) {
        long id = element.id();
        long before = caller.readOnly(id).value();
        long fixed = Long.lowestOneBit(element.read()[caller.who()] & ~writable);
        if (fixed != 0) {
            expect(caller, "change of a fixed bit", id, caller.write(id, before ^ fixed, writable | fixed).status(), VALUE_NOT_VALID);
            if (!element.checked()[caller.who()]) {
                expect(caller, "write with a fixed bit", id, caller.write(id, before, writable | fixed).status(), 0);
            }
        }
        if (element.bytes() < 8) {
            long beyond = 1L << (8 * element.bytes());
            expect(caller, "write beyond the element", id, caller.write(id, before | beyond, -1).status(), VALUE_NOT_VALID);
        }
        expect(caller, "value in the end", id, caller.readOnly(id).value(), before);
    }

    @ParameterizedTest
    @CsvSource({"0,0,0,true", "0,2,0,false", "1,0,0,false", "1,1,3,true", "1,2,3,false", "2,0,0,false", "2,1,1,false", "2,1,3,true",
        "2,2,3,false"})
    void nothingElseIsThere(int context, int who, int l2Vms, boolean full) {
        try (var caller = FieldCaller.of(context, who, l2Vms)) {
            var elements = MetadataRules.elements(context, l2Vms);
            for (int classCode = 0; classCode < 64; classCode++) {
                int codes = !full ? SHORT_SCAN : context == MetadataRules.TD && classCode == MetadataRules.CPUID_CLASS ? CPUID_CODES
                        : context == MetadataRules.VP && (classCode == 0 || (classCode > 32 && classCode % 8 == 4)) ? VMCS_CODES
                                : FULL_SCAN;
                absent(caller, elements, classCode, IntStream.range(0, codes));
                absent(caller, elements, classCode, IntStream.range(9, CODE_BITS).map(bit -> 1 << bit));
                absent(caller, elements, classCode, new Random(SEED + classCode).ints(1000, 0, 1 << CODE_BITS));
            }
        }
        assertThat(found).isEmpty();
    }

    private void absent(FieldCaller caller, SortedMap<Integer, Element> elements, int classCode, IntStream codes) {
        codes.forEach(code -> {
            long id = ((long) classCode << 56) | code;
            if (MetadataRules.find(elements, id) == null) {
                expect(caller, "read", id, caller.readOnly(id).status(), INCORRECT);
                if (caller.writes() && code % 64 == 0) {
                    expect(caller, "write", id, caller.write(id, 0, -1).status(), INCORRECT);
                }
            }
        });
    }

    @ParameterizedTest
    @CsvSource({"0,0,0", "0,2,0", "1,0,0", "1,0,3", "1,1,1", "1,1,3", "1,2,3", "2,0,0", "2,0,2", "2,1,0", "2,1,3", "2,2,0", "2,2,3"})
    void aWalkNamesEveryReadableElement(int context, int who, int l2Vms) {
        try (var caller = FieldCaller.of(context, who, l2Vms)) {
            var walk = walk(MetadataRules.elements(context, l2Vms), context, who);
            var first = caller.read(NONE);
            expect(caller, "status of the first step", NONE, first.status(), FIRST_FIELD);
            expect(caller, "value of the first step", NONE, first.value(), 0);
            expect(caller, "first element", NONE, first.next(), walk[0]);
            for (int i = 0; i < walk.length; i++) {
                var answer = caller.read(walk[i]);
                boolean readable = answer.status() == 0;
                expect(caller, "successor", walk[i], answer.next(), readable && i + 1 < walk.length ? walk[i + 1] : NONE);
            }
        }
        assertThat(found).isEmpty();
    }

    /// The order of class and code, but for the values of CPUID, which have an order of their own.
    private static long[] walk(SortedMap<Integer, Element> elements, int context, int who) {
        int cpuid = MetadataRules.CPUID_CLASS << CODE_BITS;
        if (context != MetadataRules.TD || who == MetadataRules.GUEST) {
            return readable(elements, who).toArray();
        }
        var values = List.of(MetadataRules.CPUID.strip().split("\\s+")).stream().filter(name -> !name.equals("-"))
                .flatMapToLong(name -> IntStream.range(0, 2).mapToLong(element ->
                        elements.get(cpuid | MetadataRules.cpuidCode(name.replace("!", ""), element)).id()));
        return LongStream.concat(LongStream.concat(readable(elements.headMap(cpuid), who), values),
                readable(elements.tailMap(cpuid + (1 << CODE_BITS)), who)).toArray();
    }

    private static LongStream readable(SortedMap<Integer, Element> elements, int who) {
        return elements.values().stream().filter(element -> element.read()[who] != 0).mapToLong(Element::id);
    }

    @ParameterizedTest
    @CsvSource({"0,0,0", "0,2,0", "1,0,0", "1,1,3", "1,2,3", "2,0,0", "2,1,3", "2,2,3"})
    void identifiersMayDifferWhereTheModuleDoesNotLook(int context, int who, int l2Vms) {
        try (var caller = FieldCaller.of(context, who, l2Vms)) {
            var elements = MetadataRules.elements(context, l2Vms).values().stream().filter(e -> e.read()[who] != 0
                    && !isCpuid(caller, e)).toList();
            for (var element : List.of(elements.get(0), elements.get(elements.size() / 2), elements.get(elements.size() - 1))) {
                var plain = caller.readOnly(element.id());
                for (int bit = 24; bit < 64; bit++) {
                    boolean looked = bit < 32 || (bit >= 34 && bit < 50) || bit == 55 || bit == 62;
                    if (bit >= 56 && bit < 62) {
                        continue; // another class
                    }
                    var answer = caller.readOnly(element.id() ^ (1L << bit));
                    expect(caller, "read with bit " + bit, element.id(), answer.status(), looked ? INCORRECT : 0);
                    expect(caller, "value with bit " + bit, element.id(), answer.value(), looked ? 0 : plain.value());
                }
            }
            for (long contextCode = 0; contextCode < 8; contextCode++) {
                long id = (NONE & ~(7L << 52)) | (contextCode << 52);
                expect(caller, "first step", id, caller.read(id).status(), FIRST_FIELD);
                if (caller.writes()) {
                    expect(caller, "write of no field", id, caller.write(id, 0, -1).status(), INCORRECT);
                }
            }
        }
        assertThat(found).isEmpty();
    }
}
