package cloister.cpu.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.cpu.sys.PageWalker;
import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.StateListing;
import cloister.sim.VirtualClock;
import java.lang.reflect.Array;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Set;
import org.junit.jupiter.api.Test;

/// Whoever adds a register declares it: every field of primitive type is in the listing, or here with a reason.
class CpuStateTest {
    private static final Set<String> NOT_STATE = Set.of(
            // within one instruction
            "Cpu.nextRip", "Cpu.spent", "Cpu.repeat", "Cpu.alone", "PendingEvents.deliveries", "FpuState.image",
            // follows from other fields
            "Cpu.attention", "Cpu.protectionKeysCached", "Cpu.clockedRetired", "ControlFlow.variant", "ControlFlow.userVariant",
            "ControlFlow.supervisorVariant",
            // what the processor is
            "Cpu.index", "Cpu.stringLimit");

    @Test void everyRegisterIsDeclared() throws ReflectiveOperationException {
        try (var memory = new PhysicalMemory(1 << 20, 32)) {
            var cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), new PageWalker());
            var forgotten = new ArrayList<String>();
            int seen = 0;
            for (var owner : new Object[] {cpu, cpu.fpu, cpu.events, cpu.cet}) {
                for (var field : owner.getClass().getDeclaredFields()) {
                    if (!isState(field)) {
                        continue;
                    }
                    seen++;
                    var before = StateListing.of(new CpuState(cpu));
                    change(field, owner);
                    if (before.differences(StateListing.of(new CpuState(cpu))).isEmpty()) {
                        forgotten.add(field.getDeclaringClass().getSimpleName() + "." + field.getName());
                    }
                }
            }
            assertThat(seen).isGreaterThan(70);
            assertThat(forgotten).as("registers that CpuState does not declare").isEmpty();
        }
    }

    private static boolean isState(Field field) {
        var type = field.getType().isArray() ? field.getType().getComponentType() : field.getType();
        return type.isPrimitive() && !Modifier.isStatic(field.getModifiers())
                && !NOT_STATE.contains(field.getDeclaringClass().getSimpleName() + "." + field.getName());
    }

    private static void change(Field field, Object owner) throws ReflectiveOperationException {
        field.setAccessible(true);
        var value = field.get(owner);
        if (value instanceof Boolean flag) {
            field.setBoolean(owner, !flag);
        } else if (field.getType() == int.class) {
            field.setInt(owner, (int) value ^ 1);
        } else if (field.getType() == long.class) {
            field.setLong(owner, (long) value ^ 1);
        } else {
            int last = Array.getLength(value) - 1;
            if (value instanceof long[] words) {
                words[last] ^= 1;
            } else {
                ((int[]) value)[last] ^= 1;
            }
        }
    }
}
