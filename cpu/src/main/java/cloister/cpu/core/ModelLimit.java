package cloister.cpu.core;

import cloister.cpu.MissingFeature;

/// What the processor's own code throws when it lacks something.
public final class ModelLimit extends MissingFeature {
    private static final long serialVersionUID = 1L;

    public ModelLimit(String message) {
        super(message);
    }
}
