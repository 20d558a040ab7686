package cloister.cpu.emulation;

/// Unwinds from an instruction that the software has carried out: it is done, and the next one follows. Stackless singleton.
final class CarriedOut extends RuntimeException {
    private static final long serialVersionUID = 1L;
    static final CarriedOut INSTANCE = new CarriedOut();

    private CarriedOut() {
        super(null, null, false, false);
    }
}
