package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.classfile.Attributes;
import java.lang.classfile.ClassFile;
import java.lang.classfile.attribute.CodeAttribute;
import java.lang.classfile.instruction.InvokeInstruction;
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
import java.util.TreeSet;
import java.util.function.Predicate;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
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
    /// A switch with fewer cases does not make a long method a table.
    private static final int TABLE_CASES = 32;
    private static final Set<String> BANNED = Set.of("util", "utils", "common", "helper", "helpers", "base", "misc",
            "manager");
    private static final Pattern CITED = Pattern.compile("///? .*?\\[([A-Z][A-Z0-9.]*(?:-[A-Z0-9.]+)*|16550) (?:\"|Vol\\. )");
    private static final Pattern KEY = Pattern.compile("(?m)^\\| ([A-Z0-9.-]+) \\|");
    private static final Pattern LEAF = Pattern.compile("(?m)^    ([A-Z0-9_]+)\\([0-9]+\\)[,;]$");
    private static final Pattern LEAF_CLASS = Pattern.compile("class (\\w+) implements (?:Host|Guest)Leaf\\b");
    /// TDH.MEM.SEPT.WR is not in the module; the functions of a migration session share one class, because no session begins.
    private static final Set<String> WITHOUT_CLASS = Set.of("MemSeptWr", "ExportAbort", "ExportBlockw", "ExportMem", "ExportPause",
            "ExportTrack", "ExportStateTd", "ExportStateVp", "ImportEnd", "ImportCommit", "ImportMem", "ImportTrack", "ImportStateTd",
            "ImportStateVp");
    private static final Set<String> SHARED_CLASS = Set.of("MigrationSessionLeaf");
    /// Packages that still stand in a circle. A name leaves this list when its circle does.
    private static final Set<String> CIRCULAR = new TreeSet<>(Set.of("cloister.cpu", "cloister.cpu.core", "cloister.cpu.fpu",
            "cloister.cpu.sys", "cloister.cpu.vmx", "cloister.tdx.exits", "cloister.tdx.tdcall"));
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
                    if (!method.flags().has(AccessFlag.SYNTHETIC) && !initializer && !isTabular(code)
                            && sourceLines(code) > MAX_METHOD_LINES) {
                        tooLong.add(name + ": " + sourceLines(code) + " lines");
                    }
                });
            }
        }
        assertThat(tooBig).as("methods over %d bytes of bytecode", MAX_METHOD_BYTES).isEmpty();
        assertThat(tooLong).as("methods over %d lines that are not one switch", MAX_METHOD_LINES).isEmpty();
    }

    /// A leaf function of the TDX module is a class that bears its name.
    @Test void leafFunctionsBearTheirNames() {
        requireLeafClasses("SeamcallLeaf", "seamcall");
        requireLeafClasses("TdcallLeaf", "tdcall");
    }

    private static void requireLeafClasses(String leaves, String folder) {
        var wanted = new TreeSet<String>();
        matches(LEAF, ROOT.resolve("spec/src/main/java/cloister/spec/tdx/" + leaves + ".java"))
                .map(TidyTest::className).filter(name -> !WITHOUT_CLASS.contains(name)).forEach(wanted::add);
        var there = new TreeSet<String>();
        javaFiles().stream().filter(f -> f.startsWith(ROOT.resolve("tdx/src/main/java/cloister/tdx/" + folder)))
                .flatMap(file -> matches(LEAF_CLASS, file)).filter(name -> !SHARED_CLASS.contains(name)).forEach(there::add);
        if (folder.equals("seamcall")) {
            there.add("VpEnter"); // does not come back like a function
        }
        assertThat(there).as("classes of leaf functions in " + folder).isNotEmpty().isEqualTo(wanted);
    }

    /// MEM_SEPT_ADD becomes MemSeptAdd.
    private static String className(String leaf) {
        return Stream.of(leaf.split("_")).map(word -> word.charAt(0) + word.substring(1).toLowerCase(Locale.ROOT))
                .collect(Collectors.joining());
    }

    @Test void citedDocumentsAreListed() {
        var listed = matches(KEY, ROOT.resolve("docs/specs.md")).collect(Collectors.toSet());
        assertThat(offending(javaFiles(), file -> matches(CITED, file).anyMatch(key -> !listed.contains(key))))
                .as("files that cite a document which docs/specs.md does not list").isEmpty();
    }

    @Test void nothingStaticChanges() throws IOException {
        var mutable = new ArrayList<String>();
        for (var file : classFiles()) {
            var model = ClassFile.of().parse(file);
            model.fields().stream().filter(field -> field.flags().has(AccessFlag.STATIC) && !field.flags().has(AccessFlag.FINAL)
                    && !field.flags().has(AccessFlag.SYNTHETIC)).forEach(field -> mutable.add(
                            model.thisClass().asInternalName() + "." + field.fieldName().stringValue()));
        }
        assertThat(mutable).as("static fields that are not final").isEmpty();
    }

    /// What the program writes and reads must not depend on the language of the machine: Turkish has another lower case of I,
    /// Arabic other digits.
    @Test void noTextDependsOnTheLanguageOfTheMachine() throws IOException {
        var dependent = new ArrayList<String>();
        for (var file : classFiles()) {
            var model = ClassFile.of().parse(file);
            for (var method : model.methods()) {
                method.findAttribute(Attributes.code()).ifPresent(code -> code.elementStream().forEach(element -> {
                    if (element instanceof InvokeInstruction call && takesTheDefaultLocale(call)) {
                        dependent.add(model.thisClass().asInternalName() + "." + method.methodName().stringValue() + " calls "
                                + call.name().stringValue());
                    }
                }));
            }
        }
        assertThat(dependent).as("calls without a Locale: write Locale.ROOT").isEmpty();
    }

    private static boolean takesTheDefaultLocale(InvokeInstruction call) {
        String owner = call.owner().asInternalName();
        boolean given = call.type().stringValue().contains("Ljava/util/Locale;");
        return !given && switch (call.name().stringValue()) {
            case "formatted", "toUpperCase", "toLowerCase" -> owner.equals("java/lang/String");
            case "format", "printf" -> Set.of("java/lang/String", "java/io/PrintStream", "java/io/PrintWriter", "java/util/Formatter")
                    .contains(owner);
            case "<init>" -> owner.equals("java/util/Formatter") || owner.equals("java/text/DecimalFormat")
                    || owner.equals("java/util/Scanner");
            default -> false;
        };
    }

    private static Stream<String> matches(Pattern pattern, Path file) {
        return pattern.matcher(String.join("\n", lines(file))).results().map(found -> found.group(1));
    }

    /// Modules may depend only on what stands in their row of the design.
    @Test void wallsStand() {
        assertThat(offending(moduleSources("kvm"), imports("cloister.tdx", "cloister.platform")))
                .as("the hypervisor never sees the TDX module's classes").isEmpty();
        assertThat(offending(moduleSources("tdx"), imports("cloister.cpu", "cloister.platform", "cloister.kvm")))
                .as("the TDX module sees the processor through its own port only").isEmpty();
        assertThat(offending(moduleSources("tdx").stream().filter(f -> f.getParent().endsWith("core")).toList(),
                imports("cloister.tdx.seamcall", "cloister.tdx.tdcall", "cloister.tdx.exits", "cloister.tdx.dispatch")))
                .as("the TDX module's core does not know who uses it").isEmpty();
        assertThat(offending(moduleSources("devices"), imports("cloister.cpu", "cloister.kvm", "cloister.tdx")))
                .as("devices know the bus only").isEmpty();
    }

    /// The packages of each module can be read one after the other.
    @Test void packagesDoNotImportEachOtherInACircle() {
        var graph = packages();
        assertThat(graph.packages()).as("packages").hasSizeGreaterThan(30);
        assertThat(graph.circular()).as("packages that reach themselves by imports").isEqualTo(CIRCULAR);
    }

    /// The kinds of VM stand side by side over what `vcpu` and `mmu` declare; the MMU knows no kind.
    @Test void kindsOfVmDoNotKnowEachOther() {
        var graph = packages();
        assertThat(graph.reachable("cloister.kvm.vmx")).contains("cloister.kvm.vcpu", "cloister.kvm.mmu")
                .doesNotContain("cloister.kvm.tdx", "cloister.kvm.dev");
        assertThat(graph.reachable("cloister.kvm.tdx")).contains("cloister.kvm.vcpu", "cloister.kvm.mmu")
                .doesNotContain("cloister.kvm.vmx", "cloister.kvm.dev");
        assertThat(graph.reachable("cloister.kvm.vcpu")).doesNotContain("cloister.kvm.vmx", "cloister.kvm.tdx", "cloister.kvm.dev");
        assertThat(graph.reachable("cloister.kvm.mmu")).contains("cloister.kvm.host")
                .doesNotContain("cloister.kvm.vmx", "cloister.kvm.tdx", "cloister.kvm.vcpu", "cloister.kvm.irq");
    }

    private static PackageGraph packages() {
        return new PackageGraph(javaFiles().stream().filter(f -> f.toString().contains("/src/main/")).toList());
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

    /// One dispatching switch of many cases is a table, however long.
    private static boolean isTabular(CodeAttribute code) {
        return code.elementStream().anyMatch(element -> switch (element) {
            case TableSwitchInstruction table -> table.cases().size() >= TABLE_CASES;
            case LookupSwitchInstruction lookup -> lookup.cases().size() >= TABLE_CASES;
            default -> false;
        });
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
        return Sources.walk(ROOT, wanted);
    }

    private static List<String> lines(Path file) {
        try {
            return Files.readAllLines(file, StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
