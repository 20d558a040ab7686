package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.Collectors;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/// The hypervisor cannot reach what a host cannot reach: a class that tries from within its module does not compile. [ADR 1]
class WallsTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final List<String> MODULES = List.of("spec", "sim", "memory", "isa", "cpu", "tdx", "platform", "kvm");

    @TempDir Path folder;

    /// What the compiler says of `statement` in a method of the hypervisor's that has a processor and the memory.
    private List<String> errors(String statement) throws IOException {
        var source = folder.resolve("cloister/kvm/host/Burglar.java");
        Files.createDirectories(source.getParent());
        Files.writeString(source, """
                package cloister.kvm.host;
                import cloister.cpu.LogicalProcessor;
                import cloister.memory.HostMemory;
                import cloister.spec.vmx.VmcsField;
                final class Burglar {
                    Object climb(LogicalProcessor lp, HostMemory memory) {
                        %s
                    }
                }
                """.formatted(statement));
        var path = MODULES.stream().map(module -> ROOT.resolve(module).resolve("target/classes").toString())
                .collect(Collectors.joining(System.getProperty("path.separator")));
        var compiler = ToolProvider.getSystemJavaCompiler();
        var problems = new DiagnosticCollector<JavaFileObject>();
        try (var files = compiler.getStandardFileManager(problems, Locale.ROOT, null)) {
            compiler.getTask(null, files, problems, List.of("-proc:none", "-implicit:none", "-d", folder.resolve("out").toString(),
                    "--module-path", path, "--patch-module", "cloister.kvm=" + folder), null, files.getJavaFileObjects(source)).call();
        }
        var result = new ArrayList<String>();
        for (var problem : problems.getDiagnostics()) {
            if (problem.getKind() == Diagnostic.Kind.ERROR) {
                result.add(problem.getMessage(Locale.ROOT));
            }
        }
        return result;
    }

    /// Otherwise the other tests would pass for the wrong reason.
    @Test void whatAHostMayDoCompiles() throws IOException {
        assertThat(errors("lp.vmwrite(VmcsField.GUEST_RIP, 0); return memory.read(0, 8);")).isEmpty();
    }

    @ParameterizedTest
    @ValueSource(strings = {
        "return new cloister.memory.PhysicalMemory(4096, 1).window(cloister.memory.plain.PlainAccess.SILICON);",
        "return lp.memory(cloister.cpu.firmware.FirmwareAccess.SEAM);",
        "lp.installSeam(cloister.cpu.firmware.FirmwareAccess.SEAM, null); return 0;",
        "return lp.enter(cloister.cpu.firmware.FirmwareAccess.SEAM, null, true);",
        "return lp.seamTransferVmcs(cloister.cpu.firmware.FirmwareAccess.SEAM);",
        "return lp.currentVmcs(cloister.cpu.firmware.FirmwareAccess.SEAM);"})
    void whatOnlySiliconAndFirmwareMayDoDoesNot(String statement) throws IOException {
        assertThat(errors(statement)).isNotEmpty().allSatisfy(error -> assertThat(error).contains("is not visible"));
    }

    @ParameterizedTest
    @ValueSource(strings = {"return memory.window();", "return memory.readPlain(0, 8);", "return lp.currentVmcs();", "return lp.memory();",
        "memory.takeOwnership(0, 4096, 0); return 0;", "memory.forgetKey(33); return 0;", "return memory.ownerOfLine(0);",
        "return lp.seamTransferVmcs();", "return lp.enter(new cloister.cpu.vmx.Vmcs(0), true);", "lp.observer(null); return 0;",
        "return new cloister.tdx.TdxModule(null, null);", "return cloister.platform.Platform.TSC_HZ;"})
    void noDoorWasLeftOpen(String statement) throws IOException {
        assertThat(errors(statement)).isNotEmpty();
    }
}
