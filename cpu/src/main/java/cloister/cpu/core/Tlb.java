package cloister.cpu.core;

import cloister.memory.PhysicalMemory;
import cloister.memory.plain.PlainAccess;
import cloister.spec.x86.ExceptionVector;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.VarHandle;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.HashMap;
import java.util.Map;

/// One processor's translations and the accesses through them.
///
/// A direct-mapped table of 4 KiB translations. Each entry has a *tag*: the linear page, and in the low 12 bits the
/// context (access right in bits 1:0, address space above). What the interpreter looks at is [#fast], four words an
/// entry: the tag if plain reads are allowed, the tag if plain writes are allowed, and what to add to a linear
/// address to get an offset into [PhysicalMemory#window()]. Everything else (pages with a hook, frames with foreign
/// lines, pages that hold decoded code, pages with a data breakpoint, all accesses while alignment is checked) matches neither
/// and goes the slow way here.
///
/// An address space is what VPID, PCID and EPTP say. Invalidating one gives it a new number; its entries can then never
/// match again. All translations under an EPT pointer are combined ones. [SDM Vol. 3 "Caching Translation Information"]
public final class Tlb {
    static final int ENTRIES = 1024;
    static final int WORDS = 4;
    static final int INDEX_MASK = (ENTRIES - 1) * WORDS;
    private static final long NONE = -1;
    private static final int MAX_SPACE = 1000;
    /// [Walker#USER] with alignment checks: a right of its own, so that its translations never become short cuts.
    /// [SDM Vol. 3 "Alignment Check Exception"]
    private static final int USER_ALIGNED = 3;
    private static final long CR0_AM = 1 << 18;
    private static final long DEBUGCTL_BUS_LOCK = 1 << 2;
    private static final int LINE = (int) PhysicalMemory.LINE_SIZE;
    private static final int PAGE = (int) PhysicalMemory.FRAME_SIZE;
    private static final long PAGE_MASK = -PhysicalMemory.FRAME_SIZE;

    static final ValueLayout.OfLong LONG = ValueLayout.JAVA_LONG_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    static final ValueLayout.OfByte BYTE = ValueLayout.JAVA_BYTE;

    private static final VarHandle WORD = MethodHandles.byteArrayViewVarHandle(long[].class, ByteOrder.LITTLE_ENDIAN);

    private final Cpu cpu;
    private final PhysicalMemory memory;
    private final MemorySegment window;

    /// Read tag, write tag, addend, unused.
    final long[] fast = new long[ENTRIES * WORDS];
    private final long[] tags = new long[ENTRIES];
    private final long[] frames = new long[ENTRIES];
    private final byte[] shifts = new byte[ENTRIES];
    private final short[] types = new short[ENTRIES];
    private final boolean[] writable = new boolean[ENTRIES];
    private final boolean[] direct = new boolean[ENTRIES];
    private final FrameHook[] hooks = new FrameHook[ENTRIES];
    private final Translation walk = new Translation();
    final Watchpoints watchpoints = new Watchpoints(this);
    final ShadowTlb shadow;

    /// Access right and address space of the code that runs.
    int context;
    private final Map<Space, Integer> spaces = new HashMap<>();
    private Space space;
    private int lastSpace;

    private record Space(int vpid, int pcid, long eptp) {
    }

    Tlb(Cpu cpu) {
        this.cpu = cpu;
        this.memory = cpu.memory;
        this.window = memory == null ? null : memory.window(PlainAccess.SILICON);
        this.shadow = new ShadowTlb(cpu, this);
        flushAll();
    }

    // Address spaces

    /// The access right of explicit accesses at the current CPL.
    int right() {
        return context & 3;
    }

    /// Takes over CPL, AC, CR3, VPID and EPTP.
    void selectSpace() {
        boolean ac = (cpu.systemFlags & Flags.AC) != 0;
        int right = cpu.cpl == 3 ? ac && (cpu.cr0 & CR0_AM) != 0 ? USER_ALIGNED : Walker.USER
                : ac ? Walker.SUPERVISOR_AC : Walker.SUPERVISOR;
        int pcid = (cpu.cr4 & (1 << 17)) != 0 ? (int) cpu.cr3 & 0xfff : 0;
        if (space == null || space.pcid != pcid || space.vpid != cpu.vpid || space.eptp != cpu.eptp) {
            space = new Space(cpu.vpid, pcid, cpu.eptp);
        }
        Integer number = spaces.get(space);
        if (number == null) {
            if (lastSpace == MAX_SPACE) {
                clear();
            }
            number = ++lastSpace;
            spaces.put(space, number);
        }
        context = right | (number << 2);
        cpu.jumps.context(context);
    }

    // Invalidation

    /// Drops every translation.
    public void flushAll() {
        clear();
        selectSpace();
    }

