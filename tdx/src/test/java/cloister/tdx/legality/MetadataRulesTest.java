package cloister.tdx.legality;

import static org.assertj.core.api.Assertions.assertThat;

import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.SortedMap;
import java.util.TreeMap;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Test;

/// The rules agree with every access to a metadata field that was recorded of the real module. What they say of the rest is thus not
/// made up: the same lines that the recordings confirm.
class MetadataRulesTest {
    private static final long RESERVED = (0xffL << 24) | (0xfL << 34) | (0x1ffL << 38) | (7L << 47) | (1L << 55) | (1L << 62);
    private static final long INCORRECT = 0xC000_0C00_0000_0000L;
    private static final long NOT_WRITABLE = 0xC000_0C01_0000_0000L;
    private static final long NOT_READABLE = 0xC000_0C02_0000_0000L;
    private static final long VALUE_NOT_VALID = 0xC000_0C03_0000_0000L;
    private static final Pattern SETUP = Pattern.compile("setup/(?:boot|(?:td|vp|run)-([a-z0-9]+?)(?:-\\d)?)(?:\\.pml5)?\\.jsonl");

    /// A leaf function: the context of its fields, whether it writes.
    private record Leaf(int context, boolean write) {
    }

    private static final Map<Integer, Leaf> HOST = Map.of(34, new Leaf(MetadataRules.SYS, false), 11, new Leaf(MetadataRules.TD, false),
            13, new Leaf(MetadataRules.TD, true), 26, new Leaf(MetadataRules.VP, false), 43, new Leaf(MetadataRules.VP, true));
    private static final Map<Integer, Leaf> GUEST = Map.of(11, new Leaf(MetadataRules.SYS, false), 7, new Leaf(MetadataRules.TD, false),
            8, new Leaf(MetadataRules.TD, true), 9, new Leaf(MetadataRules.VP, false), 10, new Leaf(MetadataRules.VP, true));

    private final Map<String, SortedMap<Integer, MetadataRules.Element>> elements = new TreeMap<>();
    private final List<String> differences = new ArrayList<>();
    private int compared;

    @Test void theRulesAgreeWithTheRecordings() throws IOException {
        try (var files = Files.walk(Path.of("..", "vectors", "1.5.06"))) {
            for (var file : files.filter(f -> f.toString().contains(".jsonl")).sorted().toList()) {
                scenario(file.getFileName().toString(), steps(file));
            }
        }
        assertThat(differences).isEmpty();
        assertThat(compared).as("accesses compared").isGreaterThan(18_000);
    }

    private static List<JsonObject> steps(Path file) throws IOException {
        var bytes = Files.newInputStream(file);
        try (var in = new BufferedReader(new InputStreamReader(file.toString().endsWith(".gz") ? new GZIPInputStream(bytes) : bytes,
                StandardCharsets.UTF_8))) {
            return in.lines().map(line -> JsonParser.parseString(line).getAsJsonObject()).toList();
        }
    }

    private void scenario(String name, List<JsonObject> steps) {
        var setup = steps.size() < 2 || !steps.get(1).has("file") ? null : SETUP.matcher(steps.get(1).get("file").getAsString());
        if (setup == null || !setup.matches() || steps.stream().anyMatch(MetadataRulesTest::makesAnotherTd)) {
            return;
        }
        boolean debug = setup.group(1) != null && setup.group(1).startsWith("debug");
        int l2Vms = "l2".equals(setup.group(1)) ? 1 : 0;
        for (var step : steps) {
            var operation = step.get("op") == null ? "" : step.get("op").getAsString();
            if (!step.has("leaf") || (!operation.equals("seamcall") && !operation.equals("tdcall"))) {
                continue;
            }
            boolean guest = operation.equals("tdcall");
            var leaf = (guest ? GUEST : HOST).get(step.get("leaf").getAsInt());
            var result = step.has("out") ? step.getAsJsonObject("out")
                    : step.has("guest") ? step.getAsJsonObject("guest").getAsJsonObject("gpr") : null;
            if (leaf != null && result != null && step.has("in")) {
                int who = guest ? MetadataRules.GUEST : debug && leaf.context != MetadataRules.SYS ? MetadataRules.DEBUG
                        : MetadataRules.PRODUCTION;
                compare(name, leaf, who, l2Vms, step.getAsJsonObject("in"), result);
            }
        }
    }

    /// Steps after which the attributes of the setup's TD say nothing.
    private static boolean makesAnotherTd(JsonObject step) {
        return step.has("op") && (step.get("op").getAsString().equals("reset")
                || (step.get("op").getAsString().equals("seamcall") && step.has("leaf") && step.get("leaf").getAsInt() == 21));
    }

    private static long number(JsonObject registers, String name) {
        return registers.has(name) && !registers.get(name).getAsString().equals("*")
                ? Long.parseUnsignedLong(registers.get(name).getAsString().substring(2), 16) : 0;
    }

    private void compare(String name, Leaf leaf, int who, int l2Vms, JsonObject in, JsonObject out) {
        long id = number(in, "rdx");
        long status = number(out, "rax");
        var all = elements.computeIfAbsent(leaf.context + "/" + l2Vms, k -> MetadataRules.elements(leaf.context, l2Vms));
        var element = MetadataRules.find(all, id);
        boolean agrees;
        if ((id & RESERVED) != 0 || element == null) {
            agrees = status != 0 && status != NOT_READABLE && status != NOT_WRITABLE && status != VALUE_NOT_VALID;
        } else if (status == INCORRECT) {
            agrees = false;
        } else if (leaf.write) {
            boolean writable = (element.write()[who] & number(in, "r9")) != 0;
            agrees = status == NOT_WRITABLE ? !writable : (status != 0 && status != VALUE_NOT_VALID) || writable;
        } else {
            long bits = element.read()[who];
            boolean value = element.classCode() == MetadataRules.CPUID_CLASS && leaf.context == MetadataRules.TD; // not every TD has it
            agrees = status == NOT_READABLE ? bits == 0 || value : status != 0 || (bits != 0 && (number(out, "r8") & ~bits) == 0);
        }
        compared++;
        if (!agrees) {
            differences.add(String.format("%s: %s of %x by %d: %x", name, leaf.write ? "write" : "read", id, who, status));
        }
    }
}
