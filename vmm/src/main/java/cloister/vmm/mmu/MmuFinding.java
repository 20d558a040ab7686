package cloister.vmm.mmu;

/// Something that contradicts the model.
final class MmuFinding extends RuntimeException {
    private static final long serialVersionUID = 1;

    MmuFinding(String message) {
        super(message);
    }

    MmuFinding(String message, Throwable cause) {
        super(message, cause);
    }
}
