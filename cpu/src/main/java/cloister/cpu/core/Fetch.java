package cloister.cpu.core;

import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import java.lang.foreign.MemorySegment;

/// Reads and decodes one instruction without the code cache: for single steps, instructions across pages and code in memory that may not
/// be read directly.
///
/// Instructions across pages are remembered, as a loop may have one: with where their two parts were, valid as long as the [JumpCache]
/// forgets nothing and the bytes are the same.
final class Fetch {
    private static final int PAGE = (int) PhysicalMemory.FRAME_SIZE;
    private static final int REMEMBERED = 64;
    private final Cpu cpu;
    private final Decoder decoder = new Decoder();
    private final byte[] bytes = new byte[Decoder.MAX_LENGTH];
    private final Crossing[] crossings = new Crossing[REMEMBERED];

    /// An instruction that begins at `linear`, `inFirst` bytes of it at `first`, the rest at `second` (platform addresses).
    private record Crossing(long linear, long key, Instruction insn, int inFirst, long first, long second) {
    }

    Fetch(Cpu cpu) {
        this.cpu = cpu;
    }

    /// The instruction at `linear`. Throws what the fetch throws, for the second page only if the instruction reaches there.
    Instruction at(long linear) {
        int inPage = PAGE - ((int) linear & (PAGE - 1));
        if (inPage < Decoder.MAX_LENGTH) {
            Crossing known = crossings[(int) (linear >>> 12) & (REMEMBERED - 1)];
            if (known != null && known.linear == linear && known.key == cpu.jumps.key && unchanged(known)) {
                return known.insn;
            }
        }
        if (!cpu.canonical(linear)) {
            throw cpu.gp(0);
        }
        return read(linear, Math.min(Decoder.MAX_LENGTH, inPage));
    }

    private Instruction read(long linear, int inPage) {
        long first = cpu.tlb.fetchHpa(linear);
        boolean direct = cpu.tlb.fetchDirect();
        copy(first, 0, inPage);
        Instruction insn = decoder.decode(cpu.codeMode, bytes, 0, inPage);
        if (insn.op != Op.TRUNCATED) {
            return insn;
        }
        long second = cpu.tlb.fetchHpa(linear + inPage);
        direct &= cpu.tlb.fetchDirect();
        copy(second, inPage, Decoder.MAX_LENGTH - inPage);
        insn = decoder.decode(cpu.codeMode, bytes, 0, Decoder.MAX_LENGTH);
        if (direct) {
            crossings[(int) (linear >>> 12) & (REMEMBERED - 1)] =
                    new Crossing(linear, cpu.jumps.key, insn, inPage, first, second);
        }
        return insn;
    }

    private boolean unchanged(Crossing known) {
        if (!plain(known.first) || !plain(known.second)) {
            return false;
        }
        MemorySegment window = cpu.memory.window(PlainAccess.SILICON);
        long first = PhysicalMemory.pa(known.first);
        long second = PhysicalMemory.pa(known.second) - known.inFirst;
        byte[] expected = known.insn.bytes;
        for (int i = 0; i < expected.length; i++) {
            if (window.get(Tlb.BYTE, (i < known.inFirst ? first : second) + i) != expected[i]) {
                return false;
            }
        }
        return true;
    }

    private boolean plain(long hpa) {
        long pa = PhysicalMemory.pa(hpa);
        return cpu.memory.contains(pa, Decoder.MAX_LENGTH) && cpu.memory.ownedWhollyBy(pa, PhysicalMemory.keyId(hpa));
    }

    private void copy(long hpa, int from, int count) {
        for (int i = 0; i < count; i++) {
            bytes[from + i] = (byte) cpu.readPhysical(hpa + i, 1);
        }
    }
}
