package cloister.tdx.core;

/// The module met a state that it holds impossible, or corrupted private memory: it shuts the platform down, as the real
/// one does with a triple fault in SEAM root mode.
public class ModuleHalt extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public ModuleHalt(String reason) {
        super("TDX module halted: " + reason);
    }
}
