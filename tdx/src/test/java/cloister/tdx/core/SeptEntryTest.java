package cloister.tdx.core;

import static org.assertj.core.api.Assertions.assertThat;

import cloister.spec.tdx.SeptState;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class SeptEntryTest {
    private static final long PA = 0x12_3456_7000L;

    @ParameterizedTest
    @EnumSource(SeptState.class)
    void statesAreToldApart(SeptState state) {
        long leaf = SeptEntry.leaf(SeptEntry.RWX, PA, state);
        assertThat(SeptState.of((leaf & ~SeptEntry.IPAT & ~SeptEntry.LEAF) | state.bits())).isEqualTo(state);
        assertThat(SeptState.of(SeptEntry.LOCK | SeptEntry.HOST_PRIORITY | state.bits())).isEqualTo(state);
    }

    @ParameterizedTest
    @EnumSource(names = {"MAPPED", "PENDING"})
    void unblockingUndoesBlocking(SeptState state) {
        long entry = SeptEntry.leaf(state == SeptState.MAPPED ? SeptEntry.RWX : 0, PA, state);
        long blocked = SeptEntry.blocked(entry, 0);
        assertThat(SeptState.of(blocked).anyBlocked()).isTrue();
        assertThat(SeptEntry.isPresent(blocked)).isFalse();
        assertThat(SeptEntry.pa(blocked)).isEqualTo(PA);
        assertThat(SeptEntry.unblocked(blocked)).isEqualTo(entry);
    }

    @Test void aBlockedTableIsNotWalked() {
        long entry = SeptEntry.nonLeaf(PA);
        assertThat(SeptEntry.isPresent(SeptEntry.blocked(entry, 1))).isFalse();
        assertThat(SeptEntry.unblocked(SeptEntry.blocked(entry, 1))).isEqualTo(entry);
    }

    @Test void whatAcceptanceHasDoneIsNotPartOfTheAddress() {
        long entry = SeptEntry.withAcceptCounter(SeptEntry.leaf(0, 0x4000_0000L, SeptState.PENDING), 0x1ff);
        assertThat(SeptEntry.leafPa(entry, 0x20_5000, 1)).isEqualTo(0x4000_5000L);
        assertThat(SeptEntry.pa(SeptEntry.blocked(entry, 1))).isEqualTo(0x4000_0000L);
    }

    @Test void reportsHideTheModulesOwnBits() {
        long entry = SeptEntry.withAlias(SeptEntry.leaf(SeptEntry.RWX, PA, SeptState.MAPPED), 2);
        long reported = SeptEntry.architectural(entry | SeptEntry.LOCK | SeptEntry.HOST_PRIORITY);
        assertThat(reported).isEqualTo(PA | 0xf7 | (1L << 63));
    }

    @Test void l2PermissionsSurviveBlocking() {
        for (int permissions = 1; permissions < 16; permissions++) {
            for (int flags = 0; flags < 8; flags++) {
                int attributes = permissions | (flags << 4);
                long mapped = L2SeptEntry.leaf(0, PA, attributes, false);
                assertThat(L2SeptEntry.attributes(mapped, false)).isEqualTo(attributes | (1 << 15));
                long blocked = L2SeptEntry.blocked(mapped, false);
                assertThat(blocked & SeptEntry.RW_XS_XU).as("nothing is allowed while blocked").isZero();
                assertThat(L2SeptEntry.attributes(blocked, false)).isEqualTo(attributes | (1 << 15));
                assertThat(L2SeptEntry.unblocked(blocked)).isEqualTo(mapped);
                assertThat(L2SeptEntry.leaf(0, PA, attributes, true)).as("a pending page").isEqualTo(blocked);
            }
        }
    }

    @Test void statesOfL2EntriesHaveTheNumbersOfTheSpecification() {
        assertThat(L2SeptEntry.architecturalState(SeptEntry.L2_INIT)).isEqualTo(64);
        assertThat(L2SeptEntry.architecturalState(L2SeptEntry.nonLeaf(PA))).isEqualTo(196);
        assertThat(L2SeptEntry.architecturalState(L2SeptEntry.blocked(L2SeptEntry.nonLeaf(PA), false))).isEqualTo(193);
        assertThat(L2SeptEntry.architecturalState(L2SeptEntry.leaf(0, PA, 1 << 2, false))).as("execute only").isEqualTo(68);
        assertThat(L2SeptEntry.architecturalState(L2SeptEntry.leaf(0, PA, 3, true))).isEqualTo(65);
        assertThat(L2SeptEntry.architecturalState(L2SeptEntry.leaf(0, PA, 3, false))).as("R is part of what is looked up").isZero();
    }
}
