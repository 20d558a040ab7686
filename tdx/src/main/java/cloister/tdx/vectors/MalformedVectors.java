package cloister.tdx.vectors;

import java.io.IOException;

/// A file of the vectors is missing or is not what it should be; the message names it and says why.
public final class MalformedVectors extends IOException {
    private static final long serialVersionUID = 1L;

    MalformedVectors(String message) {
        super(message);
    }
}
