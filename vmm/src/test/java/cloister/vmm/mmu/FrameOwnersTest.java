package cloister.vmm.mmu;

import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.Test;

final class FrameOwnersTest {
    private static final long FRAME = 0x5000;
    private final FrameOwners owners = new FrameOwners(1 << 20);

    @Test void aFrameWithTwoOwnersIsFound() {
        owners.begin();
        owners.own(FRAME, FrameOwners.Kind.VMM_PAGE, 3);
        assertThatThrownBy(() -> owners.own(FRAME, FrameOwners.Kind.GUEST_MEMFD_PAGE, 7)).isInstanceOf(MmuFinding.class)
                .hasMessage("frame: 0x5000 belongs to VMM_PAGE 3 and to GUEST_MEMFD_PAGE 7");
    }

    @Test void shadowPagesAreBelowSeveralRootsAndOwnersChange() {
        owners.begin();
        owners.own(FRAME, FrameOwners.Kind.SHADOW_PAGE, 1);
        owners.own(FRAME, FrameOwners.Kind.SHADOW_PAGE, 1);
        assertThatThrownBy(() -> owners.own(FRAME, FrameOwners.Kind.PAGE_TABLE, 1)).isInstanceOf(MmuFinding.class);
        owners.begin();
        owners.own(FRAME, FrameOwners.Kind.PAGE_TABLE, 1);
    }
}
