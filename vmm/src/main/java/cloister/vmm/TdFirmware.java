package cloister.vmm;

/// The firmware of a trust domain.
final class TdFirmware {
    static final long BASE_GPA = 0xffff0000L;
    static final int BYTES = 0x10000;
    static final long MAILBOX_GPA = BASE_GPA + 0x7000;

    private TdFirmware() {
    }

    static void addTo(GuestImage image, GuestLayout layout) {
        throw new UnsupportedOperationException("TD firmware is not there yet");
    }
}
