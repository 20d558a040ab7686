package cloister.kvm.emulate;

import cloister.cpu.emulation.EmulatedProcessor;
import cloister.isa.Instruction;
import cloister.isa.Op;
import cloister.kvm.KvmExit;
import cloister.sim.Persistent;
import cloister.sim.StateSink;
import cloister.sim.VirtualClock;
import cloister.spec.kvm.KvmAbi;
import cloister.spec.x86.Cet;
import cloister.spec.x86.Cr0;
import cloister.spec.x86.Cr4;
import cloister.spec.x86.ExceptionVector;
import cloister.spec.x86.Rflags;
import java.util.Locale;

/// Carries out the current instruction of a guest: one that accesses MMIO, that does string I/O, or all of them while the guest is in a
/// state that the processor does not take. What instructions do is the processor's own code ([EmulatedProcessor]); here is what
/// accesses become. [LINUX x86_emulate_instruction]
public final class InstructionEmulator implements Persistent {
    /// Elements of a repeated instruction between two looks at what else there is to do. [LINUX x86_emulate_insn "r->count"]
    private static final int ELEMENTS = 1024;
    private static final int USER = 3;
    private static final int TASK_REGISTER = 7;

    /// Which instructions are carried out.
    public enum Scope {
        /// Those that Linux emulates.
        UPSTREAM,
        /// All that need no more of a processor than its registers: for guests whose state the processor does not take.
        ALL
    }

    private final EmulatedMachine machine;
    private final PendingAccesses accesses;
    private final EmulatedProcessor processor;
    private Scope scope = Scope.UPSTREAM;
    /// The instruction that waits for the VMM's answer.
    private Instruction waiting;

    /// @param machine whose instructions are emulated
    /// @param clock   which `machine` counts time with
    public InstructionEmulator(EmulatedMachine machine, VirtualClock clock) {
        this.machine = machine;
        this.accesses = new PendingAccesses(machine);
        this.processor = new EmulatedProcessor(accesses, machine, clock);
        accesses.of(processor);
    }

    /// Emulates the current instruction; of a repeated one, as many elements as go without the VMM.
    ///
    /// @return an exit to the VMM, or null when the guest goes on
    public KvmExit emulate(Scope what) {
        scope = what;
        accesses.begin();
        machine.load(processor);
        var insn = processor.fetch();
        if (insn == null) {
            return raise();
        }
        return carriesOut(insn) ? run(insn) : refuse(insn);
    }

    private boolean carriesOut(Instruction insn) {
        if (scope == Scope.ALL) {
            return insn.op != Op.TRUNCATED && EmulatedInstructions.possible(insn);
        }
        return EmulatedInstructions.emulates(insn, (processor.cr0() & Cr0.PE) == 0) && !isEnforced(insn);
    }

    /// Whether control-flow enforcement has a say in `insn`; of a far transfer, at whatever level.
    private boolean isEnforced(Instruction insn) {
        boolean usesShadowStack = EmulatedInstructions.usesShadowStack(insn);
        boolean tracked = EmulatedInstructions.branchIsTracked(insn);
        if ((processor.cr4() & Cr4.CET) == 0 || !(usesShadowStack || tracked)) {
            return false;
        }
        boolean near = insn.op == Op.CALL || insn.op == Op.RET || insn.op == Op.JMP;
        boolean user = processor.cpl() == USER;
        long enforced = (near && !user ? 0 : machine.controlFlow(true)) | (near && user ? 0 : machine.controlFlow(false));
        return (usesShadowStack && (enforced & Cet.SH_STK_EN) != 0) || (tracked && (enforced & Cet.ENDBR_EN) != 0);
    }

    /// Whether the last exit's answer is needed here.
    public boolean isPending() {
        return accesses.isPending();
    }

    /// Goes on when the VMM has answered the last exit. [LINUX complete_emulated_mmio, complete_emulated_pio]
    ///
    /// @return a further exit, or null when the guest goes on
    public KvmExit answered() {
        if (!accesses.answer()) {
            return accesses.nextWrite();
        }
        accesses.again();
        machine.load(processor);
        return run(waiting);
    }

    /// Whether the current instruction is one that kernels write page tables with.
    public boolean atPageTableWrite() {
        accesses.begin();
        machine.load(processor);
        var insn = processor.fetch();
        return insn != null && EmulatedInstructions.writesPageTables(insn);
    }

    private KvmExit run(Instruction insn) {
        waiting = null;
        boolean usesFpu = EmulatedProcessor.usesFpu(insn);
        if (usesFpu) {
            machine.loadFpu(processor);
        }
        boolean traps = (processor.rflags() & Rflags.TF) != 0;
        try {
            for (int n = 1;; n++) {
                var outcome = processor.execute(insn);
                if (outcome == EmulatedProcessor.Outcome.FAULTED) {
                    accesses.begin();
                    machine.store(processor);
                    return raise();
                }
                accesses.commit();
                boolean done = outcome == EmulatedProcessor.Outcome.RETIRED;
                boolean pauses = accesses.isPending() || traps || (n >= ELEMENTS && !accesses.hasPortItems());
                if (done || pauses) {
                    return finish(usesFpu, done, traps);
                }
                accesses.next();
            }
        } catch (Unanswered asks) {
            machine.store(processor);
            waiting = insn;
            return accesses.question();
        }
    }

