package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.source.tree.AssignmentTree;
import com.sun.source.tree.ClassTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.CompoundAssignmentTree;
import com.sun.source.tree.ExpressionStatementTree;
import com.sun.source.tree.IdentifierTree;
import com.sun.source.tree.MemberReferenceTree;
import com.sun.source.tree.MemberSelectTree;
import com.sun.source.tree.MethodTree;
import com.sun.source.tree.NewClassTree;
import com.sun.source.tree.Tree;
import com.sun.source.tree.UnaryTree;
import com.sun.source.tree.VariableTree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreePath;
import com.sun.source.util.TreePathScanner;
import com.sun.source.util.Trees;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.MatchResult;
import java.util.regex.Pattern;
import javax.lang.model.element.Element;
import javax.lang.model.element.ElementKind;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.element.Modifier;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/// What the compiler knows of every declaration: that somebody uses it, and that what other modules see is documented.
class DeclarationsTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    private static final Pattern EXPORTS = Pattern.compile("(?m)^\\s*exports ([\\w.]+)");
    /// `spec` and the tables of `isa` say what the manuals say, and the uAPI is whole, used or not.
    private static final Pattern TABLES = Pattern.compile("cloister\\.spec\\..*|cloister\\.isa\\.(Op|Operands|Assembler)"
            + "|cloister\\.kvm\\.[A-Z]\\w*");
    /// What only tests ask: who waits for a lock, and how often an operation of the MMU fuzzer ended how.
    private static final Pattern FOR_TESTS = Pattern.compile("cloister\\.(kvm\\.host\\.(HostLock|RwLock)|vmm\\.mmu\\.MmuCoverage)");
    /// Reflection finds what bears these annotations.
    private static final Pattern REFLECTED = Pattern.compile("@(Override|Option|Parameters|Command|Mixin|ParentCommand|Spec|ArgGroup|"
            + "Benchmark|Param|Setup|TearDown|Test|ParameterizedTest|Property|Provide|BeforeAll|BeforeEach|AfterAll|AfterEach|TempDir|"
            + "RepeatedTest|Example|TestFactory)\\b");

    private static final Map<Element, String> DECLARED = new HashMap<>();
    private static final Set<Element> READ = new HashSet<>();
    private static final Set<String> UNDOCUMENTED = new TreeSet<>();

    @BeforeAll static void compile() throws IOException {
        var sources = Sources.java(ROOT).stream().filter(f -> !f.endsWith("module-info.java")).toList();
        var compiler = ToolProvider.getSystemJavaCompiler();
        try (var files = compiler.getStandardFileManager(null, null, null)) {
            var options = List.of("-proc:none", "-XDshould-stop.ifError=FLOW", "-cp", System.getProperty("java.class.path"));
            var task = (JavacTask) compiler.getTask(null, files, problem -> { }, options, null,
                    files.getJavaFileObjectsFromPaths(sources));
            var units = new ArrayList<CompilationUnitTree>();
            task.parse().forEach(units::add);
            task.analyze();
            var trees = Trees.instance(task);
            var exported = exportedPackages();
            for (var unit : units) {
                new Declarations(trees, unit, exported).scan(unit, null);
                new Uses(trees).scan(unit, null);
            }
        }
    }

    @Test void nothingIsDead() {
        var dead = new TreeSet<String>();
        DECLARED.forEach((element, place) -> {
            if (!READ.contains(element)) {
                dead.add(place);
            }
        });
        assertThat(dead).as("fields that nobody reads, methods that nobody calls, types that nobody names").isEmpty();
    }

    @Test void whatOtherModulesSeeIsDocumented() {
        assertThat(UNDOCUMENTED).as("public members of exported packages without javadoc").isEmpty();
    }

    private static Set<String> exportedPackages() {
        var packages = new TreeSet<String>();
        Sources.walk(ROOT, f -> f.endsWith("src/main/java/module-info.java")).forEach(f ->
                EXPORTS.matcher(Sources.text(f)).results().map((MatchResult m) -> m.group(1)).forEach(packages::add));
        return packages;
    }

    private static boolean isPublic(Element element) {
        for (var e = element; e != null && e.getKind() != ElementKind.PACKAGE; e = e.getEnclosingElement()) {
            boolean ofInterface = e.getEnclosingElement() != null && e.getEnclosingElement().getKind() == ElementKind.INTERFACE
                    && !e.getModifiers().contains(Modifier.PRIVATE);
            if (!ofInterface && !e.getModifiers().contains(Modifier.PUBLIC)) {
                return false;
            }
        }
        return true;
    }

    /// Collects what main code declares.
    private static final class Declarations extends TreePathScanner<Void, Void> {
        private final Trees trees;
        private final CompilationUnitTree unit;
        private final boolean main;
        private final boolean exported;

        Declarations(Trees trees, CompilationUnitTree unit, Set<String> exportedPackages) {
            this.trees = trees;
            this.unit = unit;
            String file = unit.getSourceFile().getName();
            this.main = file.contains("/src/main/") && !file.contains("/bench/");
            this.exported = main && exportedPackages.contains(String.valueOf(unit.getPackageName()));
        }

        @Override public Void visitClass(ClassTree tree, Void nothing) {
            declare(tree, tree.getModifiers().toString());
            return super.visitClass(tree, nothing);
        }

        @Override public Void visitMethod(MethodTree tree, Void nothing) {
            declare(tree, tree.getModifiers().toString());
            return super.visitMethod(tree, nothing);
        }

        @Override public Void visitVariable(VariableTree tree, Void nothing) {
            declare(tree, tree.getModifiers().toString());
            return super.visitVariable(tree, nothing);
        }

        private void declare(Tree tree, String modifiers) {
            var element = trees.getElement(getCurrentPath());
            if (!main || element == null || element.getSimpleName().isEmpty() || trees.getTree(element) != tree) {
                return;
            }
            var kind = element.getKind();
            boolean member = kind.isClass() || kind.isInterface() || kind == ElementKind.METHOD || kind == ElementKind.FIELD
                    || kind == ElementKind.CONSTRUCTOR;
            if (!member) {
                return;
            }
            String place = Path.of(unit.getSourceFile().getName()).getFileName() + ": " + element;
            boolean overrides = modifiers.contains("@Override");
            boolean compact = element.getEnclosingElement().getKind() == ElementKind.RECORD && kind != ElementKind.METHOD;
            if (exported && !overrides && !(compact && !kind.isClass())
                    && kind != ElementKind.CONSTRUCTOR
                    && kind != ElementKind.FIELD && isPublic(element)
                    && trees.getDocComment(getCurrentPath()) == null && !isMnemonic(element)) {
                UNDOCUMENTED.add(place);
            }
            boolean isUsedByLanguage = kind == ElementKind.CONSTRUCTOR || REFLECTED.matcher(modifiers).find()
                    || element.getSimpleName().contentEquals("main") || isProgram(element) || compact || isOfRecord(element);
            String type = String.valueOf(outermost(element));
            if (!isUsedByLanguage && !isConstant(element) && !TABLES.matcher(type).matches() && !FOR_TESTS.matcher(type).matches()) {
                DECLARED.put(element, place);
            }
        }

        /// A method of the assembler is an instruction of the manual, which describes it better.
        private static boolean isMnemonic(Element element) {
            return element.getKind() == ElementKind.METHOD && element.getEnclosingElement().toString().equals("cloister.isa.Assembler");
        }

        /// Constants come in tables, of which a program may use a part.
        private static boolean isConstant(Element element) {
            return element.getKind() == ElementKind.FIELD
                    && element.getModifiers().containsAll(Set.of(Modifier.STATIC, Modifier.FINAL));
        }

        private static boolean isProgram(Element element) {
            return element.getEnclosedElements().stream().anyMatch(e -> e.getSimpleName().contentEquals("main"));
        }

        private static boolean isOfRecord(Element element) {
            return element instanceof ExecutableElement method && method.getParameters().isEmpty()
                    && element.getEnclosingElement().getKind() == ElementKind.RECORD
                    && element.getEnclosingElement().getEnclosedElements().stream().anyMatch(e ->
                            e.getKind() == ElementKind.RECORD_COMPONENT && e.getSimpleName().equals(element.getSimpleName()));
        }

        private static Element outermost(Element element) {
            var e = element;
            while (e.getEnclosingElement().getKind() != ElementKind.PACKAGE) {
                e = e.getEnclosingElement();
            }
            return e;
        }
    }

    /// Collects what is read, called or named. Storing into a field is no use of it.
    private static final class Uses extends TreePathScanner<Void, Void> {
        private final Trees trees;

        Uses(Trees trees) {
            this.trees = trees;
        }

        private void use(Tree tree) {
            var element = trees.getElement(getCurrentPath());
            if (element != null && !isStored(tree) && !isWithin(element)) {
                READ.add(element);
            }
        }

        /// A declaration does not use itself.
        private boolean isWithin(Element element) {
            for (TreePath path = getCurrentPath(); path != null; path = path.getParentPath()) {
                var kind = path.getLeaf().getKind();
                if ((kind == Tree.Kind.METHOD || path.getLeaf() instanceof ClassTree) && element.equals(trees.getElement(path))) {
                    return true;
                }
            }
            return false;
        }

        private boolean isStored(Tree tree) {
            var path = getCurrentPath().getParentPath();
            var parent = path.getLeaf();
            if (parent instanceof AssignmentTree assignment && assignment.getVariable() == tree) {
                return true;
            }
            boolean changed = (parent instanceof CompoundAssignmentTree compound && compound.getVariable() == tree)
                    || (parent instanceof UnaryTree unary && unary.getKind() != Tree.Kind.LOGICAL_COMPLEMENT);
            return changed && path.getParentPath().getLeaf() instanceof ExpressionStatementTree;
        }

        @Override public Void visitIdentifier(IdentifierTree tree, Void nothing) {
            use(tree);
            return super.visitIdentifier(tree, nothing);
        }

        @Override public Void visitMemberSelect(MemberSelectTree tree, Void nothing) {
            use(tree);
            return super.visitMemberSelect(tree, nothing);
        }

        @Override public Void visitMemberReference(MemberReferenceTree tree, Void nothing) {
            use(tree);
            return super.visitMemberReference(tree, nothing);
        }

        @Override public Void visitNewClass(NewClassTree tree, Void nothing) {
            use(tree);
            return super.visitNewClass(tree, nothing);
        }
    }
}
