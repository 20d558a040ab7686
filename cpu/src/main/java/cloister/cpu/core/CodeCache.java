package cloister.cpu.core;

import cloister.isa.Instruction;
import cloister.memory.PhysicalMemory;
import cloister.memory.WriteListener;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/// Decoded code, by physical page. May be shared by processors of one memory of which one runs at a
/// time.
///
/// A page of which code was decoded is watched: a write to its lines, by whomever, erases it. Code is allocated
/// upwards in one array; when that is full, everything goes.
public final class CodeCache {
    /// A *place* is where an instruction is entered: the index of the micro-op in the low bits, above it the instruction's number in
    /// its run. The number is not always that of the micro-op: a NOP has none and is entered at its successor's.
    static final int PLACE_BITS = 22;
    static final int PLACE_MASK = (1 << PLACE_BITS) - 1;
    private static final int MAX_WORDS = 1 << PLACE_BITS;
    private static final int MARGIN = 4096;
    /// Of an element of [#info]: the bits that hold where in its page the instruction starts. An instruction that ends the page is
    /// followed by an element that holds 4096.
    static final int OFFSET_MASK = 0x1fff;
    /// Of an element of [#info]: the lowest of the bits that count the instruction within its run.
    static final int INDEX_SHIFT = 13;
    private static final int MODE_BITS = 5;

    /// The opcode of each word of [#code], apart, so that nothing else of a word is looked at before its case is reached.
    byte[] ops = new byte[1 << 15];
    long[] code = new long[1 << 15];
    /// What must be known of each word of [#code] when something interrupts it: which instruction it belongs to.
    int[] info = new int[1 << 15];
    int next = 1;
    Instruction[] instructions = new Instruction[1 << 12];
    Handler[] handlers = new Handler[1 << 12];
    private int instructionCount;
    /// Incremented whenever code that existed went away.
    int generation;

    final PhysicalMemory memory;
    private final Map<Long, CodePage> pages = new HashMap<>();
    /// The decode modes, one bit each, in which any code was decoded.
    private int usedModes;
    /// Frames that [PhysicalMemory#watch] watches for us.
    private final BitSet watching = new BitSet();
    private final List<CodePage> byId = new ArrayList<>();
    private final List<Cpu> cpus = new ArrayList<>();
    private final Translator translator = new Translator(this);

    public CodeCache(PhysicalMemory memory) {
        this.memory = memory;
        memory.addOwnerListener(frame -> dropFrame(frame, -1L));
        memory.addWriteListener(new WriteListener() {
            @Override public void written(long pa, long length) {
                CodeCache.this.written(pa, length);
            }

            @Override public void watchStarted(long frame) {
                for (Cpu cpu : cpus) {
                    cpu.tlb.closeWrites(frame);
                }
            }
        });
    }

    void add(Cpu cpu) {
        cpus.add(cpu);
    }

    /// The place of the code at `linear` for the mode and rights that `cpu` has; decodes it if need be. -1 when it must be
    /// executed without the cache. May fault.
    int locate(Cpu cpu, long linear) {
        makeRoom();
        CodePage page = cpu.jumps.page(linear);
        if (page == null) {
            page = find(cpu, linear);
            if (page == null) {
                return -1;
            }
            cpu.jumps.put(linear, page);
        }
        int offset = (int) linear & ((int) PhysicalMemory.FRAME_SIZE - 1);
        int place = page.entry(offset);
        return place != 0 ? place : translator.translate(page, offset);
    }

    private CodePage find(Cpu cpu, long linear) {
        long hpa = cpu.tlb.fetchHpa(linear);
        long pa = PhysicalMemory.pa(hpa);
        if (!cpu.tlb.fetchDirect() || !memory.contains(pa & -PhysicalMemory.FRAME_SIZE, PhysicalMemory.FRAME_SIZE)
                || !memory.ownedWhollyBy(pa, PhysicalMemory.keyId(hpa))) {
            return null;
        }
        return page(pa >> PhysicalMemory.FRAME_SHIFT, cpu.decodeMode());
    }

