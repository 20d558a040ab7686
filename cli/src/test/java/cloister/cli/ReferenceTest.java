package cloister.cli;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import cloister.kvm.KvmPolicy;
import cloister.vmm.MachineConfig;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/// docs/reference.md says what the code does, and the code does what it says.
class ReferenceTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final Pattern CODE_ROW = Pattern.compile("(?m)^\\| (\\d+) \\| ([A-Z_]+) \\|");
    private static final Pattern VARIABLE_ROW = Pattern.compile("(?m)^\\| `(CLOISTER_[A-Z_]+)` \\|");
    private static final Pattern VARIABLE = Pattern.compile("\\bCLOISTER_[A-Z_]*[A-Z]\\b");
    private static final Pattern NAMED_ROW = Pattern.compile("(?m)^\\| `([a-z0-9_]+)` \\|");
    private static final Pattern POLICY_ROW = Pattern.compile("(?m)^\\| `([a-z-]+)` \\| ([^|]+) \\|");
    private static final Pattern README_ROW = Pattern.compile("(?m)^\\| (\\d+) \\|");

    @Test void everyExitCodeStandsThere() {
        var code = Stream.of(ExitCode.values()).map(c -> c.code() + " " + c.name()).collect(Collectors.toCollection(TreeSet::new));
        var page = CODE_ROW.matcher(text("docs/reference.md")).results().map(row -> row.group(1) + " " + row.group(2))
                .collect(Collectors.toCollection(TreeSet::new));
        assertThat(page).isNotEmpty().isEqualTo(code);
    }

    @Test void theHelpOfRunAndTheReadmeKnowTheSameCodes() {
        var code = Stream.of(ExitCode.values()).filter(c -> c != ExitCode.DIFFERENCE).map(c -> Integer.toString(c.code()))
                .collect(Collectors.toCollection(TreeSet::new));
        var help = new TreeSet<>(Main.commandLine().getSubcommands().get("run").getCommandSpec().usageMessage().exitCodeList().keySet());
        assertThat(help).isEqualTo(code);
        var readme = README_ROW.matcher(text("README.md")).results().map(row -> row.group(1))
                .collect(Collectors.toCollection(TreeSet::new));
        assertThat(readme).isEqualTo(code);
    }

    @Test void everyVariableStandsThere() {
        var page = VARIABLE_ROW.matcher(text("docs/reference.md")).results().map(row -> row.group(1))
                .collect(Collectors.toCollection(TreeSet::new));
        assertThat(page).isNotEmpty().isEqualTo(variables());
    }

    @Test void everyParameterOfKvmStandsThereAndIsKnown() {
        assertThat(names("docs/reference.md", "## KVM's parameters")).isEqualTo(MachineConfig.KVM_PARAMETERS);
        assertThat(MachineConfig.KVM_PARAMETERS).allSatisfy(name -> new MachineConfig().kvmParameter(name, "1"));
        assertThatThrownBy(() -> new MachineConfig().kvmParameter("tdp_mmu", "1"))
                .hasMessageContaining(String.join(", ", MachineConfig.KVM_PARAMETERS));
        String help = option("--kvm-param");
        assertThat(MachineConfig.KVM_PARAMETERS).allSatisfy(name -> assertThat(help).contains(name));
    }

    @Test void everyPolicyOfKvmStandsThereWithItsValues() {
        var code = Stream.of(KvmPolicy.values()).map(policy -> policy.policyName() + " " + policy.choices()).toList();
        var rows = POLICY_ROW.matcher(section("docs/reference.md", "## KVM's policies")).results()
                .map(row -> row.group(1) + " [" + row.group(2).replace("`", "") + "]").toList();
        assertThat(rows).isEqualTo(code);
        String help = option("--policy");
        assertThat(KvmPolicy.values()).allSatisfy(policy -> assertThat(help)
                .contains(policy.policyName() + "=" + String.join("|", policy.choices())));
    }

    private static String option(String name) {
        return String.join(" ", Main.commandLine().getSubcommands().get("run").getCommandSpec().findOption(name).description());
    }

    private static List<String> names(String file, String heading) {
        return NAMED_ROW.matcher(section(file, heading)).results().map(row -> row.group(1)).toList();
    }

    private static String section(String file, String heading) {
        String text = text(file);
        int start = text.indexOf(heading + "\n");
        assertThat(start).as(heading).isNotNegative();
        int end = text.indexOf("\n## ", start + 1);
        return text.substring(start, end < 0 ? text.length() : end);
    }

    /// The launcher script names the commands again, to refuse others before it builds.
    @Test void theLauncherKnowsTheSameCommands() {
        var known = Pattern.compile("(?s)known\\(\\).*?-\\* \\| (.*?)\\) return 0").matcher(text("cloister"));
        assertThat(known.find()).isTrue();
        assertThat(Set.of(known.group(1).split("[| \\\\\\n]+"))).isEqualTo(Main.commandLine().getSubcommands().keySet());
    }

    @Test void theVersionIsThatOfTheProject() {
        assertThat(text("pom.xml")).contains("<version>" + Main.VERSION);
    }

    /// What any source of the product and the launcher reads.
    private static Set<String> variables() {
        try (var files = Files.walk(ROOT)) {
            var sources = files.filter(f -> f.toString().contains("/src/main/") && f.toString().endsWith(".java"))
                    .map(f -> ROOT.relativize(f).toString()).filter(f -> !f.contains("/target/")).toList();
            return Stream.concat(Stream.of("cloister"), sources.stream())
                    .flatMap(file -> VARIABLE.matcher(text(file)).results().map(found -> found.group()))
                    .collect(Collectors.toCollection(TreeSet::new));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static String text(String file) {
        try {
            return Files.readString(ROOT.resolve(file));
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
