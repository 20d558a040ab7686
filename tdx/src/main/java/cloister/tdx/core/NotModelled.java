package cloister.tdx.core;

/// The call would go on into a function of the TDX module that the model leaves out: SPECIFICATION.md lists them. The module stops
/// there, with a message that names the function.
public final class NotModelled extends ModuleHalt {
    private static final long serialVersionUID = 1L;

    /// @param function what would have come, in the specification's words
    public NotModelled(String function) {
        super(function + " is not modelled");
    }
}
