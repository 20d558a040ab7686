package cloister.checks;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.LogicalProcessor;
import cloister.memory.HostMemory;
import java.lang.module.ModuleDescriptor;
import java.lang.module.ModuleFinder;
import java.lang.reflect.Executable;
import java.lang.reflect.Field;
import java.lang.reflect.Member;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.file.Files;
import java.nio.file.Path;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/// What the hypervisor can get hold of, from what the platform gives it, by any chain of public methods, constructors and fields of the
/// packages that its module can read: none of it is content that is not a host's. `vmm/WallTest` calls what is left. [ADR 34]
class ReachTest {
    private static final Path ROOT = Path.of(System.getProperty("cloister.root", "..")).toAbsolutePath().normalize();
    /// What kvm reads of the machine, and platform, which it must not read at all.
    private static final List<String> MODULES = List.of("memory", "cpu", "platform");
    /// To hold one of these is to have gone round the wall.
    private static final Set<String> BEHIND = Set.of("cloister.memory.PhysicalMemory", "cloister.cpu.core.Cpu", "cloister.cpu.vmx.Vmcs",
            "cloister.cpu.vmx.VmcsRegions", "cloister.cpu.vmx.VmxOperation", "cloister.tdx.TdxModule", "cloister.platform.Platform",
            "cloister.memory.plain.PlainAccess", "cloister.cpu.firmware.FirmwareAccess", "java.lang.foreign.MemorySegment");

    private final Set<Class<?>> visible = new HashSet<>();
    /// How each type is reached.
    private final TreeMap<String, String> reached = new TreeMap<>();

    private static ModuleDescriptor descriptor(String module) {
        return ModuleFinder.of(ROOT.resolve(module).resolve("target/classes")).find("cloister." + module).orElseThrow().descriptor();
    }

    private static boolean isFor(ModuleDescriptor.Exports export, String reader) {
        return !export.isQualified() || export.targets().contains(reader);
    }

    private void findVisible() throws IOException, ClassNotFoundException {
        for (var module : MODULES) {
            for (var export : descriptor(module).exports()) {
                if (!isFor(export, "cloister.kvm")) {
                    continue;
                }
                var folder = ROOT.resolve(module).resolve("target/classes").resolve(export.source().replace('.', '/'));
                try (var files = Files.list(folder)) {
                    for (var file : files.filter(f -> f.toString().endsWith(".class") && !f.endsWith("package-info.class")).toList()) {
                        String name = file.getFileName().toString().replace(".class", "");
                        visible.add(Class.forName(export.source() + "." + name, false, getClass().getClassLoader()));
                    }
                }
            }
        }
        visible.removeIf(type -> !isPublic(type));
    }

    private static boolean isPublic(Class<?> type) {
        return Modifier.isPublic(type.getModifiers()) && (type.getDeclaringClass() == null || isPublic(type.getDeclaringClass()));
    }

    /// Every type that kvm gets from `roots`.
    private void reach(Class<?>... roots) {
        var todo = new ArrayDeque<Class<?>>(List.of(roots));
        for (var root : roots) {
            reached.put(root.getName(), "given");
        }
        while (!todo.isEmpty()) {
            var type = todo.poll();
            for (var member : members(type)) {
                add(member, todo);
            }
        }
        for (boolean more = true; more;) { // what is made of what is reached
            more = false;
            for (var type : visible) {
                for (Executable maker : makers(type)) {
                    var made = maker instanceof Method method ? method.getReturnType() : type;
                    boolean ofReached = Arrays.stream(maker.getParameterTypes()).anyMatch(p -> reached.containsKey(p.getName()));
                    if (ofReached && usable(maker) && !reached.containsKey(made.getName()) && !made.isPrimitive()) {
                        reached.put(made.getName(), maker.toString());
                        todo.add(made);
                        more = true;
                    }
                }
            }
            while (!todo.isEmpty()) {
                for (var member : members(todo.poll())) {
                    add(member, todo);
                }
            }
        }
    }

    private void add(Member member, ArrayDeque<Class<?>> todo) {
        Type type = member instanceof Method method ? method.getGenericReturnType() : ((Field) member).getGenericType();
        for (var found : classesIn(type)) {
            if (!found.isPrimitive() && reached.putIfAbsent(found.getName(), member.toString()) == null) {
                todo.add(found);
            }
        }
    }

    private List<Member> members(Class<?> type) {
        var result = new ArrayList<Member>();
        if (!visible.contains(type)) {
            return result; // nothing of it can be called
        }
        for (var method : type.getMethods()) {
            if (!Modifier.isStatic(method.getModifiers()) && method.getDeclaringClass() != Object.class && usable(method)) {
                result.add(method);
            }
        }
        for (var field : type.getFields()) {
            if (!Modifier.isStatic(field.getModifiers())) {
                result.add(field);
            }
        }
        return result;
    }

    private static List<Executable> makers(Class<?> type) {
        var result = new ArrayList<Executable>(List.of(type.getConstructors()));
        Arrays.stream(type.getMethods()).filter(method -> Modifier.isStatic(method.getModifiers())).forEach(result::add);
        return result;
    }

    /// Whether kvm can give the arguments: not those whose type it cannot name, nor what it has to hold first.
    private boolean usable(Executable call) {
        return Arrays.stream(call.getParameterTypes()).allMatch(type -> !type.getName().startsWith("cloister.")
                || type.getName().startsWith("cloister.spec.") || type.getName().startsWith("cloister.sim.")
                || (visible.contains(type) && (!BEHIND.contains(type.getName()) || reached.containsKey(type.getName()))));
    }

    private static List<Class<?>> classesIn(Type type) {
        return switch (type) {
            case Class<?> array when array.isArray() -> classesIn(array.getComponentType());
            case Class<?> one -> List.of(one);
            case ParameterizedType generic -> {
                var result = new ArrayList<>(classesIn(generic.getRawType()));
                for (var argument : generic.getActualTypeArguments()) {
                    result.addAll(classesIn(argument));
                }
                yield result;
            }
            default -> List.of();
        };
    }

    @Test void nothingBehindTheWallIsReached() throws Exception {
        findVisible();
        reach(LogicalProcessor.class, HostMemory.class);
        assertThat(reached).as("or the search finds nothing").containsKeys("cloister.memory.AtomicWords", "cloister.cpu.fpu.FpuState",
                "cloister.cpu.vmx.VmxStatus");
        for (var behind : BEHIND) {
            assertThat(reached.get(behind)).as(behind).isNull();
        }
    }

    /// With the platform's memory in hand it would find what it must not: the search can fail.
    @Test void theSearchFindsAWayRoundWhereThereIsOne() throws Exception {
        findVisible();
        reach(LogicalProcessor.class, cloister.memory.PhysicalMemory.class);
        assertThat(reached).containsKey("cloister.cpu.vmx.VmcsRegions");
    }

    @Test void theHypervisorReadsNeitherThePlatformNorTheTdxModule() {
        assertThat(descriptor("kvm").requires()).extracting(ModuleDescriptor.Requires::name)
                .doesNotContain("cloister.platform", "cloister.tdx", "cloister.vmm");
        for (var module : MODULES) {
            assertThat(descriptor(module).opens()).as("%s opens packages", module).isEmpty();
        }
    }
}
