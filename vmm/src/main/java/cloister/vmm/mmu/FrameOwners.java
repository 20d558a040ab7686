package cloister.vmm.mmu;

/// Who owns which frame, looked at anew each time.
final class FrameOwners {
    /// Kinds of owners. Shadow pages may be below several roots.
    enum Kind { VMM_PAGE, GUEST_MEMFD_PAGE, PAGE_TABLE, SHADOW_PAGE }

    private static final int FRAME_SHIFT = 12;
    private static final Kind[] KINDS = Kind.values();
    private final int[] seen;
    private final int[] numbers;
    private final byte[] kinds;
    private int round;

    /// @param bytes size of the memory
    FrameOwners(long bytes) {
        seen = new int[Math.toIntExact(bytes >>> FRAME_SHIFT)];
        numbers = new int[seen.length];
        kinds = new byte[seen.length];
    }

    /// Nobody owns anything.
    void begin() {
        round++;
    }

    /// @param number which of its kind: a page, a level
    /// @throws MmuFinding when somebody else owns the frame
    void own(long pa, Kind kind, int number) {
        int frame = (int) (pa >>> FRAME_SHIFT);
        if (seen[frame] == round && !(kind == Kind.SHADOW_PAGE && KINDS[kinds[frame]] == kind)) {
            throw new MmuFinding("frame: 0x" + Long.toHexString(pa) + " belongs to " + KINDS[kinds[frame]] + " " + numbers[frame]
                    + " and to " + kind + " " + number);
        }
        seen[frame] = round;
        kinds[frame] = (byte) kind.ordinal();
        numbers[frame] = number;
    }
}