    private void clear() {
        cpu.jumps.clear();
        Arrays.fill(fast, NONE);
        Arrays.fill(tags, NONE);
        spaces.clear();
        lastSpace = 0;
        shadow.clear();
    }

    /// Drops at least the non-global translations of the current address space (MOV to CR3).
    public void flushNonGlobal() {
        spaces.remove(space);
        selectSpace();
    }

    /// Drops the translations of one PCID under the current VPID and EPTP.
    public void flushPcid(int pcid) {
        spaces.keySet().removeIf(s -> s.pcid == pcid && s.vpid == cpu.vpid && s.eptp == cpu.eptp);
        selectSpace();
    }

    /// Drops the translations of one VPID.
    public void flushVpid(int vpid) {
        spaces.keySet().removeIf(s -> s.vpid == vpid);
        selectSpace();
    }

    /// Drops the translations made under EPT pointers whose bits 51:12 are those of `eptp`.
    public void flushEpt(long eptp) {
        spaces.keySet().removeIf(s -> ((s.eptp ^ eptp) & 0xf_ffff_ffff_f000L) == 0 && s.eptp != 0);
        selectSpace();
    }

    /// Drops the translations of all EPT pointers.
    public void flushEptAll() {
        flushAll();
    }

    /// Drops the translations for `linear` in every address space (INVLPG, INVVPID and INVPCID of one address), all of the
    /// page that it lies in, if that is a large page.
    public void flushPage(long linear) {
        cpu.jumps.clear();
        shadow.clear();
        for (int i = 0; i < ENTRIES; i++) {
            if (tags[i] != NONE && ((tags[i] ^ linear) & (-1L << shifts[i])) == 0) {
                drop(i);
            }
        }
    }

    private void drop(int entry) {
        tags[entry] = NONE;
        fast[entry * WORDS] = NONE;
        fast[entry * WORDS + 1] = NONE;
    }

    /// A frame left its owner: translations to it stay, but no longer as a short cut.
    void ownerChanged(long frame) {
        for (int i = 0; i < ENTRIES; i++) {
            if (tags[i] != NONE && PhysicalMemory.pa(frames[i]) >> PhysicalMemory.FRAME_SHIFT == frame) {
                fast[i * WORDS] = NONE;
                fast[i * WORDS + 1] = NONE;
            }
        }
    }

    /// Sees the translations that can still be used.
    @FunctionalInterface
    public interface Visitor {
        /// @param typeIngredients as in [Translation#typeIngredients]
        void translation(long linear, long hpa, int pageShift, boolean writable, int typeIngredients);
    }

    /// Shows every usable translation of memory to `visitor`, of whatever address space.
    public void visit(Visitor visitor) {
        for (int i = 0; i < ENTRIES; i++) {
            if (tags[i] != NONE && hooks[i] == null && spaces.containsValue((int) (tags[i] & ~PAGE_MASK) >>> 2)) {
                visitor.translation(tags[i] & PAGE_MASK, frames[i], shifts[i], writable[i], types[i]);
            }
        }
    }

    /// Shows the usable translations of memory that were made under one VPID and one EPT pointer, of whatever PCID.
    public void visit(int vpid, long eptp, Visitor visitor) {
        long[] numbers = new long[(MAX_SPACE / Long.SIZE) + 1];
        boolean found = false;
        for (var entry : spaces.entrySet()) {
            if (entry.getKey().vpid == vpid && entry.getKey().eptp == eptp) {
                numbers[entry.getValue() / Long.SIZE] |= 1L << entry.getValue();
                found = true;
            }
        }
        for (int i = 0; found && i < ENTRIES; i++) {
            int number = (int) (tags[i] & ~PAGE_MASK) >>> 2;
            if (tags[i] != NONE && hooks[i] == null && (numbers[number / Long.SIZE] & (1L << number)) != 0) {
                visitor.translation(tags[i] & PAGE_MASK, frames[i], shifts[i], writable[i], types[i]);
            }
        }
    }

    // Look-up

    static int entryWord(long linear, long context) {
        return (int) ((linear >>> 10) ^ (context << 10)) & INDEX_MASK;
    }

    /// The entry that translates `linear` for `access`; walks if need be.
    private int entry(long linear, int access, int right) {
        int ctx = (context & ~3) | right;
        int entry = entryWord(linear, ctx) / WORDS;
        if (tags[entry] == ((linear & PAGE_MASK) | ctx) && (access != Walker.WRITE || writable[entry])) {
            restore(entry);
            return entry;
        }
        cpu.walker.walk(cpu, linear, access, right == USER_ALIGNED ? Walker.USER : right, walk);
        fill(entry, (linear & PAGE_MASK) | ctx);
        return entry;
    }

