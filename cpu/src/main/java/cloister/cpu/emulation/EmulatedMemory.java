package cloister.cpu.emulation;

import cloister.cpu.core.Cpu;
import cloister.cpu.core.FrameHook;
import cloister.cpu.core.Translation;
import cloister.cpu.core.Walker;
import cloister.cpu.emulation.MemoryAndPorts.Access;
import cloister.cpu.emulation.MemoryAndPorts.Right;

/// Translations and accesses of an [EmulatedProcessor]: they are all of its [MemoryAndPorts]. The "platform" addresses of its TLB are
/// guest-physical ones.
final class EmulatedMemory implements Walker, FrameHook {
    private static final int PAGE_SHIFT = 12;
    private final MemoryAndPorts target;

    EmulatedMemory(MemoryAndPorts target) {
        this.target = target;
    }

    long translate(Cpu cpu, long linear, Access access, Right right) {
        long gpa = target.translate(linear, access, right);
        if (gpa < 0) {
            throw cpu.pageFault(linear, (int) gpa);
        }
        return gpa;
    }

    @Override public void walk(Cpu cpu, long linear, int access, int right, Translation out) {
        out.hpa = translate(cpu, linear, access == WRITE ? Access.WRITE : Access.READ, switch (right) {
            case USER -> Right.USER;
            case SUPERVISOR -> Right.SUPERVISOR;
            default -> Right.SUPERVISOR_WITH_AC;
        });
        out.pageShift = PAGE_SHIFT;
        out.writable = access == WRITE;
        out.global = false;
        out.direct = false;
        out.typeIngredients = 0;
        out.hook = this;
    }

    @Override public long read(Cpu cpu, long linear, long hpa, int bytes) {
        return target.read(hpa, bytes);
    }

    @Override public void write(Cpu cpu, long linear, long hpa, int bytes, long value) {
        target.write(hpa, bytes, value);
    }

    @Override public long readPart(Cpu cpu, long linear, long hpa, int bytes) {
        return target.read(hpa, bytes);
    }

    @Override public void writePart(Cpu cpu, long linear, long hpa, int bytes, long value) {
        target.write(hpa, bytes, value);
    }
}
