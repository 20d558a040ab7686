package cloister.silicon;

import static cloister.silicon.Layout.*;

import cloister.isa.CodeMode;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;

/// The machine's own processor: runs cases in a native child process. Only on Linux on x86-64.
final class Silicon {
    private static final int STEP_LIMIT = 5000;
    private static final int HANG_MS = 10_000;
    private static final long TF = 0x100;

    /// Whether this machine can.
    static boolean available() {
        return System.getProperty("os.name").equals("Linux") && System.getProperty("os.arch").equals("amd64");
    }

    /// Runs `cases` and returns their outcomes in order. A case that kills the child has [Outcome#LOST].
    List<Outcome> run(List<Case> cases) throws IOException {
        return run(cases, Case::initial, STEP_LIMIT);
    }

    /// Runs one instruction of each of `cases`, from states of the caller's.
    List<Outcome> runOnce(List<Case> cases, Function<Case, MachineState> initial) throws IOException {
        return run(cases, initial, 1);
    }

    private static List<Outcome> run(List<Case> cases, Function<Case, MachineState> initial, int steps) throws IOException {
        List<Outcome> outcomes = new ArrayList<>();
        while (outcomes.size() < cases.size()) {
            runSome(cases.subList(outcomes.size(), cases.size()), initial, steps, outcomes);
            if (outcomes.size() < cases.size()) {
                outcomes.add(new Outcome(null, Outcome.LOST, 0, 0));
            }
        }
        return outcomes;
    }

    /// Runs until the child dies or all is done; adds to `outcomes` what came back.
    private static void runSome(List<Case> cases, Function<Case, MachineState> initial, int steps, List<Outcome> outcomes)
            throws IOException {
        Path executable = Files.createTempFile("silicon", ".elf",
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------")));
        Files.write(executable, ChildProgram.elf());
        Process child = new ProcessBuilder(executable.toString()).redirectError(ProcessBuilder.Redirect.INHERIT).start();
        Thread writer = Thread.ofPlatform().start(() -> write(cases, initial, steps, child));
        AtomicInteger done = new AtomicInteger();
        Thread.ofPlatform().daemon().start(() -> watch(child, done));
        try (InputStream in = child.getInputStream()) {
            ByteBuffer record = ByteBuffer.allocate(OUT_SIZE).order(ByteOrder.LITTLE_ENDIAN);
            for (Case c : cases) {
                if (in.readNBytes(record.array(), 0, OUT_SIZE) < OUT_SIZE) {
                    break;
                }
                outcomes.add(outcome(c, record));
                done.incrementAndGet();
            }
        } finally {
            child.destroyForcibly();
            Files.delete(executable);
        }
        try {
            writer.join();
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /// Ends a child that has hung over a case.
    private static void watch(Process child, AtomicInteger done) {
        int before = -1;
        while (child.isAlive()) {
            int now = done.get();
            if (now == before) {
                child.destroyForcibly();
            }
            before = now;
            try {
                Thread.sleep(HANG_MS);
            } catch (InterruptedException e) {
                return;
            }
        }
    }

    private static void write(List<Case> cases, Function<Case, MachineState> initial, int steps, Process child) {
        try (OutputStream out = child.getOutputStream()) {
            for (Case c : cases) {
                out.write(record(c, initial.apply(c), steps).array());
            }
        } catch (IOException e) {
            return; // the child died over a case; the reader notices and starts another
        }
    }

    private static ByteBuffer record(Case c, MachineState state, int steps) {
        ByteBuffer b = ByteBuffer.allocate(IN_SIZE).order(ByteOrder.LITTLE_ENDIAN);
        b.putLong(UC_FLAGS, 6); // UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS
        b.putLong(UC_STACK, ChildProgram.signalStack()).putLong(UC_STACK + 16, ChildProgram.signalStackSize());
        for (int i = 0; i < 16; i++) {
            b.putLong(UC_GPR[i], state.gpr[i]);
        }
        b.putLong(UC_RIP, state.rip).putLong(UC_EFLAGS, state.rflags | TF);
        b.putShort(UC_CS, (short) codeSelector(c.mode())).putShort(UC_SS, (short) dataSelector(c.mode()));
        b.putLong(UC_FPSTATE, ChildProgram.fpstate());
        b.put(IN_FX, state.fx.array());
        b.put(IN_DATA, state.data.array());
        b.put(IN_CODE, c.code());
        b.putLong(IN_CODE_ADDRESS, c.codeAddress()).putLong(IN_START, c.start()).putLong(IN_END, c.start() + c.code().length);
        b.putLong(IN_STEPS, steps).putLong(IN_DS, dataSelector(c.mode()));
        return b;
    }

    private static Outcome outcome(Case c, ByteBuffer b) {
        MachineState state = new MachineState();
        int registers = OUT_REGISTERS - UC_REGISTERS;
        for (int i = 0; i < 16; i++) {
            long value = b.getLong(registers + UC_GPR[i]);
            // Outside 64-bit mode the upper halves are undefined.
            state.gpr[i] = c.mode() == CodeMode.BITS64 ? value : value & 0xFFFF_FFFFL;
        }
        state.rip = b.getLong(registers + UC_RIP);
        state.segments[1] = b.getShort(registers + UC_CS) & 0xFFFF;
        state.segments[2] = b.getShort(registers + UC_SS) & 0xFFFF;
        for (int n = 0; n < 4; n++) {
            state.segments[new int[] {3, 0, 4, 5}[n]] = (int) b.getLong(OUT_SEGMENTS + 8 * n);
        }
        state.fsBase = b.getLong(OUT_SEGMENTS + 32);
        state.gsBase = b.getLong(OUT_SEGMENTS + 40);
        state.rflags = b.getLong(registers + UC_EFLAGS);
        state.fx.put(0, b, OUT_FX, 512);
        state.fx.put(MachineState.FX_FOP, new byte[MachineState.FX_MXCSR - MachineState.FX_FOP]); // see Undefined#imageByte
        state.fx.putInt(MachineState.FX_MXCSR_MASK, 0);
        state.data.put(0, b, OUT_DATA, DATA_BYTES);
        int trap = (int) b.getLong(registers + UC_TRAP);
        boolean completed = b.getLong(OUT_SIGNAL) == 5 && trap == 1;
        return completed ? new Outcome(state, Outcome.COMPLETED, 0, 0)
            : new Outcome(state, trap, (int) b.getLong(registers + UC_ERROR), trap == 14 ? b.getLong(registers + UC_CR2) : 0);
    }
}
