package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.lang.classfile.Attributes;
import java.lang.classfile.ClassFile;
import java.lang.classfile.ClassModel;
import java.lang.classfile.CodeElement;
import java.lang.classfile.MethodModel;
import java.lang.classfile.instruction.InvokeDynamicInstruction;
import java.lang.classfile.instruction.InvokeInstruction;
import java.lang.classfile.instruction.MonitorInstruction;
import java.lang.classfile.instruction.NewMultiArrayInstruction;
import java.lang.classfile.instruction.NewObjectInstruction;
import java.lang.classfile.instruction.NewPrimitiveArrayInstruction;
import java.lang.classfile.instruction.NewReferenceArrayInstruction;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;

/// Methods marked `@Noinstr` allocate nothing, take no lock and call only their like, the processor and plain rules of the
/// specifications. [LINUX tools/objtool, noinstr validation]
final class NoinstrTest {
    private static final String MARK = "Lcloister/sim/Noinstr;";
    private final Map<String, ClassModel> classes = new HashMap<>();
    private final Set<String> marked = new HashSet<>();

    NoinstrTest() throws IOException {
        for (var file : Sources.walk(Launcher.ROOT, path -> path.toString().contains("/target/classes/")
                && path.toString().endsWith(".class") && !path.endsWith("module-info.class"))) {
            var model = ClassFile.of().parse(file);
            classes.put(model.thisClass().asInternalName(), model);
            for (var method : model.methods()) {
                if (isMarked(method)) {
                    marked.add(id(model.thisClass().asInternalName(), method.methodName().stringValue(),
                            method.methodType().stringValue()));
                }
            }
        }
    }

    private static boolean isMarked(MethodModel method) {
        return method.findAttribute(Attributes.runtimeInvisibleAnnotations()).stream().flatMap(a -> a.annotations().stream())
                .anyMatch(a -> a.className().equalsString(MARK));
    }

    private static String id(String owner, String name, String type) {
        return owner + "." + name + type;
    }

    @Test void nothingInTheRegionLeavesIt() {
        assertThat(marked).as("the regions of both kinds of vCPU").anyMatch(m -> m.startsWith("cloister/kvm/tdx/TdVcpu.enterExit("))
                .anyMatch(m -> m.startsWith("cloister/kvm/vmx/VmxVcpu.enterExit("));
        var wrong = new ArrayList<String>();
        for (var model : classes.values()) {
            for (var method : model.methods()) {
                if (isMarked(method)) {
                    wrong.addAll(leaves(model.thisClass().asInternalName(), method));
                }
            }
        }
        assertThat(wrong).isEmpty();
    }

    /// The test sees what it is for.
    @Test void whatLeavesARegionIsFound() throws IOException {
        var model = ClassFile.of().parse(NoinstrTest.class.getResourceAsStream("NoinstrTest$Leaving.class").readAllBytes());
        for (var method : model.methods()) {
            if (!method.methodName().equalsString("<init>")) {
                assertThat(leaves("Leaving", method)).as(method.methodName().stringValue()).isNotEmpty();
            }
        }
    }

    private List<String> leaves(String owner, MethodModel method) {
        var result = new ArrayList<String>();
        String where = owner + "." + method.methodName().stringValue();
        if (method.flags().has(java.lang.reflect.AccessFlag.SYNCHRONIZED)) {
            result.add(where + " takes a lock");
        }
        for (CodeElement element : method.code().orElseThrow()) {
            switch (element) {
                case NewObjectInstruction i -> result.add(where + " allocates " + i.className().asInternalName());
                case NewPrimitiveArrayInstruction i -> result.add(where + " allocates an array");
                case NewReferenceArrayInstruction i -> result.add(where + " allocates an array");
                case NewMultiArrayInstruction i -> result.add(where + " allocates an array");
                case InvokeDynamicInstruction i -> result.add(where + " makes a lambda or a string");
                case MonitorInstruction i -> result.add(where + " takes a lock");
                case InvokeInstruction i when !mayCall(i) -> result.add(where + " calls " + i.owner().asInternalName() + "."
                        + i.name().stringValue());
                default -> {
                }
            }
        }
        return result;
    }

    private boolean mayCall(InvokeInstruction call) {
        String owner = call.owner().asInternalName();
        return owner.startsWith("cloister/cpu/") || owner.startsWith("cloister/spec/")
                || marked.contains(id(owner, call.name().stringValue(), call.type().stringValue()));
    }

    /// Each method leaves the region in another way.
    @SuppressWarnings("unused")
    private static final class Leaving {
        private final Object lock = new Object();

        Object allocates() {
            return new Object();
        }

        long[] allocatesAnArray() {
            return new long[3];
        }

        Runnable makesALambda() {
            return this::allocates;
        }

        void takesALock() {
            synchronized (lock) {
                lock.hashCode();
            }
        }

        synchronized void isALock() {
        }

        void calls() {
            Thread.onSpinWait();
        }

        Object boxes() {
            return 1234567;
        }
    }
}
