package cloister.kvm.emulate;

import cloister.kvm.KvmExit;
import cloister.kvm.emulate.EmulatedMachine.Access;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.spec.x86.Rflags;

/// INS and OUTS, one item per exit to the VMM; with REP the guest executes the instruction again until RCX is used up. [LINUX
/// kvm_emulate_instruction for string I/O]
///
/// Memory is checked before the port is touched, so that a page fault loses no input.
public final class PortStrings implements Persistent {
    private static final int RCX = 1;
    private static final int RSI = 6;
    private static final int RDI = 7;

    /// One INS or OUTS.
    ///
    /// @param size        bytes of an item: 1, 2 or 4
    /// @param segment     of the memory operand
    /// @param addressMask the bits of RSI, RDI and RCX that count
    /// @param length      of the instruction
    public record Request(boolean in, int size, int port, boolean rep, int segment, long addressMask, int length) {
    }

    private enum Phase {
        MEMORY, PORT, WRITES
    }

    private final EmulatedMachine machine;
    private final OperandMemory memory;
    private Request request;
    private Phase phase;

    /// @param machine whose instructions are emulated
    public PortStrings(EmulatedMachine machine) {
        this.machine = machine;
        this.memory = new OperandMemory(machine);
    }

    /// Emulates one item.
    ///
    /// @return an exit, of which [#answered] takes the answer; null when the guest goes on
    public KvmExit start(Request newRequest) {
        request = newRequest;
        memory.begin();
        if (request.rep && (machine.gpr(RCX) & request.addressMask) == 0) {
            machine.advance(request.length);
            return null;
        }
        phase = Phase.MEMORY;
        return step();
    }

    /// Takes the VMM's answer.
    ///
    /// @return a further exit, or null when the guest goes on
    public KvmExit answered() {
        memory.answer();
        memory.again();
        return step();
    }

    private KvmExit step() {
        try {
            return switch (phase) {
                case MEMORY -> beforePort();
                case PORT -> afterPort();
                case WRITES -> memory.nextWrite();
            };
        } catch (GuestException exception) {
            machine.raise(exception);
            return null;
        }
    }

    private long linear() {
        return machine.linear(request.segment, machine.gpr(request.in ? RDI : RSI) & request.addressMask, request.size,
                request.in ? Access.WRITE : Access.READ);
    }

    private KvmExit beforePort() {
        long linear = linear();
        if (request.in) {
            memory.probe(linear, request.size);
        } else {
            var exit = memory.read(linear, request.size);
            if (exit != null) {
                return exit;
            }
            ItemBytes.store(machine.exitData(), request.size, memory.value());
        }
        phase = Phase.PORT;
        return new KvmExit.Io(!request.in, request.size, request.port, 1);
    }

    private KvmExit afterPort() {
        if (request.in) {
            memory.write(linear(), request.size, ItemBytes.load(machine.exitData(), request.size));
        }
        int pointer = request.in ? RDI : RSI;
        long step = (machine.rflags() & Rflags.DF) != 0 ? -request.size : request.size;
        machine.gpr(pointer, ItemBytes.merge(machine.gpr(pointer), machine.gpr(pointer) + step, request.addressMask));
        boolean last = true;
        if (request.rep) {
            machine.gpr(RCX, ItemBytes.merge(machine.gpr(RCX), machine.gpr(RCX) - 1, request.addressMask));
            last = (machine.gpr(RCX) & request.addressMask) == 0;
        }
        if (last) {
            machine.advance(request.length);
        }
        phase = Phase.WRITES;
        return memory.nextWrite();
    }

    /// Whether the last exit's answer is needed here.
    public boolean isPending() {
        return phase == Phase.MEMORY || phase == Phase.PORT || memory.isPending();
    }

    @Override public String stateName() {
        return "strings";
    }

    @Override public void describe(StateSink to) {
        to.text("request", request);
        to.text("phase", phase);
        to.part(memory);
    }
}
