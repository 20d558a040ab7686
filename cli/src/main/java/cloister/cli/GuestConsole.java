package cloister.cli;

import cloister.sim.Scheduler.IdlePace;
import cloister.vmm.ExecChannel;
import cloister.vmm.GuestInput;
import cloister.vmm.Machine;
import cloister.vmm.MachineConfig;
import cloister.vmm.Outcome;
import java.io.IOException;
import java.util.OptionalInt;

/// Ties our standard streams to the guest's console, or with `--exec` to the command's streams.
///
/// A terminal at standard input is the guest's keyboard, or nobody's with `--exec`: a job in the background must not read it. While
/// something may come from outside, time passes for the guest as for people, so that an idle guest costs nothing; a command's
/// time is skipped until the first of it comes.
final class GuestConsole implements StandardInput.Listener, AutoCloseable {
    private final boolean exec;
    private final StandardInput input = new StandardInput();
    private final boolean atTerminal;
    private final ConsoleOutput out;
    private final ConsoleOutput err;
    private final ConsoleTail tail;
    private final ExecChannel channel;
    private Terminal terminal;
    private Runnable onDump = () -> { };
    private volatile Machine machine;

    /// @param exec    whether a command is run
    /// @param verbose whether the console goes to standard error then, instead of nowhere
    GuestConsole(boolean exec, boolean verbose) {
        this.exec = exec;
        atTerminal = input.isLive() && Terminal.present();
        out = ConsoleOutput.standardOutput(this::outputFailed);
        err = exec ? ConsoleOutput.standardError(this::outputFailed) : null;
        tail = new ConsoleTail(!exec ? out : verbose ? err : octet -> { });
        channel = exec ? new ExecChannel(out) : null;
    }

    /// Makes these the streams of a machine that will be built.
    MachineConfig describe(MachineConfig config) {
        config.console(tail);
        if (exec) {
            return config.exec(channel, err, atTerminal ? GuestInput.NOTHING : input).interactive(isLive()).pace(IdlePace.SKIP);
        }
        return config.consoleInput(input).interactive(isLive()).pace(isLive() ? IdlePace.REAL_TIME : IdlePace.SKIP);
    }

    private boolean isLive() {
        return input.isLive() && !(exec && atTerminal);
    }

    /// Begins to give input to the machine, which runs next.
    ///
    /// @param dump what the key for a dump does
    void attach(Machine running, Runnable dump) {
        machine = running;
        onDump = dump;
        if (atTerminal && !exec) {
            terminal = Terminal.take();
        }
        if (isLive()) {
            input.start(this);
        }
    }

    @Override public byte[] filter(byte[] bytes) {
        return terminal == null ? bytes : terminal.keys(bytes, new Terminal.Wishes() {
            @Override public void quit() {
                machine.requestStop(new Outcome.Quit());
            }

            @Override public void dump() {
                onDump.run();
            }
        });
    }

    @Override public void arrived() {
        if (exec) {
            machine.pace(IdlePace.REAL_TIME);
        }
        machine.inputArrived();
    }

    @Override public void ended() {
        machine.inputEnded();
    }

    private void outputFailed() {
        machine.requestStop(new Outcome.OutputLost());
    }

    /// Waits no longer for whoever should take the output.
    void abandon() {
        out.abandon();
        if (err != null) {
            err.abandon();
        }
    }

    /// The last lines of the guest's console.
    ConsoleTail tail() {
        return tail;
    }

    /// The exit status of the command, if it came back. Called after the run.
    OptionalInt exitStatus() {
        return channel.exitStatus();
    }

    /// Why output was lost; null when none was. Complete after [#close].
    IOException failure() {
        return out.failure() != null || err == null ? out.failure() : err.failure();
    }

    /// Gives the terminal back and waits until all output is written.
    @Override public void close() {
        out.close();
        if (err != null) {
            err.close();
        }
        if (terminal != null) {
            terminal.close();
        }
    }
}