    private void fill(int entry, long tag) {
        tags[entry] = tag;
        frames[entry] = walk.hpa & PAGE_MASK;
        shifts[entry] = (byte) walk.pageShift;
        types[entry] = (short) walk.typeIngredients;
        writable[entry] = walk.writable;
        hooks[entry] = walk.hook;
        direct[entry] = walk.direct && walk.hook == null
                && memory.contains(PhysicalMemory.pa(walk.hpa) & PAGE_MASK, PhysicalMemory.FRAME_SIZE);
        fast[entry * WORDS] = NONE;
        fast[entry * WORDS + 1] = NONE;
        restore(entry);
    }

    /// Closes all short cuts; accesses open them again, where they may.
    void closeShortCuts() {
        Arrays.fill(fast, NONE);
    }

    private void checkAlignment(long linear, int size, int right) {
        if (right == USER_ALIGNED && (linear & (size - 1)) != 0) {
            throw cpu.fault(ExceptionVector.AC, 0);
        }
    }

    /// Opens the short cuts that the frame's present state allows.
    private void restore(int entry) {
        if (!direct[entry] || (tags[entry] & 3) == USER_ALIGNED || watchpoints.onPage(tags[entry])) {
            return;
        }
        long pa = PhysicalMemory.pa(frames[entry]);
        if (!memory.ownedWhollyBy(pa, PhysicalMemory.keyId(frames[entry]))) {
            return;
        }
        int word = entry * WORDS;
        long tag = tags[entry];
        fast[word] = tag;
        if (writable[entry] && !memory.watched(pa >> PhysicalMemory.FRAME_SHIFT)) {
            memory.touch(pa >> PhysicalMemory.FRAME_SHIFT);
            fast[word + 1] = tag;
        }
        fast[word + 2] = pa - (tag & PAGE_MASK);
    }

    // Accesses

    long read(long linear, int size) {
        int word = entryWord(linear, context);
        if ((((linear + size - 1) & PAGE_MASK) | context) == fast[word]) {
            return plain(linear + fast[word + 2], size);
        }
        return read(linear, size, right());
    }

    long read(long linear, int size, int right) {
        checkAlignment(linear, size, right);
        watchpoints.access(linear, size, false);
        int inPage = PAGE - ((int) linear & (PAGE - 1));
        if (inPage < size) {
            entry(linear, Walker.READ, right); // no page is read before both can be
            entry(linear + inPage, Walker.READ, right);
            long low = readBytes(linear, inPage, right);
            return low | (readBytes(linear + inPage, size - inPage, right) << (8 * inPage));
        }
        int entry = entry(linear, Walker.READ, right);
        return readEntry(entry, linear, size);
    }

    private long readBytes(long linear, int count, int right) {
        int entry = entry(linear, Walker.READ, right);
        if (hooks[entry] != null) {
            return hooks[entry].readPart(cpu, linear, frames[entry] | (linear & ~PAGE_MASK), count);
        }
        long value = 0;
        for (int i = 0; i < count; i++) {
            value |= readEntry(entry, linear + i, 1) << (8 * i);
        }
        return value;
    }

    private long readEntry(int entry, long linear, int size) {
        long tag = fast[entry * WORDS];
        if (tag != NONE && tag == tags[entry]) {
            return plain(linear + fast[entry * WORDS + 2], size);
        }
        long hpa = frames[entry] | (linear & ~PAGE_MASK);
        FrameHook hook = hooks[entry];
        return hook != null ? hook.read(cpu, linear, hpa, size) : cpu.readPhysical(hpa, size);
    }

    private long plain(long offset, int size) {
        return switch (size) {
            case 1 -> window.get(BYTE, offset) & 0xff;
            case 2 -> window.get(SHORT, offset) & 0xffff;
            case 4 -> window.get(INT, offset) & 0xffff_ffffL;
            default -> window.get(LONG, offset);
        };
    }

    void write(long linear, int size, long value) {
        int word = entryWord(linear, context);
        if ((((linear + size - 1) & PAGE_MASK) | context) == fast[word + 1]) {
            plain(linear + fast[word + 2], size, value);
            return;
        }
        write(linear, size, value, right());
    }

    void write(long linear, int size, long value, int right) {
        checkAlignment(linear, size, right);
        watchpoints.access(linear, size, true);
        int inPage = PAGE - ((int) linear & (PAGE - 1));
        if (inPage < size) {
            entry(linear, Walker.WRITE, right); // the lower page faults first
            entry(linear + inPage, Walker.WRITE, right);
            writeBytes(linear, inPage, value, right);
            writeBytes(linear + inPage, size - inPage, value >>> (8 * inPage), right);
            return;
        }
        writeEntry(entry(linear, Walker.WRITE, right), linear, size, value);
    }

