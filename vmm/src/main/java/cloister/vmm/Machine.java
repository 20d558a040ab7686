package cloister.vmm;

/// A whole machine: platform, hypervisor, devices, guest. One object is one run.
public final class Machine implements AutoCloseable {
    private final MachineConfig config;

    /// Checks the description and builds the machine.
    ///
    /// @throws UserError when it cannot be built as described
    public Machine(MachineConfig config) {
        config.check();
        this.config = config;
    }

    /// Runs the guest until it ends. Called once, by an ordinary thread.
    public Outcome run() {
        return new Outcome.InternalError("the machine cannot run " + config.vmType + " guests yet");
    }

    /// Ends the run as [Outcome.TimedOut] at the next opportunity. Any thread may call it.
    public void requestStop() {
    }

    /// Hands input to the first serial port. Any thread may call it.
    public void consoleInput(byte[] bytes) {
    }

    /// What the run cost so far; complete after [#run].
    public MachineStats stats() {
        return new MachineStats(0, 0, 0, java.util.Map.of(), java.util.Map.of(), 0, 0, 0);
    }

    @Override public void close() {
    }
}
