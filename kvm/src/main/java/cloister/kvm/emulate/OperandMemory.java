package cloister.kvm.emulate;

import cloister.kvm.KvmExit;
import cloister.kvm.emulate.EmulatedMachine.Access;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import java.util.Arrays;

/// The memory operands of an emulated instruction: memory, the local APIC or MMIO, page by page. The VMM answers MMIO reads one after
/// the other; after each answer the instruction is emulated from its start, with the answers so far at hand. MMIO writes are kept
/// until the instruction is done and leave one by one. [LINUX struct read_cache, struct kvm_mmio_fragment]
final class OperandMemory implements Persistent {
    private static final int PAGE = 0x1000;
    private static final long LOW = 0xffff_ffffL;
    private static final int FRAGMENTS = 8;

    private final EmulatedMachine machine;
    private final long[] answers = new long[FRAGMENTS];
    private int answered;
    private int used;
    private int askedSize;
    private final long[] writeGpas = new long[FRAGMENTS];
    private final long[] writeValues = new long[FRAGMENTS];
    private final int[] writeSizes = new int[FRAGMENTS];
    private int writes;
    private int written;
    private long value;

    OperandMemory(EmulatedMachine machine) {
        this.machine = machine;
    }

    /// A new instruction.
    void begin() {
        answered = used = writes = written = 0;
        askedSize = 0;
    }

    /// The same instruction from its start.
    void again() {
        used = 0;
    }

    /// Whether the VMM's answer is needed to go on.
    boolean isPending() {
        return askedSize != 0 || written < writes;
    }

    /// Takes the VMM's answer to a read.
    ///
    /// @return whether there was a read to answer
    boolean answer() {
        if (askedSize == 0) {
            return false;
        }
        answers[answered++] = ItemBytes.load(machine.exitData(), askedSize);
        askedSize = 0;
        return true;
    }

    /// The last [#read].
    long value() {
        return value;
    }

    /// Reads `size` bytes (1 to 8) at `linear`.
    ///
    /// @return an exit when the VMM must answer first
    KvmExit read(long linear, int size) {
        long result = 0;
        for (int done = 0; done < size;) {
            int length = Math.min(size - done, PAGE - (int) ((linear + done) & (PAGE - 1)));
            long gpa = machine.translate(linear + done, Access.READ);
            var exit = readFragment(gpa, length);
            if (exit != null) {
                return exit;
            }
            result |= length == 8 ? value : (value & ((1L << (8 * length)) - 1)) << (8 * done);
            done += length;
        }
        value = result;
        return null;
    }

    private KvmExit readFragment(long gpa, int size) {
        if (machine.isMemory(gpa)) {
            value = machine.readMemory(gpa, size);
            return null;
        }
        if (machine.isApic(gpa)) {
            value = (machine.readApic((int) gpa & 0xff0) >>> (8 * ((int) gpa & 3))) & LOW;
            return null;
        }
        if (used < answered) {
            value = answers[used++];
            return null;
        }
        askedSize = size;
        return new KvmExit.Mmio(gpa, size, false);
    }

    /// Raises what [#write] would.
    void probe(long linear, int size) {
        machine.translate(linear, Access.WRITE);
        if (((linear + size - 1) & -PAGE) != (linear & -PAGE)) {
            machine.translate((linear + size - 1) & -PAGE, Access.WRITE);
        }
    }

    /// Writes `size` bytes (1 to 8) at `linear`; what goes to the VMM waits for [#nextWrite].
    void write(long linear, int size, long data) {
        int first = Math.min(size, PAGE - (int) (linear & (PAGE - 1)));
        long gpa = machine.translate(linear, Access.WRITE);
        if (first == size) {
            writeFragment(gpa, size, data);
            return;
        }
        long second = machine.translate(linear + first, Access.WRITE);
        writeFragment(gpa, first, data);
        writeFragment(second, size - first, data >>> (8 * first));
    }

    private void writeFragment(long gpa, int size, long data) {
        if (machine.isWritable(gpa)) {
            machine.writeMemory(gpa, size, data);
        } else if (machine.isApic(gpa)) {
            if ((gpa & 0xf) == 0 && size >= 4) {
                machine.writeApic((int) gpa & 0xff0, (int) data);
            }
        } else {
            writeGpas[writes] = gpa;
            writeSizes[writes] = size;
            writeValues[writes++] = data;
        }
    }

    /// The next write for the VMM, or null.
    KvmExit nextWrite() {
        if (written == writes) {
            return null;
        }
        ItemBytes.store(machine.exitData(), writeSizes[written], writeValues[written]);
        return new KvmExit.Mmio(writeGpas[written], writeSizes[written++], true);
    }

    @Override public String stateName() {
        return "memory";
    }

    @Override public void describe(StateSink to) {
        to.words("answers", answers);
        to.field("answered", answered);
        to.field("used", used);
        to.field("askedSize", askedSize);
        to.words("writeGpas", writeGpas);
        to.words("writeValues", writeValues);
        to.words("writeSizes", Arrays.stream(writeSizes).asLongStream().toArray());
        to.field("writes", writes);
        to.field("written", written);
        to.field("value", value);
    }
}
