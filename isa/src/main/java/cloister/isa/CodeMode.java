package cloister.isa;

/// How code bytes are decoded: by CS.L and CS.D.
public enum CodeMode {
    BITS16, BITS32, BITS64
}
