package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.TinyGuest;
import cloister.vmm.UserError;
import cloister.vmm.VmType;
import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Dumps of the TDX module survive their files and are readable.
final class DumpFileTest {
    private static ModuleSnapshot snapshot;
    private static Dump dump;

    @TempDir
    private Path folder;

    @BeforeAll static void runAGuest() {
        var config = new MachineConfig().vmType(VmType.TDX).program(TinyGuest.trustDomain()).memoryBytes(32 << 20);
        try (var machine = new Machine(config)) {
            machine.run();
            dump = Dump.of(machine);
            snapshot = dump.module();
        }
    }

    @Test void jsonComesBackAsItWent() {
        var file = folder.resolve("dump.json");
        assertThat(DumpFile.write(file, dump)).isTrue();
        assertThat(DumpFile.read(file)).isEqualTo(dump);
        assertThat(dump.memoryTypes().uses()).isNotEmpty();
    }

    @Test void jsonHasTheSpecificationsNamesAndKeepsEveryBit() {
        var td = JsonParser.parseString(SnapshotJson.write(snapshot)).getAsJsonObject().getAsJsonArray("tds").get(0)
                .getAsJsonObject();
        assertThat(td.getAsJsonObject("tdcs").get("ATTRIBUTES").getAsString()).isEqualTo("0x0000000010000000");
        assertThat(td.getAsJsonObject("tdcs").getAsJsonArray("MRTD")).hasSize(6);
        assertThat(td.getAsJsonObject("tdr").get("HKID").getAsString()).hasSize("0x0021".length());
        var vp = td.getAsJsonArray("vps").get(0).getAsJsonObject();
        assertThat(vp.getAsJsonObject("tdvps").get("VCPU_STATE").getAsString()).isEqualTo("0x02");
        assertThat(vp.getAsJsonObject("tdVmcs").keySet()).contains("Guest_RIP", "Guest_CR3", "Exit_reason");
        assertThat(td.getAsJsonObject("secureEpt").get("level").getAsString()).isEqualTo("PML4");
    }

    @Test void jsonIsAsTheSchemaSays() throws IOException {
        var json = JsonParser.parseString(SnapshotJson.write(dump));
        var schema = new JsonSchema("dump.schema.json");
        assertThat(schema.violations(json)).isEmpty();
        var pamt = json.getAsJsonObject().getAsJsonArray("pamt").get(0).getAsJsonObject();
        pamt.addProperty("start", 0);
        pamt.addProperty("colour", "red");
        json.getAsJsonObject().getAsJsonArray("tds").get(0).getAsJsonObject().getAsJsonObject("tdcs").addProperty("XFAM", "0x1");
        assertThat(schema.violations(json)).hasSizeGreaterThanOrEqualTo(3);
    }

    /// Every name and every number of the JSON is in the text, in its own notation.
    @Test void textSaysWhatJsonSays() {
        var text = SnapshotText.of(snapshot);
        var words = new HashSet<>(List.of(text.replace("0x", "").split("[\\s,:*-]+")));
        text.lines().map(line -> line.split(" ")[0]).forEach(name -> words.addAll(List.of(name.split("\\."))));
        var missing = leaves(JsonParser.parseString(SnapshotJson.write(snapshot)));
        missing.removeIf(leaf -> words.contains(leaf) || words.contains("0".repeat(Math.max(0, 12 - leaf.length())) + leaf));
        assertThat(missing).isEmpty();
    }

    private static Set<String> leaves(JsonElement json) {
        var leaves = new HashSet<String>();
        if (json.isJsonArray()) {
            json.getAsJsonArray().forEach(e -> leaves.addAll(leaves(e)));
        } else if (json.isJsonObject()) {
            json.getAsJsonObject().asMap().forEach((name, value) -> {
                // A page at 0 is left out, and so is what can be told from the rest.
                boolean field = name.equals(name.toUpperCase(Locale.ROOT)) || name.contains("_");
                if (field) {
                    leaves.add(name);
                }
                if (!Set.of("step", "size", "pamtSizes", "owner", "hpa", "tdr", "tdvpr", "interruptionPoint", "bepoch", "initialized",
                        "globalKey", "writeBackPackages", "lastTdvpr").contains(name) || value.isJsonObject()) {
                    leaves.addAll(leaves(value));
                }
            });
        } else if (json.getAsJsonPrimitive().isString()) {
            var value = json.getAsString();
            if (value.startsWith("0x")) {
                leaves.add(value.substring(2));
            } else if (!value.isEmpty() && !value.contains(" ") && !value.contains("-")) {
                leaves.add(value);
            }
        } else {
            leaves.add(json.getAsString());
        }
        return leaves;
    }

    @Test void textNamesWhatMatters() throws IOException {
        var file = folder.resolve("dump.txt");
        DumpFile.write(file, dump);
        var text = Files.readString(file);
        assertThat(text).contains("TDX module: READY", "PT_REG", "TD0: TDR", "OP_STATE RUNNABLE",
                "TD0.MRTD  " + snapshot.tds().getFirst().measurements().getFirst().digest(), "TD0.TDCS.TD_EPOCH", "TD0.VP0.VMCS.Guest_RIP",
                "TD0.SEPT: root PML4", "NL_MAPPED", "MAPPED", "(496 entries)", "0000000010000000 SEPT_VE_DISABLE",
                "00000001 TD_KEYS_CONFIGURED", "MODULE.LOCK KOT_LOCK");
        assertThat(text.lines()).allMatch(line -> line.length() < 140).hasSizeLessThan(1000);
    }

    @Test void whatADumpLacksIsNamed() {
        var json = JsonParser.parseString(SnapshotJson.write(dump)).getAsJsonObject();
        var td = json.getAsJsonArray("tds").get(0).getAsJsonObject();
        td.getAsJsonArray("vps").get(0).getAsJsonObject().remove("tdVmcs");
        assertThatThrownBy(() -> SnapshotJson.read(json.toString(), "x.json")).hasMessageContaining("tds[0].vps[0].tdVmcs is missing");
        var other = JsonParser.parseString(SnapshotJson.write(dump)).getAsJsonObject();
        other.getAsJsonArray("tds").get(0).getAsJsonObject().getAsJsonObject("secureEpt").addProperty("level", "PML6");
        assertThatThrownBy(() -> SnapshotJson.read(other.toString(), "x.json")).hasMessageContaining("secureEpt.level is no level");
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{}", "[]", "not JSON", "{\"sysState\":\"READY\"}", "{\"tds\":3}",
        "{\"sysState\":\"READY\",\"tds\":[],\"pamt\":[{\"start\":12}]}", "{\"fields\":3}", "{\"fields\":{\"A\":{}}}", "{\"tds\":[null]}",
        "{\"globalKeyId\":\"many\"}", "{\"tds\":[{\"vps\":[[]]}]}", "{\"pamt\":[{\"start\":\"0x10000000000000000\"}]}"})
    void whatIsNoDumpIsRefusedInOneLine(String text) {
        assertThatThrownBy(() -> SnapshotJson.read(text, "x.json")).isInstanceOf(UserError.class)
                .hasMessageContaining("x.json is no dump").hasMessageNotContaining("\n");
    }
}
