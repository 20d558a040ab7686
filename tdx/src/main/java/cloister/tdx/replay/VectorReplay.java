package cloister.tdx.replay;

import cloister.tdx.core.ModuleHalt;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/// Replays one scenario of the module's behaviour vectors and compares every result. [VECTORS]
public final class VectorReplay {
    /// The files of the vectors, by their names in "include".
    public interface Files {
        /// The lines of a file, each one object; the first is its header.
        ///
        /// @throws IOException when there is no such file, or what it holds is not that
        List<JsonObject> lines(String name) throws IOException;
    }

    /// Sees each step before it is replayed.
    public interface Observer {
        /// `step`, and the machine as the steps before left it.
        void next(JsonObject step, VectorMachine machine);
    }

    private static final Set<String> INCLUDE = Set.of("op", "file");
    private static final Set<String> RESET = Set.of("op", "case");
    private static final Set<String> HOST_MSR = Set.of("op", "lp", "msr", "value");
    private static final Set<String> TSC = Set.of("op", "value");
    private static final int MAX_FRAMES = 12;

    private final Files files;
    private final VectorPlatform platform;
    private final RecordedMemory memory;
    private final Observer observer;
    private VectorMachine machine;
    /// Where the replay is: the step's place, then those of the steps that include its file.
    private final Deque<VectorMismatch.Place> places = new ArrayDeque<>();
    /// Steps since power-on, so that a sweep can begin again from where it is.
    private final List<Step> sincePowerOn = new ArrayList<>();
    private String testCase = "";
    private int steps;

    /// @param memory of the platform's size; it is powered on here, and no other replay may use it meanwhile
    public VectorReplay(Files files, VectorPlatform platform, RecordedMemory memory) {
        this(files, platform, memory, (step, machine) -> { });
    }

    /// A replay that is watched.
    public VectorReplay(Files files, VectorPlatform platform, RecordedMemory memory, Observer observer) {
        this.files = files;
        this.platform = platform;
        this.memory = memory;
        this.observer = observer;
        powerOn();
    }

    void powerOn() {
        machine = new VectorMachine(platform, memory);
    }

    /// Powers on and brings the machine to where it was before the step in progress.
    void again() {
        powerOn();
        sincePowerOn.forEach(this::perform);
    }

    /// The machine as the steps so far left it.
    public VectorMachine machine() {
        return machine;
    }

    /// Steps of the scenario that were replayed without a difference: without its resets and includes, as the manifest counts.
    public int steps() {
        return steps;
    }

    /// What an RDMSR or WRMSR of the guest on LP `lp` does: pass, gp, ve, td_exit, the value read or ok.
    public String access(int lp, int msr, boolean write, long value) {
        return GuestSteps.access(machine, lp, msr, write, value);
    }

    /// Replays all steps of a file.
    ///
    /// @throws VectorMismatch at the first difference, and at a step that cannot be replayed
    public void run(String name) throws IOException {
        var lines = files.lines(name);
        for (int i = 1; i < lines.size(); i++) {
            var json = lines.get(i);
            if (json == null) {
                continue; // an empty line
            }
            var step = new Step(json);
            places.push(new VectorMismatch.Place(name, i + 1));
            try {
                step(step);
            } catch (VectorMismatch mismatch) {
                throw mismatch.at(List.copyOf(places), testCase, VectorWords.step(step));
            } catch (Step.Malformed e) {
                throw new VectorMismatch("cannot be replayed: " + e.getMessage()).at(List.copyOf(places), testCase, VectorWords.step(step));
            } catch (ModuleHalt e) {
                throw new VectorMismatch("our module stops: " + e.getMessage()).at(List.copyOf(places), testCase, VectorWords.step(step));
            } catch (RuntimeException | AssertionError | StackOverflowError e) {
                throw new VectorMismatch("our module fails, which is a defect of it: " + e + origin(e))
                        .at(List.copyOf(places), testCase, VectorWords.step(step));
            }
            places.pop();
            if (places.isEmpty() && counts(json)) {
                steps++;
            }
        }
    }

    /// Whether the manifest counts this line of a scenario as a step.
    public static boolean counts(JsonObject line) {
        return line != null && line.has("op") && line.get("op").isJsonPrimitive()
                && !List.of("reset", "include").contains(line.get("op").getAsString());
    }

    private static String origin(Throwable e) {
        var trace = e.getStackTrace();
        return trace.length == 0 ? "" : " in " + Arrays.stream(trace).filter(f -> f.getClassName().startsWith("cloister.")).limit(3)
                .map(f -> f.getClassName().replaceAll(".*\\.", "") + "." + f.getMethodName() + ":" + f.getLineNumber())
                .collect(Collectors.joining(" < "));
    }

    private void step(Step step) throws IOException {
        switch (step.op()) {
            case "include" -> include(step);
            case "reset" -> {
                step.allow(RESET);
                testCase = step.has("case") ? step.text("case") : "";
                sincePowerOn.clear();
                powerOn();
            }
            case "flip_sweep" -> {
                perform(step);
                sincePowerOn.clear();
                powerOn();
            }
            case "init_sweep" -> {
                perform(step);
                again();
            }
            default -> {
                observer.next(step.json(), machine);
                perform(step);
                sincePowerOn.add(step);
            }
        }
    }

    private void include(Step step) throws IOException {
        step.allow(INCLUDE);
        var name = step.text("file");
        if (places.stream().anyMatch(p -> p.file().equals(name)) || places.size() > MAX_FRAMES) {
            throw new Step.Malformed(name + " includes itself");
        }
        try {
            run(name);
        } catch (IOException e) {
            throw new Step.Malformed(e.getMessage());
        }
    }

    private void perform(Step step) {
        switch (step.op()) {
            case "note" -> {
            }
            case "host_write" -> MemorySteps.hostWrite(machine, step);
            case "expect_mem" -> MemorySteps.expectHost(machine, step);
            case "guest_write" -> MemorySteps.guestWrite(machine, step);
            case "expect_guest_mem" -> MemorySteps.expectGuest(machine, step);
            case "host_msr" -> {
                step.allow(HOST_MSR);
                machine.cpus[machine.lp(step)].msr((int) step.required("msr"), step.required("value"));
            }
            case "tsc" -> {
                step.allow(TSC);
                machine.clock.tsc = step.required("value");
            }
            case "seamcall" -> CallSteps.seamcall(machine, step);
            case "tdcall" -> CallSteps.tdcall(machine, step);
            case "td_exit" -> CallSteps.tdExit(machine, step);
            case "guest_state" -> GuestSteps.state(machine, step);
            case "cpuid" -> GuestSteps.cpuid(machine, step);
            case "msr_sweep" -> GuestSteps.msrSweep(machine, step);
            case "wrmsr" -> GuestSteps.wrmsr(machine, step);
            case "mov_cr" -> GuestSteps.movCr(machine, step);
            case "xsetbv" -> GuestSteps.xsetbv(machine, step);
            case "mtf_until_done" -> GuestSteps.mtfUntilDone(machine, step);
            case "flip_sweep" -> SweepSteps.flip(this, step);
            case "init_sweep" -> SweepSteps.init(this, step);
            case "hold_lock" -> LockSteps.hold(machine, step);
            case "release_lock" -> LockSteps.release(machine, step);
            default -> throw new Step.Malformed("nobody knows steps of the kind \"" + step.op() + "\"");
        }
    }
}
