package cloister.cpu.core;

import cloister.memory.PhysicalMemory;
import cloister.sim.Entropy;
import cloister.sim.VirtualClock;
import java.util.HashMap;
import java.util.HashSet;
import java.util.HexFormat;
import java.util.Map;
import java.util.Set;

/// A processor in flat 64-bit, 32-bit or 16-bit mode over a few MiB, linear = physical unless a test maps or unmaps pages.
final class Machine {
    static final long CODE = 0x1000;
    final PhysicalMemory memory = new PhysicalMemory(4 << 20, 32);
    final Map<Long, Long> mapping = new HashMap<>();
    final Set<Long> readOnly = new HashSet<>();
    final Cpu cpu = new Cpu(memory, new VirtualClock(1_000_000_000), new Entropy(1), this::walk);

    Machine() {
        mode(64);
        cpu.rip = CODE;
        cpu.r[Cpu.RSP] = 0x9000;
    }

    private void walk(Cpu c, long linear, int access, int right, Translation out) {
        long page = linear & -4096L;
        Long to = mapping.getOrDefault(page, page);
        if (to < 0 || to >= memory.size() || (access == Walker.WRITE && readOnly.contains(page))) {
            throw c.pageFault(linear, (to < 0 ? 0 : 1) | (access == Walker.WRITE ? 2 : 0) | (access == Walker.FETCH ? 16 : 0));
        }
        out.hpa = to + (linear & 4095);
        out.pageShift = 12;
        out.writable = !readOnly.contains(page);
        out.global = false;
        out.direct = true;
        out.hook = null;
    }

    void mode(int bits) {
        cpu.cr0 = 1;
        cpu.efer = bits == 64 ? 0x500 : 0;
        for (int i = 0; i < 6; i++) {
            cpu.segLimit[i] = -1;
            cpu.segAr[i] = 0xc093;
        }
        cpu.segAr[Cpu.CS] = bits == 64 ? 0xa09b : bits == 32 ? 0xc09b : 0x809b;
        cpu.updateMode();
    }

    Machine code(String hex) {
        return codeAt(CODE, hex);
    }

    Machine codeAt(long address, String hex) {
        byte[] bytes = HexFormat.of().parseHex(hex.replace(" ", ""));
        memory.write(address, bytes, 0, bytes.length);
        return this;
    }

    /// Runs exactly `count` instructions, one by one.
    void step(int count) {
        for (int i = 0; i < count; i++) {
            Interpreter.step(cpu);
        }
    }

    /// Runs until RIP reaches `end` (a HLT or the like is not needed: the engine stops at budgets).
    void runTo(long end) {
        while (cpu.rip != end) {
            Interpreter.run(cpu, 1);
        }
    }
}
