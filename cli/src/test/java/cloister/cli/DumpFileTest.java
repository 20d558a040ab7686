package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.tdx.inspect.ModuleSnapshot;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.TinyGuest;
import cloister.vmm.UserError;
import cloister.vmm.VmType;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// Dumps of the TDX module survive their files and are readable.
final class DumpFileTest {
    private static ModuleSnapshot snapshot;

    @TempDir
    private Path folder;

    @BeforeAll static void runAGuest() {
        var config = new MachineConfig().vmType(VmType.TDX).program(TinyGuest.trustDomain()).memoryBytes(32 << 20);
        try (var machine = new Machine(config)) {
            machine.run();
            snapshot = machine.inspect();
        }
    }

    @Test void jsonComesBackAsItWent() {
        var file = folder.resolve("dump.json");
        assertThat(DumpFile.write(file, snapshot)).isTrue();
        assertThat(DumpFile.read(file)).isEqualTo(snapshot);
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

    @Test void textNamesWhatMatters() throws IOException {
        var file = folder.resolve("dump.txt");
        DumpFile.write(file, snapshot);
        var text = Files.readString(file);
        assertThat(text).contains("TDX module: READY", "PT_REG", "TD 0: TDR", "OP_STATE RUNNABLE",
                "MRTD  " + snapshot.tds().getFirst().measurements().getFirst().digest(), "TD_EPOCH", "Guest_RIP",
                "Secure EPT of TD 0: root PML4", "NL_MAPPED", "MAPPED", "(496 entries)");
        assertThat(text.lines()).allMatch(line -> line.length() < 140).hasSizeLessThan(1000);
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "{}", "[]", "not JSON", "{\"sysState\":\"READY\"}", "{\"tds\":3}",
        "{\"sysState\":\"READY\",\"tds\":[],\"pamt\":[{\"start\":12}]}"})
    void whatIsNoDumpIsRefusedInOneLine(String text) {
        assertThatThrownBy(() -> SnapshotJson.read(text, "x.json")).isInstanceOf(UserError.class)
                .hasMessageContaining("x.json is no dump").hasMessageNotContaining("\n");
    }
}
