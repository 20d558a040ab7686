package cloister.cpu.core;

/// The guest needs something that this model does not have. Stops the run; the message names the feature.
public final class ModelLimit extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public ModelLimit(String message) {
        super(message);
    }
}
