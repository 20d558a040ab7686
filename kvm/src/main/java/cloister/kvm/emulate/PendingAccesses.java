package cloister.kvm.emulate;

import cloister.cpu.emulation.EmulatedProcessor;
import cloister.cpu.emulation.MemoryAndPorts;
import cloister.kvm.KvmExit;
import cloister.kvm.KvmRun;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// The accesses of an emulated instruction: memory, the local APIC, MMIO and ports.
///
/// A read that the VMM must answer ends the instruction ([Unanswered]); when the answer is there it is executed from its start, with
/// the answers so far at hand. Nothing is written before the instruction is done: writes wait here, and reads see them. Then memory
/// and the APIC get theirs, and those for the VMM leave one by one. [LINUX struct read_cache, struct kvm_mmio_fragment]
final class PendingAccesses implements MemoryAndPorts, Persistent {
    private static final long LOW = 0xffff_ffffL;
    private static final int SOME = 16;

    /// Where a write goes.
    private enum Target {
        MEMORY, APIC, MMIO, PORT
    }

    private static final Target[] TARGETS = Target.values();

    private final EmulatedMachine machine;
    private EmulatedProcessor processor;

    private long[] answers = new long[SOME];
    private int answered;
    private int used;
    private KvmExit question;

    /// What the VMM gave for the reads of a repeated INS that are still to come.
    private long[] portItems = new long[SOME];
    private int portItemCount;
    private int portItemsUsed;

    private long[] addresses = new long[SOME];
    private long[] values = new long[SOME];
    private byte[] sizes = new byte[SOME];
    private byte[] targets = new byte[SOME];
    private int writes;
    private int left;

    PendingAccesses(EmulatedMachine machine) {
        this.machine = machine;
    }

    /// @param user the processor whose accesses these are
    void of(EmulatedProcessor user) {
        processor = user;
    }

    /// A new instruction.
    void begin() {
        portItemCount = portItemsUsed = 0;
        next();
    }

    /// The next element of a repeated instruction.
    void next() {
        answered = 0;
        question = null;
        again();
    }

    /// The same instruction from its start.
    void again() {
        used = 0;
        writes = left = 0;
    }

    // --- exits

    /// Whether the VMM must be asked, or told, something to go on.
    boolean isPending() {
        return question != null || left < writes;
    }

    /// The exit that [Unanswered] stands for.
    KvmExit question() {
        return question;
    }

    /// Takes the VMM's answer to a read.
    ///
    /// @return whether there was a read to answer
    boolean answer() {
        switch (question) {
            case KvmExit.Mmio mmio -> {
                if (answered == answers.length) {
                    answers = Arrays.copyOf(answers, 2 * answered);
                }
                answers[answered++] = machine.run().item(0, mmio.length());
            }
            case KvmExit.Io io -> {
                portItems = portItems.length < io.count() ? new long[io.count()] : portItems;
                portItemCount = io.count();
                portItemsUsed = 0;
                for (int i = 0; i < portItemCount; i++) {
                    portItems[i] = machine.run().item(i * io.size(), io.size());
                }
            }
            case null, default -> {
                return false;
            }
        }
        question = null;
        return true;
    }

    /// Whether the VMM has given more of a port than the instruction has used so far.
    boolean hasPortItems() {
        return portItemsUsed < portItemCount;
    }

    /// The instruction is done: memory and the APIC get what it has written, the rest waits for [#nextWrite].
    void commit() {
        int kept = 0;
        for (int i = 0; i < writes; i++) {
            switch (TARGETS[targets[i]]) {
                case MEMORY -> machine.writeMemory(addresses[i], sizes[i], values[i]);
                case APIC -> machine.writeApic((int) addresses[i] & 0xff0, (int) values[i]);
                case MMIO, PORT -> keep(i, kept++);
            }
        }
        writes = kept;
        left = 0;
    }

    private void keep(int from, int to) {
        addresses[to] = addresses[from];
        values[to] = values[from];
        sizes[to] = sizes[from];
        targets[to] = targets[from];
    }

