package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.TinyGuest;
import cloister.vmm.VmType;
import cloister.vmm.observe.MemoryTypes;
import com.google.gson.JsonParser;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;

/// `cloister inspect` shows what it is asked for, and says in one line what it cannot.
class InspectCommandTest {
    @TempDir
    private static Path folder;
    private static String dump;

    @BeforeAll static void make() {
        var config = new MachineConfig().vmType(VmType.TDX).program(TinyGuest.trustDomain()).memoryBytes(32 << 20);
        try (var machine = new Machine(config)) {
            machine.run();
            var file = folder.resolve("td.json");
            DumpFile.write(file, Dump.of(machine));
            DumpFile.write(folder.resolve("td.txt"), Dump.of(machine));
            dump = file.toString();
        }
    }

    private record Result(int exitCode, String out, String err) {
    }

    private static Result inspect(String... arguments) {
        var out = new ByteArrayOutputStream();
        var err = new ByteArrayOutputStream();
        var oldOut = System.out;
        var oldErr = System.err;
        try {
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
            int code = new CommandLine(new InspectCommand()).execute(arguments);
            return new Result(code, out.toString(StandardCharsets.UTF_8), err.toString(StandardCharsets.UTF_8));
        } finally {
            System.setOut(oldOut);
            System.setErr(oldErr);
        }
    }

    @Test void theWholeOrAPart() {
        assertThat(inspect(dump).out()).startsWith("TDX module: READY").contains("\nKOT ", "\nPAMT ", "\nTD0.SEPT ");
        assertThat(inspect("--td", "0", dump).out()).startsWith("TD0: TDR ").doesNotContain("PAMT ");
        assertThat(inspect("--sept", dump).out().lines()).allMatch(line -> line.startsWith("TD0.SEPT"));
        assertThat(inspect("--pamt", dump).out().lines().skip(1)).isNotEmpty().allMatch(line -> line.startsWith("PAMT "));
    }

    @Test void memoryTypesAreThoseOfATrustDomainsPrivateMemory() {
        var lines = inspect("--memory-types", dump).out().lines().toList();
        assertThat(lines)
                .anyMatch(l -> l.matches("LP0\\.TLB 0x[0-9a-f]{16}-0x[0-9a-f]{16} -> 0x[0-9a-f]{12} KeyID 3[3-9] rw  WB = EPT WB.*"))
                .anyMatch(l -> l.matches("MEMTYPE +[0-9,]+ KiB  WB = EPT WB.*, host MTRR WB \\(ignored\\)"))
                .contains("MEMTYPE 0 pages are used with and without caching at a time");
        assertThat(inspect(dump).out()).contains("\nMEMTYPE ").doesNotContain("LP0.TLB");
        complains("--memory-types goes with --json only", "--memory-types", "--sept", dump);
    }

    @Test void memoryTypesOfAnOrdinaryVmAreByItsEpt() {
        var file = folder.resolve("vm.json");
        var config = new MachineConfig().vmType(VmType.DEFAULT).program(TinyGuest.ordinaryVm()).memoryBytes(32 << 20);
        try (var machine = new Machine(config)) {
            machine.run();
            DumpFile.write(file, Dump.of(machine));
        }
        assertThat(inspect("--memory-types", file.toString()).out().lines()).anyMatch(l -> l.startsWith("LP0.TLB ")
                && l.contains(" KeyID  0 ") && l.endsWith("WB = EPT WB IPAT, PAT WB (ignored), host MTRR WB (ignored)"));
        var json = JsonParser.parseString(inspect("--memory-types", "--json", file.toString()).out()).getAsJsonObject();
        var uses = json.getAsJsonArray("uses");
        assertThat(uses).isNotEmpty().allSatisfy(use -> assertThat(use.getAsJsonObject().get("ignorePat").getAsBoolean()).isTrue());
    }

    @Test void aPageOfTwoTypesIsNamed() {
        var types = new MemoryTypes(List.of(new MemoryTypes.Use(1, 0x1000, 0x3000, 0x5000, 0, false, "UC", "none", false, "UC_MINUS", "WB",
                false)), List.of(new MemoryTypes.Mixed(0x5000, 0x9000, "WB", 0x1000, "UC")));
        assertThat(MemoryTypeText.of(types).lines()).containsExactly(
                "LP1.TLB 0x0000000000001000-0x0000000000003000 -> 0x000000005000 KeyID  0 r-  UC = no EPT, PAT UC_MINUS, host MTRR WB",
                "MEMTYPE            8 KiB  UC = no EPT, PAT UC_MINUS, host MTRR WB",
                "MEMTYPE mixed: page 0x000000005000 is WB at linear 0x0000000000009000 and UC at 0x0000000000001000",
                "MEMTYPE 1 pages are used with and without caching at a time");
    }