    /// Reads what the same instruction is going to write: faults as a write would. With the [#write] that follows it is one atomic
    /// operation, LOCK or not: a processor loses the baton between instructions only.
    long readForWrite(long linear, int size) {
        if ((linear & (LINE - 1)) + size > LINE && (cpu.debugctl & DEBUGCTL_BUS_LOCK) != 0) {
            cpu.splitAccess();
        }
        int word = entryWord(linear, context);
        if ((((linear + size - 1) & PAGE_MASK) | context) == fast[word + 1]) {
            return plain(linear + fast[word + 2], size);
        }
        probe(linear, size, Walker.WRITE, right());
        return read(linear, size);
    }

    /// The offset of `linear` in the window when its page may be read directly, else -1. May fault.
    long directRead(long linear) {
        int entry = entry(linear, Walker.READ, right());
        return fast[entry * WORDS] == tags[entry] ? linear + fast[entry * WORDS + 2] : -1;
    }

    /// The offset of `linear` in the window when its page may be written directly, else -1. May fault.
    long directWrite(long linear) {
        int entry = entry(linear, Walker.WRITE, right());
        return fast[entry * WORDS + 1] == tags[entry] ? linear + fast[entry * WORDS + 2] : -1;
    }

    /// Writes one whole line, `linear` aligned to it, without reading it first: MOVDIR64B. Clears poison and takes ownership.
    void writeLine(long linear, byte[] line) {
        int entry = entry(linear, Walker.WRITE, right());
        watchpoints.access(linear, line.length, true);
        long hpa = frames[entry] | (linear & ~PAGE_MASK);
        if (hooks[entry] == null && memory.contains(PhysicalMemory.pa(hpa), line.length)) {
            memory.movdir64b(hpa, line, 0);
            return;
        }
        for (int i = 0; i < line.length; i += 8) {
            writeEntry(entry, linear + i, 8, (long) WORD.get(line, i));
        }
    }

    private void writeBytes(long linear, int count, long value, int right) {
        int entry = entry(linear, Walker.WRITE, right);
        if (hooks[entry] != null) {
            hooks[entry].writePart(cpu, linear, frames[entry] | (linear & ~PAGE_MASK), count, value);
            return;
        }
        for (int i = 0; i < count; i++) {
            writeEntry(entry, linear + i, 1, (value >>> (8 * i)) & 0xff);
        }
    }

    private void writeEntry(int entry, long linear, int size, long value) {
        long tag = fast[entry * WORDS + 1];
        if (tag != NONE && tag == tags[entry]) {
            plain(linear + fast[entry * WORDS + 2], size, value);
            return;
        }
        long hpa = frames[entry] | (linear & ~PAGE_MASK);
        FrameHook hook = hooks[entry];
        if (hook != null) {
            hook.write(cpu, linear, hpa, size, value);
        } else {
            cpu.writePhysical(hpa, size, value);
        }
    }

    private void plain(long offset, int size, long value) {
        switch (size) {
            case 1 -> window.set(BYTE, offset, (byte) value);
            case 2 -> window.set(SHORT, offset, (short) value);
            case 4 -> window.set(INT, offset, (int) value);
            default -> window.set(LONG, offset, value);
        }
    }

    /// Walks for every page of `[linear, + size)`.
    void probe(long linear, int size, int access, int right) {
        checkAlignment(linear, alignment(size), right);
        for (long page = linear & PAGE_MASK; page <= ((linear + size - 1) & PAGE_MASK); page += PhysicalMemory.FRAME_SIZE) {
            entry(page < linear ? linear : page, access, right);
        }
    }

    /// What an operand of `size` bytes is aligned to: x87 images to their words, 80-bit numbers to 8.
    /// [SDM Vol. 3 "Alignment Requirements by Data Type"]
    private static int alignment(int size) {
        return switch (size) {
            case 2, 4, 8 -> size;
            case 10 -> 8;
            case 14, 94 -> 2;
            case 28, 108 -> 4;
            default -> 1;
        };
    }

    /// `frame` now holds decoded code: writes must ask.
    void closeWrites(long frame) {
        for (int i = 0; i < ENTRIES; i++) {
            if (tags[i] != NONE && PhysicalMemory.pa(frames[i]) >> PhysicalMemory.FRAME_SHIFT == frame) {
                fast[i * WORDS + 1] = NONE;
            }
        }
    }

    /// Whether the last [#fetchHpa] found memory that may be read directly.
    boolean fetchDirect() {
        return walk.direct && walk.hook == null;
    }

    /// The platform address, KeyID included, of `linear` for a fetch at the current CPL.
    long fetchHpa(long linear) {
        cpu.walker.walk(cpu, linear, Walker.FETCH, cpu.cpl == 3 ? Walker.USER : Walker.SUPERVISOR, walk);
        return walk.hpa;
    }
}