    private KvmExit finish(boolean usesFpu, boolean done, boolean traps) {
        machine.store(processor);
        if (usesFpu) {
            machine.storeFpu(processor);
        }
        if (done || traps) {
            machine.retired(processor, traps);
        }
        return accesses.nextWrite();
    }

    /// Two words of memory, or why there are none.
    ///
    /// @param words null when reading failed
    /// @param exit  then: null when the guest takes an exception
    public record Operand(long[] words, KvmExit exit) {
    }

    /// Reads the memory operand, of two words, of an instruction that KVM carries out by itself. [LINUX kvm_read_guest_virt,
    /// kvm_handle_memory_failure]
    public Operand readOperand(int segment, long offset) {
        accesses.begin();
        machine.load(processor);
        long[] words = new long[2];
        try {
            for (int i = 0; i < words.length; i++) {
                if (!processor.readOperand(segment, offset + ((long) i * Long.BYTES), Long.BYTES)) {
                    return new Operand(null, raise());
                }
                words[i] = processor.operand();
            }
            return new Operand(words, null);
        } catch (Unanswered asks) {
            return new Operand(null, broken("an operand"));
        }
    }

    // --- events and tasks

    /// Delivers an event through the guest's interrupt table.
    ///
    /// @param type   interruption type of [cloister.spec.vmx.Interruption]
    /// @param length of the instruction that causes a software event, else 0
    /// @return an exit when that cannot be, or ends in a triple fault
    public KvmExit deliver(int type, int vector, boolean hasErrorCode, int errorCode, int length) {
        accesses.begin();
        machine.load(processor);
        try {
            if (processor.deliver(type, vector, hasErrorCode, errorCode, length) == EmulatedProcessor.Outcome.SHUTDOWN) {
                return new KvmExit.Shutdown();
            }
        } catch (Unanswered asks) {
            return broken("the delivery of vector " + vector);
        }
        accesses.commit();
        machine.store(processor);
        machine.retired(processor, false);
        return accesses.nextWrite();
    }

    /// Switches tasks. [LINUX emulator_task_switch]
    ///
    /// @param source    0 CALL, 1 IRET, 2 JMP, 3 task gate in the IDT
    /// @param length    of the instruction that causes it, 0 when an event does
    /// @param errorCode what the new task finds on its stack, or -1
    public KvmExit switchTask(int selector, int source, int length, long errorCode) {
        accesses.begin();
        machine.load(processor);
        EmulatedProcessor.Outcome outcome;
        try {
            outcome = processor.switchTask(selector, source, length, errorCode);
            if (outcome == EmulatedProcessor.Outcome.FAULTED && processor.changed(TASK_REGISTER)) {
                // The new task's own fault, perhaps for want of a CS, with which no guest can be entered.
                outcome = processor.deliverFault();
            }
        } catch (Unanswered asks) {
            return broken("a task switch to selector 0x" + Integer.toHexString(selector));
        }
        accesses.commit();
        machine.store(processor);
        if (processor.changed(TASK_REGISTER)) {
            machine.taskSwitched(processor);
            machine.retired(processor, false);
        }
        return switch (outcome) {
            case FAULTED -> raise();
            case SHUTDOWN -> new KvmExit.Shutdown();
            case RETIRED, REPEATS -> accesses.nextWrite();
        };
    }

    private KvmExit broken(String what) {
        accesses.begin();
        return new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_EMULATION, "cannot emulate " + what + " through MMIO, RIP 0x"
                + Long.toHexString(processor.rip()), machine.failureData(new byte[0]));
    }

    private KvmExit raise() {
        machine.raise(processor.faultVector(), processor.faultErrorCode(), processor.faultAddress());
        return null;
    }

    /// User programs get #UD, what runs at CPL 0 ends the run. [LINUX handle_emulation_failure]
    private KvmExit refuse(Instruction insn) {
        byte[] code = processor.code();
        var bytes = new StringBuilder();
        for (byte b : insn.bytes) {
            bytes.append(String.format(Locale.ROOT, "%02x ", b));
        }
        String what = insn.op == Op.TRUNCATED ? "instructions that are not in memory" : insn.op + " (" + bytes.toString().trim() + ")";
        boolean user = processor.cpl() > 0;
        machine.raise(ExceptionVector.UD, 0, 0);
        return user ? null : new KvmExit.InternalError(KvmAbi.INTERNAL_ERROR_EMULATION, "cannot emulate " + what + ", RIP 0x"
                + Long.toHexString(processor.rip()), machine.failureData(code));
    }

    @Override public String stateName() {
        return "emulator";
    }

    @Override public void describe(StateSink to) {
        to.text("scope", scope);
        to.text("waiting", waiting);
        to.part(accesses);
    }
}