    /// The next write for the VMM, or null.
    KvmExit nextWrite() {
        if (left == writes) {
            return null;
        }
        int i = left++;
        machine.run().item(0, sizes[i], values[i]);
        return TARGETS[targets[i]] == Target.PORT ? new KvmExit.Io(true, sizes[i], (int) addresses[i], 1)
                : new KvmExit.Mmio(addresses[i], sizes[i], true);
    }

    // --- accesses

    @Override public long translate(long linear, Access access, Right right) {
        return machine.translate(processor, linear, access, right);
    }

    @Override public boolean readCode(long gpa, byte[] to, int at, int count) {
        if (!machine.isMemory(gpa)) {
            return false;
        }
        for (int done = 0; done < count; done += Long.BYTES) {
            int bytes = Math.min(Long.BYTES, count - done);
            long word = machine.readMemory(gpa + done, bytes);
            for (int i = 0; i < bytes; i++) {
                to[at + done + i] = (byte) (word >>> (8 * i));
            }
        }
        return true;
    }

    @Override public long read(long gpa, int bytes) {
        if (machine.isMemory(gpa)) {
            long value = machine.readMemory(gpa, bytes);
            return writes == 0 ? value : withWrites(gpa, bytes, value);
        }
        if (machine.isApic(gpa)) {
            long word = (machine.readApic((int) gpa & 0xff0) & LOW) >>> (8 * ((int) gpa & 3));
            return bytes >= Integer.BYTES ? word : word & ((1L << (8 * bytes)) - 1);
        }
        if (used < answered) {
            return answers[used++];
        }
        question = new KvmExit.Mmio(gpa, bytes, false);
        throw Unanswered.INSTANCE;
    }

    /// What memory will hold when the writes have been made.
    private long withWrites(long gpa, int bytes, long value) {
        long result = value;
        for (int i = 0; i < writes; i++) {
            for (int n = 0; n < sizes[i]; n++) {
                long at = addresses[i] + n - gpa;
                if (targets[i] == Target.MEMORY.ordinal() && at >= 0 && at < bytes) {
                    int shift = 8 * (int) at;
                    result = (result & ~(0xffL << shift)) | (((values[i] >>> (8 * n)) & 0xff) << shift);
                }
            }
        }
        return result;
    }

    @Override public void write(long gpa, int bytes, long value) {
        if (machine.isWritable(gpa)) {
            add(Target.MEMORY, gpa, bytes, value);
        } else if (!machine.isApic(gpa)) {
            add(Target.MMIO, gpa, bytes, value);
        } else if ((gpa & 0xf) == 0 && bytes >= 4) {
            add(Target.APIC, gpa, bytes, value);
        }
    }

    @Override public int readPort(int port, int bytes, int repeats) {
        if (portItemsUsed < portItemCount) {
            return (int) portItems[portItemsUsed++];
        }
        question = new KvmExit.Io(false, bytes, port, Math.min(repeats, KvmRun.DATA_SIZE / bytes));
        throw Unanswered.INSTANCE;
    }

    @Override public void writePort(int port, int bytes, int value) {
        add(Target.PORT, port, bytes, value);
    }

    private void add(Target target, long address, int bytes, long value) {
        if (writes == targets.length) {
            addresses = Arrays.copyOf(addresses, 2 * writes);
            values = Arrays.copyOf(values, 2 * writes);
            sizes = Arrays.copyOf(sizes, 2 * writes);
            targets = Arrays.copyOf(targets, 2 * writes);
        }
        addresses[writes] = address;
        values[writes] = value;
        sizes[writes] = (byte) bytes;
        targets[writes++] = (byte) target.ordinal();
    }

    @Override public String stateName() {
        return "accesses";
    }

    @Override public void describe(StateSink to) {
        to.words("answers", Arrays.copyOf(answers, answered));
        to.field("used", used);
        to.text("question", question);
        to.words("portItems", Arrays.copyOfRange(portItems, portItemsUsed, portItemCount));
        to.words("addresses", Arrays.copyOfRange(addresses, left, writes));
        to.words("values", Arrays.copyOfRange(values, left, writes));
        to.text("sizes", Arrays.toString(Arrays.copyOfRange(sizes, left, writes)));
        to.text("targets", Arrays.toString(Arrays.copyOfRange(targets, left, writes)));
    }
}
