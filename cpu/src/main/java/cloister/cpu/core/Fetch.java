package cloister.cpu.core;

import cloister.isa.Decoder;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.memory.PhysicalMemory;

/// Reads and decodes one instruction without the code cache: for single steps, instructions across pages and code in memory that may not
/// be read directly.
final class Fetch {
    private static final int PAGE = (int) PhysicalMemory.FRAME_SIZE;
    private final Cpu cpu;
    private final Decoder decoder = new Decoder();
    private final byte[] bytes = new byte[Decoder.MAX_LENGTH];

    Fetch(Cpu cpu) {
        this.cpu = cpu;
    }

    /// The instruction at `linear`. Throws what the fetch throws, for the second page only if the instruction reaches there.
    Instruction at(long linear) {
        if (!cpu.canonical(linear)) {
            throw cpu.gp(0);
        }
        int inPage = Math.min(Decoder.MAX_LENGTH, PAGE - ((int) linear & PAGE - 1));
        copy(linear, 0, inPage);
        Instruction insn = decoder.decode(cpu.codeMode, bytes, 0, inPage);
        if (insn.op == Op.TRUNCATED) {
            copy(linear + inPage, inPage, Decoder.MAX_LENGTH - inPage);
            insn = decoder.decode(cpu.codeMode, bytes, 0, Decoder.MAX_LENGTH);
        }
        return insn;
    }

    private void copy(long linear, int from, int count) {
        long hpa = cpu.tlb.fetchHpa(linear);
        for (int i = 0; i < count; i++) {
            bytes[from + i] = (byte) cpu.readPhysical(hpa + i, 1);
        }
    }
}
