package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.source.tree.BinaryTree;
import com.sun.source.tree.CompilationUnitTree;
import com.sun.source.tree.ExpressionTree;
import com.sun.source.tree.Tree;
import com.sun.source.util.JavacTask;
import com.sun.source.util.TreeScanner;
import com.sun.source.util.Trees;
import java.io.IOException;
import java.net.URI;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import javax.tools.JavaFileObject;
import javax.tools.SimpleJavaFileObject;
import javax.tools.ToolProvider;
import org.junit.jupiter.api.Test;

/// Where operators of different kinds meet, parentheses say which binds first; nobody has to know Java's table by heart.
class PrecedenceTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();

    /// Operators of one kind may stand side by side.
    private enum Kind { OTHER, ARITHMETIC, SHIFT, AND, XOR, OR, CONDITIONAL_AND, CONDITIONAL_OR }

    @Test void operatorsOfDifferentKindsAreParenthesised() throws IOException {
        var files = new ArrayList<JavaFileObject>();
        try (var manager = ToolProvider.getSystemJavaCompiler().getStandardFileManager(null, null, null)) {
            manager.getJavaFileObjectsFromPaths(Sources.java(ROOT)).forEach(files::add);
            assertThat(ambiguous(files)).as("places where operators of different kinds meet without parentheses").isEmpty();
        }
    }

    @Test void ambiguityIsFound() throws IOException {
        var source = new SimpleJavaFileObject(URI.create("string:///A.java"), JavaFileObject.Kind.SOURCE) {
            @Override public CharSequence getCharContent(boolean ignoreEncodingErrors) {
                return """
                        class A {
                            int bad = 1 << 2 + 3;
                            int worse = 1 & 2 | 3;
                            boolean odd = true || false && true;
                            int good = (1 << (2 + 3)) | (4 & 5), sum = 1 + 2 * 3;
                            boolean fine = 1 + 2 == 3 && (4 & 5) == 6;
                        }
                        """;
            }
        };
        assertThat(ambiguous(List.of(source))).containsExactly("A.java:2", "A.java:3", "A.java:4");
    }

    private static List<String> ambiguous(List<? extends JavaFileObject> files) throws IOException {
        var task = (JavacTask) ToolProvider.getSystemJavaCompiler().getTask(null, null, null, List.of("-proc:none"), null, files);
        var positions = Trees.instance(task).getSourcePositions();
        var places = new ArrayList<String>();
        for (var unit : task.parse()) {
            new TreeScanner<Void, CompilationUnitTree>() {
                @Override public Void visitBinary(BinaryTree tree, CompilationUnitTree in) {
                    for (ExpressionTree operand : List.of(tree.getLeftOperand(), tree.getRightOperand())) {
                        if (operand instanceof BinaryTree && meet(kind(tree.getKind()), kind(operand.getKind()))) {
                            places.add(Path.of(in.getSourceFile().getName()).getFileName() + ":"
                                    + in.getLineMap().getLineNumber(positions.getStartPosition(in, operand)));
                        }
                    }
                    return super.visitBinary(tree, in);
                }
            }.scan(unit, unit);
        }
        return places;
    }

    private static boolean meet(Kind outer, Kind inner) {
        return outer != inner && outer != Kind.OTHER && inner != Kind.OTHER && isConditional(outer) == isConditional(inner);
    }

    private static boolean isConditional(Kind kind) {
        return kind == Kind.CONDITIONAL_AND || kind == Kind.CONDITIONAL_OR;
    }

    private static Kind kind(Tree.Kind operator) {
        return switch (operator) {
            case PLUS, MINUS, MULTIPLY, DIVIDE, REMAINDER -> Kind.ARITHMETIC;
            case LEFT_SHIFT, RIGHT_SHIFT, UNSIGNED_RIGHT_SHIFT -> Kind.SHIFT;
            case AND -> Kind.AND;
            case XOR -> Kind.XOR;
            case OR -> Kind.OR;
            case CONDITIONAL_AND -> Kind.CONDITIONAL_AND;
            case CONDITIONAL_OR -> Kind.CONDITIONAL_OR;
            default -> Kind.OTHER;
        };
    }
}
