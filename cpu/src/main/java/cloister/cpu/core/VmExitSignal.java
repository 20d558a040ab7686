package cloister.cpu.core;

/// Unwinds from the middle of an instruction to the VM-exit path. The exit's fields are already in the current VMCS
/// when this is thrown. Stackless singleton.
public final class VmExitSignal extends RuntimeException {
    private static final long serialVersionUID = 1L;
    public static final VmExitSignal INSTANCE = new VmExitSignal();

    private VmExitSignal() {
        super(null, null, false, false);
    }
}
