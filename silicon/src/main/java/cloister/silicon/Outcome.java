package cloister.silicon;

/// How a case ended: the state, and the exception if the last instruction raised one.
///
/// @param vector the exception vector, or -1
/// @param cr2 the faulting address of a page fault, else 0
record Outcome(MachineState state, int vector, int errorCode, long cr2) {
    static final int COMPLETED = -1;
    /// The child died or hung; the case says nothing.
    static final int LOST = -2;

    boolean faulted() {
        return vector >= 0;
    }
}
