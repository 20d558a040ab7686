package cloister.cpu;

/// The guest needs something that this model does not have. Stops the run; the message names the feature.
public class MissingFeature extends RuntimeException {
    private static final long serialVersionUID = 1L;

    public MissingFeature(String message) {
        super(message);
    }
}
