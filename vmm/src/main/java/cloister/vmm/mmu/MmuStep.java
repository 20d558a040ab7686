package cloister.vmm.mmu;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.StringJoiner;

/// One step of a sequence: an operation, the seed of its interleaving, and the accesses that guests make meanwhile.
///
/// @param kind      what is done
/// @param operands  as the kind says
/// @param schedule  seed of the interleaving
/// @param meanwhile accesses of guests at the same time, at most one for each vCPU
record MmuStep(Kind kind, int[] operands, int schedule, List<Access> meanwhile) {
    /// What a step does, with its operands. Pages count from the start of the region under test, words from the start of a page.
    enum Kind {
        /// The machine: type (0 ordinary, 1 software-protected, 2 TD), vCPUs, processors, variant (bits of [MmuModel]). Always the first
        /// step.
        MACHINE,
        /// An access and nothing else: vCPU, operation, page, word.
        ACCESS,
        /// KVM_SET_USER_MEMORY_REGION2 of a new slot: id, first page, pages, first page of what is behind it, kind (0 anonymous memory,
        /// 1 guest_memfd), flags (1 log, 2 read-only).
        CREATE,
        /// The same with an existing one: id, new first page.
        MOVE,
        /// Id, new flags.
        FLAGS,
        /// Id.
        DELETE,
        /// KVM_SET_MEMORY_ATTRIBUTES: first page, pages, 1 private.
        ATTRIBUTES,
        /// fallocate(PUNCH_HOLE): first page of the file, pages.
        PUNCH,
        /// fallocate: first page of the file, pages.
        ALLOCATE,
        /// madvise(MADV_DONTNEED) of anonymous memory: first page, pages.
        DISCARD,
        /// mprotect of anonymous memory: 1 writable.
        PROTECT,
        /// munmap of anonymous memory and mmap of new memory.
        REMAP,
        /// The VMM writes anonymous memory: page, word.
        HOST_WRITE,
        /// The VMM reads anonymous memory: page, word.
        HOST_READ,
        /// KVM_GET_DIRTY_LOG: id.
        GET_LOG,
        /// KVM_CLEAR_DIRTY_LOG of what KVM_GET_DIRTY_LOG said: id, first page in words of the bitmap, pages in words of the bitmap.
        CLEAR_LOG,
        /// KVM_PRE_FAULT_MEMORY: vCPU, first page, pages.
        PREFAULT,
        /// A device that does not snoop comes (1) or goes (0).
        DMA,
        /// A variable MTRR of the guest: vCPU, first page, pages as a power of two, type.
        MTRR,
        /// CR0.CD of a vCPU, which the VMM sets: vCPU, 1 set.
        CACHE_DISABLE,
        /// The VMM takes all entries out of the dirty rings and has them reset.
        HARVEST,
        /// A guest asks for pages to be private or shared, and the VMM does as it says: vCPU, first page, pages, 1 private.
        MAP_GPA,
        /// The guest sets its variable MTRR 0 by WRMSR: as MTRR.
        GUEST_MTRR,
        /// The guest sets or clears CR0.CD: vCPU, 1 set.
        GUEST_CACHE_DISABLE,
        /// A policy is chosen when vCPUs exist.
        POLICY,
        /// Time passes: milliseconds.
        TIME,
        /// The kernel looks which pages are in use: first page of anonymous memory, pages.
        AGE,
        /// A processor goes offline (0) or comes back (1): index, 1 online.
        PROCESSOR,
        /// A signal for the thread of a vCPU: vCPU.
        SIGNAL,
        /// The VM beside this one, which sees all of the anonymous memory of today at the same addresses, gets its slot (1) or loses it.
        NEIGHBOUR,
        /// Not of the product but of a test: the host writes a guest_memfd's page through physical memory, with its own KeyID: page, word,
        /// 1 if it writes what the guest did.
        TAMPER
    }

    /// What a guest does, and KVM_PRE_FAULT_MEMORY on its vCPU's thread. The last three are parts of steps.
    enum Operation { READ, WRITE, FETCH, ACCEPT, POPULATE, CONVERT, WRMSR, CACHES }

    /// @param vcpu      whose; the number after the last is the vCPU of the VM beside this one
    /// @param operation what
    /// @param page      where
    /// @param word      where in the page; a guest writes only the word that has its number
    record Access(int vcpu, Operation operation, int page, int word) {
        /// How many pages it concerns, from its page on: POPULATE 4 to the power of its word.
        int touched() {
            return operation == Operation.POPULATE ? Math.min(1 << (2 * word), MmuModel.PAGES - page) : 1;
        }

        @Override public String toString() {
            return operation + " " + vcpu + " " + page + " " + word;
        }
    }

    int operand(int index) {
        return operands[index];
    }

    /// Whether the vCPU of the first operand carries the step out.
    boolean isByGuest() {
        return kind == Kind.MAP_GPA || kind == Kind.GUEST_MTRR || kind == Kind.GUEST_CACHE_DISABLE;
    }

    /// The access of an ACCESS step.
    Access access() {
        return new Access(operands[0], Operation.values()[operands[1]], operands[2], operands[3]);
    }

    MmuStep without(Access access) {
        var rest = new ArrayList<>(meanwhile);
        rest.remove(access);
        return new MmuStep(kind, operands, schedule, rest);
    }

    @Override public String toString() {
        var text = new StringJoiner(" ");
        text.add(kind.name());
        for (int operand : operands) {
            text.add(Integer.toString(operand));
        }
        text.add("@" + schedule);
        meanwhile.forEach(access -> text.add("| " + access));
        return text.toString();
    }

    /// @throws IllegalArgumentException when a line is not a step
    static List<MmuStep> parse(List<String> lines) {
        var steps = new ArrayList<MmuStep>();
        for (var line : lines) {
            if (!line.isBlank() && !line.startsWith("#")) {
                steps.add(parse(line));
            }
        }
        if (steps.isEmpty() || steps.getFirst().kind != Kind.MACHINE) {
            throw new IllegalArgumentException("it does not start with MACHINE");
        }
        return steps;
    }

    private static MmuStep parse(String line) {
        var parts = line.split("\\|");
        var words = parts[0].trim().split(" +");
        int last = words.length - 1;
        if (last < 1 || !words[last].startsWith("@")) {
            throw new IllegalArgumentException("'" + line + "' has no schedule");
        }
        var kind = Kind.valueOf(words[0].toUpperCase(Locale.ROOT));
        int[] operands = Arrays.stream(words, 1, last).mapToInt(Integer::parseInt).toArray();
        var meanwhile = new ArrayList<Access>();
        for (int i = 1; i < parts.length; i++) {
            var a = parts[i].trim().split(" +");
            meanwhile.add(new Access(Integer.parseInt(a[1]), Operation.valueOf(a[0]), Integer.parseInt(a[2]), Integer.parseInt(a[3])));
        }
        return new MmuStep(kind, operands, Integer.parseInt(words[last].substring(1)), meanwhile);
    }
}