    @Test void theSummaryIsFirstInTheSpecificationsWords() {
        var lines = inspect(dump).out().lines().toList();
        assertThat(lines.get(0)).startsWith("TDX module: READY");
        assertThat(lines.get(1)).startsWith("SUMMARY KeyIDs: ").contains("1 ASSIGNED");
        var summary = lines.stream().filter(line -> line.startsWith("SUMMARY")).toList();
        assertThat(lines.subList(1, 1 + summary.size())).isEqualTo(summary);
        assertThat(summary).anyMatch(l -> l.matches("SUMMARY PT_REG +[0-9,]+ KiB +private memory of trust domains"))
                .anyMatch(l -> l.equals("SUMMARY TD0: ATTRIBUTES SEPT_VE_DISABLE"))
                .anyMatch(l -> l.matches("SUMMARY TD0: [0-9,]+ KiB MAPPED: the TD can use the page"));
        assertThat(lines).anyMatch(l -> l.matches("TD0\\.VP0\\.VMCS\\.Guest_CR0 +0x[0-9a-f]{16} PE .*NE.* PG"))
                .noneMatch(l -> l.startsWith("PAMT   0") && !l.contains("0x"));
    }

    @Test void whatDiffersBetweenTwoDumpsIsShownAndNothingElse() throws IOException {
        assertThat(inspect("--diff", dump, dump)).isEqualTo(new Result(0, "", ""));
        var later = folder.resolve("later.json");
        var config = new MachineConfig().vmType(VmType.TDX).program(TinyGuest.trustDomain()).memoryBytes(32 << 20);
        try (var machine = new Machine(config)) {
            DumpFile.write(later, Dump.of(machine)); // before it ran
        }
        var result = inspect("--diff", later.toString(), dump);
        assertThat(result.exitCode()).isZero();
        assertThat(result.out().lines()).allMatch(line -> line.contains(" -> "))
                .anyMatch(l -> l.startsWith("TD0.VP0.VMCS.Guest_RIP "))
                .anyMatch(l -> l.matches("TD0\\.SEPT 0x[0-9a-f]{12}-0x[0-9a-f]{12} +FREE -> PT MAPPED rwx"))
                .anyMatch(l -> l.matches("PAMT 0x[0-9a-f]{12}-0x[0-9a-f]{12} .*PT_NDA -> 4K PT_REG TDR 0x[0-9a-f]+"))
                .noneMatch(l -> l.contains("MRTD"));
        complains("--diff shows all differences", "--diff", dump, "--json", dump);
    }

    @Test void jsonIsTheSameWholeOrPart() throws IOException {
        var whole = JsonParser.parseString(Files.readString(Path.of(dump))).getAsJsonObject();
        assertThat(JsonParser.parseString(inspect("--json", dump).out())).isEqualTo(whole);
        var td = whole.getAsJsonArray("tds").get(0).getAsJsonObject();
        assertThat(JsonParser.parseString(inspect("--json", "--td", "0", dump).out())).isEqualTo(td);
        var trees = JsonParser.parseString(inspect("--json", "--td", "0", "--sept", dump).out()).getAsJsonObject();
        assertThat(trees.keySet()).containsExactly("secureEpt", "l2SecureEpts");
        assertThat(trees.asMap()).allSatisfy((name, tree) -> assertThat(tree).isEqualTo(td.get(name)));
        assertThat(JsonParser.parseString(inspect("--json", "--pamt", dump).out())).isEqualTo(whole.get("pamt"));
    }

    @Test void whatCannotBeShownIsOneLine() throws IOException {
        complains("there is no trust domain 1", "--td", "1", dump);
        complains("there is no trust domain -1", "--td", "-1", dump);
        complains("--pamt goes with neither", "--pamt", "--sept", dump);
        complains("there is no file", folder.resolve("none.json").toString());
        complains("cannot read", folder.toString());
        complains("td.txt is no dump in JSON", folder.resolve("td.txt").toString());
        var cut = folder.resolve("cut.json");
        Files.writeString(cut, Files.readString(Path.of(dump)).substring(0, 5000));
        complains("cut.json is no dump in JSON", cut.toString());
        var binary = folder.resolve("binary.json");
        Files.write(binary, new byte[] {(byte) 0xff, (byte) 0xfe, 0, 1, 2});
        complains("binary.json", binary.toString());
    }

    private static void complains(String message, String... arguments) {
        var result = inspect(arguments);
        assertThat(result.exitCode()).isNotZero();
        assertThat(result.out()).isEmpty();
        assertThat(result.err().lines()).singleElement().asString().startsWith("cloister: ").contains(message);
    }
}