    /// Resolves the stub at `pc`: patches the branch that led there. Returns the target's place, or 0 when
    /// the cache had to be emptied.
    int link(int pc) {
        int before = generation;
        makeRoom();
        if (generation != before) {
            return 0;
        }
        CodePage page = byId.get((int) (code[pc + 1] >>> 32));
        int offset = (int) (code[pc] >>> 32);
        int branch = (int) code[pc + 1];
        int place = page.entry(offset);
        if (place == 0) {
            place = translator.translate(page, offset);
        }
        int target = place & PLACE_MASK;
        int difference = (info[pc] >>> INDEX_SHIFT) - (place >>> PLACE_BITS);
        if (branch == pc) {
            code[pc] = MicroOp.branch(MicroOp.JMP, 0, target, difference);
            ops[pc] = MicroOp.JMP;
        } else if (MicroOp.fused((int) code[branch] & 0x7f)) {
            code[branch + 1] = (code[branch + 1] & (1L << 48)) | ((difference & 0xffffL) << 32) | target;
        } else {
            code[branch] = (code[branch] & 0xff0000ffL) | ((difference & 0xffffL) << 8) | ((long) target << 32);
        }
        return place;
    }

    private CodePage page(long frame, int mode) {
        usedModes |= 1 << mode;
        Long key = key(frame, mode);
        CodePage page = pages.get(key);
        if (page == null) {
            page = new CodePage(byId.size(), frame, mode);
            pages.put(key, page);
            byId.add(page);
            if (!watching.get((int) frame)) {
                watching.set((int) frame);
                memory.watch(frame, true);
            }
        }
        return page;
    }

    private static long key(long frame, int mode) {
        return (frame << MODE_BITS) | mode;
    }

    private void makeRoom() {
        if (next + MARGIN > MAX_WORDS) {
            clear();
        }
        if (next + MARGIN > code.length) {
            ops = Arrays.copyOf(ops, 2 * code.length);
            info = Arrays.copyOf(info, 2 * code.length);
            code = Arrays.copyOf(code, 2 * code.length);
        }
    }

    private void clear() {
        watching.stream().forEach(frame -> memory.watch(frame, false));
        watching.clear();
        pages.clear();
        byId.clear();
        Arrays.fill(ops, (byte) MicroOp.REFETCH);
        Arrays.fill(instructions, null);
        next = 1;
        instructionCount = 0;
        changed();
    }

    private void changed() {
        generation++;
        for (Cpu cpu : cpus) {
            cpu.jumps.clear();
        }
    }

    /// Keeps an instruction for a slow micro-op; returns its index.
    int keep(Instruction insn) {
        if (instructionCount == instructions.length) {
            instructions = Arrays.copyOf(instructions, 2 * instructionCount);
            handlers = Arrays.copyOf(handlers, 2 * instructionCount);
        }
        instructions[instructionCount] = insn;
        handlers[instructionCount] = Semantics.handler(insn.op);
        return instructionCount++;
    }

    private void written(long pa, long length) {
        long last = (pa + length - 1) >> PhysicalMemory.FRAME_SHIFT;
        for (long frame = pa >> PhysicalMemory.FRAME_SHIFT; frame <= last; frame++) {
            if (watching.get((int) frame)) {
                long start = frame << PhysicalMemory.FRAME_SHIFT;
                long from = Math.max(pa, start);
                long to = Math.min(pa + length, start + PhysicalMemory.FRAME_SIZE);
                dropFrame(frame, CodePage.lineMask((int) (from - start), to - from));
            }
        }
    }

    /// Erases the code that was decoded from the lines in `mask` of a frame: the whole page's, as blocks are linked.
    private void dropFrame(long frame, long mask) {
        if (!watching.get((int) frame)) {
            return;
        }
        boolean kept = false;
        boolean dropped = false;
        for (int left = usedModes; left != 0; left &= left - 1) {
            Long key = key(frame, Integer.numberOfTrailingZeros(left));
            CodePage page = pages.get(key);
            if (page == null) {
                continue;
            }
            if ((page.lines & mask) == 0) {
                kept = true;
                continue;
            }
            page.erase(ops);
            pages.remove(key);
            byId.set(page.id, null);
            dropped = true;
        }
        if (!kept) {
            watching.clear((int) frame);
            memory.watch(frame, false);
        }
        if (dropped) {
            changed();
        }
    }
}
