package cloister.cpu.core;

/// Indices into [Cpu#r] beyond the sixteen general registers.
final class Slot {
    /// Always zero: the absent base, index or segment base of an address.
    static final int ZERO = 16;
    /// Linear address of the code page that executes.
    static final int PAGE = 17;
    /// See [Flags].
    static final int RESULT = 18;
    static final int OPERAND = 19;
    static final int KIND = 20;
    /// Scratch between the micro-ops of one instruction.
    static final int T0 = 21;
    static final int T1 = 22;
    /// Copies of the FS and GS bases.
    static final int FS = 24;
    static final int GS = 25;
    static final int COUNT = 32;

    private Slot() {
    }
}
