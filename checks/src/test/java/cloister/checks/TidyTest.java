package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.classfile.Attributes;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.attribute.CodeAttribute;
import java.lang.classfile.instruction.LookupSwitchInstruction;
import java.lang.classfile.instruction.TableSwitchInstruction;
import java.lang.reflect.AccessFlag;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;

/// The house style that a machine can check.
class TidyTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final int MAX_FILE_LINES = 800;
    private static final int MAX_LINE = 140;
    /// HotSpot's HugeMethodLimit: a longer method is interpreted for ever.
    private static final int MAX_METHOD_BYTES = 8_000;
    private static final int MAX_METHOD_LINES = 70;
    private static final Set<String> BANNED = Set.of("util", "utils", "common", "helper", "helpers", "base", "misc",
            "manager");
    private static final Pattern WORD = Pattern.compile("[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])");

    @Test void filesAreShort() {
        assertThat(offending(javaFiles(), file -> !isTable(file) && lines(file).size() > MAX_FILE_LINES))
                .as("Java files over %d lines that do not say \"(table)\" in their type's javadoc", MAX_FILE_LINES).isEmpty();
    }

    @Test void linesAreShort() {
        assertThat(offending(javaFiles(), file -> !isTable(file)
                && lines(file).stream().anyMatch(l -> l.length() > MAX_LINE)))
                .as("Java files with lines over %d characters", MAX_LINE).isEmpty();
    }

    @Test void namesAreNotGrabBags() {
        assertThat(offending(javaFiles(), file -> {
            var names = new ArrayList<String>();
            ROOT.relativize(file).forEach(part -> names.add(part.toString().replace(".java", "")));
            return names.stream().flatMap(name -> WORD.matcher(name).results())
                    .anyMatch(word -> BANNED.contains(word.group().toLowerCase(Locale.ROOT)));
        })).as("names of packages or classes that say nothing").isEmpty();
    }

    @Test void nothingIsLeftUndone() {
        var unfinished = Pattern.compile("\\b(TODO|FIXME|XXX)\\b");
        assertThat(offending(javaFiles(), file -> !file.endsWith("TidyTest.java")
                && lines(file).stream().anyMatch(l -> unfinished.matcher(l).find())))
                .as("files that admit unfinished work").isEmpty();
    }

    @Test void nothingNamesOneMachine() {
        var folder = Pattern.compile("(^|[^A-Za-z.])/(work|farm)/");
        assertThat(offending(sources(), file -> !file.endsWith("TidyTest.java")
                && lines(file).stream().anyMatch(l -> folder.matcher(l).find())))
                .as("files that name a folder of one machine").isEmpty();
    }

    @Test void methodsFitTheCompilerAndTheScreen() throws IOException {
        var tooBig = new ArrayList<String>();
        var tooLong = new ArrayList<String>();
        for (var file : classFiles()) {
            var model = ClassFile.of().parse(file);
            for (var method : model.methods()) {
                method.findAttribute(Attributes.code()).ifPresent(code -> {
                    String name = model.thisClass().asInternalName() + "." + method.methodName().stringValue();
                    boolean initializer = method.methodName().stringValue().startsWith("<"); // spans all field initialisers
                    if (code.codeLength() > MAX_METHOD_BYTES && !method.methodName().equalsString("<clinit>")) {
                        tooBig.add(name + ": " + code.codeLength() + " bytes");
                    }
                    if (!method.flags().has(AccessFlag.SYNTHETIC) && !initializer && !isTabular(model, code)
                            && sourceLines(code) > MAX_METHOD_LINES) {
                        tooLong.add(name + ": " + sourceLines(code) + " lines");
                    }
                });
            }
        }
        assertThat(tooBig).as("methods over %d bytes of bytecode", MAX_METHOD_BYTES).isEmpty();
        assertThat(tooLong).as("methods over %d lines that are not one switch", MAX_METHOD_LINES).isEmpty();
    }

    /// Modules may depend only on what stands in their row of the design.
    @Test void wallsStand() {
        assertThat(offending(moduleSources("kvm"), imports("cloister.tdx", "cloister.platform")))
                .as("the hypervisor never sees the TDX module's classes").isEmpty();
        assertThat(offending(moduleSources("tdx"), imports("cloister.cpu", "cloister.platform", "cloister.kvm")))
                .as("the TDX module sees the processor through its own port only").isEmpty();
        assertThat(offending(moduleSources("devices"), imports("cloister.cpu", "cloister.kvm", "cloister.tdx")))
                .as("devices know the bus only").isEmpty();
    }

    private static Predicate<Path> imports(String... packages) {
        return file -> lines(file).stream().anyMatch(line -> Stream.of(packages)
                .anyMatch(p -> line.startsWith("import " + p + ".") || line.contains("requires " + p + ";")));
    }

    private static List<Path> moduleSources(String module) {
        return javaFiles().stream().filter(f -> f.startsWith(ROOT.resolve(module).resolve("src/main"))).toList();
    }

    private static int sourceLines(CodeAttribute code) {
        return code.findAttribute(Attributes.lineNumberTable()).map(table -> {
            var numbers = table.lineNumbers().stream().mapToInt(line -> line.lineNumber()).summaryStatistics();
            return numbers.getMax() - numbers.getMin() + 1;
        }).orElse(0);
    }

    /// One dispatching switch with a line per case is a table, however long.
    private static boolean isTabular(ClassModel model, CodeAttribute code) {
        long switches = code.elementStream().filter(e -> e instanceof TableSwitchInstruction
                || e instanceof LookupSwitchInstruction).count();
        return switches >= 1;
    }

    private static boolean isTable(Path file) {
        return lines(file).stream().anyMatch(l -> l.startsWith("///") && l.contains("(table)"));
    }

    private static List<String> offending(List<Path> files, Predicate<Path> rule) {
        return files.stream().filter(rule).map(f -> ROOT.relativize(f).toString()).toList();
    }

    private static List<Path> javaFiles() {
        return sources().stream().filter(f -> f.toString().endsWith(".java")).toList();
    }

    private static List<Path> sources() {
        return walk(path -> {
            String name = path.toString();
            return !name.contains("/target/")
                    && (name.endsWith(".java") || name.endsWith(".md") || name.endsWith("pom.xml") || name.endsWith("/run")
                    || name.endsWith("/cloister") || name.endsWith(".sh"));
        });
    }

    private static List<Path> classFiles() {
        return walk(path -> path.toString().contains("/target/classes/") && path.toString().endsWith(".class")
                && !path.endsWith("module-info.class"));
    }

    private static List<Path> walk(Predicate<Path> wanted) {
        try (var all = Files.walk(ROOT)) {
            var files = all.filter(Files::isRegularFile).filter(f -> !f.startsWith(ROOT.resolve(".git")))
                    .filter(wanted).sorted().toList();
            assertThat(files).as("files under " + ROOT).isNotEmpty();
            return files;
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file, StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
